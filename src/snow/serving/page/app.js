// The page of a hub: what it answers, and what its tasks have in common. All of it comes from this service.
import { drawChoice, drawCurves, drawTaps } from "./drawings.js";

const COLOURS = 8; // as many as style.css names
const SHOWN = 8; // tasks whose channels are drawn at first
const POLL = 2000;

const $ = (id) => document.getElementById(id);
const state = { tasks: new Map(), source: null, chosen: null, details: new Map(), versions: new Map(), choices: new Map() };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const colour = (name) => `var(--t${[...state.tasks.keys()].indexOf(name) % COLOURS})`;
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const painted = (made, name) => (made.style.setProperty("--colour", colour(name)), made);

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw Object.assign(new Error("The service cannot be reached."), { code: "unreachable" });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const problem = body.error ?? { code: response.status, message: response.statusText };
    throw Object.assign(new Error(problem.message), problem, { after: response.headers.get("Retry-After") });
  }
  return body;
}

// ---- asking about pictures

function complain(title, error) {
  const close = element("button", { type: "button", ariaLabel: "Dismiss", textContent: "✕" });
  const after = error.after ? ` Try again in ${error.after} s.` : "";
  const text = element("p", {}, element("strong", { textContent: title }), `${error.message}${after} `,
    element("code", { className: "small", textContent: error.code ?? "" }));
  const box = element("div", { className: "error" }, text, close);
  close.onclick = () => box.remove();
  $("errors").append(box);
}

// What each kind of prediction looks like; the service sends {kind, ...}, or {error} for a task that failed.
const KINDS = { class: bars };

function verdict(name, prediction) {
  if (prediction.error) {
    return element("div", { className: "verdict bad small", textContent: `${name} has no prediction: ${prediction.error}` });
  }
  const head = element("h3", {}, element("span", { className: "swatch" }), name);
  return painted(element("div", { className: "verdict" }, head, KINDS[prediction.kind](prediction)), name);
}

function bars({ classes }) {
  const list = element("ol", { className: "bars" });
  for (const { class: label, probability } of classes) {
    const fill = element("i");
    fill.style.width = `${Math.max(0.5, 100 * probability)}%`;
    list.append(element("li", {}, element("span", { className: "label", textContent: label, title: label }),
      element("span", { className: "number", textContent: percent(probability) }),
      element("span", { className: "bar" }, fill)));
  }
  return list;
}

function latency(timing) {
  const strip = element("div", { className: "latency", ariaHidden: "true" });
  for (const part of ["decode", "queue", "engine"]) {
    const piece = element("i", { className: part });
    piece.style.width = `${(100 * timing[part]) / Math.max(timing.total, 0.001)}%`;
    strip.append(piece);
  }
  return strip;
}

async function answer(file) {
  const image = element("img", { alt: file.name ?? "picture" });
  image.src = URL.createObjectURL(file);
  image.onload = image.onerror = () => URL.revokeObjectURL(image.src);
  const caption = element("figcaption", { textContent: `${file.name}: asking…` });
  const verdicts = element("div", { className: "verdicts" });
  const card = element("article", { className: "card answer working" }, element("figure", {}, image, caption), verdicts);
  $("answers").prepend(card);
  const form = new FormData();
  form.append("files", file, file.name);
  try {
    const begun = performance.now();
    const { results, timing } = await ask("v1/predict?top_k=5", { method: "POST", body: form });
    const round = performance.now() - begun;
    const names = Object.keys(results[0].tasks);
    names.sort((one, other) => one.localeCompare(other));
    verdicts.append(...names.map((name) => verdict(name, results[0].tasks[name])));
    caption.textContent = `${file.name} — ${timing.total.toFixed(0)} ms in the service, of which the pass took `
      + `${timing.engine.toFixed(0)} ms for ${names.length} ${names.length === 1 ? "task" : "tasks"}; `
      + `${round.toFixed(0)} ms until it was here.`;
    caption.after(latency(timing));
    card.classList.remove("working");
  } catch (error) {
    card.remove();
    complain(`${file.name}: no answer`, error);
  }
}

