//! The history as the service writes it: what can't be written is told, and lost.

use async_trait::async_trait;

use crate::events::told;
use crate::history::{History, HistoryError};
use crate::record::{Purpose, Run};
use crate::service::Memory;

/// Runs are looked through in steps of so many, and no more of them than the second number.
const STEP: usize = 200;
const LOOKED_AT_MAX: usize = 2_000;

#[async_trait]
impl Memory for History {
    async fn add(&self, run: Run) -> Run {
        Self::add(self, &run).await.unwrap_or_else(|error| {
            tracing::error!("run {} is not remembered: {}", run.id, told(&error));
            run
        })
    }

    async fn runs(&self, most: usize, before: Option<&str>) -> Vec<Run> {
        or_none(Self::runs(self, most, before).await)
    }

    async fn run(&self, id: &str) -> Option<Run> {
        or_none(Self::run(self, id).await)
    }

    async fn last(&self, set: &str, purpose: Purpose) -> Option<Run> {
        let mut before: Option<String> = None;
        for _ in 0..LOOKED_AT_MAX / STEP {
            let runs = or_none(Self::runs(self, STEP, before.as_deref()).await);
            let last = runs.last()?.id.clone();
            let found = runs
                .into_iter()
                .find(|run| run.set == set && run.purpose == purpose);
            if found.is_some() {
                return found;
            }
            before = Some(last);
        }
        None
    }
}

fn or_none<T: Default>(read: Result<T, HistoryError>) -> T {
    read.unwrap_or_else(|error| {
        tracing::error!("the history can't be read: {}", told(&error));
        T::default()
    })
}
