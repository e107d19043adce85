// Releases × targets, in groups by version of kops.

import { chip, icon, make, say, time } from "./elements.js";
import { count, size, when, utc } from "./format.js";
import { named, words } from "./words.js";

/** From worst to best. */
const STATES = ["failed", "changed", "withdrawn", "unknown", "missing", "incomplete", "complete"];
const isWhole = (release) => release.targets.every((target) => target.state === "complete");
const worst = (release) => STATES.find((state) => release.targets.some((target) => target.state === state)) ?? "missing";

/** Kept when the page is built anew in another language. */
export class ReleasesTable {
  constructor(set) {
    this.set = set;
    this.groups = new Map();
    this.chosen = new Map();
    this.needle = "";
    this.troubleOnly = false;
    this.element = make("div", { class: "releases" });
    this.build();
  }

  build() {
    this.groups.clear();
    this.body = make("div", { class: "groups" });
    this.empty = make("p", { class: "quiet empty", hidden: true });
    this.total = make("span", { class: "quiet" });
    const find = make("input", {
      type: "search", value: this.needle, placeholder: words("releases.filter"), "aria-label": words("releases.filter"),
      on: { input: (event) => { this.needle = event.target.value.trim().toLowerCase(); this.filter(); } },
    });
    const only = make("input", { type: "checkbox", on: { change: (event) => { this.troubleOnly = event.target.checked; this.filter(); } } });
    only.checked = this.troubleOnly;
    const all = (open) => make("button", { type: "button", class: "plain", on: { click: () => this.openAll(open) } }, words(open ? "releases.open" : "releases.close"));
    this.tools = make("div", { class: "filter" }, find, make("label", { class: "check" }, only, words("releases.trouble")), all(true), all(false));
    this.element.replaceChildren(make("div", { class: "head small" }, make("h3", {}, words("releases")), this.total, this.tools), this.body, this.empty);
  }

  show(releases, targets) {
    this.releases = releases;
    const seen = new Set();
    for (const [kops, ofGroup] of byKops(releases)) {
      seen.add(kops);
      let group = this.groups.get(kops);
      if (!group) {
        group = new Group(kops, (open) => this.chosen.set(kops, open));
        this.groups.set(kops, group);
      }
      group.show(ofGroup, targets);
      // In the order of the service, newest first.
      if (this.body.children[seen.size - 1] !== group.element) this.body.insertBefore(group.element, this.body.children[seen.size - 1] ?? null);
    }
    for (const [kops, group] of this.groups) {
      if (seen.has(kops)) continue;
      group.element.remove();
      this.groups.delete(kops);
    }
    say(this.total, releases.length === 0 ? "" : words("releases.count", { n: releases.length }));
    this.filter();
  }

  filter() {
    const isShown = (release) => (!this.troubleOnly || !isWhole(release)) && release.name.toLowerCase().includes(this.needle);
    const narrows = this.needle !== "" || this.troubleOnly;
    let shown = 0;
    let at = 0;
    for (const [kops, group] of this.groups) {
      shown += group.filter(isShown, narrows);
      // What is looked for is open, then what was asked for, what failed, and the newest.
      group.open(narrows || (this.chosen.get(kops) ?? (group.hasFailed() || at === 0)));
      at += 1;
    }
    this.tools.hidden = this.releases.length === 0;
    this.empty.hidden = shown > 0;
    say(this.empty, words(this.releases.length === 0 ? "releases.none" : "releases.nomatch"));
  }

  openAll(open) {
    for (const [kops, group] of this.groups) {
      this.chosen.set(kops, open);
      group.open(open);
    }
  }
}

function byKops(releases) {
  const groups = new Map();
  for (const release of releases) {
    const kops = release.kops ?? "";
    if (!groups.has(kops)) groups.set(kops, []);
    groups.get(kops).push(release);
  }
  return groups;
}

/** The releases of one version of kops. Its rows are made when it is opened first. */
class Group {
  constructor(kops, chosen) {
    this.title = kops === "" ? words("releases.other") : `kops ${kops}`;
    this.rows = new Map();
    this.releases = [];
    this.counts = make("span", { class: "counts" });
    const summary = make("summary", {}, icon("fold"), make("strong", {}, this.title), this.counts);
    this.element = make("details", { class: "group" }, summary);
    // Only a user clicks; `toggle` would tell of programs as well.
    summary.addEventListener("click", () => {
      chosen(!this.element.open);
      if (!this.element.open) this.render();
    });
  }

