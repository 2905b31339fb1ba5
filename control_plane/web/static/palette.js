// The command palette: Ctrl+K (or /) asks where to go. The server finds; arrows choose, Enter goes there.
"use strict";
(() => {
  const dialog = document.getElementById("palette");
  if (!dialog) return;
  const field = dialog.querySelector("input"), found = dialog.querySelector("ul");
  const WAIT_MS = 120;
  let timer = 0, asked = 0;

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const wanted = (event.key === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "/" && !typing);
    if (!wanted) return;
    event.preventDefault();
    show();
  });
  for (const button of document.querySelectorAll("[data-palette]")) {
    button.hidden = false;
    button.addEventListener("click", show);
  }
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, WAIT_MS); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); choose(step); }
    if (event.key === "Enter") { event.preventDefault(); chosen()?.click(); }
  });

  function show() {
    if (dialog.open) return;
    field.value = "";
    dialog.showModal();
    field.focus();
    look();
  }

  async function look() {
    const turn = (asked += 1);
    const answer = await fetch(`/find?q=${encodeURIComponent(field.value)}`, { headers: { "HX-Request": "true" } });
    if (turn !== asked || !answer.ok || answer.redirected) return;
    await htmx.swap({ text: await answer.text(), target: found, swap: "innerHTML", sourceElement: found });
    mark(found.querySelector("a"));
  }

  const chosen = () => found.querySelector("a.chosen");

  function choose(step) {
    const all = Array.from(found.querySelectorAll("a"));
    if (all.length) mark(all[(all.indexOf(chosen()) + step + all.length) % all.length]);
  }

  function mark(link) {
    for (const each of found.querySelectorAll("a")) each.classList.toggle("chosen", each === link);
    link?.scrollIntoView({ block: "nearest" });
  }
})();
