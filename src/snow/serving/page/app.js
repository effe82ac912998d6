// The page of a hub: what it answers, and what its tasks have in common. All of it comes from this service.
import { $, PAGE, ask, colour, element, painted, percent, size, state } from "./common.js";
import { drawChoice, drawCurves, drawTaps } from "./drawings.js";
import { camera, intake } from "./pictures.js";

const SHOWN = 8; // tasks whose channels are drawn at first
const POLL = 2000;
const MAX_BROKEN = 10; // tasks that cannot answer whose reason is shown

// ---- tasks

function card(task, isNew) {
  const top1 = task.top1 === null ? "" : `, ${percent(task.top1)} right`;
  const labels = { class: `${task.classes} classes`, multi: `${task.classes} tags`, number: "a number", ordered: `${task.classes} grades` };
  const made = element("button", { type: "button", className: `task${isNew ? " new" : ""}` },
    element("b", { textContent: task.name }),
    element("span", { className: "quiet small", textContent: `${labels[task.kind]}${top1} · ${task.method} · ${size(task.bytes)}` }));
  made.setAttribute("aria-pressed", state.chosen.has(task.name));
  made.onclick = () => {
    if (!state.chosen.delete(task.name)) state.chosen.add(task.name);
    made.setAttribute("aria-pressed", state.chosen.has(task.name));
    look();
  };
  return painted(made, task.name);
}

// The list is sent only when it has changed; null: it has not.
async function list() {
  let response;
  try {
    response = await fetch("v1/tasks", { cache: "no-store", headers: state.tag ? { "If-None-Match": state.tag } : {} });
  } catch {
    throw new Error("The service cannot be reached.");
  }
  if (response.status === 304 || response.status === 429) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? response.statusText);
  state.tag = response.headers.get("ETag");
  return body;
}

async function refresh() {
  let changed;
  try {
    changed = await list();
  } catch (error) {
    $("state").className = "lost";
    $("state-text").textContent = error.message;
    return;
  }
  $("state").className = "ready";
  $("state-text").textContent = "ready";
  if (!changed) return;
  const { source } = changed;
  $("source").textContent = `${source.architecture} · ${(source.parameters / 1e6).toFixed(1)} M parameters, frozen · `
    + `${source.preprocessing.image_size} px · ${source.taps.length} feature maps`;
  $("manage").hidden = !changed.managed;
  $("count").textContent = changed.tasks.length;
  const before = state.source && new Set(state.tasks.keys());
  state.source = source;
  state.tasks = new Map(changed.tasks.map((task) => [task.name, task]));
  state.order = new Map(changed.tasks.map((task, place) => [task.name, place]));
  state.arrived = new Set(before ? [...state.tasks.keys()].filter((name) => !before.has(name)) : []);
  state.details.clear();
  state.choices.clear();
  state.chosen ??= new Set([...state.tasks.keys()].slice(0, SHOWN));
  for (const name of state.arrived) if (state.chosen.size < SHOWN) state.chosen.add(name);
  for (const name of [...state.chosen]) if (!state.tasks.has(name)) state.chosen.delete(name);
  drawList();
  drawBroken(Object.entries(changed.broken));
  await look();
}

