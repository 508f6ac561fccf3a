// Opens the console's sidebar, or not, before anything beside it is drawn. Django's own script does it once all is
// drawn, and moves the whole page.
"use strict";

const isClosed = localStorage.getItem("django.admin.navSidebarIsOpen") === "false";
document.getElementById("main").classList.toggle("shifted", !isClosed);
