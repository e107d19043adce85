// The run under way: one bar for all of it, one for each file, and how fast it is.

import { bar, distance, draw, icon, make, say } from "./elements.js";
import { count, length, percent, size, speed } from "./format.js";
import { named, words } from "./words.js";
import { cancel } from "./ask.js";

/** A sample a second. */
const SAMPLES = 180;
const HEIGHT = 36;

export class ProgressPanel {
  constructor() {
    this.element = make("div", { class: "progress", hidden: true });
    this.run = null;
    this.samples = [];
  }

  show(progress) {
    this.element.hidden = progress === null;
    if (progress === null) {
      this.run = null;
      return;
    }
    if (this.run !== progress.run) this.build(progress);
    const { bytes_done: done, bytes_total: total, bytes_per_second: rate } = progress;
    const share = total === null ? null : total === 0 ? 1 : done / total;
    this.whole.show(share);
    say(this.phase, `${named("purpose", progress.purpose)} · ${named("phase", progress.phase)}`);
    say(this.share, share === null ? "" : percent(Math.min(1, share)));
    say(this.bytes, total === null ? size(done) : `${size(done)} / ${size(total)}`);
    say(this.files, words("run.files", { n: count(progress.files_done), all: count(progress.files_total) }));
    say(this.rate, speed(rate));
    const left = total === null || rate < 1 ? null : (total - done) / rate;
    say(this.left, left === null ? words("run.left.unknown") : words("run.left", { time: length(left) }));
    this.sample(rate);
    this.showFiles(progress.files);
  }

  build(progress) {
    this.run = progress.run;
    this.samples = [];
    this.rows = new Map();
    this.whole = bar(words("run.all"));
    this.whole.outer.classList.add("whole");
    for (const name of ["phase", "share", "bytes", "files", "rate", "left", "under"]) this[name] = make("span", { class: name });
    this.list = make("ul", { class: "files" });
    this.line = draw("polyline", { class: "curve" });
    this.area = draw("polygon", { class: "area" });
    this.curve = draw("svg", { class: "speeds", preserveAspectRatio: "none", role: "img", "aria-label": words("run.speeds") }, this.area, this.line);
    const stop = make("button", { type: "button", class: "stop", on: { click: () => cancel(progress.run) } }, words("run.cancel"));
    this.element.replaceChildren(
      make("div", { class: "doing" }, icon("running"), this.phase, make("span", { class: "quiet" }, distance(progress.began)), make("code", { class: "quiet id" }, progress.run), stop),
      make("div", { class: "measure" }, this.share, this.whole.outer),
      make("div", { class: "figures" }, this.rate, this.left, this.bytes, this.files),
      this.curve,
      make("details", { open: true, class: "under-way" }, make("summary", {}, icon("fold"), this.under), this.list),
    );
  }

  sample(rate) {
    const now = Date.now();
    const last = this.samples.at(-1);
    if (last && now - last.at < 1000) last.rate = rate;
    else this.samples.push({ at: now, rate });
    this.samples = this.samples.slice(-SAMPLES);
    const most = Math.max(1, ...this.samples.map((sample) => sample.rate));
    const end = this.samples.length - 1;
    const points = this.samples.map(({ rate }, at) => `${at},${(HEIGHT - 1 - (rate / most) * (HEIGHT - 4)).toFixed(1)}`).join(" ");
    // It grows from the left, and is never so wide that the first seconds look like an hour.
    this.curve.setAttribute("viewBox", `0 0 ${Math.max(60, end)} ${HEIGHT}`);
    this.line.setAttribute("points", points);
    this.area.setAttribute("points", `0,${HEIGHT} ${points} ${end},${HEIGHT}`);
  }

  showFiles(files) {
    say(this.under, words("run.under", { n: files.length }));
    const seen = new Set();
    for (const file of files) {
      seen.add(file.key);
      let row = this.rows.get(file.key);
      if (!row) {
        row = fileRow(file.key);
        this.rows.set(file.key, row);
        this.list.append(row.element);
      }
      row.show(file);
    }
    for (const [key, row] of this.rows) {
      if (seen.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
  }
}

function fileRow(key) {
  const told = make("span", { class: "amount" });
  const { outer, show } = bar(key);
  // The end of a key tells files apart (`arm64/kubelet`), so a long one is cut before it.
  const cut = key.lastIndexOf("/", key.lastIndexOf("/") - 1) + 1;
  const name = make("span", { class: "key", title: key }, make("span", { class: "folder" }, key.slice(0, cut)), make("span", { class: "name" }, key.slice(cut)));
  return {
    element: make("li", {}, name, told, outer),
    show(file) {
      show(file.length === null ? null : file.length === 0 ? 1 : file.bytes / file.length);
      say(told, file.length === null ? `${size(file.bytes)} · ${words("run.unknown")}` : `${size(file.bytes)} / ${size(file.length)}`);
    },
  };
}
