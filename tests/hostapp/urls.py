"""The site's addresses and the pages of this app, for tests that ask for them."""

from django.urls import include, path

from config import urls
from tests.hostapp import console, views

urlpatterns = [
    path("host/rename/", views.rename),
    path("host/rename-and-fail/", views.rename_and_fail),
    path("host/sign-in-and-rename/", views.sign_in_and_rename),
    path("host/rename-for-somebody/", views.rename_for_somebody),
    path("host/rename-in-async/", views.rename_in_async),
    path("host/tasks/", include("tests.hostapp.tasks.urls")),
    path("host/queries/", include("tests.hostapp.queries.urls")),
    path("host/machines/", include("tests.hostapp.machines.urls")),
    path("host/admin/", console.site.urls),
    *urls.urlpatterns,
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500
