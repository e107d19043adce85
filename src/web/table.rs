//! The status for a terminal: what is complete, what is under way, what failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{BinaryBytes, FormattedDuration, HumanCount};
use jiff::{SignedDuration, Timestamp};

use super::states;
use crate::board::{Progress, ReleaseState, SetStatus, Status, WaitingRun};
use crate::record::{End, Repeated, Run};

/// More lines of failures than this hide the rest of the table.
const FAILURES_SHOWN: usize = 10;

/// In some lines for each set. Times are told from `now`.
pub fn table(status: &Status, now: Timestamp) -> String {
    let up = ago(now, status.started);
    let state = match (status.draining, status.ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let mut text = format!("kops-mirror {}, {state}, started {up}\n", status.version);
    if status.sets.is_empty() {
        text.push_str("no sets\n");
    }
    for set in &status.sets {
        text.push('\n');
        lines_of_set(set, now, &mut text).expect("a string takes all that is written");
    }
    text
}

fn lines_of_set(set: &SetStatus, now: Timestamp, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}  ({})", set.name, set.schedule)?;
    for place in &set.targets {
        writeln!(out, "  target    {place}: {}", told_states(set, place))?;
    }
    if let Some(progress) = &set.progress {
        lines_of_progress(progress, now, out)?;
    }
    for waiting in &set.waiting {
        let WaitingRun {
            run,
            purpose,
            since,
        } = waiting;
        writeln!(
            out,
            "  waiting   {purpose} {run}, since {}",
            ago(now, *since)
        )?;
    }
    let next = set
        .next_run
        .map_or("not planned".to_owned(), |time| ahead(now, time));
    writeln!(out, "  next run  {next}")?;
    let success = set
        .last_success
        .map_or("never".to_owned(), |time| ago(now, time));
    writeln!(out, "  success   {success}")?;
    for note in &set.notes {
        writeln!(out, "  note      {note}")?;
    }
    match &set.last_run {
        Some(run) => lines_of_last_run(run, now, out),
        None => Ok(()),
    }
}

/// `12 complete, 1 failed`
fn told_states(set: &SetStatus, place: &str) -> String {
    let mut counts: BTreeMap<ReleaseState, u64> = BTreeMap::new();
    let targets = set.releases.iter().flat_map(|release| &release.targets);
    for at in targets.filter(|at| at.place == place) {
        *counts.entry(at.state).or_default() += 1;
    }
    if counts.is_empty() {
        return "no releases".to_owned();
    }
    let told: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {}", states::name(*state)))
        .collect();
    told.join(", ")
}

fn lines_of_progress(run: &Progress, now: Timestamp, out: &mut String) -> std::fmt::Result {
    let began = ago(now, run.began);
    writeln!(
        out,
        "  running   {} {} ({}), began {began}",
        run.purpose, run.run, run.phase
    )?;
    let of_all = run.bytes_total.map_or(String::new(), |total| {
        format!(
            " of {} ({} %)",
            BinaryBytes(total),
            percent(run.bytes_done, total)
        )
    });
    writeln!(
        out,
        "            {} of {} files, {}{of_all}, {}/s{}",
        HumanCount(run.files_done),
        HumanCount(run.files_total),
        BinaryBytes(run.bytes_done),
        BinaryBytes(whole(run.bytes_per_second)),
        left(run).map_or(String::new(), |left| format!(", {left} left")),
    )
}

fn percent(done: u64, total: u64) -> u64 {
    match total {
        0 => 100,
        _ => u64::try_from(u128::from(done) * 100 / u128::from(total))
            .map_or(100, |all| all.min(100)),
    }
}

/// Speeds are never negative, and smaller than 2^53.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of floats stops at the ends"
)]
fn whole(speed: f64) -> u64 {
    speed as u64
}

fn left(run: &Progress) -> Option<FormattedDuration> {
    let left = run.bytes_total?.saturating_sub(run.bytes_done);
    let seconds = left.checked_div(whole(run.bytes_per_second))?;
    Some(FormattedDuration(Duration::from_secs(seconds)))
}

fn lines_of_last_run(run: &Run, now: Timestamp, out: &mut String) -> std::fmt::Result {
    let ended = ago(now, run.ended);
    writeln!(
        out,
        "  last run  {} {} {}, {ended}",
        run.purpose, run.id, run.end
    )?;
    if let Some(Repeated { times, since }) = run.repeated {
        let since = ago(now, since);
        writeln!(out, "            {times} times like this, since {since}")?;
    }
    if let Some(why) = &run.why {
        writeln!(out, "            {why}")?;
    }
    if run.end == End::Done {
        return Ok(());
    }
    for failure in run.failures.iter().take(FAILURES_SHOWN) {
        writeln!(
            out,
            "  failed    {} ({}): {}",
            failure.key, failure.class, failure.why
        )?;
    }
    let shown = run.failures.len().min(FAILURES_SHOWN) as u64;
    match run.failed.saturating_sub(shown) {
        0 => {}
        more => writeln!(out, "            and {more} more")?,
    }
    match run.withheld {
        0 => Ok(()),
        pointers => writeln!(
            out,
            "  withheld  {pointers} pointers, until what they lead to is complete"
        ),
    }
}

fn ago(now: Timestamp, time: Timestamp) -> String {
    format!("{} ago", length(now.duration_since(time)))
}

fn ahead(now: Timestamp, time: Timestamp) -> String {
    let left = time.duration_since(now);
    if left.is_positive() {
        format!("in {}", length(left))
    } else {
        "now".to_owned()
    }
}

