"use strict";
// The leaderboard: what is shown of its tables. They are in the page; filtering hides, sorting moves.

const form = document.querySelector(".filters");
const boards = [...document.querySelectorAll("#leaderboard .board")].map(section => {
  const table = section.querySelector("table");
  return {
    section, table,
    heads: [...table.tHead.rows[0].cells],
    rows: [...table.tBodies].flatMap(body => [...body.rows]).map(row => ({
      row,
      encoder: row.dataset.encoder,
      text: [section.querySelector("h2"), ...row.cells].map(one => `${one.textContent} ${one.title ?? ""} ${one.dataset.key ?? ""}`).join(" ").toLowerCase(),
    })),
    order: [...table.tBodies].map(body => [body, [...body.rows]]),
  };
});

/** Show what matches a state: facets by name, q for words that all have to occur, sort as "Heading:descending". */
function filterBoards(state) {
  const wanted = name => state.has(name) && state.get(name) !== "*" ? state.get(name) : null;
  const words = (state.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const protocol = wanted("protocol"), encoder = wanted("encoder");
  const facets = ["dataset", "split", "source", "stream", "recipe", "budget"].filter(name => wanted(name) !== null);
  let count = 0, tables = 0;
  for (const { section, table, heads, rows } of boards) {
    let some = 0;
    const fits = facets.every(name => section.dataset[name] === wanted(name))
      && (protocol === null || heads.some(head => head.dataset.protocol === protocol));
    if (fits) {
      for (const { row, encoder: own, text } of rows) {
        row.hidden = !((encoder === null || own === encoder || own === "-") && words.every(word => text.includes(word)));
        some += !row.hidden;
      }
      heads.forEach((head, column) => {
        const hide = protocol !== null && "protocol" in head.dataset && head.dataset.protocol !== protocol;
        if (hide === head.hidden) return;
        head.hidden = hide;
        for (const { row } of rows) row.cells[column].hidden = hide;
      });
    }
    section.hidden = !some;
    count += some;
    tables += some > 0;
  }
  document.getElementById("nothing").hidden = count > 0;
  form.querySelector("output").textContent = `${count} row${count === 1 ? "" : "s"} in ${tables} table${tables === 1 ? "" : "s"}`;
  sortBoards(state.get("sort") ?? "");
}

let sorted = "";
function sortBoards(order) {
  if (order === sorted) return;
  sorted = order;
  const [, title, direction] = order.match(/^(.*):(ascending|descending)$/s) ?? [];
  for (const { table, heads, order: first } of boards) {
    if (title) sortTable(table, title, direction);
    else for (const head of heads) head.ariaSort = null;
    if (heads.some(head => head.ariaSort)) continue;
    for (const [body, rows] of first) body.append(...rows); // as it came
  }
}
