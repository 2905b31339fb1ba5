// The queue by keyboard: j and k move, a and r ask for the reason of a yes or a no, o opens the evidence.
"use strict";
(() => {
  const queue = document.getElementById("queue");
  if (!queue) return;
  const cards = () => Array.from(queue.querySelectorAll(".queued"));
  const current = () => document.activeElement?.closest?.(".queued");

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select")) return inField(event);
    const act = { j: () => move(1), k: () => move(-1), a: () => answer("approve"), r: () => answer("reject"), o: open }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  function move(step) {
    const all = cards(), place = all.indexOf(current());
    all[Math.min(Math.max(place + step, 0), all.length - 1)]?.focus();
  }

  // Enter sends the answer that was asked for, not whichever button stands first.
  function inField(event) {
    const { form } = event.target;
    if (event.key === "Escape") current()?.focus();
    if (event.key !== "Enter" || !form?.dataset.answer) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector(`button[value=${form.dataset.answer}]`));
  }

  function answer(which) {
    const form = (current() || cards()[0])?.querySelector("form");
    if (!form) return;
    const field = form.querySelector("input[name=reason]");
    form.dataset.answer = which;
    field.placeholder = which === "approve" ? "yes, because…" : "no, because…";
    field.focus();
  }

  function open() {
    (current() || cards()[0])?.querySelector("article a")?.click();
  }
})();