async function answerAll(files) {
  $("errors").replaceChildren();
  for (const file of files) await answer(file);
}

function camera() {
  let stream = null;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    $("live").hidden = true;
    $("camera").focus();
  };
  $("camera").onclick = async () => {
    try {
      if (!navigator.mediaDevices) throw new Error("A browser gives the camera to pages on this machine or over HTTPS only.");
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      $("video").srcObject = stream;
      $("live").hidden = false;
      await $("video").play();
      $("shoot").focus();
    } catch (error) {
      complain("No camera", { message: error.message, code: error.name });
    }
  };
  $("stop").onclick = close;
  $("live").onkeydown = (event) => event.key === "Escape" && close();
  $("shoot").onclick = () => {
    const video = $("video");
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = `camera ${new Date().toLocaleTimeString()}`;
    canvas.toBlob((blob) => answerAll([new File([blob], name, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  };
}

function intake() {
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => (event.preventDefault(), drop.classList.add("over")));
  }
  drop.addEventListener("dragleave", (event) => drop.contains(event.relatedTarget) || drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    answerAll([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => event.clipboardData.files.length && answerAll([...event.clipboardData.files]));
  $("files").onchange = async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await answerAll(files);
  };
}

// ---- tasks

function card(task, isNew) {
  const top1 = task.top1 === null ? "" : `, ${percent(task.top1)} right`;
  const made = element("button", { type: "button", className: `task${isNew ? " new" : ""}` },
    element("b", { textContent: task.name }),
    element("span", { className: "quiet small", textContent: `${task.classes} classes${top1} · ${task.method} · ${size(task.bytes)}` }));
  made.setAttribute("aria-pressed", state.chosen.has(task.name));
  made.onclick = () => {
    if (!state.chosen.delete(task.name)) state.chosen.add(task.name);
    made.setAttribute("aria-pressed", state.chosen.has(task.name));
    look();
  };
  return painted(made, task.name);
}

async function refresh() {
  let found;
  try {
    found = await ask("v1/tasks");
  } catch (error) {
    if (error.code === "rate_limited") return;
    $("state").className = "lost";
    $("state-text").textContent = error.message;
    return;
  }
  const count = found.tasks.length;
  $("state").className = "ready";
  $("state-text").textContent = "ready";
  const { source } = found;
  $("source").textContent = `${source.architecture} · ${(source.parameters / 1e6).toFixed(1)} M parameters, frozen · `
    + `${source.preprocessing.image_size} px · ${source.taps.length} feature maps`;
  $("manage").hidden = !found.managed;
  $("count").textContent = count;
  const now = JSON.stringify([found.tasks, found.broken, found.source.fingerprint]);
  if (now === state.seen) return;
  state.seen = now;
  const before = state.source && new Set(state.tasks.keys());
  state.source = source;
  state.tasks = new Map(found.tasks.map((task) => [task.name, task]));
  state.details.clear();
  state.choices.clear();
  state.chosen ??= new Set([...state.tasks.keys()].slice(0, SHOWN));
  for (const name of state.tasks.keys()) if (before && !before.has(name) && state.chosen.size < SHOWN) state.chosen.add(name);
  for (const name of [...state.chosen]) if (!state.tasks.has(name)) state.chosen.delete(name);
  $("task-list").replaceChildren(...found.tasks.map((task) => card(task, before && !before.has(task.name))));
  if (!count) $("task-list").append(element("p", { className: "quiet", textContent: "There is no task yet: snow train adds one." }));
  $("broken").replaceChildren(...Object.entries(found.broken).map(([name, why]) =>
    element("div", { className: "error" }, element("p", {}, element("strong", { textContent: `${name} cannot answer` }), why))));
  await look();
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
