// What is drawn: channels by map, curves of training, the choice over time.
import { shape } from "./common.js";

const ROW = 9; // pixels of height for each task

function resolve(colour) {
  const probe = document.createElement("i");
  probe.style.color = colour;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function sharp(canvas, height) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth || canvas.parentElement.clientWidth;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return [context, width];
}

// A row for each map of the source; in it a line for each task, with a mark for each channel that it takes.
export function drawTaps(where, source, tasks, { colour }) {
  const names = new Set(tasks.flatMap((task) => task.subscribed.map((one) => one.tap)));
  const known = source.taps.map((tap) => tap.name).filter((name) => names.has(name));
  const taps = [...known, ...[...names].filter((name) => !known.includes(name))];
  const rows = taps.map((name) => {
    const lines = tasks.map((task) => task.subscribed.find((one) => one.tap === name));
    const channels = Math.max(...lines.map((line) => line?.channels ?? 0));
    const times = new Map();
    lines.forEach((line) => line?.chosen.forEach((channel) => times.set(channel, (times.get(channel) ?? 0) + 1)));
    const shared = [...times.values()].filter((count) => count > 1).length;
    const row = document.createElement("div");
    row.className = "tap";
    const title = document.createElement("span");
    title.className = "name";
    title.textContent = title.title = name === "(final)" ? "final features" : name;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}: ${times.size} of ${channels} channels are taken, ${shared} by several tasks`);
    const figure = document.createElement("span");
    figure.className = "figure";
    figure.textContent = `${times.size} / ${channels}`;
    figure.title = canvas.title = `${times.size} of ${channels} channels are taken, ${shared} by several tasks`;
    row.append(title, canvas, figure);
    return [row, canvas, lines, channels];
  });
  where.replaceChildren(...rows.map(([row]) => row));
  const paints = tasks.map((task) => resolve(colour(task.name)));
  for (const [, canvas, lines, channels] of rows) {
    const [context, width] = sharp(canvas, ROW * tasks.length + 2);
    const step = width / channels;
    lines.forEach((line, place) => {
      context.fillStyle = paints[place];
      for (const channel of line?.chosen ?? []) {
        context.fillRect(channel * step, 1 + place * ROW, Math.max(1, step - (step > 3 ? 1 : 0)), ROW - 1);
      }
    });
  }
}

// Bits of base64, a row of whole bytes for each moment, stretched over the canvas.
export function drawChoice(canvas, found, tap, colour) {
  const bytes = Uint8Array.from(atob(tap.rows), (one) => one.charCodeAt(0));
  const stride = Math.ceil(tap.channels / 8);
  canvas.width = tap.channels;
  canvas.height = found.steps.length;
  const context = canvas.getContext("2d");
  context.fillStyle = resolve(colour);
  for (let row = 0; row < found.steps.length; row++) {
    for (let channel = 0; channel < tap.channels; channel++) {
      if (bytes[row * stride + (channel >> 3)] & (128 >> (channel & 7))) context.fillRect(channel, row, 1, 1);
    }
  }
  canvas.setAttribute("aria-label", `${tap.tap}: ${tap.taken} of ${tap.channels} channels at the end, ${tap.ever} at some time`);
}

const HIGH = 190;
const LEFT = 46;
const DASHES = ["none", "7 3", "2 3", "10 3 2 3", "5 5", "12 4"]; // one for each shape of a mark

function plot(title, tasks, key, { colour, form, markPath }, asPercent, wide) {
  const series = tasks.map((task) => [task.name, task.history.map((one) => [one.epoch, one[key]])
    .filter(([epoch, value]) => Number.isFinite(epoch) && Number.isFinite(value))]).filter(([, points]) => points.length);
  if (!series.length) return null;
  const points = series.flatMap(([, found]) => found);
  const last = Math.max(...points.map(([epoch]) => epoch), 2);
  let [low, high] = [Math.min(...points.map(([, value]) => value)), Math.max(...points.map(([, value]) => value))];
  if (high - low < 1e-9) [low, high] = [low - 0.05, high + 0.05];
  const margin = 0.08 * (high - low);
  [low, high] = [low - margin, high + margin];
  if (asPercent) [low, high] = [low < -margin ? low : Math.max(0, low), Math.min(1, high)];
  const x = (epoch) => LEFT + ((wide - LEFT - 12) * (epoch - 1)) / (last - 1);
  const y = (value) => HIGH - 24 - ((HIGH - 48) * (value - low)) / (high - low);
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${HIGH}`, class: "curve", role: "img" });
  svg.setAttribute("aria-label", `${title}: ${series.map(([name, found]) => `${name} ends at ${found.at(-1)[1].toPrecision(3)}`).join(", ")}`);
  svg.append(shape("text", { x: LEFT, y: 12 }, title));
  for (const part of [0, 0.5, 1]) {
    const value = low + part * (high - low);
    svg.append(shape("line", { x1: LEFT, x2: wide - 12, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(shape("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, asPercent ? `${(100 * value).toFixed(0)} %` : value.toFixed(2)));
  }
  svg.append(shape("text", { x: LEFT, y: HIGH - 6 }, "epoch 1"), shape("text", { x: wide - 12, y: HIGH - 6, "text-anchor": "end" }, `${last}`));
  for (const [name, found] of series) {
    const stroke = resolve(colour(name));
    const line = found.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" ");
    svg.append(shape("polyline", { points: line, fill: "none", stroke, "stroke-width": 2.5, "stroke-linejoin": "round", "stroke-dasharray": DASHES[form(name)] }));
    const [epoch, value] = found.at(-1);
    svg.append(shape("path", { d: markPath(name), fill: stroke, transform: `translate(${x(epoch) - 6} ${y(value) - 6}) scale(.75)` }));
  }
  return svg;
}

// Loss and accuracy by epoch, a line for each task.
export function drawCurves(where, tasks, style) {
  const wide = Math.max(240, where.clientWidth);
  const drawn = [
    plot("accuracy on the pictures it learns from", tasks, "accuracy", style, true, wide),
    plot("score on held-out pictures (accuracy, mAP or R²)", tasks, "validation", style, true, wide),
    plot("loss", tasks, "loss", style, false, wide),
  ].filter(Boolean);
  where.replaceChildren(...drawn);
  if (drawn.length) return;
  const none = document.createElement("p");
  none.className = "quiet small";
  none.textContent = "These tasks have no record of their training.";
  where.append(none);
}
