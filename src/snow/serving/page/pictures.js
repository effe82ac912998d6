// Asking about pictures: from files, by drag and drop, the clipboard, the camera, or a sample.
import { $, ask, asked, count, element, state } from "./common.js";
import { complain, discard, forgetErrors, newCard, openGroup, settle, show } from "./results.js";

const AT_ONCE = 4; // requests on their way together: the service answers them in one pass
const TRIES = 6;
const LEAST_SIDE = 448; // pixels; pictures are not made smaller than this, nor than twice what the source reads
const RESIZABLE = ["image/jpeg", "image/png", "image/webp"];

// Makes a large picture smaller before it is sent; what the browser cannot read goes as it is.
async function shrink(file) {
  if ($("originals").checked || !RESIZABLE.includes(file.type)) return file;
  const side = Math.max(LEAST_SIDE, 2 * (state.source?.preprocessing.image_size ?? 0));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file;
  }
  const factor = side / Math.min(bitmap.width, bitmap.height);
  if (factor > 0.8) return file;
  const canvas = element("canvas", { width: Math.round(factor * bitmap.width), height: Math.round(factor * bitmap.height) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, file.type, 0.92));
  return blob && blob.size < file.size ? blob : file;
}

const pause = (seconds, signal) => new Promise((done) => {
  setTimeout(done, 1000 * seconds);
  signal.addEventListener("abort", done, { once: true });
});

// Sends one picture; a service that is busy is asked again.
async function send(file, name, names, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    form.append("files", file, name);
    if (names.length !== state.tasks.size) form.append("tasks", names.join(","));
    try {
      return await ask("v1/predict?top_k=5", { method: "POST", body: form, signal });
    } catch (error) {
      if (!(error.after > 0) || attempt === TRIES || signal.aborted) throw error;
      await pause(error.after, signal);
    }
  }
}

// Returns whether the picture was answered.
async function answer(file, place, names, signal) {
  const name = file.name ?? "picture";
  const card = newCard(name);
  place(card);
  try {
    const small = await shrink(file);
    show(card, small);
    settle(card, name, await send(small, name, names, signal));
    return true;
  } catch (error) {
    discard(card);
    if (!signal.aborted) complain(name, error);
    return false;
  }
}

let stop = null;

async function answerAll(files) {
  if (!files.length) return;
  const names = asked();
  forgetErrors();
  if (!state.tasks.size) return complain("There is no task to ask yet", { message: "Train one first: below is how." });
  if (!names.length) return complain("No task is chosen", { message: "Tick the tasks that you want to ask." });
  stop?.abort();
  stop = new AbortController();
  const { signal } = stop;
  const place = openGroup();
  const waiting = [...files];
  let done = 0;
  let answered = 0;
  const say = () => {
    $("progress").hidden = signal.aborted || done === files.length;
    $("progress-bar").value = done / files.length;
    $("progress-text").textContent = `${done} of ${count(files.length, "picture")}`;
  };
  const work = async () => {
    for (let file = waiting.shift(); file && !signal.aborted; file = waiting.shift()) {
      if (await answer(file, place, names, signal)) answered += 1;
      done += 1;
      if (stop?.signal === signal) say();
    }
  };
  say();
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, files.length) }, work));
  if (!signal.aborted) $("result-state").textContent = `${count(answered, "picture")} answered.`;
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
      const reasons = { NotAllowedError: "The browser was not allowed to use it.", NotFoundError: "There is none on this machine." };
      complain("No camera", { message: reasons[error.name] ?? error.message });
    }
  };
  $("stop").onclick = close;
  $("live").onkeydown = (event) => event.key === "Escape" && close();
  $("shoot").onclick = () => {
    const video = $("video");
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = `camera ${new Date().toLocaleTimeString().replaceAll(":", ".")}.jpg`;
    canvas.toBlob((blob) => answerAll([new File([blob], name, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  };
}

function samples() {
  for (const button of document.querySelectorAll("button[data-sample]")) {
    button.onclick = async () => {
      const name = button.dataset.sample;
      const blob = await (await fetch(`page/samples/${name}`)).blob();
      const answered = answerAll([new File([blob], name, { type: "image/jpeg" })]);
      if (!button.offsetParent) $("files").focus(); // on a phone samples go when there are answers
      await answered;
    };
  }
}

export function intake() {
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => (event.preventDefault(), drop.classList.add("over")));
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
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
  $("cancel").onclick = () => {
    stop?.abort();
    $("progress").hidden = true;
    for (const card of document.querySelectorAll(".answer.working")) discard(card);
    $("result-state").textContent = "Stopped: the pictures that were answered stay.";
    $("files").focus();
  };
  samples();
}
