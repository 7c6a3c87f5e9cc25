"use strict";
// A record: what one number rests on. Its file in records/ is loaded when it is opened.

const NAME = /^(submitted-)?[0-9a-f]{16}$/;
const kept = new Map();

/** Called by the files in records/. */
function keepRecord(name, record) {
  kept.set(name, record);
}

async function loadRecord(name) {
  if (!NAME.test(name)) throw new Error("this is not the key of a record");
  await loadScript(`records/${name}.js`);
  return kept.get(name);
}

const dialog = document.getElementById("record");
const metricNames = JSON.parse(document.body.dataset.metrics);
const metricName = name => metricNames[name] ?? name.replaceAll("_", " ");
const KINDS = { pretrain: "Pre-training", features: "Features", evaluate: "Evaluation", fuse: "Fusion of streams" };

/** Open a record, or close the dialog for "". */
async function showRecord(key) {
  if (!key) {
    if (dialog.open) dialog.close();
    return;
  }
  const title = document.getElementById("record-title"), body = document.getElementById("record-body");
  if (dialog.open && body.dataset.key === key) return;
  body.dataset.key = key;
  let content;
  try {
    const record = await loadRecord(key);
    title.textContent = recordTitle(record);
    content = recordBody(record);
  } catch (error) {
    title.textContent = "No such record";
    content = [element("p", {}, `${key}: ${error.message}.`)];
  }
  if (body.dataset.key !== key) return; // another one was opened meanwhile
  body.replaceChildren(...content.flat().filter(Boolean));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  title.focus();
}

function recordTitle({ kind, labels, cell }) {
  const place = `${labels.dataset}/${labels.split}` + (labels.source ? ` from ${labels.source}` : "");
  return `${cell?.protocol || labels.protocol || KINDS[kind] || kind} of ${cell?.method ?? labels.method} on ${place}`;
}

function recordBody(record) {
  const { labels, cell, facts } = record;
  return [
    element("p", { class: "chips" }, ["stream", "encoder", "recipe", "budget", "seed"].map(name =>
      element("span", {}, element("small", {}, `${name} `), String(labels[name])))),
    record.submission ? submission(record.submission) : "",
    cell && cell.runs.length > 1 ? seedsOf(record) : "",
    cell?.summary ? headline(cell) : "",
    record.reason ? element("p", { class: "warning" }, `${record.status}: ${record.reason}`) : "",
    cell ? section("The command", [commandLine(cell.command)]) : "",
    cell?.timeline ? section("Over time", [element("a", { href: cell.timeline }, element("img", { src: cell.timeline, alt: "Truth and predictions over time", loading: "lazy" }))]) : "",
    section("Metrics", [pairs(percents(record.metrics), metricName)], Object.keys(record.metrics).length),
    section("Curves", [element("div", { class: "curves" }, curves(record.curve))], record.curve.length),
    ...classes(facts),
    ...details(record),
    section("Stages before", record.parents.map(stageBefore), record.parents.length),
  ];
}

function section(title, children, shownAtAll = true) {
  return shownAtAll ? element("section", {}, element("h3", {}, title), children) : "";
}

/** Whose number it is, and how to see whether it is true. */
function submission({ file, by, note, checksum, verified, repetition, command }) {
  return element("div", { class: "warning" },
    element("p", {}, element("b", {}, `Submitted by ${by || "somebody without a name"}`), ` in ${file}, `,
      repeated(repetition, verified)),
    note ? element("p", {}, `Their note: ${note}`) : "",
    element("p", { class: "soft" }, `Checksum ${checksum}. This repeats it and compares:`),
    commandLine(command));
}

/** What came out when the entry was repeated here, and what that was allowed to differ by. */
function repeated(repetition, verified) {
  if (!repetition) return "not repeated here.";
  const { confirmed, difference, tolerance } = repetition;
  const largest = `largest difference ${difference?.toFixed(2) ?? "not noted"}`;
  if (!confirmed) return `repeated here and not confirmed, ${largest}.`;
  return `repeated here and confirmed within ${tolerance} points, ${largest}${verified ? "" : ": too wide to count as verified"}.`;
}

