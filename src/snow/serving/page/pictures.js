// Asking about pictures: from files, by drag and drop, the clipboard or the camera.
import { $, PAGE, ask, element, painted, percent } from "./common.js";

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
const REJECT = 0.02; // share of a task's own pictures that the page calls unknown
const KINDS = { class: bars, multi: tags, number: amount, ordered: grades };

function verdict(name, prediction) {
  if (prediction.error) {
    return element("div", { className: "verdict bad small", textContent: `${name} has no prediction: ${prediction.error}` });
  }
  const head = element("h3", {}, element("span", { className: "swatch" }), name);
  if (prediction.known !== undefined && prediction.known < REJECT) {
    head.append(element("span", { className: "quiet small", textContent: " unknown: unlike the pictures of this task" }));
  }
  return painted(element("div", { className: "verdict" }, head, KINDS[prediction.kind](prediction)), name);
}

function bars({ classes }) {
  return ranked(classes.map((entry) => [entry.class, entry.probability]));
}

function tags({ tags: all }) {
  return ranked(all.map((entry) => [`${entry.on ? "✓" : "·"} ${entry.tag}`, entry.probability]));
}

function grades({ grade, grades: all }) {
  return ranked(all.map((entry) => [`${entry.grade === grade ? "✓" : "·"} ${entry.grade}`, entry.probability]));
}

function amount({ value, unit }) {
  const text = Math.abs(value) >= 1e6 ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  return element("p", { className: "amount", textContent: unit ? `${text} ${unit}` : text });
}

function ranked(entries) {
  const list = element("ol", { className: "bars" });
  for (const [label, probability] of entries) {
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

// Draws the first elements, and the next ones when they are asked for.
function appendInParts(parent, values, draw) {
  parent.append(...values.slice(0, PAGE).map(draw));
  const rest = values.slice(PAGE);
  if (!rest.length) return;
  const more = element("button", { type: "button", className: "button", textContent: `Show ${Math.min(PAGE, rest.length)} of ${rest.length} more` });
  more.onclick = () => (more.remove(), appendInParts(parent, rest, draw));
  parent.append(more);
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
    appendInParts(verdicts, names, (name) => verdict(name, results[0].tasks[name]));
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

export function camera() {
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

export function intake() {
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
