//! A week of a service in seconds: its time is simulated, its runs are real ones, from an origin over HTTP into two folders, and what
//! is to be told goes to a webhook.

mod away;
mod pace;
mod world;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::pace::{Paced, Telling};
use self::world::World;
use super::process::Process;
use super::{HISTORY, VERSION, sets};
use crate::board::{Board, ReleaseState, SetStatus};
use crate::history::History;
use crate::loopback::origin::Fault;
use crate::notify::{Notifier, Occasion, Patience};
use crate::record::{End, FailureClass, Purpose, Run};
use crate::service::{Clock, Closing, Service, Set};

const BEGIN: &str = "2026-11-01T00:00:00Z";
const HOURS: u64 = 7 * 24;

/// What was seen of the week.
struct Seen {
    /// Oldest first.
    runs: Vec<Run>,
    /// With the hour.
    told: Vec<(u64, Occasion)>,
    /// In the middle of each trouble, and at the end.
    incomplete: SetStatus,
    away: SetStatus,
    refusing: SetStatus,
    apart: SetStatus,
    /// What `stable.txt` names at each target while one of them is not there, as it was left.
    stable_apart: [String; 2],
    end: SetStatus,
    /// Whether the first release was still there a day after it was not followed any more.
    is_kept_for_grace: bool,
}

#[test]
fn a_week_of_troubles_ends_complete_with_each_of_them_told() {
    let world = World::new();
    let seen = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(week(&world));
    check_runs(&seen.runs);
    check_told(&seen.told);
    check_messages(&world);
    check_board(&seen);
    for version in ["1.34.8", "1.34.9", "1.34.10", "1.34.11"] {
        let crossings = world.crossings(version);
        assert!(crossings.len() >= 10, "{crossings:?}");
        for (file, times) in crossings {
            assert!((times - 1.0).abs() < f64::EPSILON, "{file}: {times} times");
        }
    }
    // Two days later it is gone, and what was followed after it has its grace.
    assert!(seen.is_kept_for_grace);
    for target in ["north", "northwest"] {
        let versions = ["1.34.8", "1.34.9", "1.34.10", "1.34.11"];
        let has = versions.map(|version| world.has(target, version));
        assert_eq!(has, [false, true, true, true], "{target}");
        assert_eq!(world.stable(target), "v1.34.11", "{target}");
    }
}

/// A run an hour, and a prune a day.
fn check_runs(runs: &[Run]) {
    let (syncs, prunes): (Vec<&Run>, Vec<&Run>) =
        runs.iter().partition(|run| run.purpose == Purpose::Sync);
    let ends: Vec<(End, usize)> = syncs
        .chunk_by(|one, next| one.end == next.end)
        .map(|alike| (alike[0].end, alike.len()))
        .collect();
    let troubles = [
        (End::Done, 25),
        (End::SomeFailed, 12),
        (End::Done, 24),
        (End::SomeFailed, 6),
        (End::Done, 34),
        (End::SomeFailed, 6),
        (End::Done, 24),
        (End::SomeFailed, 4),
        (End::Done, 34),
    ];
    assert_eq!(ends, troubles);
    assert_eq!(prunes.len(), 7);
    assert!(prunes.iter().all(|run| run.end == End::Done), "{prunes:?}");
    let why = |hour: usize, key: &str, class: FailureClass| {
        let failures = &syncs[hour].failures;
        let found = failures
            .iter()
            .find(|failure| failure.key.ends_with(key) && failure.class == class);
        let found = found.unwrap_or_else(|| panic!("{failures:#?}"));
        found.why.as_str()
    };
    assert!(why(30, "v1.34.9/bin/linux/amd64/kubelet", FailureClass::Origin).contains("404"));
    let silent = why(
        65,
        "v1.34.9/bin/linux/amd64/kubelet",
        FailureClass::Unvouched,
    );
    assert!(silent.contains("it is left as it is"), "{silent}");
    let refused = why(103, "v1.34.10/bin/linux/amd64/kubelet", FailureClass::Store);
    assert!(refused.contains("/northwest"), "{refused}");
    let gone = syncs[133].why.as_deref().unwrap();
    assert!(gone.contains("/northwest is left out: "), "{gone}");
    assert_eq!(syncs[131].failures, []);
}

/// Each trouble for as long as it lasts, each release once; the same occasions as the runs tell, in their order.
fn check_told(told: &[(u64, Occasion)]) {
    let line = |(hour, occasion): &(u64, Occasion)| match occasion {
        Occasion::Mirrored {
            release, targets, ..
        } => {
            format!("{hour} {release} at {} targets", targets.len())
        }
        other => format!("{hour} {:?}", other.kind()),
    };
    let lines: Vec<String> = told.iter().map(line).collect();
    let failed = |hours: std::ops::Range<u64>| hours.map(|hour| format!("{hour} RunFailed"));
    let mirrored = |hour, version| {
        std::iter::once(format!(
            "{hour} kops-1.36.2_kubernetes-{version} at 2 targets"
        ))
    };
    let expected: Vec<String> = mirrored(0, "1.34.8")
        .chain(failed(25..37))
        .chain(mirrored(37, "1.34.9"))
        .chain(failed(61..67))
        .chain(failed(101..107))
        .chain(mirrored(107, "1.34.10"))
        .chain(failed(131..135))
        .chain(mirrored(135, "1.34.11"))
        .collect();
    assert_eq!(lines, expected);
}

