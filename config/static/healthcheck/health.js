// Keeps a health page current without loading it anew: fetches it every few seconds, while somebody looks, and patches
// what has changed, so that focus, selection and what was opened stay. Without this file the page has a link for that.
(() => {
  const EVERY = 4000; // milliseconds; the page promises to show a change within six seconds
  const LONGEST = 60000;
  const PATIENCE = 5000;
  const shown = document.getElementById("health");
  const said = document.getElementById("health-said");
  const lost = document.getElementById("health-lost");
  let wait = EVERY;
  let timer;
  let asking = false;
  let seen = new Date();

  document.getElementById("health-live").hidden = false;

  function patch(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (fresh.dataset?.unknown !== undefined && old.dataset?.unknown === undefined) return; // better old than nothing
    if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const children = [...old.childNodes];
    const wanted = [...fresh.childNodes];
    wanted.forEach((child, place) => (children[place] ? patch(children[place], child) : old.append(child)));
    children.slice(wanted.length).forEach((child) => child.remove());
  }

  function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.getElementById("health");
    if (!fresh) throw new Error("not a health page");
    document.dispatchEvent(new CustomEvent("fetched", { detail: page }));
    if (fresh.dataset.said !== shown.dataset.said) said.textContent = fresh.dataset.said;
    const focused = document.activeElement;
    patch(shown, fresh);
    patch(document.querySelector(".header"), page.querySelector(".header")); // who is signed in, as far as it is known
    const main = document.getElementById("main");
    main.className = page.getElementById("main").className;
    if (!focused.isConnected) main.focus();
    document.title = page.title;
  }

  function lose() {
    const moment = lost.querySelector("time");
    moment.textContent = seen.toLocaleTimeString(document.documentElement.lang || undefined);
    moment.dateTime = seen.toISOString();
    if (lost.hidden) said.textContent = lost.textContent.trim();
    lost.hidden = false;
    wait = Math.min(2 * wait, LONGEST);
  }

  async function refresh() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    try {
      const headers = { Accept: "text/html" };
      // A site that is not ready says so with 503, and with the page.
      const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      show(await answer.text());
      lost.hidden = true;
      seen = new Date();
      wait = EVERY;
    } catch {
      lose();
    }
    asking = false;
    timer = setTimeout(refresh, wait);
  }

  document.addEventListener("visibilitychange", refresh);
  addEventListener("online", refresh);
  timer = setTimeout(refresh, wait);
})();
