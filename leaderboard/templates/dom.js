"use strict";
// The few helpers that all other scripts use. Text becomes text nodes, never markup.

/** An element with attributes (functions become listeners) and children. */
function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter(child => child !== undefined && child !== ""));
  return made;
}

/** A colour of the style sheet as the browser resolves it, for canvases. */
function colour(name) {
  const probe = document.body.appendChild(element("i"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** A canvas of this size in CSS pixels, sharp on every screen. */
function canvasOf(width, height, attributes = {}) {
  const scale = window.devicePixelRatio || 1;
  const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale), ...attributes });
  canvas.style.width = `${width}px`;
  canvas.getContext("2d").scale(scale, scale);
  return canvas;
}

/** Load a script of this folder once; it hands its data to a function such as keepRecord. */
const loading = new Map();
function loadScript(source) {
  if (!loading.has(source)) {
    loading.set(source, new Promise((resolve, reject) => {
      const failed = () => { loading.delete(source); reject(new Error(`${source} is not in this folder`)); };
      document.head.append(element("script", { src: source, load: resolve, error: failed }));
    }));
  }
  return loading.get(source);
}

/** A number for people: three or four digits that matter. */
function shown(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
