//! What became of each asset, as the report has it.

use std::sync::Arc;

use super::{Left, LeftTo};
use crate::asset::Key;
use crate::record::FailureClass;
use crate::report::{Kind, Outcome as Line, Thing};
use crate::store::Store;
use crate::transfer::{Ended, Mirror, Outcome};

/// A line of something that failed.
pub(crate) fn failed_line(key: Key, class: FailureClass, why: String) -> Line {
    Line {
        key,
        of: Thing::File,
        kind: Kind::Failed,
        class: Some(class),
        bytes: None,
        why: Some(why),
        sources: Vec::new(),
        vouched_by: Vec::new(),
    }
}

/// Why an asset failed at each target. What fails for all of them is told once: the targets have no part in it.
fn failures(mirror: &Mirror, places: &[Ended]) -> Vec<String> {
    if let Some(Ended::Failed { why, .. }) = places.first()
        && places.iter().all(|place| *place == places[0])
    {
        return vec![why.clone()];
    }
    let at_target = |(target, ended): (&Arc<dyn Store>, &Ended)| match ended {
        Ended::Failed { why, .. } => Some(format!("{}: {why}", target.place())),
        _ => None,
    };
    mirror
        .targets
        .iter()
        .zip(places)
        .filter_map(at_target)
        .collect()
}

/// An outcome as the report has it.
pub(super) fn line(mirror: &Mirror, outcome: Outcome) -> Line {
    let failed = failures(mirror, &outcome.places);
    let any = |wanted: &Ended| outcome.places.contains(wanted);
    let kind = if !failed.is_empty() {
        Kind::Failed
    } else if any(&Ended::Cancelled) {
        Kind::Cancelled
    } else if any(&Ended::Stored) {
        if outcome.received_bytes > 0 || outcome.item.wanted.content.is_some() {
            Kind::Transferred
        } else {
            Kind::Repaired
        }
    } else {
        Kind::Skipped
    };
    let class = outcome.places.iter().find_map(|ended| match ended {
        Ended::Failed { class, .. } => Some(*class),
        _ => None,
    });
    Line {
        of: Thing::File,
        kind,
        class,
        bytes: outcome
            .entry
            .as_ref()
            .map(|entry| entry.length)
            .or(outcome.item.length),
        why: (!failed.is_empty()).then(|| failed.join("; ")),
        sources: outcome
            .entry
            .as_ref()
            .map(|entry| entry.sources.clone())
            .unwrap_or_default(),
        vouched_by: outcome.item.wanted.vouched_by,
        key: outcome.item.wanted.asset.key,
    }
}

/// Something that was left alone: not a failure where another shard brings it.
pub(super) fn left(left: Left) -> Line {
    let line = failed_line(left.key, FailureClass::Corrupt, left.why);
    match left.by {
        LeftTo::Operator => line,
        LeftTo::Witness => Line {
            class: Some(FailureClass::Unvouched),
            ..line
        },
        LeftTo::OtherShard => Line {
            kind: Kind::Skipped,
            class: None,
            ..line
        },
    }
}
