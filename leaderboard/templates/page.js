"use strict";
// The page's state lives in the address after #, so that every view can be sent to somebody: filters, order, part, record.

let state = new URLSearchParams();

/** Change the state; an empty value is left out. Opening and closing can be undone by the browser's back button. */
function change(values, push = false) {
  for (const [name, value] of Object.entries(values)) {
    if (value) state.set(name, value);
    else state.delete(name);
  }
  history[push ? "pushState" : "replaceState"](null, "", `#${state}`);
  apply();
}

function apply() {
  const views = [...document.querySelectorAll(".view")];
  const view = views.find(one => one.id === state.get("view")) ?? views[0];
  for (const one of views) one.hidden = one !== view;
  for (const link of document.querySelectorAll("nav a[href^='#view=']")) {
    link.ariaCurrent = link.hash === `#view=${view.id}` ? "page" : null;
  }
  for (const field of form.elements) {
    if (field.name && document.activeElement !== field) field.value = state.get(field.name) ?? (field.tagName === "SELECT" ? "*" : "");
  }
  if (view.id === "leaderboard") filterBoards(state);
  if (view.id === "player") showPlayer();
  showRecord(state.get("record") ?? "");
}

function read() {
  state = new URLSearchParams(location.hash.slice(1));
  apply();
}

// A number with a record becomes a link to it.
for (const cell of document.querySelectorAll("td[data-key]")) {
  cell.replaceChildren(element("a", { href: `#record=${cell.dataset.key}`, "data-record": cell.dataset.key, class: "cell" }, [...cell.childNodes]));
}

document.addEventListener("click", event => {
  const link = event.target.closest?.("a[data-record], nav a[href^='#view='], a.skip");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault(); // the other filters stay
  if (link.classList.contains("skip")) document.getElementById("content").focus();
  else if (link.dataset.record) change({ record: link.dataset.record }, true);
  else change({ view: link.hash.slice("#view=".length), record: "" }, true);
});

// Arrow keys go from cell to cell of a table, over what is hidden.
document.addEventListener("keydown", event => {
  const cell = event.target.closest?.("table.sortable :is(td, th)");
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!cell || !step) return;
  const rows = [...cell.closest("table").rows].filter(row => !row.hidden);
  let [i, j] = [rows.indexOf(cell.parentElement), cell.cellIndex];
  for (;;) {
    [i, j] = [i + step[0], j + step[1]];
    const next = rows[i]?.cells[j];
    if (!next) return;
    const target = next.querySelector("a, button");
    if (!target || next.hidden) continue;
    event.preventDefault();
    target.focus();
    return;
  }
});

form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("input", event => change({ [event.target.name]: event.target.value === "*" ? "" : event.target.value }));
form.addEventListener("reset", event => {
  event.preventDefault();
  const others = ["view", "record"].map(name => [name, state.get(name)]).filter(([, value]) => value);
  state = new URLSearchParams(others);
  change({});
});
for (const { table } of boards) {
  table.addEventListener("sorted", ({ detail: { title, direction } }) => change({ sort: `${title}:${direction}` }));
}

document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); }); // beside it
dialog.addEventListener("close", () => {
  const key = state.get("record");
  if (key) change({ record: "" });
  document.querySelector(`a[data-record="${CSS.escape(key ?? "")}"]`)?.focus();
});

document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(themes), next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  setTheme(next);
  try { localStorage.setItem("theme", next); } catch { /* kept for this page only */ }
});

addEventListener("hashchange", read);
addEventListener("popstate", read);
setTheme(storedTheme() in themes ? storedTheme() : "");
read();
