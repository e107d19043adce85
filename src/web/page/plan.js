// What a set's next run would do: asked for by a button, since it costs requests to upstreams.

import { icon, make, reason, say, time, told as sentence } from "./elements.js";
import { count, shortly, size } from "./format.js";
import { named, words } from "./words.js";
import { plan } from "./ask.js";

/** Lines that are shown at a time. */
const STEP = 100;

export class PlanPanel {
  constructor(set) {
    this.set = set;
    this.button = make("button", { type: "button", class: "plan-button", on: { click: () => this.ask() } }, words("plan"));
    this.element = make("section", { class: "plan", "aria-label": words("plan.title", { set }), hidden: true });
  }

  async ask() {
    if (this.button.getAttribute("aria-busy") === "true") return;
    this.button.setAttribute("aria-busy", "true");
    say(this.button, words("plan.asking"));
    const told = await plan(this.set);
    this.button.removeAttribute("aria-busy");
    say(this.button, words("plan"));
    if (told) this.show(told);
  }

  show(told) {
    const close = make("button", { type: "button", class: "plain", on: { click: () => this.close() } }, words("plan.close"));
    const head = make("div", { class: "head small" }, make("h3", {}, words("plan.title", { set: this.set })), make("span", { class: "quiet" }, time(new Date().toISOString(), shortly)), close);
    const images = told.images?.totals;
    const isIdle = told.files.length === 0 && told.refused.length === 0 && !(images?.bring || images?.refused);
    this.element.replaceChildren(head, sums(told.totals), ...(images ? [sumsOfImages(images)] : []), ...(isIdle ? [make("p", { class: "quiet" }, words("plan.nothing"))] : parts(told)));
    this.element.hidden = false;
    this.element.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.element.hidden = true;
    this.element.replaceChildren();
    this.button.focus();
  }
}

function sums(totals) {
  const bytes = size(totals.bytes_known);
  const transfer = words(totals.lengths_unknown > 0 ? "plan.transfer.unknown" : "plan.transfer", { n: totals.transfer, size: bytes, unknown: count(totals.lengths_unknown) });
  const parts = ["inspect", "sidecars", "skip", "refused"].filter((what) => totals[what] > 0).map((what) => words(`plan.${what}`, { n: totals[what] }));
  return make("p", { class: "sum" }, [transfer, ...parts, words("plan.requests", { n: totals.requests })].map((part) => make("span", {}, part)));
}

function sumsOfImages(totals) {
  const bring = words("plan.images", { n: totals.bring, size: size(totals.bytes) });
  const parts = ["skip", "refused"].filter((what) => totals[what] > 0).map((what) => words(`plan.images.${what}`, { n: totals[what] }));
  return make("p", { class: "sum" }, [bring, ...parts].map((part) => make("span", {}, part)));
}

function parts(told) {
  const parts = [];
  if (told.refused.length > 0) parts.push(refused(told.refused));
  if (told.releases.length > 0) parts.push(table("plan.releases", "plan-releases", ["releases.release", "releases.files", "releases.size"], told.releases, releaseRow));
  if (told.files.length > 0) parts.push(table("plan.files", "plan-files", ["plan.file", "releases.size", "plan.what"], told.files, (file) => fileRow(file, told.targets)));
  return parts;
}

function refused(files) {
  const items = files.map((file) => make("li", {}, make("code", { class: "key" }, file.key), make("p", {}, sentence("why", file.why))));
  return make("details", { class: "alarm-list", open: files.length <= 5 }, make("summary", {}, icon("fold"), icon("failed"), make("strong", {}, words("plan.refused", { n: files.length }))), make("ul", {}, items));
}

/** A table that grows by so many rows at a time. */
function table(title, kind, columns, items, row) {
  const body = make("tbody", { role: "rowgroup" });
  const more = make("button", { type: "button", class: "plain", on: { click: () => grow() } });
  const grow = () => {
    const from = body.children.length;
    body.append(...items.slice(from, from + STEP).map(row));
    const left = items.length - body.children.length;
    more.hidden = left === 0;
    say(more, words("plan.more", { n: left }));
  };
  grow();
  const head = columns.map((key) => make("th", { scope: "col", role: "columnheader", class: key === "releases.files" || key === "releases.size" ? "number" : "" }, words(key)));
  const told = words(title, { n: items.length });
  return make("details", { class: `plan-part ${kind}`, open: true }, make("summary", {}, icon("fold"), make("strong", {}, told)),
    make("table", { role: "table", "aria-label": told }, make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)), body), more);
}

const first = (text) => make("th", { scope: "row", role: "rowheader" }, make("code", { class: "key" }, text));
const number = (text, label, isCount = false) => make("td", { role: "cell", class: "number", "data-label": label, "data-files": isCount }, text);

function releaseRow(release) {
  const bytes = release.bytes_known > 0 ? size(release.bytes_known) : "–";
  return make("tr", { role: "row" }, first(release.name), number(count(release.files), words("releases.files"), true), number(bytes, words("releases.size")));
}

function fileRow(file, targets) {
  const same = file.actions.every((action) => JSON.stringify(action) === JSON.stringify(file.actions[0]));
  const shown = same ? [[null, file.actions[0]]] : targets.map((target, at) => [target, file.actions[at]]);
  const lines = shown.map(([target, action]) => make("div", {}, make("span", { class: `doing-${action.action}` }, named("action", action.action)), why(action), target === null ? null : make("code", { class: "quiet" }, target)));
  return make("tr", { role: "row" }, first(file.key), number(file.length === null ? words("run.unknown") : size(file.length), words("releases.size")), make("td", { role: "cell", class: "why" }, lines));
}

function why(action) {
  if (action.sidecars) return make("code", {}, action.sidecars.join(" "));
  return action.why ? reason(action.why) : null;
}
