//! Tells what is kept, what waits, what goes, and what is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::decision::{Decision, Doomed};
use super::mark::Mark;
use super::{Gone, Mode};
use crate::asset::Key;
use crate::index::{self, Index};
use crate::retention::Keeping;
use crate::sync::Seen;

/// What a call of [`super::prune`] did at a target, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The target in a user's words.
    pub place: String,
    /// Nothing was changed: `deleted`, `objects`, `bytes` and the marks are what would be.
    pub dry_run: bool,
    /// Releases that are kept, and why.
    pub kept: BTreeMap<String, String>,
    /// Releases that are marked and not yet due.
    pub waiting: BTreeMap<String, Waiting>,
    /// What goes with those, in bytes, as it looks now.
    pub waiting_bytes: u64,
    /// Kept releases that were marked until now.
    pub unmarked: BTreeSet<String>,
    /// Releases that are gone.
    pub deleted: BTreeSet<String>,
    /// Objects that went with them, indexes included.
    pub objects: usize,
    /// In bytes.
    pub bytes: u64,
    /// Objects of deleted releases that were left where they are, and why.
    pub left_alone: BTreeMap<Key, String>,
    /// What somebody should know: above all why nothing is deleted although its time has come.
    pub notes: Vec<String>,
}

/// A release that is marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// It was not marked until now.
    pub new: bool,
    pub since: Timestamp,
    /// When it is deleted at the earliest.
    pub until: Timestamp,
    pub why: String,
}

impl Pruned {
    /// What a decision will come to, as far as a look can tell.
    pub(super) fn expected(
        place: &str,
        mode: Mode,
        before: &Mark,
        decision: &Decision,
        seen: &Seen,
        keep: &Keeping,
    ) -> Self {
        let without = |names: &BTreeSet<String>| {
            let is_left = |index: &&Index| !names.contains(&index.release.name);
            decision.doomed(names, seen, seen.indexes.iter().filter(is_left), keep)
        };
        let marked: BTreeSet<String> = decision.mark.releases.keys().cloned().collect();
        let (all, due) = (without(&marked), without(&decision.due));
        let indexes = Doomed {
            objects: decision.due_indexes(seen),
            ..Doomed::default()
        };
        Self {
            place: place.to_owned(),
            dry_run: mode.dry_run,
            kept: decision.kept.clone(),
            waiting: waiting(decision, mode, before),
            waiting_bytes: all.bytes().saturating_sub(due.bytes()),
            unmarked: decision.unmarked.clone(),
            deleted: decision.due.clone(),
            objects: due.objects.len() + indexes.objects.len(),
            bytes: due.bytes() + indexes.bytes(),
            left_alone: due.left_alone,
            notes: decision.held_up.clone(),
        }
    }

    /// Puts what has happened in the place of what was expected.
    pub(super) fn done(&mut self, gone: Gone) {
        self.objects = gone.objects;
        self.bytes = gone.bytes;
        self.left_alone = gone.left_alone;
        // An index that was written again is still there, and its release with it.
        let is_left = |name: &String| self.left_alone.keys().any(|key| is_index(key, name));
        self.deleted.retain(|name| !is_left(name));
    }
}

fn is_index(key: &Key, name: &str) -> bool {
    let below = key.as_str().strip_prefix(index::FOLDER);
    below.and_then(|file| file.strip_suffix(".json")) == Some(name)
}

fn waiting(decision: &Decision, mode: Mode, before: &Mark) -> BTreeMap<String, Waiting> {
    let grace = SignedDuration::try_from(mode.grace).unwrap_or(SignedDuration::MAX);
    let until = |since: Timestamp| since.checked_add(grace).unwrap_or(Timestamp::MAX);
    let marked = decision.mark.releases.iter();
    marked
        .filter(|(name, _)| !decision.due.contains(*name) && !decision.kept.contains_key(*name))
        .map(|(name, marked)| {
            let waiting = Waiting {
                new: before.releases.get(name) != Some(marked),
                since: marked.since,
                until: until(marked.since),
                why: marked.why.clone(),
            };
            (name.clone(), waiting)
        })
        .collect()
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (release, why) in &self.kept {
            let again = if self.unmarked.contains(release) {
                ", not marked any more"
            } else {
                ""
            };
            writeln!(f, "kept      {release}: {why}{again}")?;
        }
        let gone = if self.dry_run { "to go" } else { "gone" };
        for (release, waiting) in &self.waiting {
            let day = waiting.until.strftime("%Y-%m-%d %H:%M UTC");
            let why = &waiting.why;
            let marked = match waiting.new && self.dry_run {
                true => "to mark",
                false => "marked",
            };
            writeln!(f, "{marked:9} {release}: {why}; it goes after {day}")?;
        }
        for release in &self.deleted {
            writeln!(f, "{gone:9} {release}")?;
        }
        for (key, why) in &self.left_alone {
            writeln!(f, "left      {key}: {why}")?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        self.totals(f)
    }
}

impl Pruned {
    fn totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Mirror       {}", self.place)?;
        writeln!(f, "Kept         {} releases", self.kept.len())?;
        let waiting = indicatif::BinaryBytes(self.waiting_bytes);
        writeln!(f, "Marked       {} releases, {waiting}", self.waiting.len())?;
        let what = if self.dry_run {
            "Would go  "
        } else {
            "Gone      "
        };
        writeln!(
            f,
            "{what}   {} releases, {} objects, {}",
            self.deleted.len(),
            self.objects,
            indicatif::BinaryBytes(self.bytes)
        )?;
        if self.dry_run && !(self.waiting.is_empty() && self.deleted.is_empty()) {
            writeln!(f, "Nothing was changed.")?;
        }
        Ok(())
    }
}
