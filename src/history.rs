//! What the service did, in an embedded database that can be lost.
//!
//! One file, crash-safe (redb), of at most so many runs, and a few named values: what the service must not forget between starts.
//! What can't be read is moved aside and begun anew, since a mirror is worth more than its history. Nothing secret is put here,
//! and the file is its owner's alone all the same.
//!
//! A write waits for the disk, some milliseconds, so every call is made on the blocking pool.

mod file;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use self::file::File;
pub use self::file::HistoryError;
use crate::record::{End, Purpose, Run};

/// Some years of hourly runs that did something, in some 10 MB.
pub const RUNS_MAX: u64 = 10_000;

/// The history of a service. Its clones are of the same file.
#[derive(Debug, Clone)]
pub struct History(Arc<File>);

/// That a release was complete at a target, as its index there says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The set that follows it.
    pub set: String,
    /// Its index, as `s3://bucket/releases/NAME.json`.
    pub index: String,
    pub at: Timestamp,
    /// Files of the release, and what they are together.
    pub files: u64,
    pub bytes: u64,
}

impl History {
    /// Opens the file, or makes it and its folder. More than `runs_max` runs are not kept, the oldest go first.
    pub async fn open(path: &Path, runs_max: u64) -> Result<Self, HistoryError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || File::open(path, runs_max)).await;
        let file = opened.map_err(|ended| HistoryError::Left { source: ended })??;
        Ok(Self(Arc::new(file)))
    }

    /// Remembers a run, in place of one with the same id; how it is remembered. One that came to nothing because another process has
    /// its targets takes the place of the one before, where that came to nothing in the same way.
    pub async fn add(&self, run: &Run) -> Result<Run, HistoryError> {
        let run = run.clone();
        self.blocking(move |file| file.add(run)).await
    }

    /// Remembers several at once, all or none.
    pub async fn add_all(&self, runs: Vec<Run>) -> Result<(), HistoryError> {
        self.blocking(move |file| file.add_all(&runs)).await
    }

    /// More than so many runs are not kept from now on.
    pub fn keep(&self, runs_max: u64) {
        self.0.keep(runs_max);
    }

    /// One of them.
    pub async fn run(&self, id: &str) -> Result<Option<Run>, HistoryError> {
        let id = id.to_owned();
        self.blocking(move |file| file.run(&id)).await
    }

    /// Newest first: at most so many, of those before a run's id.
    pub async fn runs(&self, most: usize, before: Option<&str>) -> Result<Vec<Run>, HistoryError> {
        let before = before.map(ToOwned::to_owned);
        self.blocking(move |file| file.runs(most, before.as_deref()))
            .await
    }

    /// A value by its name: `stable.txt's ETag`, `how far a scrub has come`.
    pub async fn get(&self, name: &str) -> Result<Option<String>, HistoryError> {
        let name = name.to_owned();
        self.blocking(move |file| file.get(&name)).await
    }

    pub async fn set(&self, name: &str, value: &str) -> Result<(), HistoryError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.blocking(move |file| file.set(&name, &value)).await
    }

    /// Where no run is remembered, has one for each release that was completed; says how many. What it cost is not known any more:
    /// it counts as having brought the release.
    pub async fn rebuild(&self, completed: &[Completed]) -> Result<usize, HistoryError> {
        if !self.runs(1, None).await?.is_empty() {
            return Ok(0);
        }
        let runs = reconstructed(completed);
        let count = runs.len();
        self.add_all(runs).await?;
        Ok(count)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&File) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let file = Arc::clone(&self.0);
        let ended = tokio::task::spawn_blocking(move || act(&file)).await;
        ended.map_err(|ended| HistoryError::Left { source: ended })?
    }
}

/// A run for each release, in the order of time.
fn reconstructed(completed: &[Completed]) -> Vec<Run> {
    let mut completed: Vec<&Completed> = completed.iter().collect();
    completed.sort_by(|a, b| (a.at, &a.index).cmp(&(b.at, &b.index)));
    let runs = completed.into_iter().enumerate();
    runs.map(|(number, completed)| Run {
        id: format!("{}-{number}", completed.at.strftime("%Y%m%dT%H%M%SZ")),
        set: completed.set.clone(),
        purpose: Purpose::Sync,
        began: completed.at,
        ended: completed.at,
        end: End::Done,
        why: None,
        repeated: None,
        transferred: completed.files,
        skipped: 0,
        repaired: 0,
        failed: 0,
        withheld: 0,
        bytes_fetched: completed.bytes,
        bytes_refetched: 0,
        bytes_by_origin: std::collections::BTreeMap::new(),
        marked: vec![completed.index.clone()],
        failures: Vec::new(),
    })
    .collect()
}

#[cfg(test)]
mod tests;
