"use strict";
// A heading of a table is a button that sorts it; rows of references stay on top, in their order.

/** What a cell sorts by: its stored value, its number, or its text; null where a number is missing. */
function sortValue(cell) {
  if (cell.dataset.value === "") return null;
  const text = cell.textContent.trim();
  // "81.0 ± 0.3" is a number, "3s-AimCLR" is a name.
  const number = parseFloat(cell.dataset.value ?? (/^[+-]?[\d.,]+(?=$|[\s%±?])/.exec(text)?.[0] ?? "").replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? 1 : -1;
}

/** Sort a table by the column with this heading, if it has one; direction is "ascending" or "descending". */
function sortTable(table, title, direction) {
  const headings = [...table.tHead.rows[0].cells];
  const column = headings.findIndex(one => one.textContent.trim() === title);
  for (const one of headings) one.ariaSort = null;
  if (column < 0) return;
  headings[column].ariaSort = direction;
  const sign = direction === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    if (body.classList.contains("reference")) continue;
    const rows = [...body.rows].map(row => [sortValue(row.cells[column]), row]);
    // What is missing comes last, whatever the direction.
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  }
}

/** Make the headings of a table buttons; a click sorts and tells the table's listeners of "sorted". */
function makeSortable(table) {
  for (const heading of table.tHead?.rows[0]?.cells ?? []) {
    if (!heading.textContent.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const title = heading.textContent.trim();
      const direction = heading.ariaSort === "descending" ? "ascending" : "descending";
      sortTable(table, title, direction);
      table.dispatchEvent(new CustomEvent("sorted", { bubbles: true, detail: { title, direction } }));
    });
  }
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
