// Says once that a person uses the page of an invitation: what only fetches or renders it presses no key.
const invited = document.querySelector("form[data-opened]");

function tellOnce(event) {
  if (!event.isTrusted) return;
  for (const kind of ["pointerdown", "keydown"]) document.removeEventListener(kind, tellOnce);
  const token = invited.querySelector("[name=csrfmiddlewaretoken]").value;
  navigator.sendBeacon(invited.dataset.opened, new URLSearchParams({ csrfmiddlewaretoken: token }));
}

if (invited) {
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, tellOnce);
}