  open(open) {
    if (open) this.render();
    if (this.element.open !== open) this.element.open = open;
  }

  hasFailed() {
    return this.releases.some((release) => release.targets.some((target) => target.state === "failed"));
  }

  show(releases, targets) {
    this.releases = releases;
    this.targets = targets;
    this.showCounts();
    if (this.table) this.render();
  }

  showCounts() {
    const counts = new Map(STATES.map((state) => [state, 0]));
    for (const release of this.releases) counts.set(worst(release), counts.get(worst(release)) + 1);
    const key = [...counts.values()].join();
    if (this.counted === key) return;
    this.counted = key;
    const present = [...counts].filter(([, n]) => n > 0);
    this.counts.replaceChildren(...present.map(([state, n]) => make("span", { class: `count is-${state}`, title: named("state", state) }, icon(state), make("span", {}, `${count(n)} `), make("span", { class: "word" }, named("state", state)))));
  }

  render() {
    if (!this.table || this.columns !== this.targets.join("\n")) this.buildTable();
    let at = 0;
    const seen = new Set();
    for (const release of this.releases) {
      seen.add(release.name);
      let row = this.rows.get(release.name);
      if (!row) {
        row = releaseRow(release.name);
        this.rows.set(release.name, row);
      }
      row.show(release, this.targets);
      if (this.body.children[at] !== row.element) this.body.insertBefore(row.element, this.body.children[at] ?? null);
      at += 1;
    }
    for (const [name, row] of this.rows) {
      if (seen.has(name)) continue;
      row.element.remove();
      this.rows.delete(name);
    }
    this.applyFilter();
  }

  buildTable() {
    this.columns = this.targets.join("\n");
    this.rows.clear();
    this.body = make("tbody", { role: "rowgroup" });
    const heading = (text, kind = "") => make("th", { scope: "col", role: "columnheader", class: kind }, text);
    const head = make("tr", { role: "row" }, heading(words("releases.release")), this.targets.map((target) => heading(target, "place")), heading(words("releases.files"), "number"), heading(words("releases.size"), "number"));
    const table = make("table", { role: "table", "aria-label": this.title }, make("thead", { role: "rowgroup" }, head), this.body);
    if (this.table) this.table.replaceWith(table);
    else this.element.append(table);
    this.table = table;
  }

  filter(isShown, narrows) {
    this.isShown = narrows ? isShown : null;
    const shown = narrows ? this.releases.filter(isShown).length : this.releases.length;
    this.element.hidden = shown === 0;
    this.applyFilter();
    return shown;
  }

  applyFilter() {
    for (const release of this.releases) {
      const row = this.rows.get(release.name);
      if (row) row.element.hidden = this.isShown ? !this.isShown(release) : false;
    }
  }
}

function releaseRow(name) {
  const element = make("tr", { role: "row" });
  let shown = "";
  return {
    element,
    show(release, targets) {
      const key = JSON.stringify(release);
      if (shown === key) return;
      shown = key;
      const label = release.kubernetes === null ? name : `Kubernetes ${release.kubernetes}`;
      const cells = targets.map((place) => targetCell(place, release.targets.find((target) => target.place === place)));
      const most = (field) => Math.max(0, ...release.targets.map((target) => target[field]));
      element.replaceChildren(
        make("th", { scope: "row", role: "rowheader", title: name }, label),
        ...cells,
        make("td", { role: "cell", class: "number", "data-label": words("releases.files"), "data-files": true }, count(most("files"))),
        make("td", { role: "cell", class: "number", "data-label": words("releases.size") }, size(most("bytes"))),
      );
    },
  };
}

function targetCell(place, target) {
  if (!target) return make("td", { role: "cell", "data-label": place }, "–");
  const cell = make("td", { role: "cell", class: "at", "data-label": place.replace("s3://", "") }, chip(target.state));
  if (target.missing > 0) cell.append(make("span", { class: "quiet" }, words("releases.missing", { n: target.missing })));
  else if (target.completed) cell.title = `${words("releases.completed", { time: when(target.completed) })} · ${utc(target.completed)}`;
  return cell;
}