function seedsOf({ name, cell }) {
  const links = cell.runs.map(run => element("a",
    { href: `#record=${run.name}`, "data-record": run.name, "aria-current": run.name === name ? "true" : undefined },
    `seed ${run.seed}${run.status === "done" ? "" : ` (${run.status})`}`));
  return element("nav", { class: "seeds", "aria-label": "Seeds" }, links);
}

function headline({ summary, headline: name, gap }) {
  const { mean, sd, n, low, high } = summary;
  const band = low === null || high === null ? "" : ` [${low.toFixed(1)}, ${high.toFixed(1)}]`;
  return element("p", { class: "headline" }, element("b", {}, sd === null ? mean.toFixed(1) : `${mean.toFixed(1)} ± ${sd.toFixed(1)}`),
    ` % ${metricName(name)}${band}, ${n} seed${n > 1 ? "s" : ""}${gap ? `; ${gap}` : ""}`);
}

function commandLine(text) {
  const button = element("button", { type: "button", click: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(code); button.textContent = "Selected"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  const code = element("code", {}, text);
  return element("div", { class: "command" }, element("pre", { tabindex: 0 }, code), button);
}

/** Classes with their confusions and recalls, where the record has them. */
function classes({ confusion: counts, recall, classes: names }) {
  const many = counts?.length ?? recall?.length ?? 0;
  const named = Array.from({ length: many }, (_, i) => names?.[i] ?? `class ${i}`);
  return [
    section("Confusions", counts?.length ? confusion(counts, named) : [], counts?.length),
    section("Recall of classes", recall?.length ? [recalls(recall, named)] : [], recall?.length),
  ];
}

/** Settings, facts, key and circumstances. */
function details({ config, facts, identity, key, provenance }) {
  const plain = Object.fromEntries(Object.entries(facts).filter(([name]) => !["confusion", "recall", "classes"].includes(name)));
  const fold = (title, table, open) => Object.keys(table).length
    ? element("details", { open: open ? "" : undefined }, element("summary", {}, title), pairs(table)) : "";
  return [
    fold("Settings", flat(config), true),
    fold("Facts", flat(plain)),
    fold("Key and what is hashed into it", { key, ...flat(identity) }),
    fold("Provenance: where and when it ran", flat(provenance)),
  ];
}

/** A stage that this one started from; loaded when it is unfolded. */
function stageBefore(name) {
  const summary = element("summary", {}, `Stage ${name}`);
  const folded = element("details", { class: "stage" }, summary);
  const label = loadRecord(name).then(record => {
    summary.textContent = `${KINDS[record.kind] ?? record.kind} of ${record.labels.method}, ${record.labels.stream}: ${record.key}`;
    return record;
  });
  label.catch(() => { summary.textContent = `Stage ${name}: its record is gone`; });
  folded.addEventListener("toggle", async () => {
    const record = await label.catch(() => undefined);
    if (!record || folded.childElementCount > 1) return;
    folded.append(...[
      record.reason ? element("p", { class: "warning" }, `${record.status}: ${record.reason}`) : "",
      section("Metrics", [pairs(percents(record.metrics), metricName)], Object.keys(record.metrics).length),
      section("Curves", [element("div", { class: "curves" }, curves(record.curve))], record.curve.length),
      ...details(record),
      ...record.parents.map(stageBefore),
    ].filter(Boolean));
  });
  return folded;
}

/** Metrics with the decimals that differences between them need. */
function percents(metrics) {
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, value?.toFixed(2) ?? null]));
}

function pairs(table, name = one => one) {
  const rows = Object.entries(table).map(([key, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name(key)), element("td", {}, shown(value))));
  return element("table", { class: "pairs" }, element("tbody", {}, rows));
}

/** Nested settings with dotted names; lists as they are written on the command line. */
function flat(table, prefix = "") {
  const found = {};
  for (const [key, value] of Object.entries(table ?? {})) {
    if (value && typeof value === "object" && !Array.isArray(value)) Object.assign(found, flat(value, `${prefix}${key}.`));
    else found[prefix + key] = typeof value === "number" || typeof value === "string" ? value : JSON.stringify(value);
  }
  return found;
}

document.addEventListener("theme", () => dialog.querySelectorAll("canvas").forEach(canvas => canvas.draw?.()));
