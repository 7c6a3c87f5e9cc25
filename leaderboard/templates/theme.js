"use strict";
// Colours before the first paint: as chosen here earlier, else as the system has them.
const themes = { "": "as the system", light: "light", dark: "dark" };

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  if (button) button.ariaLabel = button.title = `Colours: ${themes[name]}`;
  document.dispatchEvent(new Event("theme"));
}

function storedTheme() {
  try { return localStorage.getItem("theme") ?? ""; } catch { return ""; } // some browsers refuse pages of a disk
}

setTheme(storedTheme() in themes ? storedTheme() : "");
