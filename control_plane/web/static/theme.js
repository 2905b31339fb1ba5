// Before anything is drawn: the reader's choice of light or dark, so that no page flashes in the other one.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
})();
