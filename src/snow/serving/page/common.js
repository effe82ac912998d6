// What the parts of the page share: the state, elements, the marks of tasks, and requests to the service.

export const PAGE = 24; // tasks on a page of the list, and predictions and pictures that are drawn at first
const COLOURS = 8; // as many as style.css names
const SHAPES = [
  "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13z", // circle
  "M2 2h12v12H2z", // square
  "M8 1 15.5 14.5H.5z", // triangle
  "M8 .5 15.5 8 8 15.5 .5 8z", // diamond
  "M5.5 1h5v4.5H15v5h-4.5V15h-5v-4.5H1v-5h4.5z", // cross
  "M4.5 1.5h7L15.5 8l-4 6.5h-7L.5 8z", // hexagon
];

export const $ = (id) => document.getElementById(id);
export const state = {
  tasks: new Map(), source: null, tag: null, managed: false, // as the service last sent them
  left: new Set(), details: new Map(), choices: new Map(), // left: names of tasks that are not asked
};

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The mark of a task follows from its name alone, so that it never changes: a colour and a shape.
function hash(name) {
  let value = 2166136261;
  for (const letter of name) value = Math.imul(value ^ letter.codePointAt(0), 16777619) >>> 0;
  return (value ^ (value >>> 15)) >>> 0;
}

export const colour = (name) => `var(--t${hash(name) % COLOURS})`;
export const form = (name) => Math.floor(hash(name) / COLOURS) % SHAPES.length;

export function mark(name) {
  const made = shape("svg", { viewBox: "0 0 16 16", class: "mark", "aria-hidden": "true" });
  made.append(shape("path", { d: SHAPES[form(name)] }));
  made.style.setProperty("--colour", colour(name));
  return made;
}

export const markPath = (name) => SHAPES[form(name)];
export const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
export const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
export const number = (value, digits = 4) => (Math.abs(value) >= 1e6 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits))));
export const quantity = (value, unit, digits = 4) => `${number(value, digits)}${unit ? ` ${unit}` : ""}`;
export const count = (many, one, several = `${one}s`) => `${many.toLocaleString("en")} ${many === 1 ? one : several}`;
export const asked = () => [...state.tasks.keys()].filter((name) => !state.left.has(name));

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached: is it still running?"), { code: "unreachable" });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const problem = body.error ?? { code: response.status, message: response.statusText };
    throw Object.assign(new Error(problem.message), problem, { after: Number(response.headers.get("Retry-After")) });
  }
  return body;
}

// Draws the first elements, and the next ones when they are asked for.
export function appendInParts(parent, values, draw) {
  parent.append(...values.slice(0, PAGE).map(draw));
  const rest = values.slice(PAGE);
  if (!rest.length) return;
  const more = element("button", { type: "button", className: "button more", textContent: `Show ${Math.min(PAGE, rest.length)} of ${rest.length} more` });
  more.onclick = () => {
    const place = parent.children.length - 1;
    more.remove();
    appendInParts(parent, rest, draw);
    parent.children[place]?.querySelector("summary, button, a")?.focus();
  };
  parent.append(more);
}

// What went wrong, in the words of the person at the page; the service's own words where these say more.
const WORDS = {
  not_a_picture: "this is not a picture that can be read. JPEG, PNG, WebP, BMP, GIF and TIFF files work.",
  truncated: "the end of the picture is missing. Was it copied completely?",
  broken_picture: "the picture is damaged.",
  too_many_bytes: "the file is larger than this service takes.",
  too_many_pixels: "the picture has more pixels than this service takes. Make it smaller.",
  too_complex: "this picture takes too long to open. Save it as a plain JPEG or PNG.",
  empty: "the file is empty.",
  no_tasks: "no task can answer yet.",
  queue_full: "the service is busy. Try again in a moment.",
  rate_limited: "you ask faster than this service allows. Try again in a moment.",
  deadline: "the service did not answer in time. Try again, or ask fewer tasks.",
  stopping: "the service is shutting down.",
  unauthorized: "the token is wrong. It is the one that the service was started with.",
  management_off: "the service was started without a token, so tasks cannot be changed here.",
  read_only: "the service may not write to its folder.",
  unknown_task: "there is no such task any more.",
  disk_full: "the disk of the service is full.",
  internal: "the service made a mistake; its log says which.",
};

export const words = (error) => WORDS[error.code] ?? error.message;
