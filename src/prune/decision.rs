//! Decides what is marked and what is due, from what a target looks like. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use semver::Version;

use super::mark::{Mark, Marked};
use crate::asset::Key;
use crate::catalogue::version;
use crate::digest::Algorithm;
use crate::index::{self, Index};
use crate::retention::{Held, Keeping, Verdict};
use crate::store::Object;
use crate::sync::Seen;

/// What is to be done at a target.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Releases by name, and what keeps them.
    pub(super) kept: BTreeMap<String, String>,
    /// Those of them that were marked until now.
    pub(super) unmarked: BTreeSet<String>,
    /// What is marked from now on.
    pub(super) mark: Mark,
    /// Which of that is deleted now.
    pub(super) due: BTreeSet<String>,
    /// Why nothing is deleted although its time has come.
    pub(super) held_up: Vec<String>,
}

/// What goes with some releases.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    pub(super) objects: Vec<Object>,
    /// What their indexes name, and is another object.
    pub(super) left_alone: BTreeMap<Key, String>,
}

impl Doomed {
    pub(super) fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.length).sum()
    }
}

/// Compares what is there with what is kept and with what was marked `before`. `pointed` are the Kubernetes versions that pointers
/// name.
pub(super) fn decide(
    seen: &Seen,
    before: &Mark,
    keep: &Keeping,
    pointed: &BTreeMap<Version, Key>,
    now: Timestamp,
    grace: Duration,
) -> Decision {
    let (named, mut problems) = by_name(seen);
    let held: Vec<Held> = named.values().map(|(index, _)| held(index)).collect();
    let mut verdicts = keep.judge(&held, now);
    for held in &held {
        let pointer = held.kubernetes.as_ref().and_then(|v| pointed.get(v));
        if let (Some(pointer), Some(verdict)) = (pointer, verdicts.get_mut(&held.name))
            && *verdict == Verdict::NotKept
        {
            let why = format!("{pointer} names its version");
            *verdict = Verdict::Kept { why };
        }
    }
    let mut decision = Decision::default();
    for (name, (index, object)) in &named {
        let earlier = before.releases.get(name);
        match verdicts.remove(name) {
            Some(Verdict::Kept { why }) => decision.keep(name, why, earlier),
            _ => decision.mark(name, index, object, earlier, now),
        }
    }
    let broken_off = before
        .releases
        .iter()
        .filter(|(name, _)| !named.contains_key(*name));
    for (name, marked) in broken_off {
        decision.go_on_with(name, marked, keep);
    }
    decision.choose_due(now, grace);
    problems.extend(unknown_needs(&named, keep));
    decision.hold_up(problems);
    decision
}

impl Decision {
    fn keep(&mut self, name: &str, why: String, earlier: Option<&Marked>) {
        self.kept.insert(name.to_owned(), why);
        if earlier.is_some() {
            self.unmarked.insert(name.to_owned());
        }
    }

    /// A mark holds for one index: who has synced the release since then wants it for the whole time of grace.
    fn mark(
        &mut self,
        name: &str,
        index: &Index,
        object: &Object,
        earlier: Option<&Marked>,
        now: Timestamp,
    ) {
        let marked = match earlier.filter(|earlier| earlier.index() == *object) {
            Some(earlier) => earlier.clone(),
            None => Marked::new(index, object, now, "no rule keeps it"),
        };
        self.mark.releases.insert(name.to_owned(), marked);
    }

    /// What is left of a release without an index waits if the release is to come back: sync finds it in place.
    fn go_on_with(&mut self, name: &str, marked: &Marked, keep: &Keeping) {
        if keep.rules.is_empty() || keep.follows(name) {
            let why = "it is wanted again: what is left of it waits for the next sync".to_owned();
            self.kept.insert(name.to_owned(), why);
        }
        self.mark.releases.insert(name.to_owned(), marked.clone());
    }

