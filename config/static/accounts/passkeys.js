// Puts the site's question to a passkey and sends the answer with the form around the button.
// Without this script, or in a browser without passkeys, the button stays hidden and codes do.
"use strict";

(() => {
  if (!window.PublicKeyCredential) return;

  const toBytes = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  const toText = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replace(/=+$/, "");
  const withBytes = (credentials) => (credentials || []).map((each) => ({ ...each, id: toBytes(each.id) }));

  const ask = async (form, address) => {
    const headers = { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value };
    const response = await fetch(address, { method: "POST", headers });
    if (!response.ok || response.redirected) throw new Error("no question");
    const options = (await response.json()).publicKey;
    options.challenge = toBytes(options.challenge);
    return options;
  };

  const create = async (options) => {
    options.user.id = toBytes(options.user.id);
    options.excludeCredentials = withBytes(options.excludeCredentials);
    const made = await navigator.credentials.create({ publicKey: options });
    return answer(made, {
      attestationObject: toText(made.response.attestationObject),
      transports: made.response.getTransports ? made.response.getTransports() : [],
    });
  };

  const get = async (options) => {
    options.allowCredentials = withBytes(options.allowCredentials);
    const used = await navigator.credentials.get({ publicKey: options });
    return answer(used, {
      authenticatorData: toText(used.response.authenticatorData),
      signature: toText(used.response.signature),
    });
  };

  const answer = (credential, response) =>
    JSON.stringify({
      id: credential.id,
      rawId: toText(credential.rawId),
      type: credential.type,
      clientExtensionResults: {},
      response: { ...response, clientDataJSON: toText(credential.response.clientDataJSON) },
    });

  for (const place of document.querySelectorAll("[data-passkey]")) {
    const form = place.closest("form");
    const button = place.querySelector("button");
    const fault = place.querySelector("[role=alert]");
    const isNew = place.dataset.passkey === "create";
    place.hidden = false;
    button.addEventListener("click", async () => {
      if (isNew && !form.reportValidity()) return;
      button.disabled = true;
      fault.hidden = true;
      try {
        const options = await ask(form, place.dataset.question);
        form.elements.answer.value = await (isNew ? create(options) : get(options));
        form.submit(); // past the code, which is not needed now
      } catch {
        fault.hidden = false;
        button.disabled = false;
      }
    });
  }
})();
