//! Marks releases as ready, by writing their indexes, and says which pointers may move.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Left, Seen};
use crate::asset::{Asset, Key, Role};
use crate::events::Event;
use crate::index::{Entry, Index, Release};
use crate::plan::Item;
use crate::publish;
use crate::report::{Kind, Outcome as Line, Thing};
use crate::store::{Attributes, Condition, ETag, StoreError};
use crate::transfer::{self, Ended, Mirror, Outcome};

/// Marks releases as ready, by writing their indexes.
pub(super) struct Marker<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) seen: &'a [Seen],
    pub(super) refused: &'a [(Asset, String)],
    /// What this run leaves alone, so that what it belongs to is not complete.
    pub(super) left: &'a [Left],
    /// Releases that lack something that is no file, and why.
    pub(super) lacking: &'a BTreeMap<String, String>,
    /// Releases that other shards are still to bring something of that is no file.
    pub(super) awaiting: &'a BTreeSet<String>,
}

/// What becomes of the pointers.
pub(super) struct Pointers {
    pub(super) now: Vec<Item>,
    pub(super) withheld: Vec<Line>,
}

impl Marker<'_> {
    /// The entries of a release's index at one target, if everything that it wants is in place there.
    pub(super) fn entries(
        &self,
        at: usize,
        (release, keys): (&Release, &BTreeSet<Key>),
        outcomes: &[Outcome],
        pointers: &[Item],
    ) -> Option<(Vec<Entry>, Vec<Entry>)> {
        if self
            .refused
            .iter()
            .any(|(asset, _)| keys.contains(&asset.key) && asset.role == Role::File)
        {
            return None;
        }
        let is_left = self.left.iter().any(|left| keys.contains(&left.key));
        let name = &release.name;
        if is_left || self.lacking.contains_key(name) || self.awaiting.contains(name) {
            return None;
        }
        let of_release = outcomes
            .iter()
            .filter(|outcome| keys.contains(&outcome.item.wanted.asset.key));
        let files = of_release.map(|outcome| {
            matches!(outcome.places[at], Ended::Held | Ended::Stored)
                .then(|| outcome.entry.clone())
                .flatten()
        });
        let files: Vec<Entry> = files.collect::<Option<_>>()?;
        let pointers = pointers
            .iter()
            .filter(|item| keys.contains(&item.wanted.asset.key));
        Some((
            files,
            pointers.filter_map(transfer::entry_of_content).collect(),
        ))
    }

    /// Writes a release's index, unless it is there already.
    pub(super) async fn mark(
        &self,
        at: usize,
        release: &Release,
        mut files: Vec<Entry>,
        mut pointers: Vec<Entry>,
    ) -> Result<(), StoreError> {
        let (target, seen) = (self.mirror.targets[at].as_ref(), &self.seen[at]);
        let before = seen.index(release);
        let mut release = release.clone();
        if let Some(before) = before {
            // An earlier run may have mirrored other architectures or options of the same release.
            let wanted: BTreeSet<&Key> = files.iter().map(|entry| &entry.key).collect();
            let kept: Vec<Entry> = before
                .files
                .iter()
                .filter(|e| !wanted.contains(&e.key) && is_in_place(seen, e))
                .cloned()
                .collect();
            files.extend(kept);
            let moved: BTreeSet<&Key> = pointers.iter().map(|entry| &entry.key).collect();
            let still: Vec<Entry> = before
                .pointers
                .iter()
                .filter(|e| !moved.contains(&e.key))
                .cloned()
                .collect();
            pointers.extend(still);
            release.unite(&before.release);
        }
        let index = Index::of(release, files, pointers, before);
        let (key, document) = (index.release.key(), index.document());
        if seen
            .object(&key)
            .is_some_and(|object| object.etag == ETag::from(document.digests().md5))
        {
            return Ok(());
        }
        let attributes = Attributes {
            content_type: "application/json".to_owned(),
            ..Attributes::default()
        };
        let (policy, observer) = (self.mirror.policy, self.mirror.observer.as_ref());
        publish::object(
            target,
            &key,
            &document,
            &attributes,
            Condition::Any,
            policy,
            observer,
        )
        .await?;
        observer.event(&Event::Marked {
            release: index.release.name.clone(),
        });
        Ok(())
    }

    /// A pointer moves once every release of this run is complete at every target, and only to a release that is there.
    pub(super) fn pointers(
        &self,
        items: Vec<Item>,
        releases: &[(Release, BTreeSet<Key>)],
        complete: &[HashMap<&str, bool>],
    ) -> Pointers {
        let mut pointers = Pointers {
            now: Vec::new(),
            withheld: Vec::new(),
        };
        for item in items {
            let key = item.wanted.asset.key.clone();
            let of = releases.iter().filter(|(_, keys)| keys.contains(&key));
            let ready = of.clone().all(|(release, _)| {
                complete
                    .iter()
                    .all(|c| c.contains_key(release.name.as_str()))
            });
            if !ready {
                let why = "it is withheld until the release is complete at every target".to_owned();
                let is_awaited =
                    |(release, _): &(Release, _)| self.awaiting.contains(&release.name);
                let is_left = of.clone().any(is_awaited) || self.is_left(of.map(|(_, keys)| keys));
                let kind = match is_left {
                    true => Kind::Skipped,
                    false => Kind::Withheld,
                };
                pointers.withheld.push(stays(key, kind, why));
            } else if let Some(version) = self.absent_version(&item, releases) {
                let why =
                    format!("it is withheld: it names {version}, which this mirror does not hold");
                self.mirror.observer.event(&Event::Warned {
                    what: format!("{key}: {why}"),
                });
                pointers.withheld.push(stays(key, Kind::Skipped, why));
            } else {
                pointers.now.push(item);
            }
        }
        pointers
    }

    /// Whether it is this run's own doing that one of these releases is not complete.
    fn is_left<'k>(&self, mut releases: impl Iterator<Item = &'k BTreeSet<Key>>) -> bool {
        releases.any(|keys| self.left.iter().any(|left| keys.contains(&left.key)))
    }

    /// The Kubernetes version that a pointer names, if no complete release here has it.
    fn absent_version(&self, item: &Item, releases: &[(Release, BTreeSet<Key>)]) -> Option<String> {
        let version = item.wanted.names_version.clone()?;
        let has =
            |release: &Release| release.kubernetes.as_deref().map(bare) == Some(bare(&version));
        let now = releases.iter().any(|(release, _)| has(release));
        let before = self
            .seen
            .iter()
            .all(|seen| seen.indexes.iter().any(|index| has(&index.release)));
        (!now && !before).then_some(version)
    }
}

/// A line of a pointer that does not move: nothing of it failed.
fn stays(key: Key, kind: Kind, why: String) -> Line {
    Line {
        key,
        of: Thing::File,
        kind,
        class: None,
        bytes: None,
        why: Some(why),
        sources: Vec::new(),
        vouched_by: Vec::new(),
    }
}

/// A version without its `v`.
fn bare(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

fn is_in_place(seen: &Seen, entry: &Entry) -> bool {
    seen.object(&entry.key)
        .is_some_and(|object| object.etag == ETag::from(entry.md5) && object.length == entry.length)
}
