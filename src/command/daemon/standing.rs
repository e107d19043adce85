//! How the releases that a set follows stand at its targets, by one listing each.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::asset::{Key, Role};
use crate::board::{AtTarget, ReleaseState, ReleaseStatus};
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

/// Looks at the targets again; newest releases first.
pub(super) async fn standing(
    targets: &[Arc<dyn Store>],
    wanted: &[Wanted],
    told: &Told,
) -> Result<Vec<ReleaseStatus>, StoreError> {
    let mut seen: Vec<(&str, Seen)> = Vec::new();
    for target in targets {
        seen.push((target.place(), sync::look(target.as_ref(), wanted).await?));
    }
    let newest_first = wanted.iter().rev();
    Ok(newest_first
        .map(|wanted| ReleaseStatus {
            name: wanted.release.name.clone(),
            kops: wanted.release.kops.clone(),
            kubernetes: wanted.release.kubernetes.clone(),
            targets: seen
                .iter()
                .map(|(place, seen)| at_target(place, seen, wanted, told))
                .collect(),
        })
        .collect())
}

fn at_target(place: &str, seen: &Seen, wanted: &Wanted, told: &Told) -> AtTarget {
    let there: BTreeSet<&Key> = seen.objects.iter().map(|object| &object.key).collect();
    let files = wanted
        .assets
        .iter()
        .filter(|asset| asset.role == Role::File);
    let keys: Vec<&Key> = files.map(|asset| &asset.key).collect();
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