// One page of the tasks whose name or method the filter matches.
function drawList() {
  const wanted = state.filter.trim().toLowerCase();
  const matching = [...state.tasks.values()].filter((task) => `${task.name} ${task.method}`.toLowerCase().includes(wanted));
  const pages = Math.max(1, Math.ceil(matching.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const visible = matching.slice(state.page * PAGE, (state.page + 1) * PAGE);
  $("task-list").replaceChildren(...visible.map((task) => card(task, state.arrived.has(task.name))));
  state.arrived.clear();
  if (!state.tasks.size) $("task-list").append(element("p", { className: "quiet", textContent: "There is no task yet: snow train adds one." }));
  else if (!matching.length) $("task-list").append(element("p", { className: "quiet", textContent: "No task has such a name." }));
  $("task-tools").hidden = state.tasks.size <= PAGE;
  $("page-of").textContent = `${state.page + 1} of ${pages}`;
  $("previous").disabled = !state.page;
  $("next").disabled = state.page + 1 >= pages;
}

function drawBroken(broken) {
  const shown = broken.slice(0, MAX_BROKEN).map(([name, why]) =>
    element("div", { className: "error" }, element("p", {}, element("strong", { textContent: `${name} cannot answer` }), why)));
  if (broken.length > MAX_BROKEN) {
    shown.push(element("p", { className: "bad small", textContent: `and ${broken.length - MAX_BROKEN} more that cannot answer` }));
  }
  $("broken").replaceChildren(...shown);
}

function paging() {
  const turn = (by) => (state.page += by, drawList());
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  $("filter").oninput = (event) => {
    [state.filter, state.page] = [event.target.value, 0];
    drawList();
  };
}

// ---- what they have in common

async function details(name) {
  if (!state.details.has(name)) state.details.set(name, await ask(`v1/tasks/${encodeURIComponent(name)}`));
  return state.details.get(name);
}

let looks = 0;
async function look() {
  const mine = ++looks;
  const found = (await Promise.all([...state.tasks.keys()].filter((name) => state.chosen.has(name))
    .map((name) => details(name).catch(() => null)))).filter(Boolean);
  if (mine !== looks) return; // something else was chosen meanwhile
  state.shown = found;
  $("inside").hidden = !found.length;
  if (!found.length) return;
  const choosing = found.filter((task) => task.subscribed.length);
  $("legend").replaceChildren(...found.map((task) => painted(element("span", {}, element("span", { className: "swatch" }),
    task.subscribed.length ? task.name : `${task.name} (chooses no channels)`), task.name)));
  drawTaps($("taps"), state.source, choosing, colour);
  overlaps(choosing);
  drawCurves($("curves"), found, colour);
  await choice(choosing);
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
  $("overlap").replaceChildren(pairs.length ? list : element("p", { className: "quiet small", textContent: "It takes two tasks that choose channels." }));
}

async function choice(tasks) {
  const answers = await Promise.all(tasks.map(async ({ name }) => {
    if (!state.choices.has(name)) {
      state.choices.set(name, await ask(`v1/tasks/${encodeURIComponent(name)}/choice`).catch(() => null));
    }
    return [name, state.choices.get(name)];
  }));
  const recorded = answers.filter(([, found]) => found);
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

// ---- changing tasks

function manage() {
  const say = (text, kind) => Object.assign($("managed"), { textContent: text, className: `small ${kind}` });
  const send = async (method, body) => {
    const name = $("name").value.trim();
    say(`${method === "PUT" ? "Uploading" : "Removing"} ${name}…`, "quiet");
    try {
      const headers = { Authorization: `Bearer ${$("token").value}` };
      if (body instanceof File) headers["Content-Type"] = "application/octet-stream";
      await ask(`v1/tasks/${encodeURIComponent(name)}`, { method, body, headers });
      say(method === "PUT" ? `${name} is there.` : `${name} is gone.`, "good");
      await refresh();
    } catch (error) {
      say(`${error.message} (${error.code})`, "bad");
    }
  };
  $("manage-form").onsubmit = async (event) => {
    event.preventDefault();
    const files = [...$("task-files").files];
    if (!files.length) return say("Choose an archive, or the files of a task.", "bad");
    const form = new FormData();
    files.forEach((file) => form.append("files", file, file.name));
    await send("PUT", files.length === 1 ? files[0] : form);
  };
  $("remove").onclick = async () => {
    if (!$("manage-form").reportValidity()) return;
    if (confirm(`Remove ${$("name").value} for good?`)) await send("DELETE");
  };
}

intake();
camera();
manage();
paging();
let resizing = 0;
const redraw = () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    if (!state.shown) return;
    drawTaps($("taps"), state.source, state.shown.filter((task) => task.subscribed.length), colour);
    drawCurves($("curves"), state.shown, colour);
    if (!$("choice-card").hidden) state.showChoice?.();
  });
};
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
await refresh();
setInterval(() => document.hidden || refresh(), POLL);
