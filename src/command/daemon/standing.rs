//! How the releases that a set follows stand at its targets, by one listing each.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::asset::{Key, Role};
use crate::board::{AtTarget, ReleaseState, ReleaseStatus};
use crate::events;
use crate::report::{Kind, Report};
use crate::store::{Store, StoreError};
use crate::sync::{self, Seen, Wanted};

/// What is known of releases besides what the targets show.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Files that failed in the last run.
    pub(super) failed: BTreeSet<Key>,
    /// Releases that upstream has with other bytes now.
    pub(super) changed: BTreeSet<String>,
    /// Releases that upstream has taken back.
    pub(super) withdrawn: BTreeSet<String>,
}

impl Told {
    pub(super) fn failed_in(report: &Report) -> BTreeSet<Key> {
        let failed = report.of(Kind::Failed);
        failed.map(|outcome| outcome.key.clone()).collect()
    }
}

/// Looks again at the targets that are here, of those at all `places`; newest releases first. What does not answer is not known:
/// that is for people, and a run that did its work does not fail for it.
pub(super) async fn standing(
    places: &[String],
    here: &[Arc<dyn Store>],
    wanted: &[Wanted],
    told: &Told,
) -> Vec<ReleaseStatus> {
    let mut seen: Vec<(&str, Option<Seen>)> = Vec::new();
    for place in places {
        let target = here.iter().find(|target| target.place() == place);
        seen.push((place, look(target, wanted).await));
    }
    let newest_first = wanted.iter().rev();
    newest_first
        .map(|wanted| ReleaseStatus {
            name: wanted.release.name.clone(),
            kops: wanted.release.kops.clone(),
            kubernetes: wanted.release.kubernetes.clone(),
            targets: seen
                .iter()
                .map(|(place, seen)| match seen {
                    Some(seen) => at_target(place, seen, wanted, told),
                    None => unknown(place, wanted),
                })
                .collect(),
        })
        .collect()
}

async fn look(target: Option<&Arc<dyn Store>>, wanted: &[Wanted]) -> Option<Seen> {
    let target = target?;
    let unknown = |error: &StoreError| {
        let place = target.place();
        tracing::warn!(
            "how the releases stand at {place} is not known: {}",
            events::told(error)
        );
    };
    let looked = sync::look(target.as_ref(), wanted).await;
    looked.inspect_err(unknown).ok()
}

fn files(wanted: &Wanted) -> impl Iterator<Item = &Key> {
    let files = wanted.assets.iter();
    files
        .filter(|asset| asset.role == Role::File)
        .map(|asset| &asset.key)
}

fn unknown(place: &str, wanted: &Wanted) -> AtTarget {
    AtTarget {
        place: place.to_owned(),
        state: ReleaseState::Unknown,
        completed: None,
        files: files(wanted).count() as u64,
        missing: 0,
        bytes: 0,
    }
}

fn at_target(place: &str, seen: &Seen, wanted: &Wanted, told: &Told) -> AtTarget {
    let there: BTreeSet<&Key> = seen.objects.iter().map(|object| &object.key).collect();
    let keys: Vec<&Key> = files(wanted).collect();
    let missing = keys.iter().filter(|key| !there.contains(*key)).count();
    let index = seen.index(&wanted.release);
    let completed: Option<Timestamp> = index.and_then(|index| index.completed_at.parse().ok());
    let of_index = index.iter().flat_map(|index| &index.files);
    let wanted_keys: BTreeSet<&Key> = keys.iter().copied().collect();
    let indexed = of_index.filter(|entry| wanted_keys.contains(&entry.key));
    let (indexed, bytes) = indexed.fold((0, 0), |(count, bytes), entry| {
        (count + 1, bytes + entry.length)
    });
    let name = &wanted.release.name;
    let is_complete = missing == 0 && indexed == keys.len();
    let state = if told.changed.contains(name) {
        ReleaseState::Changed
    } else if told.withdrawn.contains(name) {
        ReleaseState::Withdrawn
    } else if is_complete {
        ReleaseState::Complete
    } else if keys.iter().any(|key| told.failed.contains(*key)) {
        ReleaseState::Failed
    } else if missing < keys.len() {
        ReleaseState::Incomplete
    } else {
        ReleaseState::Missing
    };
    AtTarget {
        place: place.to_owned(),
        state,
        completed: completed.filter(|_| is_complete),
        files: keys.len() as u64,
        missing: missing as u64,
        bytes,
    }
}
