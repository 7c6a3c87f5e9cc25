"use strict";
// Skeletons in motion: clips side by side on one clock, turned by dragging or the arrow keys. Format: docs/page.md.

const players = new Map();
const SIDE_COLOURS = { left: "accent", right: "warm" };

/** Called by the files in players/. */
function keepPlayer(name, data) {
  players.set(name, data);
}

let playing = null; // what runs now: { stop, source }

async function showPlayer() {
  const choice = document.getElementById("clips"), stage = document.getElementById("stage");
  if (!choice || playing?.source === choice.value) return;
  playing?.stop();
  playing = { source: choice.value, stop() {} };
  try {
    await loadScript(choice.value);
    playing = { source: choice.value, stop: play(players.get(choice.value.match(/(\w+)\.js$/)[1]), stage) };
  } catch (error) {
    stage.replaceChildren(element("p", { class: "warning" }, `This clip cannot be shown: ${error.message}`));
  }
}

/** Poses as T x M x V x 3, also of one person without an axis; absent persons are all zero. */
function framesOf({ frames }) {
  return Array.isArray(frames[0][0][0]) ? frames : frames.map(pose => [pose]);
}

/** Play all clips of a group; returns what stops it. */
function play(data, stage, group = data.clips[0].group) {
  const groups = [...new Set(data.clips.map(clip => clip.group))];
  const clips = data.clips.filter(clip => clip.group === group)
    .map(clip => ({ name: String(clip.title ?? ""), frames: framesOf(clip), weights: clip.weights }));
  const count = Math.max(...clips.map(clip => clip.frames.length)), rate = Number(data.rate) || 12.5;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let frame = 0, angle = 20, moving = !calm, speed = 1, before = null, request = 0;

  const least = stage.clientWidth < 520 ? 165 : 260; // two beside each other on a phone
  const beside = Math.min(clips.length, Math.max(1, Math.floor(stage.clientWidth / least)));
  const width = Math.max(140, Math.min(420, stage.clientWidth / beside - 16));
  for (const clip of clips) {
    const points = clip.frames.flat(2).filter(point => point.some(Boolean));
    const extent = axis => [Math.min(...points.map(p => p[axis])), Math.max(...points.map(p => p[axis]))];
    const [bottom, top] = extent(1), radius = Math.max(...points.map(([x, , z]) => Math.hypot(x, z)), 0.1);
    const slots = Math.max(...clip.frames.map(bodies => bodies.length));
    const persons = Array.from({ length: slots }, (_, person) => clip.frames.some(bodies => bodies[person]?.some(point => point.some(Boolean))));
    clip.slots = persons.map((_, person) => persons.slice(0, person).filter(Boolean).length - (persons.filter(Boolean).length - 1) / 2);
    clip.apart = 2 * radius; // every body is centred at the origin
    clip.scale = Math.min(width / (persons.filter(Boolean).length * clip.apart + 0.2), width * 1.1 / (top - bottom + 0.2));
    clip.middle = (top + bottom) / 2;
    clip.canvas = canvasOf(width, width * 1.1, { tabindex: 0, role: "img", "aria-label": `Skeleton: ${clip.name}. Left and right turn it, space plays and stops` });
  }

  function draw() {
    const inks = Object.fromEntries(["ink", "soft", "line", "accent", "warm"].map(name => [name, colour(name)]));
    const [sin, cos] = [Math.sin(angle * Math.PI / 180), Math.cos(angle * Math.PI / 180)];
    for (const { canvas, frames, weights, scale, middle, slots, apart } of clips) {
      const context = canvas.getContext("2d"), at = Math.min(frame, frames.length - 1);
      context.clearRect(0, 0, width, width * 1.1);
      context.lineCap = "round";
      for (const [person, body] of frames[at].entries()) {
        if (!body.some(point => point.some(Boolean))) continue;
        const place = ([x, y, z]) =>
          [width / 2 + (slots[person] * apart + z * sin - x * cos) * scale, width * 0.55 - (y - middle) * scale];
        const marks = weights?.[at] ?? [];
        for (const [a, b] of data.bones) {
          const mark = Math.min(marks[a] ?? 0, marks[b] ?? 0);
          context.strokeStyle = inks[SIDE_COLOURS[data.sides?.[a]] ?? "ink"];
          context.lineWidth = 3 + 4 * mark;
          context.beginPath();
          context.moveTo(...place(body[a]));
          context.lineTo(...place(body[b]));
          context.stroke();
        }
        body.forEach((point, joint) => {
          const mark = marks[joint] ?? 0;
          context.fillStyle = mark > 0.5 ? inks.warm : inks.soft;
          context.beginPath();
          context.arc(...place(point), 2.5 + 3.5 * mark, 0, 7);
          context.fill();
        });
      }
    }
    slider.value = frame;
    reading.textContent = `frame ${frame + 1} of ${count}`;
  }

  function step(now) {
    if (moving && before !== null) {
      const passed = Math.floor((now - before) / 1000 * rate * speed);
      if (passed) {
        frame = (frame + passed) % count;
        before = now;
        draw();
      }
    } else before = now;
    request = requestAnimationFrame(step);
  }

  function toggle() {
    moving = !moving;
    before = null;
    button.textContent = moving ? "Pause" : "Play";
  }

  const button = element("button", { type: "button", click: toggle }, moving ? "Pause" : "Play");
  const slider = element("input", { type: "range", min: 0, max: count - 1, value: 0, "aria-label": "Frame",
    input: () => { frame = Number(slider.value); if (moving) toggle(); draw(); } });
  const speeds = element("select", { "aria-label": "Speed", change: () => { speed = Number(speeds.value); before = null; } },
    [0.25, 0.5, 1, 2].map(one => element("option", { value: one, selected: one === 1 ? "" : undefined }, `${one}×`)));
  const reading = element("span", { class: "soft" });
  const choice = groups.length < 2 ? "" : element("select", { "aria-label": "Group", change: () => {
    const next = groups[choice.selectedIndex];
    stop();
    playing.stop = play(data, stage, next);
  } }, groups.map(one => element("option", { selected: one === group ? "" : undefined }, String(one))));
  for (const { canvas } of clips) {
    canvas.addEventListener("pointermove", event => { if (event.buttons) { angle += event.movementX / 2; draw(); } });
    canvas.addEventListener("keydown", event => {
      if (event.key === " ") toggle();
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") angle += event.key === "ArrowLeft" ? -10 : 10;
      else return;
      event.preventDefault();
      draw();
    });
  }
  stage.replaceChildren(
    element("div", { class: "controls" }, choice, button, slider, speeds, reading),
    element("div", { class: "skeletons" }, clips.map(({ name, canvas }) => element("figure", {}, canvas, element("figcaption", {}, name)))),
    element("p", { class: "soft" }, "Drag to turn. Left side of the body in blue, right side in orange."));
  draw();
  document.addEventListener("theme", draw);
  request = requestAnimationFrame(step);
  function stop() {
    cancelAnimationFrame(request);
    document.removeEventListener("theme", draw);
  }
  return stop;
}

document.getElementById("clips")?.addEventListener("change", showPlayer);
