// Keeps the page live: fetches it again every two seconds and patches <main> in place, so that focus, scroll, open
// details, selections and half-filled forms stay. Pauses while the page is hidden.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const main = document.querySelector("main[data-live]");
  const sign = document.getElementById("live");

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      say(button, "copied");
    } catch {
      say(button, "not allowed");
    }
  }

  function say(button, words) {
    button.dataset.said = words;
    setTimeout(() => delete button.dataset.said, 1200);
  }

  if (!main) return;
  let timer = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) look();
  });
  timer = setTimeout(look, EVERY_MS);

  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(8000), cache: "no-store" });
      if (answer.redirected) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (fresh) patchChildren(main, fresh);
      show(true);
    } catch {
      show(false);
    }
    clearTimeout(timer);
    timer = setTimeout(look, EVERY_MS);
  }

  function show(connected) {
    const words = connected ? "live" : "connection lost";
    if (sign.textContent !== words) sign.textContent = words;
    sign.classList.toggle("lost", !connected);
  }

  function patchChildren(old, fresh) {
    let place = old.firstChild;
    for (const wanted of Array.from(fresh.childNodes)) {
      const held = wanted.id ? old.querySelector(`:scope > #${CSS.escape(wanted.id)}`) : null;
      if (held && held !== place) old.insertBefore(held, place);
      const current = held || place;
      if (!current) old.append(document.importNode(wanted, true));
      else place = patch(current, wanted).nextSibling;
    }
    while (place) {
      const next = place.nextSibling;
      if (!isBusy(place)) place.remove();
      place = next;
    }
  }

  function patch(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
      const made = document.importNode(fresh, true);
      if (isBusy(old)) old.before(made);
      else old.replaceWith(made);
      return made;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return old;
    }
    if (old.matches("input:not([type=hidden]), textarea, select")) return old;
    patchAttributes(old, fresh);
    patchChildren(old, fresh);
    return old;
  }

  function patchAttributes(old, fresh) {
    for (const { name } of Array.from(old.attributes)) {
      if (!fresh.hasAttribute(name) && name !== "open" && name !== "data-said") old.removeAttribute(name);
    }
    for (const { name, value } of Array.from(fresh.attributes)) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }

  // What somebody is writing in stays until they are done with it, whatever the server now says.
  function isBusy(node) {
    return node.nodeType === Node.ELEMENT_NODE && node.contains(document.activeElement) && !!node.querySelector("form");
  }
})();
