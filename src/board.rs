//! What the service knows at this moment, for whoever asks: the page, the API, the metrics. And what can be asked of it.
//!
//! The service writes, everybody else reads a copy. Nothing secret is ever put here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::record::{End, FailureClass, Purpose, Run};

/// The state of a release at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// All of it is there, verified, and marked.
    Complete,
    /// Some of it is there.
    Incomplete,
    /// It was not looked at yet, or none of it is there.
    Missing,
    /// A part of it failed in the last run.
    Failed,
    /// Upstream has other bytes under its name now; what is mirrored was left as it is.
    Changed,
    /// Upstream has it no more; what is mirrored was left as it is.
    Withdrawn,
    /// The target was away when it was to be looked at.
    Unknown,
}

/// A release at one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtTarget {
    /// The target in a user's words: `s3://bucket/prefix`.
    pub place: String,
    pub state: ReleaseState,
    /// When its marker was written.
    pub completed: Option<Timestamp>,
    pub files: u64,
    /// Files that are not there yet; 0 where that is not known.
    pub missing: u64,
    pub bytes: u64,
}

/// A release that a set follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// `kops-1.36.2_kubernetes-1.34.8`
    pub name: String,
    pub kops: Option<String>,
    pub kubernetes: Option<String>,
    pub targets: Vec<AtTarget>,
}

/// A file that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    pub key: String,
    /// Bytes that came.
    pub bytes: u64,
    pub length: Option<u64>,
}

/// A run that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub run: String,
    pub purpose: Purpose,
    pub began: Timestamp,
    /// `looking`, `fetching`, `draining`: what it is at.
    pub phase: String,
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    /// None while a length is unknown.
    pub bytes_total: Option<u64>,
    /// Over the last seconds.
    pub bytes_per_second: f64,
    /// Those under way, at most [`Progress::FILES_MAX`].
    pub files: Vec<FileProgress>,
}

impl Progress {
    /// A page has no room for more.
    pub const FILES_MAX: usize = 64;

    /// That of a run which has just begun.
    pub fn begun(run: &str, purpose: Purpose, began: Timestamp) -> Self {
        Self {
            run: run.to_owned(),
            purpose,
            began,
            phase: "looking".to_owned(),
            files_done: 0,
            files_total: 0,
            bytes_done: 0,
            bytes_total: None,
            bytes_per_second: 0.0,
            files: Vec::new(),
        }
    }
}

/// A run that was ordered, by somebody or by its schedule, and has not begun: another one is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRun {
    pub run: String,
    pub purpose: Purpose,
    pub since: Timestamp,
}

impl SetStatus {
    /// A set of which nothing is known yet.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            targets: Vec::new(),
            schedule: String::new(),
            next_run: None,
            last_run: None,
            last_success: None,
            releases: Vec::new(),
            progress: None,
            beside: None,
            queued: 0,
            waiting: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Shows how a run goes. A scrub goes on for hours beside others: it stands first while nothing else is under way.
    pub fn show_progress(&mut self, progress: Progress) {
        let (first, run) = (self.progress.take(), progress.run.clone());
        (self.progress, self.beside) = match (first, self.beside.take()) {
            (Some(first), beside) if first.run == run => (Some(progress), beside),
            (Some(scrub), _) if scrub.purpose == Purpose::Scrub => (Some(progress), Some(scrub)),
            (Some(first), _) => (Some(first), Some(progress)),
            (None, beside) => (Some(progress), beside.filter(|beside| beside.run != run)),
        };
    }

    /// Shows no more how this run goes.
    pub fn end_progress(&mut self, run: &str) {
        self.beside = self.beside.take().filter(|beside| beside.run != run);
        if self.progress.as_ref().is_some_and(|shown| shown.run == run) {
            self.progress = self.beside.take();
        }
    }

    /// How a run goes, if it is one of this set that is under way.
    pub fn progress_of(&self, run: &str) -> Option<&Progress> {
        let under_way = self.progress.iter().chain(&self.beside);
        under_way.into_iter().find(|progress| progress.run == run)
    }

    /// Shows that a run waits, once.
    pub fn waits(&mut self, run: WaitingRun) {
        if self.waiting.iter().all(|known| known.run != run.run) {
            self.waiting.push(run);
        }
        self.queued = self.waiting.len() as u64;
    }

