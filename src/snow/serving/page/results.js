// The pictures that were asked about: a card for each, and all of them as a table or as a command.
import { $, PAGE, appendInParts, asked, count, element, state, words } from "./common.js";
import { REJECT_TEXT, drawVerdicts, judge } from "./verdicts.js";

const SHOWN_ERRORS = 5;
const results = []; // {name, tasks, card}, in the order of the files
const places = new Map(); // card -> its place in that order
let failures = 0;

export function complain(title, error) {
  failures += 1;
  if (failures > SHOWN_ERRORS) {
    const more = $("errors").querySelector(".more-errors") ?? $("errors").appendChild(element("p", { className: "bad small more-errors" }));
    more.textContent = `and ${failures - SHOWN_ERRORS} more without an answer`;
    return;
  }
  const close = element("button", { type: "button", ariaLabel: `Dismiss: ${title}`, textContent: "✕" });
  const box = element("div", { className: "error" },
    element("p", {}, element("strong", { textContent: title }), words(error)), close);
  box.dataset.code = error.code ?? "";
  close.onclick = () => {
    box.remove();
    failures -= 1;
  };
  $("errors").append(box);
}

export function forgetErrors() {
  failures = 0;
  $("errors").replaceChildren();
}

// A group of cards for the pictures of one go; the newest group comes first.
export function openGroup() {
  const group = element("div", { className: "group" });
  $("answers").prepend(group);
  document.body.classList.add("has-answers");
  let drawn = 0;
  let more = null;
  const waiting = [];
  const draw = (card) => {
    drawn += 1;
    group.insertBefore(card, more);
  };
  return (card) => {
    if (drawn < PAGE) return draw(card);
    waiting.push(card);
    more ??= group.appendChild(element("button", { type: "button", className: "button more", onclick() {
      const first = waiting[0];
      waiting.splice(0, PAGE).forEach(draw);
      first.querySelector("summary")?.focus();
      label();
    } }));
    return label();
  };
  function label() {
    more.hidden = !waiting.length;
    more.textContent = `Show ${Math.min(PAGE, waiting.length)} of ${count(waiting.length, "more picture")}`;
  }
}

export function newCard(name) {
  const image = element("img", { alt: "" });
  const caption = element("figcaption", {}, element("b", { textContent: name }), element("span", { className: "quiet timing", textContent: "asking…" }));
  const card = element("article", { className: "card answer working", ariaLabel: name },
    element("figure", {}, image, caption), element("div", { className: "verdicts" }));
  places.set(card, places.size);
  return card;
}

export function show(card, file) {
  card.querySelector("img").src = URL.createObjectURL(file);
}

export function discard(card) {
  URL.revokeObjectURL(card.querySelector("img").src);
  card.remove();
}

export function settle(card, name, { results: [{ tasks }], timing }) {
  results.push({ name, tasks, card });
  results.sort((one, other) => places.get(one.card) - places.get(other.card));
  drawVerdicts(card.querySelector(".verdicts"), tasks, appendInParts);
  card.querySelector(".timing").textContent = `${count(Object.keys(tasks).length, "task")} in ${timing.total.toFixed(0)} ms`;
  card.querySelector(".timing").title = `decoding ${timing.decode.toFixed(1)} ms, waiting ${timing.queue.toFixed(1)} ms, pass ${timing.engine.toFixed(1)} ms`;
  card.classList.remove("working");
  drawTools();
}

function drawTools() {
  $("result-tools").hidden = !results.length;
  $("curl-line").value = curl();
}

// ---- as a table

// A spreadsheet takes a cell that starts like this for a formula.
const text = (value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);
const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
const figure = (value) => (value === null || value === undefined ? "" : value.toFixed(4));

function row(name, prediction) {
  if (!prediction) return ["", "", "", ""];
  const found = judge(name, prediction);
  if (prediction.error) return ["", found.level, "", ""];
  const answer = prediction.kind === "number" ? String(prediction.value) : text(found.level === "unknown" ? "unknown" : found.answer);
  return [answer, found.level, figure(found.probability), figure(found.known)];
}

export function table() {
  const names = [...new Set(results.flatMap(({ tasks }) => Object.keys(tasks)))].sort((one, other) => one.localeCompare(other));
  const head = ["picture", ...names.flatMap((name) => [name, `${name}: sure`, `${name}: probability`, `${name}: known`])];
  const rows = results.map(({ name, tasks }) => [text(name), ...names.flatMap((task) => row(task, tasks[task]))]);
  return [head.map(text), ...rows].map((cells) => cells.map(cell).join(",")).join("\r\n").concat("\r\n");
}

// ---- as a command

const quoted = (value) => `'${value.replaceAll("'", "'\\''")}'`;

export function curl() {
  const file = results[0]?.name ?? "picture.jpg";
  const names = asked();
  const tasks = names.length === state.tasks.size ? "" : ` -F tasks=${quoted(names.join(","))}`;
  const address = new URL(`v1/predict?top_k=5&reject=${REJECT_TEXT}`, location.href);
  return `curl -F files=@${quoted(file)}${tasks} ${quoted(address.href)}`;
}

export function resultTools() {
  $("save").onclick = () => {
    const link = element("a", { download: "answers.csv", href: URL.createObjectURL(new Blob(["\ufeff", table()], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    $("result-state").textContent = `${count(results.length, "picture")} saved to answers.csv`;
  };
  $("curl").onclick = async () => {
    $("curl-line").value = curl();
    $("curl-row").hidden = false;
    $("curl-line").select();
    try {
      await navigator.clipboard.writeText(curl()); // only over HTTPS and on this machine
      $("result-state").textContent = "The command is copied: run it in the folder of the picture.";
    } catch {
      $("result-state").textContent = "Copy the command, and run it in the folder of the picture.";
    }
  };
  $("clear").onclick = () => {
    results.forEach(({ card }) => discard(card));
    results.length = 0;
    places.clear();
    $("answers").replaceChildren();
    $("curl-row").hidden = true;
    $("result-state").textContent = "";
    forgetErrors();
    drawTools();
    document.body.classList.remove("has-answers");
    $("files").focus();
  };
}
