//! The clock, who else is at work, and what is left of another cluster: P20.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Finding;
use super::facts::Facts;
use super::findings::Findings;
use crate::cloud::Tagged;
use crate::cluster::ClusterFile;

/// AWS refuses signatures that are off by more than five minutes (S3 by 15); a minute is on its way there.
const SKEW_REFUSED: SignedDuration = SignedDuration::from_mins(5);
const SKEW_WARNED: SignedDuration = SignedDuration::from_mins(1);

/// P20: the clock is right, nobody else is at work, nothing is left of another cluster.
pub(super) fn leftovers(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(20);
    if let Some(skew) = found.known(&facts.clock).copied() {
        judge_clock(&mut found, skew);
    }
    if let Some(Some(holder)) = found.known(&facts.holder) {
        found.error(
            format!("{} is being worked on by {holder}", file.name),
            "wait until that is done",
        );
    }
    let kept = found.known(&facts.kept).cloned();
    if let Some(Some(kept)) = &kept
        && !kept.is_ours
    {
        found.error(
            format!(
                "kops has a cluster {} already, and no journal says that it was made from here",
                file.name
            ),
            "take another name; acknowledge P20 to take that cluster over",
        );
    }
    if let (Some(tagged), Some(None)) = (found.known(&facts.tagged), &kept)
        && !tagged.is_empty()
    {
        found.error(
            format!(
                "kops has no cluster {}, and these bear its name: {}",
                file.name,
                listed(tagged)
            ),
            "remove them, or take another name: kops would take them for its own",
        );
    }
    found.or_fine("the clock is right, nobody else is at work, nothing is left of another cluster")
}

fn judge_clock(found: &mut Findings, skew: SignedDuration) {
    let size = skew.abs();
    let way = if skew.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let what = format!("the clock here is {} s {way} AWS's", size.as_secs());
    if size >= SKEW_REFUSED {
        found.error(
            what,
            "set it: AWS refuses signatures that are off by five minutes",
        );
    } else if size >= SKEW_WARNED {
        found.warning(what, "set it, and have it kept right by NTP");
    }
}

/// What there is of each kind, a few by name.
fn listed(tagged: &[Tagged]) -> String {
    const TOLD: usize = 3;
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in tagged {
        kinds
            .entry(&one.resource_type)
            .or_default()
            .push(&one.resource_id);
    }
    let told = kinds.into_iter().map(|(kind, ids)| match ids.len() {
        ..=TOLD => format!("{kind} {}", ids.join(", ")),
        count => format!(
            "{kind} {} and {} more",
            ids[..TOLD].join(", "),
            count - TOLD
        ),
    });
    told.collect::<Vec<_>>().join("; ")
}
