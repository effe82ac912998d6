// How it works inside: which channels tasks select, what they share, and how they were trained.
import { $, ask, colour, element, form, mark, markPath, percent, state } from "./common.js";
import { drawChoice, drawCurves, drawTaps } from "./drawings.js";
import { details } from "./tasks.js";

const SHOWN = 6; // tasks that are drawn at first
const MOST = 12; // and at most
let chosen = null; // names of the tasks that are drawn, in order
let drawn = []; // their details
let looks = 0;

const style = { colour, form, markPath };

export function forgetGone() {
  if (chosen) chosen = chosen.filter((name) => state.tasks.has(name));
  if (chosen && chosen.length < 2) for (const name of state.tasks.keys()) if (chosen.length < SHOWN && !chosen.includes(name)) chosen.push(name);
  $("inside").hidden = !state.tasks.size;
}

function drawLegend() {
  const chips = chosen.map((name, place) => {
    const task = drawn.find((one) => one.name === name);
    const note = task && !task.subscribed.length ? " (selects no channels)" : "";
    const out = element("button", { type: "button", className: "chip-button", ariaLabel: `Do not draw ${name}`, textContent: "✕" });
    out.onclick = () => {
      chosen.splice(place, 1);
      look();
    };
    return element("span", { className: "legend-chip" }, mark(name), `${name}${note}`, out);
  });
  $("legend").replaceChildren(...chips);
  const others = [...state.tasks.keys()].filter((name) => !chosen.includes(name));
  $("inside-add").replaceChildren(element("option", { value: "", textContent: "choose…" }), ...others.map((name) => element("option", { value: name, textContent: name })));
  $("inside-add-row").hidden = !others.length || chosen.length >= MOST;
}

export async function look() {
  if (!$("inside").open || !state.tasks.size) return;
  chosen ??= [...state.tasks.keys()].slice(0, SHOWN);
  const mine = ++looks;
  const found = (await Promise.all(chosen.map((name) => details(name).catch(() => null)))).filter(Boolean);
  if (mine !== looks) return; // something else was chosen meanwhile
  drawn = found;
  drawLegend();
  redraw();
  overlaps(drawn.filter((task) => task.subscribed.length));
  await choice(drawn.filter((task) => task.subscribed.length));
}

export function redraw() {
  if (!$("inside").open || !state.source) return;
  drawTaps($("taps"), state.source, drawn.filter((task) => task.subscribed.length), style);
  drawCurves($("curves"), drawn, style);
  if (!$("choice-card").hidden) state.showChoice?.();
}

function overlaps(tasks) {
  const pairs = [];
  tasks.forEach((task, place) => tasks.slice(place + 1).forEach((other) => {
    const pair = task.overlap.find((one) => one.task === other.name);
    if (pair) pairs.push([task.name, other.name, pair]);
  }));
  pairs.sort((one, other) => other[2].iou - one[2].iou);
  const list = element("ol", { className: "bars" });
  for (const [one, other, pair] of pairs.slice(0, 12)) {
    const fill = element("i");
    fill.style.width = `${100 * pair.iou}%`;
    fill.style.background = `linear-gradient(90deg, ${colour(one)}, ${colour(other)})`;
    fill.style.opacity = 1;
    const tick = element("i", { className: "tick" });
    tick.style.left = `${100 * pair.chance}%`;
    list.append(element("li", {}, element("span", { className: "label", textContent: `${one} × ${other}` }),
      element("span", { className: "number", textContent: `${percent(pair.iou)} (chance ${percent(pair.chance)})` }),
      element("span", { className: "bar" }, fill, tick)));
  }
  $("overlap").replaceChildren(pairs.length ? list : element("p", { className: "quiet small", textContent: "Draw two tasks that select channels." }));
}

async function choice(tasks) {
  const histories = await Promise.all(tasks.map(async ({ name }) => {
    if (!state.choices.has(name)) {
      state.choices.set(name, await ask(`v1/tasks/${encodeURIComponent(name)}/choice`).catch(() => null));
    }
    return [name, state.choices.get(name)];
  }));
  const recorded = histories.filter(([, found]) => found);
  $("choice-card").hidden = !recorded.length;
  if (!recorded.length) return;
  const fill = (select, values) => {
    const before = select.value;
    select.replaceChildren(...values.map((value) => element("option", { value, textContent: value })));
    if (values.includes(before)) select.value = before;
  };
  fill($("choice-task"), recorded.map(([name]) => name));
  const show = () => {
    const [name, found] = recorded.find(([one]) => one === $("choice-task").value);
    fill($("choice-tap"), found.taps.map((tap) => tap.tap));
    const tap = found.taps.find((one) => one.tap === $("choice-tap").value);
    $("choice-note").textContent = `${tap.taken} of ${tap.channels} channels at the end, ${tap.ever} at some time; `
      + `${found.steps.at(-1)} steps`;
    drawChoice($("choice"), found, tap, colour(name));
  };
  state.showChoice = $("choice-task").onchange = $("choice-tap").onchange = show;
  show();
}

export function inside() {
  $("inside").addEventListener("toggle", look);
  $("inside-add").onchange = (event) => {
    if (event.target.value) chosen.push(event.target.value);
    look();
  };
  let resizing = 0;
  const later = () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(redraw);
  };
  addEventListener("resize", later);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
}
