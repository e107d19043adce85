//! What a set's runs are made of: the service decides when, a runner knows how.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::board::ReleaseStatus;
use crate::events::{Observer, told};
use crate::notify::Occasion;
use crate::record::{End, Purpose};
use crate::report::Report;

/// How a run is asked to end before its end.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// No file is begun any more; those under way go on.
    pub draining: CancellationToken,
    /// All of it is dropped.
    pub stop: CancellationToken,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub end: End,
    /// Why it could not be begun or did not do all that was wanted, or whose turn it was: one line, without secrets.
    pub why: Option<String>,
    pub report: Option<Report>,
    /// The releases that the set follows, as they are at the targets now; None where that was not found out.
    pub releases: Option<Vec<ReleaseStatus>>,
    /// What somebody should know for as long as it holds.
    pub notes: Vec<String>,
    /// What is to be told besides a run that failed.
    pub occasions: Vec<Occasion>,
    /// Objects that were read again, and those of them that were wrong.
    pub scrubbed: u64,
    pub damaged: u64,
    /// When another run is worth trying before its time: what stood in its way may be gone then.
    pub again_at: Option<Timestamp>,
}

impl Ran {
    /// One that did nothing.
    pub fn nothing(end: End, why: Option<String>) -> Self {
        Self {
            end,
            why,
            report: None,
            releases: None,
            notes: Vec::new(),
            occasions: Vec::new(),
            scrubbed: 0,
            damaged: 0,
            again_at: None,
        }
    }

    /// The same, stopped, where something got in its way.
    #[must_use]
    pub fn unless(self, lost: Option<impl Error + 'static>) -> Self {
        match lost {
            None => self,
            Some(lost) => Self {
                end: End::Interrupted,
                why: Some(told(&lost)),
                ..self
            },
        }
    }
}

/// Carries out the runs of one set.
#[async_trait]
pub trait Runner: Send + Sync + fmt::Debug {
    /// One run from its beginning to its end. What fails is in what it returns.
    async fn run(&self, purpose: Purpose, observer: Arc<dyn Observer>, closing: &Closing) -> Ran;

    /// What the next run would do, as `kops-mirror plan -o json` prints it. An error in one line, without secrets.
    async fn plan(&self, closing: &Closing) -> Result<serde_json::Value, String>;
}
