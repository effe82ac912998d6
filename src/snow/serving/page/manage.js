// Adding, replacing and removing tasks, with the token of the service.
import { $, ask, element, state, words } from "./common.js";

function say(text, kind) {
  Object.assign($("managed"), { textContent: text, className: `small ${kind}` });
}

async function send(name, method, body, doing, done, refresh) {
  say(`${doing} ${name}…`, "quiet");
  try {
    const headers = { Authorization: `Bearer ${$("token").value}` };
    if (body instanceof File) headers["Content-Type"] = "application/octet-stream";
    await ask(`v1/tasks/${encodeURIComponent(name)}`, { method, body, headers });
    say(`${name} ${done}.`, "good");
    await refresh();
  } catch (error) {
    say(`${name}: ${words(error)}`, "bad");
    $("managed").dataset.code = error.code ?? "";
  }
}

export function drawRemovable() {
  const before = $("removed").value;
  $("removed").replaceChildren(element("option", { value: "", textContent: "choose…" }),
    ...[...state.tasks.keys()].map((name) => element("option", { value: name, textContent: name })));
  if (state.tasks.has(before)) $("removed").value = before;
}

export function manage(refresh) {
  $("task-files").onchange = () => { // an archive is mostly named after its task
    const [file, ...others] = $("task-files").files;
    if (file && !others.length && !$("name").value) $("name").value = file.name.replace(/(\.tar)?\.[a-z]+$/i, "");
  };
  $("name").oninput = () => {
    const isWrong = $("name").validity.patternMismatch;
    $("name").setCustomValidity(isWrong ? "Letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or digit" : "");
  };
  $("manage-form").onsubmit = async (event) => {
    event.preventDefault();
    const files = [...$("task-files").files];
    const form = new FormData();
    files.forEach((file) => form.append("files", file, file.name));
    const name = $("name").value.trim();
    const isThere = state.tasks.has(name);
    if (isThere && !confirm(`${name} is there already. Replace it?`)) return;
    await send(name, "PUT", files.length === 1 ? files[0] : form, "Uploading", isThere ? "is replaced" : "is added", refresh);
  };
  $("remove-form").onsubmit = async (event) => {
    event.preventDefault();
    if (!$("token").reportValidity()) return;
    const name = $("removed").value;
    if (confirm(`Remove ${name}? Programs that ask it will get no answer.`)) await send(name, "DELETE", undefined, "Removing", "is removed", refresh);
  };
}
