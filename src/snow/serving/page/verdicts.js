// What a task says about a picture, in plain words: the answer first, how sure it is, and the numbers behind it.
import { count, element, mark, percent, quantity, state } from "./common.js";

const REJECT = 0.02; // share of a task's own pictures that are called unknown
const SURE = 0.8; // probability from which an answer counts as sure
const SIGNS = { sure: "✓", unsure: "~", unknown: "?", about: "≈", failed: "!" };
const MEANINGS = {
  sure: `a probability of ${percent(SURE)} or more`,
  unsure: `a probability below ${percent(SURE)}`,
  unknown: "unlike the pictures that the task was trained on",
  about: "a measured number",
  failed: "the task has no answer",
};
const ORDER = ["sure", "about", "unsure", "unknown", "failed"];

export const REJECT_TEXT = String(REJECT);

// kind -> the answer as text, how sure it is, and a remark. With isShare the probability is not said: it is that of the
// least sure tag, or of a grade in the middle of others that are as probable.
const JUDGES = {
  class({ classes }) {
    const [first, second] = classes;
    const rival = second && second.probability > first.probability / 2 ? `or ${second.class}` : "";
    return { answer: first.class, probability: first.probability, remark: rival };
  },
  multi({ tags }) {
    const on = tags.filter((tag) => tag.on).map((tag) => tag.tag);
    const open = tags.filter(({ probability }) => probability > 1 - SURE && probability < SURE);
    const rest = open.filter((tag) => !tag.on).map((tag) => tag.tag);
    const probability = Math.min(1, ...tags.map((tag) => (tag.on ? tag.probability : 1 - tag.probability)));
    return { answer: on.join(", ") || "no tag", probability, isShare: true, remark: rest.length ? `perhaps ${rest.slice(0, 3).join(", ")}` : "" };
  },
  ordered({ grade, grades }) {
    const place = grades.findIndex((entry) => entry.grade === grade);
    const beside = [grades[place - 1], grades[place + 1]].filter(Boolean).sort((a, b) => b.probability - a.probability)[0];
    const { probability } = grades[place];
    return { answer: grade, probability, isShare: true, remark: beside && probability < SURE ? `next ${beside.grade}` : "" };
  },
  number({ value, unit }, name) {
    const error = state.tasks.get(name)?.figures.mae;
    const remark = error === undefined ? "" : `off by ${quantity(error, unit, 2)} on average`;
    return { answer: quantity(value, unit), probability: null, remark };
  },
};

export function judge(name, prediction) {
  if (prediction.error) return { level: "failed", answer: "no answer", remark: prediction.error, probability: null, known: null };
  const { answer, probability, remark, isShare } = JUDGES[prediction.kind](prediction, name);
  const known = prediction.known ?? null;
  if (known !== null && known < REJECT) {
    return { level: "unknown", answer: "unknown", remark: `closest: ${answer}`, probability, known };
  }
  const level = probability === null ? "about" : probability >= SURE ? "sure" : "unsure";
  return { level, answer, remark, probability, known, isShare };
}

function chip({ level, probability, isShare }) {
  const isPlain = isShare || !["sure", "unsure"].includes(level);
  const text = isPlain ? level : `${level} ${percent(probability)}`;
  return element("span", { className: `chip ${level}`, title: MEANINGS[level] }, element("span", { ariaHidden: "true", textContent: SIGNS[level] }), ` ${text}`);
}

function ranked(entries) {
  const list = element("ol", { className: "bars" });
  for (const [label, probability, isAnswer] of entries) {
    const fill = element("i");
    fill.style.width = `${Math.max(0.5, 100 * probability)}%`;
    list.append(element("li", { className: isAnswer ? "on" : "" },
      element("span", { className: "label", textContent: isAnswer ? `✓ ${label}` : label, title: label }),
      element("span", { className: "number", textContent: percent(probability) }),
      element("span", { className: "bar" }, fill)));
  }
  return list;
}

const NUMBERS = {
  class: ({ classes }) => ranked(classes.map((entry, place) => [entry.class, entry.probability, !place])),
  multi: ({ tags }) => ranked(tags.map((entry) => [entry.tag, entry.probability, entry.on])),
  ordered: ({ grade, grades }) => ranked(grades.map((entry) => [entry.grade, entry.probability, entry.grade === grade])),
  number: ({ value, unit }) => element("p", { className: "small", textContent: `exactly ${value}${unit ? ` ${unit}` : ""}` }),
};

function drawVerdict(name, prediction, open) {
  const found = judge(name, prediction);
  const head = element("summary", {}, mark(name), element("span", { className: "task-name", textContent: name }),
    element("strong", { className: "said", textContent: ["unknown", "failed"].includes(found.level) ? "" : found.answer }), chip(found));
  if (found.remark) head.append(element("span", { className: "remark", textContent: found.remark }));
  const made = element("details", { className: `verdict ${found.level}`, open }, head);
  if (prediction.error) return made;
  made.append(NUMBERS[prediction.kind](prediction));
  if (found.known !== null) {
    const start = found.level === "unknown" ? "This picture is unlike those that the task was trained on: of its own pictures" : "Of this task's own pictures";
    made.append(element("p", { className: "quiet small", textContent: `${start}, ${percent(found.known)} look less familiar.` }));
  }
  made.style.setProperty("--colour", head.firstChild.style.getPropertyValue("--colour"));
  return made;
}

const MANY = 8; // answers that are in the order of their names
const FEW = 2; // tasks that do not know a picture and are shown all the same

// Draws what all tasks say, the sure ones first where there are many; those that do not know the picture fold away.
export function drawVerdicts(where, tasks, appendInParts) {
  const names = Object.keys(tasks).sort((one, other) => one.localeCompare(other));
  const open = names.length <= 2 && matchMedia("(min-width: 44rem)").matches;
  const draw = (name) => drawVerdict(name, tasks[name], open);
  const levels = new Map(names.map((name) => [name, judge(name, tasks[name]).level]));
  const rank = (name) => ORDER.indexOf(levels.get(name));
  const answering = names.filter((name) => levels.get(name) !== "unknown");
  const unknown = names.filter((name) => levels.get(name) === "unknown");
  if (answering.length > MANY) answering.sort((one, other) => rank(one) - rank(other));
  appendInParts(where, unknown.length > FEW ? answering : [...answering, ...unknown], draw);
  if (unknown.length <= FEW) return;
  if (!answering.length) where.append(element("p", { className: "said", textContent: "No task knows this picture." }));
  const rest = element("div", { className: "verdicts" });
  const fold = element("details", { className: "unknowns" }, element("summary", { textContent: `${count(unknown.length, "task does", "tasks do")} not know it` }), rest);
  fold.addEventListener("toggle", () => rest.children.length || appendInParts(rest, unknown, draw));
  where.append(fold);
}
