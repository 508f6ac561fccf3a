// Shows what the policy says of a new password while it is typed, suggests one, and lets it be seen. All words come from
// the server, which judges the form by the same policy; without this file the verdict comes with its answer.
(() => {
  const PAUSE = 300; // milliseconds without a key until it asks
  const PATIENCE = 5000;
  const CONTEXT = ["username", "email", "full_name"]; // what a password must not be like

  for (const field of document.querySelectorAll("[data-new-password]")) {
    const part = (name) => field.querySelector(`[data-${name}]`);
    const input = field.querySelector("input");
    const form = input.form;
    const verdict = part("verdict");
    const meter = verdict.querySelector("meter");
    let timer;
    let asked = 0;

    async function post(address, values) {
      const answer = await fetch(address, {
        method: "POST",
        headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
        body: new URLSearchParams(values),
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.json();
    }

    function list(name, texts) {
      const items = texts.map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      });
      part(name).replaceChildren(...items);
    }

    function show(facts) {
      meter.value = facts.score;
      verdict.dataset.level = facts.level;
      part("summary").textContent = facts.summary;
      list("reasons", facts.reasons);
      list("advice", facts.advice);
      verdict.hidden = false;
    }

    async function ask() {
      const turn = ++asked;
      if (!input.value) {
        verdict.hidden = true;
        return;
      }
      const values = { password: input.value, whose: field.dataset.whose || "" };
      for (const name of CONTEXT) values[name] = form.elements[name]?.value || "";
      try {
        const facts = await post(field.dataset.meter, values);
        if (turn === asked) show(facts);
      } catch {
        if (turn === asked) verdict.hidden = true; // the form still tells
      }
    }

    function askSoon() {
      clearTimeout(timer);
      timer = setTimeout(ask, PAUSE);
    }

    function uncover(open) {
      for (const each of form.querySelectorAll("input[autocomplete=new-password]")) each.type = open ? "text" : "password";
      part("show").setAttribute("aria-pressed", String(open));
    }

    input.addEventListener("input", () => {
      part("suggested").hidden = true;
      askSoon();
    });
    for (const name of CONTEXT) form.elements[name]?.addEventListener("input", () => input.value && askSoon());
    part("show").addEventListener("click", () => uncover(input.type === "password"));
    part("suggest").addEventListener("click", async () => {
      try {
        const { password } = await post(field.dataset.suggestion, {});
        for (const each of form.querySelectorAll("input[autocomplete=new-password]")) each.value = password;
        uncover(true);
        part("suggested").hidden = false;
        ask();
      } catch {
        part("without-script").hidden = false;
      }
    });
    form.addEventListener("submit", () => uncover(false)); // else browsers remember it as a text
    part("show").hidden = part("suggest").hidden = false;
    part("without-script").hidden = true;
  }
})();
