//! A service that only seems to be one: a board with made-up sets, and a desk that takes what is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kops_mirror::board::{
    AtTarget, Board, Desk, FileProgress, Progress, Refused, ReleaseState, ReleaseStatus, SetStatus,
    WaitingRun,
};
use kops_mirror::record::{End, Failure, FailureClass, Purpose, Repeated, Run};
use serde_json::{Value, json};

pub(crate) const TARGETS: [&str; 2] = [
    "s3://kops-mirror-cn-north-1/mirror",
    "s3://kops-mirror-cn-northwest-1/mirror",
];

/// Takes what is asked, and remembers it. Its first set, `stable`, is the one that runs.
#[derive(Debug)]
pub(crate) struct Office {
    board: Arc<Board>,
    pub(crate) history: Vec<Run>,
    asked: Mutex<Vec<String>>,
    /// Whether upstreams can't be reached, so that there is no plan.
    pub(crate) is_cut_off: AtomicBool,
    /// Whether a plan does not come to its end.
    pub(crate) is_stuck: AtomicBool,
}

#[async_trait]
impl Desk for Office {
    async fn start(&self, set: &str, purpose: Purpose) -> Result<String, Refused> {
        self.known(set)?;
        self.note(format!("start {set} {purpose}"));
        if purpose == Purpose::Prune {
            let why = "a prune waits already; cancel it first".to_owned();
            return Err(Refused::NotNow(why));
        }
        Ok("20261124T220000Z-9".to_owned())
    }

    async fn cancel(&self, run: &str) -> Result<(), Refused> {
        self.note(format!("cancel {run}"));
        let status = self.board.status();
        let progress = status.sets.iter().filter_map(|set| set.progress.as_ref());
        match progress.filter(|progress| progress.run == run).count() {
            0 => Err(unknown("run", run)),
            _ => Ok(()),
        }
    }

    async fn plan(&self, set: &str) -> Result<Value, Refused> {
        self.known(set)?;
        if self.is_stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_cut_off.load(Ordering::Relaxed) {
            let why = "dl.k8s.io can't be reached: connection refused".to_owned();
            return Err(Refused::Failed(why));
        }
        Ok(plan())
    }

    async fn runs(&self, most: usize, before: Option<&str>) -> Result<Vec<Run>, Refused> {
        let runs = self.history.iter();
        let runs = runs.filter(|run| before.is_none_or(|before| run.id.as_str() < before));
        Ok(runs.take(most).cloned().collect())
    }

    async fn run(&self, id: &str) -> Result<Option<Run>, Refused> {
        Ok(self.history.iter().find(|run| run.id == id).cloned())
    }
}

impl Office {
    /// With two sets, and as many releases as asked for in the first one.
    pub(crate) fn new(releases: usize) -> Arc<Self> {
        let now = Timestamp::now();
        let board = Board::new("0.1.0", hours_before(now, 75.0));
        let history: Vec<Run> = (0..60).map(|back| past_run(now, back)).collect();
        board.update(|status| {
            status.ready = true;
            status.sets = vec![stable(now, releases, &history), broken(now)];
            let counters = &mut status.counters;
            counters
                .bytes_by_origin
                .insert("dl.k8s.io".to_owned(), 987_654_321);
            counters.runs = vec![("stable".to_owned(), Purpose::Sync, End::Done, 7)];
            counters.failures = vec![("broken".to_owned(), FailureClass::Origin, 3)];
            counters.withheld.insert("stable".to_owned(), 2);
            (counters.told, counters.untold) = (5, 1);
            (counters.scrubbed, counters.damaged) = (400, 2);
        });
        Arc::new(Self {
            board: Arc::new(board),
            history,
            asked: Mutex::default(),
            is_cut_off: AtomicBool::default(),
            is_stuck: AtomicBool::default(),
        })
    }

    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Moves the run under way by a quarter of a second, and begins it anew when it is done.
    pub(crate) fn advance(&self, step: u32) {
        self.board.update(|status| {
            let Some(progress) = status.sets[0].progress.as_mut() else {
                return;
            };
            let wave = f64::from(step % 40) / 40.0 * std::f64::consts::TAU;
            progress.bytes_per_second = (11.0 + 2.5 * wave.sin()) * 1e6;
            for (at, file) in (0_u64..).zip(&mut progress.files) {
                let Some(length) = file.length else {
                    file.bytes += 200_000;
                    continue;
                };
                let more = (2 + at % 3) * 150_000;
                file.bytes = if file.bytes + more > length {
                    0
                } else {
                    file.bytes + more
                };
            }
            progress.bytes_done += 2_750_000;
            progress.files_done =
                progress.files_total * progress.bytes_done / progress.bytes_total.unwrap_or(1);
            if Some(progress.bytes_done) > progress.bytes_total {
                progress.bytes_done = 0;
            }
        });
    }

