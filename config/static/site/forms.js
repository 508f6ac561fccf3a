// Small help with forms: a sent one says so, a password can be looked at, a text copied, a fault is where one types.
// All words come with the page. Without this file forms work, and what is to be copied can be selected.
(() => {
  const PATIENCE = 15000; // milliseconds until who stopped the browser may send again
  const words = document.currentScript.dataset;
  const sending = new Map(); // the buttons, with what they said before

  const say = (button, text) => (button instanceof HTMLInputElement ? (button.value = text) : (button.textContent = text));

  function release() {
    for (const [button, said] of sending) {
      say(button, said);
      button.disabled = false;
      button.form?.removeAttribute("aria-busy");
    }
    sending.clear();
  }

  function hold(form, button) {
    sending.set(button, button instanceof HTMLInputElement ? button.value : button.textContent);
    form.setAttribute("aria-busy", "true");
    say(button, words.saySending);
    button.disabled = true;
    setTimeout(release, PATIENCE);
  }

  document.addEventListener("submit", (event) => {
    const { target: form, submitter } = event;
    // What answers with a file leaves the page as it is.
    if (event.defaultPrevented || form.method !== "post" || "stays" in form.dataset || !submitter) return;
    // Later: the form is sent with the name of the button only while that is not disabled.
    setTimeout(() => hold(form, submitter));
  });
  addEventListener("pageshow", release); // also when one comes back to it

  for (const input of document.querySelectorAll("input[autocomplete=current-password]")) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "tool", textContent: words.sayShow });
    button.setAttribute("aria-controls", input.id);
    const uncover = (open) => {
      input.type = open ? "text" : "password";
      button.setAttribute("aria-pressed", String(open));
    };
    uncover(false);
    button.addEventListener("click", () => uncover(input.type === "password"));
    input.form.addEventListener("submit", () => uncover(false)); // else browsers remember it as a text
    input.after(button);
  }

  const lines = (list) => [...list.children].map((item) => item.textContent.trim()).join("\n");
  const text = (source) => source.value ?? (source.children.length ? lines(source) : source.textContent.replaceAll(" ", ""));

  function select(source) {
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
  }

  async function copy(source) {
    try {
      await navigator.clipboard.writeText(text(source)); // none over plain HTTP
      return true;
    } catch {
      select(source);
      return document.execCommand("copy");
    }
  }

  for (const place of document.querySelectorAll("[data-copy]")) {
    const button = place.querySelector("button");
    const [done, failed] = place.querySelector("[role=status]").children;
    const source = document.getElementById(place.dataset.copy);
    place.hidden = false;
    button.addEventListener("click", async () => {
      const copied = await copy(source);
      done.hidden = !copied;
      failed.hidden = copied;
    });
  }

  // The site's own pages put their summary of faults first; the console's have none that can be focused.
  if (!document.querySelector(".summary")) document.querySelector("[aria-invalid=true]")?.focus();
})();
