"use strict";
// Curves as SVG, confusions as a canvas: small, in the page's colours, readable by pointer, keyboard and screen reader.

/** Round numbers that divide a range into about `count` steps. */
function ticks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough) ?? 10 * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found.map(value => Number(value.toPrecision(12)));
}

/** One curve of a record: lines of points [x, y], one for each draw of labels. */
function curve(name, lines) {
  const points = lines.flat();
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const extent = values => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [left, right] = extent(xs);
  let [low, high] = extent(ys);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const width = 320, height = 170, box = { left: 50, right: 304, top: 8, bottom: 146 };
  const x = value => box.left + (value - left) / (right - left || 1) * (box.right - box.left);
  const y = value => box.bottom - (value - low) / (high - low) * (box.bottom - box.top);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "curve" });
  const last = lines.at(-1).at(-1);
  picture.append(drawn("title", {},
    `${name}: ${shown(lines[0][0][1])} at epoch ${lines[0][0][0]}, ${shown(last[1])} at epoch ${last[0]}, between ${shown(low)} and ${shown(high)}`));
  for (const value of ticks(low, high)) {
    picture.append(drawn("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    picture.append(drawn("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, shown(value)));
  }
  for (const value of ticks(left, right, 5)) {
    picture.append(drawn("text", { x: x(value), y: box.bottom + 18, "text-anchor": "middle" }, shown(value)));
  }
  for (const line of lines) {
    if (line.length === 1) picture.append(drawn("circle", { class: "dot", cx: x(line[0][0]), cy: y(line[0][1]), r: 3 }));
    else picture.append(drawn("polyline", { class: "line", points: line.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }));
  }
  const reading = element("span", { class: "soft" }, `last ${shown(last[1])}`);
  const dot = picture.appendChild(drawn("circle", { class: "dot", r: 3.5, visibility: "hidden" }));
  picture.addEventListener("pointermove", event => {
    const at = (event.clientX - picture.getBoundingClientRect().left) / picture.clientWidth * width;
    const near = points.reduce((best, point) => Math.abs(x(point[0]) - at) < Math.abs(x(best[0]) - at) ? point : best);
    fill(dot, { cx: x(near[0]), cy: y(near[1]), visibility: "visible" }, []);
    reading.textContent = `epoch ${shown(near[0])}: ${shown(near[1])}`;
  });
  picture.addEventListener("pointerleave", () => {
    dot.setAttribute("visibility", "hidden");
    reading.textContent = `last ${shown(last[1])}`;
  });
  return element("figure", {}, element("figcaption", {}, element("b", {}, name), " ", reading), picture);
}

/** All curves of a record, one per quantity. */
function curves(points) {
  const number = Number.isFinite;
  const names = [...new Set(points.flatMap(Object.keys))].filter(name => !["epoch", "draw"].includes(name));
  const draws = [...new Set(points.map(point => point.draw))];
  return names.map(name => {
    const lines = draws
      .map(draw => points.filter(one => one.draw === draw && number(one.epoch) && number(one[name])).map(one => [one.epoch, one[name]]))
      .filter(line => line.length);
    return lines.length ? curve(name.replaceAll("_", " "), lines) : undefined;
  }).filter(Boolean);
}

/** A confusion matrix of counts: rows are true classes, columns predicted ones, shaded by the share of the row. */
function confusion(counts, names) {
  const n = counts.length;
  const totals = counts.map(row => row.reduce((sum, count) => sum + count, 0));
  const size = Math.max(4, Math.min(26, Math.floor(520 / n)));
  const labelled = size >= 9;
  const margin = labelled ? 24 : 6;
  const canvas = canvasOf(margin + n * size + 1, margin + n * size + 1,
    { tabindex: 0, role: "img", "aria-label": `Confusion matrix of ${n} classes; arrow keys read it cell by cell` });
  const reading = element("output", { "aria-live": "polite" }, "Rows are true classes, columns predicted ones. Point at a cell or use the arrow keys.");
  let [row, column] = [0, 0], marked = false;

  function draw() {
    const context = canvas.getContext("2d"), ink = colour("ink");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.strokeStyle = colour("line");
    context.strokeRect(margin - 0.5, margin - 0.5, n * size + 1, n * size + 1);
    context.fillStyle = colour("accent");
    counts.forEach((line, i) => line.forEach((count, j) => {
      if (!count) return;
      context.globalAlpha = 0.08 + 0.92 * count / totals[i];
      context.fillRect(margin + j * size, margin + i * size, size, size);
    }));
    context.globalAlpha = 1;
    if (labelled) {
      context.fillStyle = colour("soft");
      context.font = `${Math.min(11, size - 1)}px system-ui`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      for (let i = 0; i < n; i++) {
        context.fillText(i, margin / 2, margin + (i + 0.5) * size);
        context.fillText(i, margin + (i + 0.5) * size, margin / 2);
      }
    }
    if (marked) {
      context.strokeStyle = ink;
      context.lineWidth = 2;
      context.strokeRect(margin + column * size, margin + row * size, size, size);
      context.lineWidth = 1;
    }
  }

  function read(i, j) {
    [row, column, marked] = [Math.max(0, Math.min(n - 1, i)), Math.max(0, Math.min(n - 1, j)), true];
    const count = counts[row][column], share = totals[row] ? (100 * count / totals[row]).toFixed(1) : "–";
    reading.textContent = row === column
      ? `${names[row]}: ${count} of ${totals[row]} right (${share} %)`
      : `${names[row]} taken for ${names[column]}: ${count} of ${totals[row]} (${share} %)`;
    draw();
  }

  canvas.addEventListener("pointermove", event => {
    const place = canvas.getBoundingClientRect(), scale = canvas.offsetWidth / (margin + n * size + 1);
    read(Math.floor(((event.clientY - place.top) / scale - margin) / size), Math.floor(((event.clientX - place.left) / scale - margin) / size));
  });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (marked) read(row + step[0], column + step[1]);
    else read(0, 0);
  });
  canvas.draw = draw; // again when the colours change
  canvas.className = "confusion";
  const mistakes = counts.flatMap((line, i) => line.map((count, j) => [count / (totals[i] || 1), count, i, j]))
    .filter(([, count, i, j]) => i !== j && count).sort((a, b) => b[0] - a[0]).slice(0, 5);
  const list = mistakes.map(([share, count, i, j]) =>
    element("li", {}, `${names[i]} → ${names[j]}: ${count} (${(100 * share).toFixed(0)} %)`));
  draw();
  return [element("div", { class: "wide" }, canvas), reading,
    list.length ? element("details", {}, element("summary", {}, "Most frequent confusions"), element("ol", {}, list)) : ""];
}

/** Recall of every class, a table with bars that sorts. */
function recalls(values, names) {
  const rows = values.map((value, i) => element("tr", {},
    element("th", { scope: "row" }, `${i}`.padStart(String(values.length).length, "0") + ` ${names[i] === `class ${i}` ? "" : names[i]}`),
    element("td", { "data-value": Number.isFinite(value) ? value : -1 }, Number.isFinite(value) ? value.toFixed(1) : "–"),
    element("td", { class: "left", "data-value": Number.isFinite(value) ? value : -1 }, element("meter", { min: 0, max: 100, value: value ?? 0, "aria-hidden": "true" }))));
  const heads = [["Class", ""], ["Recall", ""], ["", "left"]].map(([text, kind]) => element("th", { scope: "col", class: kind }, text));
  const table = element("table", { class: "sortable recalls" }, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows));
  makeSortable(table);
  return table;
}
