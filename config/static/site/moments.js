// Shows each moment as the reader writes them: in the zone that they chose (data-zone), else in that of their browser.
// UTC stays in its title. Without this file the page says the chosen zone, or UTC. Loaded at once and not in the end: a
// moment that changes when it is drawn already moves what stands around it.
(() => {
  const clock = { hour: "2-digit", minute: "2-digit" };
  const day = { month: "short", day: "numeric" };
  const second = { year: "numeric", ...day, ...clock, second: "2-digit", timeZoneName: "short" };
  const forms = {
    "": second,
    exact: second,
    minute: { year: "numeric", month: "long", day: "numeric", ...clock, timeZoneName: "short" },
    date: { year: "numeric", month: "long", day: "numeric" },
    clock,
    day,
    hour: { ...day, ...clock },
  };

  const done = new WeakSet(); // a page is looked through again as it grows

  // Whether the page goes on behind it: until then the rest of its text may be still to come.
  function isWhole(node) {
    if (document.readyState !== "loading") return true;
    return Boolean(node && (node.nextSibling || isWhole(node.parentNode)));
  }

  function localise(page) {
    for (const moment of page.querySelectorAll("time[data-moment]")) {
      if (done.has(moment) || !isWhole(moment)) continue;
      done.add(moment);
      moment.title ||= moment.dateTime.replace("T", " ").replace("Z", " UTC");
      try {
        moment.textContent = new Date(moment.dateTime).toLocaleString(document.documentElement.lang || undefined, {
          ...forms[moment.dataset.moment],
          timeZone: moment.dataset.zone,
        });
      } catch {
        // A zone that the browser has not heard of yet: what the server wrote is in it.
      }
    }
  }

  const growth = new MutationObserver(() => localise(document));
  growth.observe(document, { childList: true, subtree: true });
  document.addEventListener("DOMContentLoaded", () => {
    growth.disconnect();
    localise(document);
  });
  // A script that fetched a page says so here before it shows a part of it.
  document.addEventListener("fetched", (event) => localise(event.detail));
})();
