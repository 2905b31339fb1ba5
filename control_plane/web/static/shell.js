// What every page has: its reader's time zone and theme, things to copy, the menu of a small screen.
"use strict";
const fleetloop = (() => {
  const probe = document.createElement("span");
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const short = new Intl.DateTimeFormat(undefined, { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const THEMES = ["auto", "light", "dark"];
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

  // A colour of the style sheet as the canvas understands it, in the theme that is seen now.
  function colour(name) {
    if (!probe.isConnected) { probe.hidden = true; document.body.append(probe); }
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  }

  function ago(at) {
    const seconds = Math.max((Date.now() - at) / 1000, 0);
    for (const [unit, size] of UNITS) if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit} ago`;
    return `${Math.round(seconds)} s ago`;
  }

  // Times are sent in UTC; here they are told in the reader's zone, and UTC stays to be hovered.
  function tellTimes() {
    for (const node of document.querySelectorAll("time[datetime]")) {
      const at = Date.parse(node.dateTime);
      if (Number.isNaN(at)) continue;
      const words = node.hasAttribute("data-ago") ? ago(at) : short.format(at);
      const title = `${local.format(at)} (yours) · ${new Date(at).toISOString().replace("T", " ").slice(0, 19)} UTC`;
      if (node.textContent !== words) node.textContent = words;
      if (node.title !== title) node.title = title;
    }
  }

  // What is wider than its card scrolls; whoever has no mouse must be able to get there.
  function makeReachable() {
    for (const card of document.querySelectorAll(".card, .picture, .scroll")) {
      if (card.scrollWidth > card.clientWidth + 1) card.tabIndex = 0;
      else if (!card.classList.contains("scroll")) card.removeAttribute("tabindex");
    }
  }

  async function copy(button) {
    let words = "copied";
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      words = "not allowed";
    }
    button.dataset.said = words;
    setTimeout(() => delete button.dataset.said, 1200);
  }

  function nextTheme(button) {
    const root = document.documentElement, now = root.dataset.theme || "auto";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    localStorage.setItem("theme", next);
    sayTheme(button);
    document.dispatchEvent(new Event("themed"));
  }

  function sayTheme(button) {
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[document.documentElement.dataset.theme || "auto"];
    button.setAttribute("aria-label", `Theme: ${document.documentElement.dataset.theme || "auto"}. Change it`);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-theme-switch]");
    if (button?.dataset.copy) copy(button);
    else if (button) nextTheme(button);
  });
  for (const button of document.querySelectorAll("[data-theme-switch]")) { button.hidden = false; sayTheme(button); }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themed")));
  for (const folded of document.querySelectorAll("details[data-folds]")) {
    if (matchMedia(`(max-width: ${folded.dataset.folds}px)`).matches) folded.open = false;
  }
  tellTimes();
  makeReachable();
  addEventListener("resize", makeReachable);
  document.addEventListener("refreshed", makeReachable);
  setInterval(tellTimes, 1000);
  return { colour, tellTimes };
})();
