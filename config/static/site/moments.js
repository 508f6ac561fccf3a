// Shows each moment as the reader writes them: in the zone that they chose (data-zone), else in that of their browser.
// UTC stays in its title. Without this file the page says the chosen zone, or UTC.
const momentForms = {
  "": { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" },
  clock: { hour: "2-digit", minute: "2-digit" },
  day: { month: "short", day: "numeric" },
  hour: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
};

function localise(page) {
  for (const moment of page.querySelectorAll("time[data-moment]")) {
    moment.title ||= moment.textContent;
    try {
      moment.textContent = new Date(moment.dateTime).toLocaleString(document.documentElement.lang || undefined, {
        ...momentForms[moment.dataset.moment],
        timeZone: moment.dataset.zone,
      });
    } catch {
      // A zone that the browser has not heard of yet: what the server wrote is in it.
    }
  }
}

localise(document);
// A script that fetched a page says so here before it shows a part of it.
document.addEventListener("fetched", (event) => localise(event.detail));
