// Runs that have ended: three plots, and a line for each.

import { draw, endChip, icon, make, reason, time } from "./elements.js";
import { count, length, seconds, shortly, size, when } from "./format.js";
import { named, words } from "./words.js";
import { failures } from "./set.js";

const PAGE = 40;
const byId = (id) => document.getElementById(id);
const BAD = new Set(["failed", "some-failed"]);

export class History {
  constructor() {
    this.runs = [];
    this.next = null;
    this.latest = null;
    byId("older").addEventListener("click", () => this.older());
  }

  /** Reads the newest runs again when another one has ended. */
  async follow(status) {
    const latest = status.sets.map((set) => set.last_run?.id ?? "").join();
    if (latest === this.latest) return;
    this.latest = latest;
    const told = await read(`limit=${PAGE}`);
    if (!told) return;
    const known = new Set(told.runs.map((run) => run.id));
    const rest = this.runs.filter((run) => !known.has(run.id) && told.next !== null && run.id < told.next);
    if (rest.length === 0) this.next = told.next;
    this.runs = [...told.runs, ...rest];
    this.show();
  }

  async older() {
    const told = await read(`limit=${PAGE}&before=${encodeURIComponent(this.next)}`);
    if (!told) return;
    this.runs.push(...told.runs);
    this.next = told.next;
    this.show();
  }

  show() {
    byId("history").hidden = false;
    byId("older").hidden = this.next === null;
    byId("plots").replaceChildren(...plots(this.runs.slice(0, PAGE).toReversed()));
    const open = new Set([...byId("runs").querySelectorAll("details[open]")].map((details) => details.dataset.run));
    byId("runs").replaceChildren(this.runs.length === 0 ? make("p", { class: "quiet" }, words("history.none")) : list(this.runs, open));
  }
}

async function read(query) {
  try {
    const answer = await fetch(`/api/v1/runs?${query}`);
    const told = await answer.json();
    if (answer.ok) return told;
    throw new Error(told.error.message);
  } catch (error) {
    byId("history").hidden = false;
    byId("runs").replaceChildren(make("p", { class: "alarm" }, words("history.unread"), " ", reason(error.message)));
    return null;
  }
}

function plots(runs) {
  if (runs.length < 2) return [];
  return [
    plot(words("plot.bytes"), runs, (run) => run.bytes_fetched, size),
    plot(words("plot.took"), runs, (run) => seconds(run.began, run.ended), length),
    plot(words("plot.failed"), runs, (run) => run.failed, count),
  ];
}

/** A bar for each run, oldest first. */
function plot(title, runs, value, show) {
  const [height, step] = [56, 10];
  const values = runs.map(value);
  const most = Math.max(...values);
  const about = words("plot.about", { title, n: runs.length, max: show(most), last: show(values.at(-1)) });
  const bars = runs.map((run, at) => {
    const tall = most === 0 || values[at] === 0 ? 1 : Math.max(2, (values[at] / most) * (height - 2));
    const told = `${shortly(run.began)} · ${run.set} · ${named("purpose", run.purpose)} · ${named("end", run.end)}: ${show(values[at])}`;
    const kind = values[at] === 0 ? "nothing" : BAD.has(run.end) ? "bad" : "good";
    return draw("g", {}, draw("title", {}, told),
      draw("rect", { class: "touch", x: at * step, y: 0, width: step, height }),
      draw("rect", { class: kind, x: at * step + 1, y: (height - tall).toFixed(1), width: step - 2, height: tall.toFixed(1), rx: 1 }));
  });
  const picture = draw("svg", { viewBox: `0 0 ${runs.length * step} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": about }, bars);
  return make("figure", {}, make("figcaption", {}, make("span", {}, title), make("span", { class: "quiet" }, `≤ ${show(most)}`)), picture,
    make("div", { class: "axis quiet", "aria-hidden": "true" }, make("span", {}, shortly(runs[0].began)), make("span", {}, shortly(runs.at(-1).began))));
}

function list(runs, open) {
  const title = (key, kind = "") => make("span", { class: kind }, words(key));
  const head = make("div", { class: "run heading", "aria-hidden": "true" }, make("span"), title("history.began"), title("history.set"), title("history.purpose"), title("history.end"), title("history.took", "number"), title("history.fetched", "number"), title("history.failed", "number"));
  return make("div", { class: "runs" }, head, runs.map((run) => entry(run, open.has(run.id))));
}

function entry(run, isOpen) {
  const failed = run.failed > 0 ? make("span", { class: "number bad" }, count(run.failed), make("span", { class: "narrow" }, ` ${words("history.failed")}`)) : make("span", { class: "number quiet" }, "–");
  const summary = make("summary", { class: "run" }, icon("fold"), time(run.began, shortly), make("span", { class: "of" }, run.set), make("span", { class: "what" }, named("purpose", run.purpose)), endChip(run.end, run.repeated?.times),
    make("span", { class: "number" }, length(seconds(run.began, run.ended))), make("span", { class: "number" }, run.bytes_fetched > 0 ? size(run.bytes_fetched) : "–"), failed);
  const details = make("details", { "data-run": run.id }, summary);
  const fill = () => { if (details.children.length === 1) details.append(story(run)); };
  details.addEventListener("toggle", fill);
  if (isOpen) {
    fill();
    details.open = true;
  }
  return details;
}

function story(run) {
  const told = [make("code", { class: "id" }, run.id), words("history.transferred", { n: count(run.transferred) }), words("history.skipped", { n: count(run.skipped) })];
  if (run.repaired > 0) told.push(words("history.repaired", { n: count(run.repaired) }));
  if (run.bytes_refetched > 0) told.push(words("history.again", { size: size(run.bytes_refetched) }));
  if (run.repeated) told.unshift(words("history.repeated", { n: count(run.repeated.times), since: when(run.repeated.since) }));
  const origins = Object.entries(run.bytes_by_origin).map(([origin, bytes]) => `${origin} ${size(bytes)}`);
  const line = (key, items) => (items.length > 0 ? make("p", {}, make("span", { class: "quiet" }, `${words(key)} `), items.map((item) => make("code", {}, item))) : null);
  return make("div", { class: "story" },
    make("p", { class: "sum" }, told.map((part) => (typeof part === "string" ? make("span", {}, part) : part))),
    line("history.origins", origins), line("history.marked", run.marked), failures(run));
}
