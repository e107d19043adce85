// One set: when it runs, what it does, what went wrong, and its releases.

import { distance, endChip, icon, make, told } from "./elements.js";
import { named, words } from "./words.js";
import { cancel, start } from "./ask.js";
import { PlanPanel } from "./plan.js";
import { ProgressPanel } from "./progress.js";
import { ReleasesTable } from "./releases.js";

const PURPOSES = ["sync", "scrub", "prune"];

export class SetCard {
  constructor(name) {
    this.name = name;
    const title = `set-${encodeURIComponent(name)}`;
    this.facts = make("dl", { class: "facts" });
    this.notes = make("div", { class: "notes" });
    this.trouble = make("div", { class: "failures" });
    this.progress = new ProgressPanel();
    this.others = make("div", { class: "others" });
    this.plan = new PlanPanel(name);
    this.releases = new ReleasesTable(name);
    const buttons = PURPOSES.map((purpose) => make("button", { type: "button", class: purpose === "sync" ? "main" : "", "data-purpose": purpose, on: { click: () => start(name, purpose) } }, words(`start.${purpose}`)));
    this.element = make("section", { class: "card", "aria-labelledby": title, "data-set": name },
      make("div", { class: "head" }, make("h2", { id: title }, name), make("div", { class: "actions", role: "group", "aria-label": words("set.actions", { set: name }) }, buttons, this.plan.button)),
      this.facts, this.notes, this.progress.element, this.others, this.trouble, this.plan.element, this.releases.element);
  }

  show(set) {
    changed(this, "factsShown", [set.targets, set.schedule, set.next_run, set.last_success, set.last_run?.id, set.queued], () => this.showFacts(set));
    changed(this, "notesShown", set.notes, () => this.showNotes(set.notes));
    changed(this, "troubleShown", set.last_run?.id ?? null, () => this.trouble.replaceChildren(...failures(set.last_run, "failed.last", "failed.last.run")));
    this.progress.show(set.progress);
    const beside = set.beside ? { run: set.beside.run, purpose: set.beside.purpose, since: set.beside.began } : null;
    changed(this, "othersShown", [beside, set.waiting], () => this.showOthers(beside, set.waiting));
    if (this.releasesShown !== set.releases) {
      this.releasesShown = set.releases;
      this.releases.show(set.releases, set.targets);
    }
  }

  showFacts(set) {
    const fact = (key, ...values) => make("div", {}, make("dt", {}, words(key)), make("dd", {}, values));
    const waits = set.queued > 0 ? ` · ${words("tile.waits", { n: set.queued })}` : null;
    this.facts.replaceChildren(
      fact("set.next", set.next_run ? distance(set.next_run) : words("none"), waits),
      fact("set.success", set.last_success ? distance(set.last_success) : words("never")),
      fact("set.last", set.last_run ? [endChip(set.last_run.end, set.last_run.repeated?.times), " ", distance(set.last_run.ended)] : words("never")),
      fact("set.schedule", make("code", {}, set.schedule)),
      fact("set.targets", set.targets.map((target) => make("code", { class: "target" }, target))),
    );
  }

  showNotes(notes) {
    this.notes.replaceChildren(...notes.map((note) => make("p", { class: "note" }, icon("note"), make("span", {}, told("note", note)))));
  }

  /** Runs that are not the one under way that is shown at length. */
  showOthers(beside, waiting) {
    const line = (run, looks, key) => make("div", { class: "note other", "data-run": run.run }, icon(looks), make("strong", {}, named("purpose", run.purpose)), make("span", {}, words(key)), distance(run.since), make("code", { class: "quiet id" }, run.run),
      make("button", { type: "button", class: "stop", on: { click: () => cancel(run.run) } }, words("run.cancel")));
    this.others.replaceChildren(...(beside ? [line(beside, "running", "run.beside")] : []), ...waiting.map((run) => line(run, "clock", "run.waits")));
  }
}

/** Does something when a value is not what it was. */
function changed(owner, field, value, act) {
  const key = JSON.stringify(value);
  if (owner[field] === key) return;
  owner[field] = key;
  act();
}

/** What failed in a run and why, below a title; nothing for one that went well. */
export function failures(run, title = "failed.files", stopped = "failed.run") {
  if (!run || (run.failures.length === 0 && !run.why && run.withheld === 0)) return [];
  const parts = [];
  if (run.why) parts.push(make("div", { class: "alarm" }, icon("failed"), make("div", {}, make("strong", {}, words(stopped)), make("p", {}, told("why", run.why)))));
  if (run.failures.length > 0) {
    const items = run.failures.map((failure) => make("li", {}, make("code", { class: "key" }, failure.key), make("span", { class: "tag" }, named("class", failure.class)), make("p", {}, told("why", failure.why))));
    const more = run.failed - run.failures.length;
    if (more > 0) items.push(make("li", { class: "quiet" }, words("failed.more", { n: more })));
    parts.push(make("details", { class: "alarm-list", open: run.failures.length <= 5 }, make("summary", {}, icon("fold"), icon("failed"), make("strong", {}, words(title, { n: run.failed }))), make("ul", {}, items)));
  }
  if (run.withheld > 0) parts.push(make("p", { class: "note withheld" }, icon("note"), make("span", {}, words("failed.withheld", { n: run.withheld }))));
  return parts;
}