/// `3d 4h`, `5h 12m`, `7m`, `42s`: the two largest units that there are. Clocks differ, so what is negative is nothing.
fn length(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{AtTarget, Board, ReleaseStatus};
    use crate::record::{Failure, FailureClass, Purpose};

    const NOW: &str = "2026-11-24T21:00:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn release(name: &str, state: ReleaseState) -> ReleaseStatus {
        ReleaseStatus {
            name: name.to_owned(),
            kops: None,
            kubernetes: None,
            targets: vec![AtTarget {
                place: "s3://a/b".to_owned(),
                state,
                completed: None,
                files: 3,
                missing: 1,
                bytes: 5,
            }],
        }
    }

    fn progress() -> Progress {
        Progress {
            run: "20261124T205500Z-2".to_owned(),
            purpose: Purpose::Sync,
            began: time("2026-11-24T20:55:00Z"),
            phase: "fetching".to_owned(),
            files_done: 12,
            files_total: 1200,
            bytes_done: 3 << 30,
            bytes_total: Some(4 << 30),
            bytes_per_second: f64::from(1 << 20),
            files: Vec::new(),
        }
    }

    fn failed_run() -> Run {
        let failure = Failure {
            key: "bin/kubelet".to_owned(),
            class: FailureClass::Corrupt,
            why: "other bytes came".to_owned(),
        };
        Run {
            id: "20261124T180000Z-1".to_owned(),
            set: "stable".to_owned(),
            purpose: Purpose::Sync,
            began: time("2026-11-24T18:00:00Z"),
            ended: time("2026-11-24T19:00:00Z"),
            end: End::SomeFailed,
            why: None,
            repeated: None,
            transferred: 1,
            skipped: 0,
            repaired: 0,
            failed: 12,
            withheld: 2,
            bytes_fetched: 0,
            bytes_refetched: 0,
            bytes_by_origin: BTreeMap::new(),
            marked: Vec::new(),
            failures: vec![failure; 11],
        }
    }

    fn status() -> Status {
        let board = Board::new("1.0", time("2026-11-21T17:00:00Z"));
        board.update(|status| {
            status.ready = true;
            status.sets.push(SetStatus {
                name: "stable".to_owned(),
                targets: vec!["s3://a/b".to_owned(), "s3://empty/".to_owned()],
                schedule: "every 1h".to_owned(),
                next_run: Some(time("2026-11-24T21:07:30Z")),
                last_run: Some(failed_run()),
                last_success: None,
                releases: vec![
                    release("x", ReleaseState::Complete),
                    release("y", ReleaseState::Complete),
                    release("z", ReleaseState::Failed),
                ],
                progress: Some(progress()),
                beside: None,
                queued: 1,
                waiting: vec![WaitingRun {
                    run: "20261124T205900Z-4".to_owned(),
                    purpose: Purpose::Scrub,
                    since: time("2026-11-24T20:59:00Z"),
                }],
                notes: vec!["upstream withdrew y".to_owned()],
            });
        });
        board.status()
    }

    #[test]
    fn it_tells_what_is_there_what_is_under_way_and_what_failed() {
        let table = table(&status(), time(NOW));
        for line in [
            "kops-mirror 1.0, ready, started 3d 4h ago",
            "stable  (every 1h)",
            "  target    s3://a/b: 2 complete, 1 failed",
            "  target    s3://empty/: no releases",
            "  running   sync 20261124T205500Z-2 (fetching), began 5m ago",
            "            12 of 1,200 files, 3.00 GiB of 4.00 GiB (75 %), 1.00 MiB/s, 00:17:04 left",
            "  waiting   scrub 20261124T205900Z-4, since 1m ago",
            "  next run  in 7m",
            "  success   never",
            "  note      upstream withdrew y",
            "  last run  sync 20261124T180000Z-1 some-failed, 2h 0m ago",
            "  failed    bin/kubelet (corrupt): other bytes came",
            "            and 2 more",
            "  withheld  2 pointers, until what they lead to is complete",
        ] {
            assert!(
                table.lines().any(|is| is == line),
                "no '{line}' in\n{table}"
            );
        }
        assert_eq!(table.matches("  failed  ").count(), FAILURES_SHOWN);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut status = status();
        let set = &mut status.sets[0];
        let progress = set.progress.as_mut().unwrap();
        (progress.bytes_total, progress.bytes_per_second) = (None, 0.0);
        set.next_run = Some(time("2026-11-24T20:59:59Z"));
        set.last_run.as_mut().unwrap().end = End::Done;
        let table = table(&status, time(NOW));
        assert!(
            table.contains("12 of 1,200 files, 3.00 GiB, 0 B/s\n"),
            "{table}"
        );
        assert!(table.contains("  next run  now\n"), "{table}");
        assert!(!table.contains("  failed  "), "{table}");
    }

    #[test]
    fn what_only_repeats_itself_takes_one_line() {
        let mut status = status();
        let run = status.sets[0].last_run.as_mut().unwrap();
        run.end = End::HeldByOther;
        run.repeated = Some(Repeated {
            times: 12,
            since: time("2026-11-24T09:00:00Z"),
        });
        let table = table(&status, time(NOW));
        let line = "            12 times like this, since 12h 0m ago\n";
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn a_service_without_sets_says_so() {
        let board = Board::new("1.0", time(NOW));
        let table = table(&board.status(), time("2026-11-24T21:00:42Z"));
        assert_eq!(
            table,
            "kops-mirror 1.0, not ready, started 42s ago\nno sets\n"
        );
    }
}