    fn known(&self, set: &str) -> Result<(), Refused> {
        let status = self.board.status();
        status.set(set).map(drop).ok_or_else(|| unknown("set", set))
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

fn unknown(what: &'static str, name: &str) -> Refused {
    let name = name.to_owned();
    Refused::Unknown { what, name }
}

fn hours_before(now: Timestamp, hours: f64) -> Timestamp {
    now - SignedDuration::from_secs_f64(hours * 3600.0)
}

fn stable(now: Timestamp, releases: usize, history: &[Run]) -> SetStatus {
    SetStatus {
        name: "stable".to_owned(),
        targets: TARGETS.map(str::to_owned).to_vec(),
        schedule: "every 1h".to_owned(),
        next_run: Some(now + SignedDuration::from_mins(43)),
        last_run: history.first().cloned(),
        last_success: Some(hours_before(now, 2.1)),
        releases: (0..releases).map(|at| release(now, at)).collect(),
        progress: Some(progress(now)),
        beside: Some(scrub(now)),
        queued: 1,
        waiting: vec![WaitingRun {
            run: "20261124T210600Z-4".to_owned(),
            purpose: Purpose::Prune,
            since: hours_before(now, 0.04),
        }],
        notes: vec![
            "kops-1.34.1_kubernetes-1.33.2 was withdrawn upstream; what is mirrored was left as it is".to_owned(),
        ],
    }
}

fn broken(now: Timestamp) -> SetStatus {
    let run = Run {
        end: End::Failed,
        why: Some("releases of kubernetes/kops can't be listed: https://api.github.com/repos/kubernetes/kops/releases answered 403: its rate limit ends in 24 minutes".to_owned()),
        ..empty_run(now, 0.4, "20261124T203000Z-7", "broken")
    };
    SetStatus {
        name: "broken".to_owned(),
        targets: vec!["s3://lab/m".to_owned()],
        schedule: "0 3 * * * Asia/Shanghai".to_owned(),
        next_run: Some(now + SignedDuration::from_hours(7)),
        last_run: Some(run),
        last_success: None,
        releases: vec![],
        progress: None,
        beside: None,
        queued: 0,
        waiting: vec![],
        notes: vec![],
    }
}

/// Twelve of them for each version of kops; some are not as they should be.
pub(crate) fn release(now: Timestamp, at: usize) -> ReleaseStatus {
    let kops = format!("1.{}.{}", 36 - at / 36, 2 - at / 12 % 3);
    let kubernetes = format!("1.{}.{}", 36 - at / 36 - at % 12 / 4, 9 - at % 4);
    let states = match at {
        2 => [ReleaseState::Complete, ReleaseState::Incomplete],
        5 => [ReleaseState::Failed, ReleaseState::Failed],
        17 => [ReleaseState::Complete, ReleaseState::Missing],
        40 => [ReleaseState::Withdrawn; 2],
        41 => [ReleaseState::Changed; 2],
        _ => [ReleaseState::Complete; 2],
    };
    let targets = TARGETS.iter().zip(states);
    let targets = targets.map(|(place, state)| {
        let is_whole = !matches!(
            state,
            ReleaseState::Incomplete | ReleaseState::Missing | ReleaseState::Failed
        );
        AtTarget {
            place: (*place).to_owned(),
            state,
            completed: is_whole.then(|| hours_before(now, 5.0 + 30.0 * at as f64)),
            files: 62,
            missing: match state {
                ReleaseState::Missing => 62,
                ReleaseState::Incomplete => 17,
                ReleaseState::Failed => 1,
                _ => 0,
            },
            bytes: 2_100_000_000 + 1_234_567 * at as u64,
        }
    });
    ReleaseStatus {
        name: format!("kops-{kops}_kubernetes-{kubernetes}"),
        kops: Some(kops.clone()),
        kubernetes: Some(kubernetes),
        targets: targets.collect(),
    }
}

fn progress(now: Timestamp) -> Progress {
    let key = |path: &str| format!("release/v1.36.9/bin/linux/{path}");
    let file = |path: &str, length: Option<u64>, bytes| FileProgress {
        key: key(path),
        bytes,
        length,
    };
    let mut files = vec![
        file("amd64/kubelet", Some(58_000_000), 20_000_000),
        file("arm64/kubelet", Some(55_000_000), 1_000_000),
        file("amd64/kube-apiserver.tar", Some(96_000_000), 70_000_000),
        file("amd64/kube-proxy.tar", None, 900_000),
    ];
    files.extend((0..14).map(|at| {
        file(
            &format!("arm64/part-{at}.tar"),
            Some(30_000_000),
            2_000_000 * at,
        )
    }));
    Progress {
        run: "20261124T210500Z-3".to_owned(),
        purpose: Purpose::Sync,
        began: hours_before(now, 0.05),
        phase: "fetching".to_owned(),
        files_done: 38,
        files_total: 124,
        bytes_done: 1_300_000_000,
        bytes_total: Some(4_200_000_000),
        bytes_per_second: 11.3e6,
        files,
    }
}

fn scrub(now: Timestamp) -> Progress {
    Progress {
        files_done: 900,
        ..Progress::begun("20261124T190000Z-1", Purpose::Scrub, hours_before(now, 2.0))
    }
}

fn empty_run(now: Timestamp, hours: f64, id: &str, set: &str) -> Run {
    Run {
        id: id.to_owned(),
        set: set.to_owned(),
        purpose: Purpose::Sync,
        began: hours_before(now, hours),
        ended: hours_before(now, hours - 0.002),
        end: End::Done,
        why: None,
        repeated: None,
        transferred: 0,
        skipped: 124,
        repaired: 0,
        failed: 0,
        withheld: 0,
        bytes_fetched: 0,
        bytes_refetched: 0,
        bytes_by_origin: BTreeMap::new(),
        marked: vec![],
        failures: vec![],
    }
}

/// Now and then one brings something, and now and then one fails.
fn past_run(now: Timestamp, back: u64) -> Run {
    let hours = 1.1 + back as f64;
    let id = format!("20261124T{:06}Z-2", 200_000 - 1000 * back);
    let mut run = empty_run(now, hours, &id, "stable");
    if back % 5 == 4 {
        run.purpose = Purpose::Scrub;
        run.ended = hours_before(now, hours - 0.4);
    } else if back.is_multiple_of(4) {
        run.transferred = 20 + back * 3 % 41;
        run.bytes_fetched = 700_000_000 + back * 37_000_000;
        run.bytes_refetched = 1_500_000;
        run.ended = hours_before(now, hours - 0.1 - back as f64 / 300.0);
        let share = run.bytes_fetched / 3;
        run.bytes_by_origin = BTreeMap::from([
            ("dl.k8s.io".to_owned(), 2 * share),
            ("github.com".to_owned(), share),
        ]);
        run.marked = vec![format!(
            "{}/releases/kops-1.36.2_kubernetes-1.34.8.json",
            TARGETS[0]
        )];
    }
    if back.is_multiple_of(12) {
        run.end = End::SomeFailed;
        run.failures = failures();
        run.failed = run.failures.len() as u64;
        run.withheld = 2;
    } else if back == 7 {
        run.end = End::HeldByOther;
        run.repeated = Some(Repeated {
            times: 12,
            since: hours_before(now, hours + 6.0),
        });
    } else if back == 9 {
        run.end = End::Interrupted;
    }
    run
}

/// As `kops-mirror plan -o json` prints it: more files than a page shows at once, and each kind of thing to do.
pub(crate) fn plan() -> Value {
    let missing = json!({"action": "transfer", "why": "it is missing"});
    let skip = json!({"action": "skip"});
    let file = |key: String, length: Option<u64>, actions: [&Value; 2]| {
        json!({
            "key": key, "canonical": format!("https://dl.k8s.io/{key}"), "length": length,
            "vouched_by": ["https://dl.k8s.io/kubelet.sha256"], "actions": actions,
        })
    };
    let mut files = vec![
        file(
            "release/v1.36.9/bin/linux/amd64/kubelet".to_owned(),
            Some(58_000_000),
            [&missing, &missing],
        ),
        file(
            "release/v1.36.9/bin/linux/arm64/kubelet".to_owned(),
            None,
            [&missing, &skip],
        ),
        file(
            "release/v1.36.9/bin/linux/arm64/kubectl".to_owned(),
            Some(42_000_000),
            [
                &json!({"action": "inspect", "why": "its ETag '9f-2' is not an <i>MD5</i>"}),
                &json!({"action": "sidecars", "sidecars": ["sha256", "sha1"]}),
            ],
        ),
    ];
    files.extend((0..150).map(|at| {
        let key = format!("kops/1.36.2/images/part-{at}.tar.gz");
        file(key, Some(10_000_000), [&missing, &missing])
    }));
    json!({
        "targets": TARGETS,
        "totals": {
            "transfer": 152, "inspect": 1, "sidecars": 0, "skip": 700, "refused": 1,
            "bytes_known": 1_558_000_000_u64, "lengths_unknown": 1, "requests": 620,
        },
        "releases": [
            {"name": "kops-1.36.2_kubernetes-1.36.9", "files": 154, "refused": 1, "bytes_known": 1_558_000_000_u64},
            {"name": "kops-1.36.2_kubernetes-1.36.8", "files": 150, "refused": 0, "bytes_known": 1_500_000_000_u64},
        ],
        "files": files,
        "refused": [{"key": "binaries/runc.amd64", "why": "nobody vouches for it: github.com answered 404"}],
    })
}

fn failures() -> Vec<Failure> {
    let failure = |key: &str, class, why: &str| Failure {
        key: key.to_owned(),
        class,
        why: why.to_owned(),
    };
    vec![
        failure(
            "release/v1.36.8/bin/linux/amd64/kubelet",
            FailureClass::Corrupt,
            "SHA-256 is 9f2c…, dl.k8s.io says 4b1d…: wrong bytes came three times from cdn.dl.k8s.io",
        ),
        failure(
            "containerd/containerd/releases/download/v2.1.4/containerd-2.1.4-linux-arm64.tar.gz",
            FailureClass::Origin,
            "github.com: no bytes for 30 s after 8 attempts",
        ),
        failure(
            "release/v1.36.8/bin/linux/arm64/kubectl",
            FailureClass::Store,
            "s3://kops-mirror-cn-northwest-1/mirror: SlowDown: please reduce your request rate <b>now</b>",
        ),
    ]
}