    /// Shows no more that a run waits: it has begun, or is not wanted.
    pub fn waits_no_more(&mut self, run: &str) {
        self.waiting.retain(|known| known.run != run);
        self.queued = self.waiting.len() as u64;
    }
}

/// One set of releases with its targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetStatus {
    pub name: String,
    pub targets: Vec<String>,
    /// As it is written in the settings: `every 1h`, `0 3 * * * Asia/Shanghai`.
    pub schedule: String,
    pub next_run: Option<Timestamp>,
    pub last_run: Option<Run>,
    pub last_success: Option<Timestamp>,
    /// Newest first.
    pub releases: Vec<ReleaseStatus>,
    pub progress: Option<Progress>,
    /// A scrub that goes on beside it.
    #[serde(default)]
    pub beside: Option<Progress>,
    /// How many runs wait.
    pub queued: u64,
    /// Which ones, in the order in which they came.
    #[serde(default)]
    pub waiting: Vec<WaitingRun>,
    /// What somebody should know: conditional writes that a target lacks, releases that upstream withdrew.
    pub notes: Vec<String>,
}

/// What was counted since the service started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    pub bytes_by_origin: BTreeMap<String, u64>,
    /// By set, purpose and end.
    pub runs: Vec<(String, Purpose, End, u64)>,
    /// By set and class.
    pub failures: Vec<(String, FailureClass, u64)>,
    /// Pointers that stayed where they were, since their release was not complete, by set.
    #[serde(default)]
    pub withheld: BTreeMap<String, u64>,
    /// Messages to webhooks: sent, and given up.
    pub told: u64,
    pub untold: u64,
    /// Objects read again by scrubs, and those of them that were wrong.
    pub scrubbed: u64,
    pub damaged: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub started: Timestamp,
    /// Whether every set was looked at once, and nothing stands in the way of its runs.
    pub ready: bool,
    /// Whether it ends as soon as what is under way has ended.
    pub draining: bool,
    pub sets: Vec<SetStatus>,
    pub counters: Counters,
}

/// The one place where it is kept.
#[derive(Debug)]
pub struct Board {
    status: Mutex<Status>,
    changed: watch::Sender<u64>,
}

impl Board {
    pub fn new(version: &str, started: Timestamp) -> Self {
        Self {
            status: Mutex::new(Status {
                version: version.to_owned(),
                started,
                ready: false,
                draining: false,
                sets: Vec::new(),
                counters: Counters::default(),
            }),
            changed: watch::Sender::new(0),
        }
    }

    /// A copy of it.
    pub fn status(&self) -> Status {
        self.locked().clone()
    }

    /// Changes it and tells who watches. Must be quick.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.locked());
        self.changed.send_modify(|version| *version += 1);
    }

    /// Told at each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    pub fn set(&self, name: &str) -> Option<&SetStatus> {
        self.sets.iter().find(|set| set.name == name)
    }

    pub fn set_mut(&mut self, name: &str) -> Option<&mut SetStatus> {
        self.sets.iter_mut().find(|set| set.name == name)
    }
}

/// Why something that was asked of the service is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no {what} named '{name}'")]
    Unknown { what: &'static str, name: String },
    #[error("{0}")]
    NotNow(String),
    #[error("{0}")]
    Failed(String),
}

/// What can be asked of the service, besides what is on the board.
#[async_trait]
pub trait Desk: Send + Sync + fmt::Debug {
    /// Has a set's run begin as soon as it can; the run's id.
    async fn start(&self, set: &str, purpose: Purpose) -> Result<String, Refused>;

    /// Stops a run that is under way or waits.
    async fn cancel(&self, run: &str) -> Result<(), Refused>;

    /// What a set's next run would do, as `kops-mirror plan -o json` prints it.
    async fn plan(&self, set: &str) -> Result<serde_json::Value, Refused>;

    /// Runs that have ended, newest first: at most so many, of those before a run's id.
    async fn runs(&self, most: usize, before: Option<&str>) -> Result<Vec<Run>, Refused>;

    /// One of them.
    async fn run(&self, id: &str) -> Result<Option<Run>, Refused>;
}