    fn choose_due(&mut self, now: Timestamp, grace: Duration) {
        let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let is_due = |marked: &Marked| now.duration_since(marked.since) >= grace;
        self.due = self
            .mark
            .releases
            .iter()
            .filter(|(name, marked)| is_due(marked) && !self.kept.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
    }

    fn hold_up(&mut self, problems: Vec<String>) {
        if !problems.is_empty() && !self.due.is_empty() {
            self.due.clear();
            self.held_up = problems;
        }
    }

    /// The mark once what is due is gone.
    pub(super) fn mark_afterwards(&self) -> Mark {
        let mut mark = self.mark.clone();
        mark.releases.retain(|name, _| !self.due.contains(name));
        mark
    }

    /// The indexes of what is due, where they are still there.
    pub(super) fn due_indexes(&self, seen: &Seen) -> Vec<Object> {
        let indexes = self.due.iter().map(|name| self.mark.releases[name].index());
        indexes
            .filter(|index| seen.objects.contains(index))
            .collect()
    }

    /// What goes with these of the marked releases: what is there as their indexes tell, and is named by none of `indexes`, by no
    /// pointer, and by nothing that is followed.
    pub(super) fn doomed<'a>(
        &self,
        names: &BTreeSet<String>,
        seen: &Seen,
        indexes: impl IntoIterator<Item = &'a Index>,
        keep: &Keeping,
    ) -> Doomed {
        let mut spared = followed(keep);
        spared.extend(index::objects_of(indexes).into_keys());
        spared.extend(pointers(&seen.indexes));
        let there: BTreeMap<&Key, &Object> = seen
            .objects
            .iter()
            .map(|object| (&object.key, object))
            .collect();
        let mut doomed: BTreeMap<Key, Object> = BTreeMap::new();
        let mut others = BTreeMap::new();
        let marked = names.iter().filter_map(|name| self.mark.releases.get(name));
        for object in marked.flat_map(Marked::objects) {
            let Some(&found) = there.get(&object.key).filter(|o| !spared.contains(&o.key)) else {
                continue;
            };
            if *found == object {
                doomed.insert(object.key.clone(), object);
            } else {
                let why = format!(
                    "it is not what was stored: {} bytes with ETag {} where {} bytes with {} were",
                    found.length, found.etag, object.length, object.etag
                );
                others.insert(object.key, why);
            }
        }
        // Two releases may tell of one key, and the later one has written it.
        others.retain(|key, _| !doomed.contains_key(key));
        Doomed {
            objects: doomed.into_values().collect(),
            left_alone: others,
        }
    }
}

/// The keys of all pointers that indexes tell of.
pub(super) fn pointers(indexes: &[Index]) -> BTreeSet<Key> {
    let pointers = indexes.iter().flat_map(|index| &index.pointers);
    pointers.map(|pointer| pointer.key.clone()).collect()
}

/// The keys of what is followed, with every sidecar that could be beside it.
fn followed(keep: &Keeping) -> BTreeSet<Key> {
    let keys = keep.followed.values().flatten();
    keys.flat_map(|key| {
        let sidecars = Algorithm::ALL.map(|algorithm| key.sidecar(algorithm));
        sidecars.into_iter().chain([key.clone()])
    })
    .collect()
}

/// The indexes with their objects, and what stands in the way of deleting anything.
fn by_name(seen: &Seen) -> (BTreeMap<String, (&Index, &Object)>, Vec<String>) {
    let mut problems: Vec<String> = seen
        .unreadable
        .iter()
        .map(|(key, why)| format!("nobody knows what {key} names: {why}"))
        .collect();
    let mut named = BTreeMap::new();
    for index in &seen.indexes {
        let name = &index.release.name;
        let key = format!("{}{name}.json", index::FOLDER);
        let object = seen
            .objects
            .iter()
            .find(|object| object.key.as_str() == key);
        match object {
            Some(object) if !named.contains_key(name) => {
                named.insert(name.clone(), (index, object));
            }
            _ => problems.push(format!(
                "there is an index of '{}' under another name",
                name.escape_debug()
            )),
        }
    }
    (named, problems)
}

/// Followed releases that are not complete, and of which nobody says which files they share.
fn unknown_needs(named: &BTreeMap<String, (&Index, &Object)>, keep: &Keeping) -> Vec<String> {
    let unknown = keep
        .followed
        .iter()
        .filter(|(name, keys)| keys.is_empty() && !named.contains_key(*name));
    unknown
        .map(|(name, _)| {
            format!("{name} is not complete yet, and which files it shares is not known")
        })
        .collect()
}

fn held(index: &Index) -> Held {
    let release = &index.release;
    let kops = release.kops.as_deref();
    let kubernetes = release.kubernetes.as_deref();
    Held {
        name: release.name.clone(),
        kops: kops.and_then(|text| version::kops(text).ok()),
        kubernetes: kubernetes.and_then(|text| version::kubernetes(text).ok()),
        completed: index.completed_at.parse().ok(),
    }
}
