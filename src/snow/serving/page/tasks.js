// The tasks: which of them are asked, their classes, and how well they do.
import { $, PAGE, ask, asked, colour, count, element, mark, number, percent, quantity, size, state } from "./common.js";

const STORED = "snow: tasks that are not asked";
let page = 0;
let filter = "";
let changed = () => {};

const NOUNS = { class: ["class", "classes"], multi: ["tag", "tags"], ordered: ["grade", "grades"] };
const QUALITY = {
  class: ({ top1 }) => top1 !== undefined && `right for ${percent(top1)}`,
  multi: ({ micro_f1: f1 }) => f1 !== undefined && `F1 ${percent(f1)}`,
  number: ({ mae }, unit) => mae !== undefined && `off by ${quantity(mae, unit, 2)}`,
  ordered: ({ top1 }) => top1 !== undefined && `right for ${percent(top1)}`,
};

const answers = (task) => (task.kind === "number" ? "a number" : count(task.classes, ...NOUNS[task.kind]));

function remember() {
  try {
    localStorage.setItem(STORED, JSON.stringify([...state.left]));
  } catch { /* the browser keeps nothing: the choice lasts as long as the page */ }
}

export function recall() {
  try {
    state.left = new Set(JSON.parse(localStorage.getItem(STORED) ?? "[]"));
  } catch { /* as above */ }
}

const matching = () => [...state.tasks.values()].filter((task) => `${task.name} ${task.method}`.toLowerCase().includes(filter.trim().toLowerCase()));

function row(task, isNew) {
  const tick = element("input", { type: "checkbox", checked: !state.left.has(task.name) });
  tick.onchange = () => {
    if (tick.checked) state.left.delete(task.name);
    else state.left.add(task.name);
    remember();
    drawCount();
    changed();
  };
  const quality = QUALITY[task.kind](task.figures, task.unit);
  const label = element("label", {}, tick, mark(task.name), element("span", {},
    element("b", { textContent: task.name }),
    element("span", { className: "quiet small", textContent: [answers(task), quality].filter(Boolean).join(" · ") })));
  const more = element("button", { type: "button", className: "button small", textContent: "Details", ariaLabel: `Details of ${task.name}` });
  more.onclick = () => showTask(task.name);
  const made = element("div", { className: `task${isNew ? " new" : ""}` }, label, more);
  made.dataset.task = task.name;
  return made;
}

function drawCount() {
  const [some, all] = [asked().length, state.tasks.size];
  $("count").textContent = some === all ? `${all}` : `${some} of ${all} asked`;
  $("ask-note").textContent = some === all ? "" : some ? `${count(some, "task")} of ${all} will be asked.` : "No task is chosen.";
}

// One page of the tasks whose name or method the filter matches.
export function drawList(arrived = new Set()) {
  const found = matching();
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  page = Math.min(page, pages - 1);
  const focused = document.activeElement?.closest?.(".task")?.dataset.task;
  const wasButton = document.activeElement?.tagName === "BUTTON";
  $("task-list").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((task) => row(task, arrived.has(task.name))));
  if (focused) $("task-list").querySelector(`[data-task="${CSS.escape(focused)}"] ${wasButton ? "button" : "input"}`)?.focus();
  if (!found.length && state.tasks.size) $("task-list").append(element("p", { className: "quiet", textContent: "No task has such a name." }));
  $("empty").hidden = Boolean(state.tasks.size);
  $("samples").hidden = !state.tasks.size;
  $("task-tools").hidden = state.tasks.size < 2;
  $("find-row").hidden = $("turn-row").hidden = state.tasks.size <= PAGE;
  $("page-of").textContent = `${page + 1} of ${pages}`;
  $("previous").disabled = !page;
  $("next").disabled = page + 1 >= pages;
  drawCount();
}

const MAX_BROKEN = 10; // tasks that cannot answer whose reason is shown

export function drawBroken(broken) {
  const shown = broken.slice(0, MAX_BROKEN).map(([name, why]) =>
    element("div", { className: "error" }, element("p", {}, element("strong", { textContent: `${name} cannot answer` }), why)));
  if (broken.length > MAX_BROKEN) {
    shown.push(element("p", { className: "bad small", textContent: `and ${broken.length - MAX_BROKEN} more that cannot answer` }));
  }
  $("broken").replaceChildren(...shown);
}

export function taskTools(onChange) {
  changed = onChange;
  const turn = (by) => (page += by, drawList());
  const choose = (all) => {
    for (const { name } of matching()) all ? state.left.delete(name) : state.left.add(name);
    remember();
    drawList();
    changed();
  };
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  $("all").onclick = () => choose(true);
  $("none").onclick = () => choose(false);
  $("filter").oninput = (event) => {
    [filter, page] = [event.target.value, 0];
    $("all").textContent = filter ? "Ask these" : "Ask all";
    $("none").textContent = filter ? "Leave these out" : "Ask none";
    drawList();
  };
  $("task-close").onclick = () => $("task-dialog").close();
  $("class-filter").oninput = drawClasses;
}