/// People hear once what goes on for hours.
fn check_messages(world: &World) {
    let messages = world.messages();
    let heard: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["occasion"].as_str())
        .collect();
    let expected = [
        "mirrored",
        "run-failed",
        "mirrored",
        "run-failed",
        "run-failed",
        "mirrored",
        "run-failed",
        "mirrored",
    ];
    assert_eq!(heard, expected, "{messages:#?}");
}

fn check_board(seen: &Seen) {
    use ReleaseState::{Complete, Failed, Unknown};
    for (status, version, states) in [
        (&seen.incomplete, "1.34.9", [Failed, Failed]),
        (&seen.away, "1.34.9", [Complete, Complete]),
        (&seen.refusing, "1.34.10", [Complete, Failed]),
        (&seen.apart, "1.34.11", [Complete, Unknown]),
        (&seen.end, "1.34.11", [Complete, Complete]),
    ] {
        let [release] = &status.releases[..] else {
            panic!("{status:#?}");
        };
        assert_eq!(release.kubernetes.as_deref(), Some(version));
        let shown: Vec<_> = release.targets.iter().map(|at| at.state).collect();
        assert_eq!(shown, states, "{status:#?}");
    }
    // A target that is not there holds up no pointer at the other.
    assert_eq!(seen.stable_apart, ["v1.34.11", "v1.34.10"]);
    // Ages are told by the service's own clock.
    let as_of = "stable is taken for Kubernetes 1.34.9, as it was at 2026-11-03T12:00:0";
    assert!(
        seen.away.notes.iter().any(|note| note.starts_with(as_of)),
        "{:#?}",
        seen.away.notes
    );
    let is_old = |note: &String| note.contains("as it was at");
    assert!(!seen.end.notes.iter().any(is_old), "{:#?}", seen.end.notes);
    let last: Timestamp = BEGIN.parse().unwrap();
    let last = last + Duration::from_hours(HOURS);
    assert!(seen.end.last_success.is_some_and(|success| success >= last));
}

/// Half past the hour: runs begin when it is full.
async fn half_past(clock: Clock, hour: u64) {
    let begin: Timestamp = BEGIN.parse().unwrap();
    let moment = begin + Duration::from_mins(hour * 60 + 30);
    clock.until(moment).await;
}

async fn week(world: &World) -> Seen {
    let begin: Timestamp = BEGIN.parse().unwrap();
    let clock = Clock::simulated(begin);
    let config = world.config();
    let state = config.state_folder().unwrap();
    let history = History::open(&state.join(HISTORY), 1000).await.unwrap();
    let process = Arc::new(Process::new(history.clone(), state, clock).await);
    let hooks = super::hooks::hooks(&config).unwrap();
    let hooks = hooks.into_iter().map(|(_, hook)| hook).collect();
    let now = Arc::new(move || clock.now());
    let notifier = Notifier::new(hooks, history.clone(), Patience::default(), now);
    let telling = Arc::new(Telling::new(notifier.await.unwrap(), clock));
    let board = Arc::new(Board::new(VERSION, begin));
    let service = Service::new(
        Arc::clone(&board),
        Arc::new(history.clone()),
        Arc::clone(&telling) as Arc<dyn crate::service::Teller>,
        clock,
    );
    let sets = sets::sets(&config, &process).unwrap();
    let (_sets, followed) = watch::channel(sets.into_iter().map(paced).collect());
    let (closing, ended) = (Closing::default(), CancellationToken::new());
    let serving = async {
        service.run(followed, &closing).await;
        ended.cancel();
    };
    let set = || board.status().sets[0].clone();
    let troubles = async {
        half_past(clock, 24).await;
        world.release("1.34.9");
        world.break_off("*/v1.34.9/*/kubelet", Fault::status(404));
        half_past(clock, 30).await;
        let incomplete = set();
        half_past(clock, 36).await;
        world.recover();
        half_past(clock, 60).await;
        world.break_off("*", Fault::HangUp);
        half_past(clock, 65).await;
        let away = set();
        let is_kept_for_grace = world.has("northwest", "1.34.8");
        half_past(clock, 66).await;
        world.recover();
        half_past(clock, 100).await;
        world.release("1.34.10");
        world.obstruct("northwest", "1.34.10");
        half_past(clock, 103).await;
        let refusing = set();
        half_past(clock, 106).await;
        world.clear("northwest", "1.34.10");
        half_past(clock, 130).await;
        world.take_away("northwest");
        world.release("1.34.11");
        half_past(clock, 134).await;
        let apart = (
            set(),
            ["north", "northwest-aside"].map(|target| world.stable(target)),
        );
        world.bring_back("northwest");
        half_past(clock, HOURS).await;
        closing.draining.cancel();
        (incomplete, away, is_kept_for_grace, refusing, apart)
    };
    let ((), (incomplete, away, is_kept_for_grace, refusing, (apart, stable_apart)), ()) =
        tokio::join!(serving, troubles, telling.run(&ended));
    let mut runs = history.runs(1000, None).await.unwrap();
    runs.reverse();
    Seen {
        runs,
        told: telling.told(begin),
        incomplete,
        away,
        is_kept_for_grace,
        refusing,
        apart,
        stable_apart,
        end: set(),
    }
}

fn paced(set: Set) -> Set {
    Set {
        runner: Arc::new(Paced(set.runner)),
        ..set
    }
}
