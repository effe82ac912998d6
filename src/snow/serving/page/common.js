// What the parts of the page share: the state, elements, and requests to the service.

const COLOURS = 8; // as many as style.css names
export const PAGE = 24; // tasks on a page of the list, and predictions that are drawn at first

export const $ = (id) => document.getElementById(id);
export const state = {
  tasks: new Map(), order: new Map(), source: null, tag: null, // as the service last sent them
  chosen: null, arrived: new Set(), details: new Map(), choices: new Map(), page: 0, filter: "",
};

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const colour = (name) => `var(--t${(state.order.get(name) ?? 0) % COLOURS})`;
export const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
export const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
export const painted = (made, name) => (made.style.setProperty("--colour", colour(name)), made);

export async function ask(path, options = {}) {
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
