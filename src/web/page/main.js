// Listens to the service and shows what it tells. Each part of the page changes only what changed.

import { distance, fillWords, icon, make, refreshTimes, say } from "./elements.js";
import { count, length, list, percent, relative, speed, zone } from "./format.js";
import { memory, named, speak, spoken, words } from "./words.js";
import { showForget } from "./ask.js";
import { History } from "./history.js";
import { SetCard } from "./set.js";

const TROUBLE = new Set(["failed", "changed", "withdrawn"]);
const byId = (id) => document.getElementById(id);

let status = null;
let cards = new Map();
let heard = null;
let stream = null;
let lost = false;
const history = new History();

/** An event leaves out the releases of sets where they are as they were. */
function merge(told) {
  for (const set of told.sets) {
    set.releases ??= status?.sets.find((known) => known.name === set.name)?.releases ?? [];
  }
  return told;
}

function listen() {
  if (stream) return;
  stream = new EventSource("/api/v1/events");
  stream.addEventListener("status", (event) => {
    status = merge(JSON.parse(event.data));
    heard = Date.now();
    lost = false;
    performance.mark("heard");
    show();
    performance.measure("shown", "heard");
  });
  stream.addEventListener("error", () => {
    lost = true;
    // A browser tries again by itself, unless the answer was none.
    if (stream?.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(listen, 5000);
    }
    showLine();
  });
}

/** Nobody looks: a connection and its work are spared. */
function rest() {
  stream?.close();
  stream = null;
}

function show() {
  document.title = `${trouble(status) ? "▲ " : ""}kops-mirror`;
  say(byId("version"), status.version);
  showLine();
  showVerdict();
  showTiles();
  showSets();
  history.follow(status);
}

function showLine() {
  const line = byId("line");
  const live = stream !== null && !lost && heard !== null;
  line.className = `line ${live ? "live" : lost ? "lost" : ""}`;
  say(line, live ? words("line.live") : lost ? words("line.lost") : words("line.wait"));
  line.title = heard === null ? "" : words("line.old", { ago: relative(new Date(heard)) });
}

const releasesOf = (status) => status.sets.flatMap((set) => set.releases);
const hasState = (release, test) => release.targets.some((target) => test(target.state));
const failedSets = (status) => status.sets.filter((set) => ["failed", "some-failed"].includes(set.last_run?.end)).map((set) => set.name);

function trouble(status) {
  return releasesOf(status).some((release) => hasState(release, (state) => state === "failed")) || failedSets(status).length > 0;
}

/** The one sentence that an operator needs, and how it looks. */
function verdict() {
  const releases = releasesOf(status);
  const bad = releases.filter((release) => hasState(release, (state) => TROUBLE.has(state))).length;
  const open = releases.filter((release) => hasState(release, (state) => state !== "complete" && !TROUBLE.has(state))).length;
  const failed = failedSets(status);
  const parts = [];
  if (failed.length > 0) parts.push(words("verdict.runs", { n: failed.length, sets: list(failed) }));
  if (bad > 0) parts.push(words("verdict.trouble", { n: bad }));
  if (parts.length > 0) return ["failed", parts];
  if (!status.ready && !status.draining) return ["incomplete", [words("verdict.starting")]];
  if (open > 0) return ["incomplete", [words("verdict.missing", { n: open })]];
  if (releases.length === 0) return ["missing", [words("verdict.empty")]];
  return ["complete", [words("verdict.complete")]];
}

function showVerdict() {
  const [looks, parts] = verdict();
  if (status.draining) parts.push(words("verdict.draining"));
  const text = parts.reduce((a, b) => words("verdict.both", { a, b }));
  const box = byId("verdict");
  box.hidden = false;
  // An unchanged text must not be read aloud again.
  if (box.dataset.text === text && box.dataset.looks === looks) return;
  Object.assign(box.dataset, { text, looks });
  box.className = `verdict is-${looks}`;
  box.replaceChildren(icon(looks), make("p", {}, text));
}

function showTiles() {
  const releases = releasesOf(status);
  const complete = releases.filter((release) => !hasState(release, (state) => state !== "complete")).length;
  const bad = releases.filter((release) => hasState(release, (state) => TROUBLE.has(state))).length;
  const runs = status.sets.map((set) => set.progress).filter((progress) => progress !== null);
  const next = status.sets.map((set) => set.next_run).filter((time) => time !== null).sort()[0];
  const waits = status.sets.reduce((sum, set) => sum + set.queued, 0);
  const box = byId("tiles");
  box.hidden = false;
  if (box.children.length === 0) box.append(...["complete", "trouble", "now", "next"].map(tile));
  const [first, second, third, fourth] = box.children;
  put(first, words("tile.of", { n: count(complete), all: count(releases.length) }), words("tile.complete.note"));
  put(second, count(bad), words("tile.trouble.note"));
  second.classList.toggle("is-failed", bad > 0);
  put(third, ...now(runs));
  put(fourth, next ? relative(next) : words("tile.none"), waits > 0 ? words("tile.waits", { n: waits }) : "");
}

function tile(key) {
  return make("div", { class: `tile tile-${key}` }, make("dt", {}, words(`tile.${key}`)), make("dd", {}, make("span", { class: "figure" }), make("span", { class: "quiet" })));
}

function put(tile, figure, note) {
  const [first, second] = tile.lastElementChild.children;
  say(first, figure);
  say(second, note);
}

/** What is done at this moment: how far, how fast, how long still. */
function now(runs) {
  if (runs.length === 0) return [words("tile.idle"), ""];
  const rate = runs.reduce((sum, run) => sum + run.bytes_per_second, 0);
  const known = runs.every((run) => run.bytes_total !== null);
  const total = runs.reduce((sum, run) => sum + (run.bytes_total ?? 0), 0);
  const done = runs.reduce((sum, run) => sum + run.bytes_done, 0);
  const what = runs.length === 1 ? named("purpose", runs[0].purpose) : words("tile.running", { n: runs.length });
  const figure = known && total > 0 ? `${what} ${percent(Math.min(1, done / total))}` : what;
  const left = known && rate >= 1 ? ` · ${words("run.left", { time: length((total - done) / rate) })}` : "";
  return [figure, `${speed(rate)}${left}`];
}

function showSets() {
  const box = byId("sets");
  const seen = new Set(status.sets.map((set) => set.name));
  for (const [name, card] of cards) {
    if (seen.has(name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  status.sets.forEach((set, at) => {
    if (!cards.has(set.name)) cards.set(set.name, new SetCard(set.name));
    const card = cards.get(set.name);
    card.show(set);
    if (box.children[at] !== card.element) box.insertBefore(card.element, box.children[at] ?? null);
  });
}

/** Everything anew, in another language. */
function rebuild() {
  document.documentElement.lang = spoken() === "zh" ? "zh-CN" : "en";
  fillWords();
  cards = new Map();
  for (const id of ["sets", "tiles", "verdict", "told"]) byId(id).replaceChildren();
  byId("verdict").dataset.text = "";
  say(byId("zone"), zone());
  showLine();
  if (status) {
    show();
    history.show();
  }
}

function chooseTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  memory.write("kops-mirror.theme", theme === "auto" ? null : theme);
}

byId("language").value = spoken();
byId("language").addEventListener("change", (event) => {
  speak(event.target.value);
  rebuild();
});
byId("theme").value = document.documentElement.dataset.theme ?? "auto";
byId("theme").addEventListener("change", (event) => chooseTheme(event.target.value));
document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
setInterval(() => {
  refreshTimes();
  if (status) showTiles();
  showLine();
}, 10000);

showForget();
rebuild();
if (!document.hidden) listen();
