// The page of a hub: pictures and verdicts first, then the tasks, then how it works inside. All of it is this service's.
import { $, asked, count, state } from "./common.js";
import { forgetGone, inside, look } from "./inside.js";
import { drawRemovable, manage } from "./manage.js";
import { camera, intake } from "./pictures.js";
import { curl, resultTools } from "./results.js";
import { drawBroken, drawList, recall, taskTools } from "./tasks.js";

const POLL = 2000;

// The list is sent only when it has changed; null: it has not.
async function list() {
  let response;
  try {
    response = await fetch("v1/tasks", { cache: "no-store", headers: state.tag ? { "If-None-Match": state.tag } : {} });
  } catch {
    throw new Error("not reachable");
  }
  if (response.status === 304 || response.status === 429) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? response.statusText);
  state.tag = response.headers.get("ETag");
  return body;
}

function describe() {
  const tasks = [...state.tasks.values()];
  const { source } = state;
  $("source").textContent = tasks.length
    ? `${count(tasks.length, "task")} on one frozen ${source.architecture}, ${asked().length === tasks.length ? "all" : asked().length} asked`
    : `no task yet on this ${source.architecture}`;
  $("source-facts").textContent = `${source.architecture}: ${(source.parameters / 1e6).toFixed(1)} million parameters that never `
    + `change, pictures of ${source.preprocessing.image_size} px, ${source.taps.length} feature maps.`;
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
  const before = state.source && new Set(state.tasks.keys());
  state.source = changed.source;
  state.tasks = new Map(changed.tasks.map((task) => [task.name, task]));
  state.details.clear();
  state.choices.clear();
  $("manage").hidden = !changed.managed;
  drawList(new Set(before ? [...state.tasks.keys()].filter((name) => !before.has(name)) : []));
  drawRemovable();
  drawBroken(Object.entries(changed.broken));
  describe();
  forgetGone();
  await look();
}

recall();
intake();
camera();
resultTools();
taskTools(() => {
  describe();
  $("curl-line").value = curl();
});
inside();
manage(refresh);
await refresh();
setInterval(() => document.hidden || refresh(), POLL);
