//! What is remembered of a run of the service, and told of it: what it was for, how it ended, what it cost, what failed.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a run was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To bring what is missing.
    Sync,
    /// To compare what is there with what was stored.
    Scrub,
    /// To delete what is not to be kept.
    Prune,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// All that was wanted is there.
    Done,
    /// Some files failed, the others are there.
    SomeFailed,
    /// It could not be begun: see [`Run::why`].
    Failed,
    /// Somebody stopped it.
    Interrupted,
    /// Another process has the lease of the target.
    HeldByOther,
}

/// What a failure was of; a metric counts by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Nobody vouches for the file.
    Unvouched,
    /// An origin did not bring it.
    Origin,
    /// Wrong bytes came.
    Corrupt,
    /// A target did not take it.
    Store,
    /// The spool could not be written or read.
    Spool,
}

/// One file that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub key: String,
    pub class: FailureClass,
    /// One line, without secrets.
    pub why: String,
}

/// That runs ended in the same way one after the other and came to nothing, so that the newest stands for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// How many there were: two or more.
    pub times: u64,
    /// When the first of them began.
    pub since: Timestamp,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `20261124T210500Z-3`: when it began, and a number. Sorts by time.
    pub id: String,
    /// The set that it was for.
    pub set: String,
    pub purpose: Purpose,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub end: End,
    /// Why it could not be begun, or did not do all that was wanted: one line, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Set where it stands for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// Files.
    pub transferred: u64,
    pub skipped: u64,
    pub repaired: u64,
    pub failed: u64,
    /// Pointers that stay where they were, since a release of the run is not complete: a consequence, not counted in `failed`.
    #[serde(default)]
    pub withheld: u64,
    pub bytes_fetched: u64,
    pub bytes_refetched: u64,
    /// By the host that brought them.
    pub bytes_by_origin: BTreeMap<String, u64>,
    /// Releases that became complete, as `s3://bucket/releases/NAME.json`.
    pub marked: Vec<String>,
    /// The first [`Run::FAILURES_MAX`] of them; `failed` counts all.
    pub failures: Vec<Failure>,
}

impl Run {
    /// More than these are not remembered of one run.
    pub const FAILURES_MAX: usize = 100;

    /// Whether it did nothing and others like it may follow: another process had its targets.
    pub fn is_mere_repetition(&self) -> bool {
        self.end == End::HeldByOther
    }

    /// It in place of one before it, of the same set and purpose, which ended as it did.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        let (times, since) = match before.repeated {
            Some(Repeated { times, since }) => (times, since),
            None => (1, before.began),
        };
        let repeated = Some(Repeated {
            times: times + 1,
            since,
        });
        Self { repeated, ..self }
    }
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Sync, Self::Scrub, Self::Prune];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Scrub => "scrub",
            Self::Prune => "prune",
        }
    }
}

impl End {
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::SomeFailed,
        Self::Failed,
        Self::Interrupted,
        Self::HeldByOther,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SomeFailed => "some-failed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::HeldByOther => "held-by-other",
        }
    }
}

impl FailureClass {
    pub const ALL: [Self; 5] = [
        Self::Unvouched,
        Self::Origin,
        Self::Corrupt,
        Self::Store,
        Self::Spool,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unvouched => "unvouched",
            Self::Origin => "origin",
            Self::Corrupt => "corrupt",
            Self::Store => "store",
            Self::Spool => "spool",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
