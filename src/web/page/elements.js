// Makes elements. All that comes from the service goes through `textContent` or a text attribute, never through markup.

import { named, words } from "./words.js";
import { relative, shortly, utc, when } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  // Strings become text nodes.
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const icon = (name) => draw("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, draw("use", { href: `#i-${name}` }));

/** A state in words, colour and shape. */
export const chip = (state) => make("span", { class: `chip is-${state}` }, icon(state), make("span", {}, named("state", state)));

const ENDS = { "done": "complete", "some-failed": "failed", "failed": "failed", "interrupted": "withdrawn", "held-by-other": "changed" };

/** How a run ended, as a state looks. */
export const endChip = (end, times = 1) => {
  const looks = ENDS[end] ?? "missing";
  return make("span", { class: `chip is-${looks}` }, icon(looks), make("span", {}, named("end", end)), times > 1 ? make("span", { class: "times" }, `×${times}`) : null);
};

/** A sentence of the program: its words where the page has it in this language, else English and marked as that. */
export const reason = (why) => {
  const known = named("reason", why);
  return known === why ? make("span", { class: "reason", lang: "en" }, why) : make("span", { class: "reason" }, known);
};

/** A sentence of the program with the name of what it is before it, in the reader's language. */
export const told = (key, why) => [make("span", { class: "quiet" }, words(key)), " ", reason(why)];

/** A time in the viewer's zone, with the UTC in its title. */
export const time = (at, show = when) => make("time", { datetime: at, title: utc(at) }, show(at));

/** A time as its distance from now, which `refreshTimes` keeps true. */
export const distance = (at) => make("time", { datetime: at, title: `${shortly(at)} · ${utc(at)}`, "data-distance": true }, relative(at));

export function refreshTimes() {
  for (const element of document.querySelectorAll("time[data-distance]")) say(element, relative(element.dateTime));
}

/** Changes a text only where it differs, since each change costs a layout. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function fillWords(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) say(element, words(element.dataset.t));
}

/** A bar that shows a share from 0 to 1, or that it is unknown. */
export function bar(label) {
  const inner = make("div", { class: "inner" });
  const outer = make("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, inner);
  const show = (share) => {
    const known = share !== null;
    outer.classList.toggle("unknown", !known);
    inner.style.transform = `scaleX(${known ? Math.min(1, Math.max(0, share)) : 1})`;
    if (known) outer.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    else outer.removeAttribute("aria-valuenow");
  };
  return { outer, show };
}
