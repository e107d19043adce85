//! A month of the service in seconds: the runtime's time is paused, so that it passes as fast as there is nothing to do. Alone in its
//! process, since what it looks at is the process: memory, open files, the history's size.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kops_mirror::board::{AtTarget, Board, ReleaseState, ReleaseStatus};
use kops_mirror::events::{Event, Observer};
use kops_mirror::history::History;
use kops_mirror::notify::Occasion;
use kops_mirror::record::{End, Purpose, Run};
use kops_mirror::report::{Kind, Link, Outcome, Report, Thing};
use kops_mirror::service::{Clock, Closing, Memory, Ran, Runner, Service, Set, Teller};
use tokio::sync::watch;

const DAYS: u64 = 30;
const RUNS_KEPT: u64 = 500;

/// A set whose releases grow by one a week, of which each tenth run fails in a file.
#[derive(Debug, Default)]
struct Simulated {
    runs: AtomicU64,
}

#[async_trait]
impl Runner for Simulated {
    async fn run(&self, purpose: Purpose, observer: Arc<dyn Observer>, closing: &Closing) -> Ran {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        for file in 0..20 {
            let key: kops_mirror::asset::Key = format!("release/file-{file}").parse().unwrap();
            observer.event(&Event::Started {
                key: key.clone(),
                length: Some(1 << 20),
                resumed_bytes: 0,
            });
            observer.event(&Event::Received {
                key: key.clone(),
                bytes: 1 << 20,
            });
            observer.event(&Event::Finished { key });
        }
        let working = tokio::time::sleep(Duration::from_secs(60));
        if closing.stop.run_until_cancelled(working).await.is_none() {
            return Ran::nothing(End::Interrupted, None);
        }
        let failed = run % 10 == 9;
        Ran {
            report: Some(report(failed)),
            releases: (purpose == Purpose::Sync).then(|| releases(5 + run / (7 * 24))),
            ..Ran::nothing(if failed { End::SomeFailed } else { End::Done }, None)
        }
    }

    async fn plan(&self, _: &Closing) -> Result<serde_json::Value, String> {
        Err("a simulation plans nothing".to_owned())
    }
}

fn report(failed: bool) -> Report {
    let outcome = Outcome {
        key: "release/file-7".parse().unwrap(),
        of: Thing::File,
        kind: Kind::Failed,
        class: None,
        bytes: None,
        why: Some("dl.k8s.io has no such file (404)".to_owned()),
        sources: Vec::new(),
        vouched_by: Vec::new(),
    };
    let link = Link {
        bytes: 20 << 20,
        ..Link::default()
    };
    Report {
        outcomes: if failed { vec![outcome] } else { Vec::new() },
        bytes_fetched: 20 << 20,
        links: BTreeMap::from([("dl.k8s.io".to_owned(), link)]),
        ..Report::default()
    }
}

fn releases(count: u64) -> Vec<ReleaseStatus> {
    let release = |n: u64| ReleaseStatus {
        name: format!("kops-1.36.2_kubernetes-1.34.{n}"),
        kops: Some("1.36.2".to_owned()),
        kubernetes: Some(format!("1.34.{n}")),
        targets: vec![AtTarget {
            place: "s3://mirror/k8s".to_owned(),
            state: ReleaseState::Complete,
            completed: None,
            files: 30,
            missing: 0,
            bytes: 1 << 30,
        }],
    };
    (0..count).map(release).collect()
}

#[derive(Debug, Default)]
struct Told(Mutex<u64>);

impl Teller for Told {
    fn tell(&self, _: Occasion) {
        *self.0.lock().unwrap() += 1;
    }
}

/// What a process takes.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kib: u64,
    open_files: usize,
    history_bytes: u64,
}

impl Taken {
    fn now(history: &Path) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        Self {
            resident_kib: line.trim().trim_end_matches(" kB").parse().unwrap(),
            open_files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            history_bytes: std::fs::metadata(history).unwrap().len(),
        }
    }
}

/// The history as the service writes it.
#[derive(Debug)]
struct Kept(History);

#[async_trait]
impl Memory for Kept {
    async fn add(&self, run: Run) -> Run {
        self.0.add(&run).await.unwrap()
    }

    async fn runs(&self, most: usize, before: Option<&str>) -> Vec<Run> {
        self.0.runs(most, before).await.unwrap()
    }

    async fn run(&self, id: &str) -> Option<Run> {
        self.0.run(id).await.unwrap()
    }

    async fn last(&self, set: &str, purpose: Purpose) -> Option<Run> {
        let runs = self.0.runs(100, None).await.unwrap();
        runs.into_iter()
            .find(|run| run.set == set && run.purpose == purpose)
    }
}

#[tokio::test(start_paused = true)]
async fn a_month_leaves_memory_files_and_history_flat() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.redb");
    let history = History::open(&file, RUNS_KEPT).await.unwrap();
    let from: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    let clock = Clock::simulated(from);
    let board = Arc::new(Board::new("1.0.0", from));
    let told = Arc::new(Told::default());
    let service = Service::new(
        Arc::clone(&board),
        Arc::new(Kept(history.clone())),
        Arc::clone(&told) as Arc<dyn Teller>,
        clock,
    );
    let runners: Vec<Arc<Simulated>> = (0..3).map(|_| Arc::default()).collect();
    let sets: Vec<Set> = runners
        .iter()
        .enumerate()
        .map(|(n, runner)| Set {
            name: format!("set-{n}"),
            targets: vec!["s3://mirror/k8s".to_owned()],
            jobs: vec![
                (Purpose::Sync, "every 1h, jitter 5m".parse().unwrap()),
                (Purpose::Scrub, "0 2 * * * Asia/Shanghai".parse().unwrap()),
            ],
            runner: Arc::clone(runner) as Arc<dyn Runner>,
        })
        .collect();
    let (_sets, followed) = watch::channel(sets);
    let closing = Closing::default();
    let mut days = Vec::new();
    let looking = async {
        for day in 1..=DAYS {
            tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
            if day % 6 == 0 {
                let taken = Taken::now(&file);
                println!("day {day}: {taken:?}");
                days.push(taken);
            }
        }
        closing.draining.cancel();
    };
    tokio::join!(service.run(followed, &closing), looking);

    let status = board.status();
    assert!(status.ready && status.draining);
    for (runner, set) in runners.iter().zip(&status.sets) {
        let runs = runner.runs.load(Ordering::Relaxed);
        assert!(
            (DAYS * 23..=DAYS * 26).contains(&runs),
            "{}: {runs} runs",
            set.name
        );
        assert!(set.last_success.is_some() && set.progress.is_none());
        assert!(
            set.releases.len() >= 8,
            "the newest releases are on the board"
        );
    }
    let all: u64 = runners
        .iter()
        .map(|runner| runner.runs.load(Ordering::Relaxed))
        .sum();
    let counted: u64 = status.counters.runs.iter().map(|(.., times)| times).sum();
    assert_eq!(counted, all);
    assert!(
        *told.0.lock().unwrap() >= all / 10,
        "each failed run is told"
    );
    assert_eq!(
        history.runs(10_000, None).await.unwrap().len() as u64,
        RUNS_KEPT
    );

    let (first, last) = (days[0], days[days.len() - 1]);
    assert_eq!(last.open_files, first.open_files);
    assert!(
        last.resident_kib < first.resident_kib + 16 * 1024,
        "{first:?}, {last:?}"
    );
    assert!(
        last.history_bytes <= first.history_bytes * 2,
        "{first:?}, {last:?}"
    );
}
