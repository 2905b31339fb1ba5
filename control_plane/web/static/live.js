// Keeps a page live: the server says what changed (server-sent events), htmx fetches the page again and morphs <main> in
// place, so that focus, scroll, open details and half-filled forms stay. Rests while the page is hidden.
"use strict";
(() => {
  const main = document.querySelector("main[data-topics]");
  const sign = document.getElementById("live");
  if (!main || !sign) return;
  const PATIENCE_MS = 12000;
  const topics = new Set(main.dataset.topics.split(" ").filter(Boolean));
  let source = null, due = false, busy = false, watch = 0;

  function open() {
    source = new EventSource("/live");
    source.addEventListener("open", () => heard());
    source.addEventListener("beat", () => heard());
    source.addEventListener("changed", (event) => {
      heard();
      const changed = event.data.split(" ");
      if (topics.has("any") || changed.some((topic) => topics.has(topic))) refresh();
    });
    source.addEventListener("error", () => {
      show(false);
      if (source.readyState === EventSource.CLOSED) refresh();  // the session may be over: the page leads to the door
    });
  }

  function heard() {
    show(true);
    clearTimeout(watch);
    watch = setTimeout(() => show(false), PATIENCE_MS);
  }

  // One request at a time; what changes meanwhile asks for one more.
  async function refresh() {
    if (busy) { due = true; return; }
    busy = true;
    do {
      due = false;
      await fetchMain();
    } while (due);
    busy = false;
  }

  async function fetchMain() {
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(8000), cache: "no-store", headers: { "HX-Request": "true" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      await htmx.swap({ text, target: main, swap: "outerMorph", select: "main", sourceElement: main });
      fleetloop.tellTimes();
      document.dispatchEvent(new Event("refreshed"));
      show(true);
    } catch {
      show(false);
    }
  }

  function show(connected) {
    const words = connected ? "live" : "connection lost";
    if (sign.textContent !== words) sign.textContent = words;
    sign.classList.toggle("lost", !connected);
  }

  document.addEventListener("visibilitychange", () => {
    source?.close();
    clearTimeout(watch);
    if (document.hidden) return;
    open();
    refresh();
  });
  addEventListener("pagehide", () => source?.close());
  if (!document.hidden) open();
})();
