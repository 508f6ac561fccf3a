// Shows each moment in the reader's own time zone; UTC stays in its title. Without this file the page says UTC.
for (const moment of document.querySelectorAll("time[data-moment]")) {
  moment.textContent = new Date(moment.dateTime).toLocaleString(document.documentElement.lang || undefined, {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    timeZoneName: "short",
  });
}
