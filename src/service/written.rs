//! What is written down of a run: for the history, for the board, for people.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::runner::Ran;
use crate::board::{Counters, SetStatus};
use crate::notify::Occasion;
use crate::record::{End, Failure, FailureClass, Purpose, Run};
use crate::report::{Kind, Outcome, Report};

/// Moves a job's runs away from those of other jobs; the same as long as this program lives.
pub(super) fn salt(set: &str, purpose: Purpose) -> u64 {
    let mut hasher = DefaultHasher::new();
    (set, purpose).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn is_success(run: &Run) -> bool {
    run.end == End::Done
}

/// A run as it is remembered.
pub(super) fn run(
    id: &str,
    set: &str,
    purpose: Purpose,
    (began, ended): (Timestamp, Timestamp),
    ran: &Ran,
) -> Run {
    let empty = Report::default();
    let report = ran.report.as_ref().unwrap_or(&empty);
    let count = |kind| report.of(kind).count() as u64;
    let links = report.links.iter();
    Run {
        id: id.to_owned(),
        set: set.to_owned(),
        purpose,
        began,
        ended,
        end: ran.end,
        why: ran.why.clone(),
        repeated: None,
        transferred: count(Kind::Transferred),
        skipped: count(Kind::Skipped),
        repaired: count(Kind::Repaired),
        failed: count(Kind::Failed),
        withheld: count(Kind::Withheld),
        bytes_fetched: report.bytes_fetched,
        bytes_refetched: report.bytes_refetched,
        bytes_by_origin: links
            .map(|(host, link)| (host.clone(), link.bytes))
            .collect(),
        marked: report.marked.clone(),
        failures: report
            .of(Kind::Failed)
            .take(Run::FAILURES_MAX)
            .map(failure)
            .collect(),
    }
}

fn failure(outcome: &Outcome) -> Failure {
    Failure {
        key: outcome.key.to_string(),
        class: outcome.class.unwrap_or(FailureClass::Origin),
        why: outcome.why.clone().unwrap_or_default(),
    }
}

/// What people are told of it.
pub(super) fn occasions(run: &Run, ran: &Ran) -> Vec<Occasion> {
    let mut occasions = ran.occasions.clone();
    occasions.extend(Occasion::of_run(run));
    occasions
}

/// Adds it to what was counted.
pub(super) fn count(counters: &mut Counters, run: &Run, ran: &Ran) {
    for (origin, bytes) in &run.bytes_by_origin {
        *counters.bytes_by_origin.entry(origin.clone()).or_default() += bytes;
    }
    let ends = counters.runs.iter_mut().find(|(set, purpose, end, _)| {
        *set == run.set && *purpose == run.purpose && *end == run.end
    });
    match ends {
        Some((.., times)) => *times += 1,
        None => counters
            .runs
            .push((run.set.clone(), run.purpose, run.end, 1)),
    }
    for (class, failed) in failures_by_class(ran) {
        let of_class = counters
            .failures
            .iter_mut()
            .find(|(set, known, _)| *set == run.set && *known == class);
        match of_class {
            Some((.., times)) => *times += failed,
            None => counters.failures.push((run.set.clone(), class, failed)),
        }
    }
    *counters.withheld.entry(run.set.clone()).or_default() += run.withheld;
    counters.scrubbed += ran.scrubbed;
    counters.damaged += ran.damaged;
}

fn failures_by_class(ran: &Ran) -> BTreeMap<FailureClass, u64> {
    let mut classes = BTreeMap::new();
    let failed = ran.report.iter().flat_map(|report| report.of(Kind::Failed));
    for outcome in failed {
        let class = outcome.class.unwrap_or(FailureClass::Origin);
        *classes.entry(class).or_default() += 1;
    }
    classes
}

/// Puts it on the board.
pub(super) fn show(set: &mut SetStatus, run: Run, ran: Ran) {
    set.waits_no_more(&run.id);
    set.end_progress(&run.id);
    if let Some(releases) = ran.releases {
        set.releases = releases;
    }
    if run.purpose == Purpose::Sync {
        set.notes = ran.notes;
        if is_success(&run) {
            set.last_success = Some(run.ended);
        }
        set.last_run = Some(run);
    }
}