export async function details(name) {
  if (!state.details.has(name)) state.details.set(name, await ask(`v1/tasks/${encodeURIComponent(name)}`));
  return state.details.get(name);
}

// ---- one task

const FIGURES = { // key -> what it says, and how it is written
  top1: ["of the answers are right", percent],
  top5: ["have the right class among the first five", percent],
  balanced_accuracy: ["right, if each class counted alike", percent],
  macro_f1: ["macro F1", percent],
  ece: ["how far the probabilities are off, on average", percent],
  map: ["mean average precision", percent],
  micro_f1: ["F1 over all tags", percent],
  mae: ["off by this on average", (value, unit) => quantity(value, unit, 3)],
  rmse: ["root of the mean squared error", (value, unit) => quantity(value, unit, 3)],
  r2: ["R², the share of the differences that is explained", (value) => number(value, 3)],
  spearman: ["rank correlation with the truth", (value) => number(value, 3)],
  mae_grades: ["grades off on average", (value) => number(value, 3)],
};

const LEADS = { class: "one of ", multi: "any of ", ordered: "one of ", number: "a number, " };
let shown = null;

async function showTask(name) {
  let task;
  try {
    task = await details(name);
  } catch (error) {
    return drawBroken([[name, error.message]]);
  }
  shown = task;
  $("task-title").replaceChildren(mark(name), name);
  const images = task.metrics.test?.images;
  const learned = task.training.data?.train_images;
  const parts = [LEADS[task.kind] + task.description.replace(/^\w+, /, ""), learned && `learned from ${count(learned, "picture")}`, images && `measured on ${count(images, "other picture")}`,
    `method ${task.method}`, size(task.bytes)];
  $("task-about").textContent = parts.filter(Boolean).join(" · ");
  const rows = Object.entries(task.figures).filter(([key]) => FIGURES[key])
    .map(([key, value]) => element("tr", {}, element("td", { className: "number", textContent: FIGURES[key][1](value, task.unit) }), element("td", { textContent: FIGURES[key][0] })));
  $("task-figures").replaceChildren(...rows);
  $("no-figures").hidden = Boolean(rows.length);
  $("class-filter").value = "";
  $("class-tools").hidden = task.labels.length <= PAGE;
  drawClasses();
  $("only").onclick = () => {
    state.left = new Set([...state.tasks.keys()].filter((one) => one !== name));
    remember();
    drawList();
    changed();
    $("task-dialog").close();
  };
  $("task-dialog").style.setProperty("--colour", colour(name));
  $("task-dialog").showModal();
}

const MOST_CLASSES = 200;

function drawClasses() {
  const { labels, kind, metrics } = shown;
  const wanted = $("class-filter").value.trim().toLowerCase();
  const found = labels.filter((label) => label.toLowerCase().includes(wanted));
  const per = metrics.per_class ?? {};
  const isTags = kind === "multi";
  const heads = Object.keys(per).length ? ["test pictures", isTags ? "found" : "right", isTags ? "of its answers right" : "taken for"] : [];
  const line = (label) => element("tr", {}, element("th", { scope: "row", textContent: label }), ...heads.length ? cells(label, per[label]) : []);
  $("class-title").textContent = kind === "number" ? "" : `${count(labels.length, ...NOUNS[kind])}`;
  $("class-table").hidden = !labels.length;
  $("class-table").replaceChildren(
    element("thead", { hidden: !heads.length }, element("tr", {}, element("th", { scope: "col", textContent: NOUNS[kind]?.[0] ?? "" }), ...heads.map((head) => element("th", { scope: "col", textContent: head })))),
    element("tbody", {}, ...found.slice(0, MOST_CLASSES).map(line)));
  $("class-note").textContent = found.length > MOST_CLASSES ? `and ${found.length - MOST_CLASSES} more: find them by name` : found.length ? "" : labels.length ? "None has such a name." : "";
}

const share = (value) => (value === null || value === undefined ? "–" : percent(value));

function cells(label, entry) {
  if (!entry) return ["–", "–", ""].map((textContent) => element("td", { textContent }));
  const wrong = Object.entries(entry.predicted ?? {}).filter(([name]) => name !== label).sort((one, other) => other[1] - one[1]);
  const last = "precision" in entry ? share(entry.precision) : wrong.slice(0, 2).map(([name, times]) => `${name} (${times})`).join(", ");
  return [
    element("td", { className: "number", textContent: entry.images }),
    element("td", { className: "number", textContent: share(entry.recall) }),
    element("td", { textContent: last }),
  ];
}
