//! Takes orders for the service: what the API and the page may ask of it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Closing, Service, Set};
use crate::board::{Desk, Refused};
use crate::record::{Purpose, Run};
use tokio::sync::watch;

/// The one who takes them.
#[derive(Debug, Clone)]
pub struct Counter {
    service: Arc<Service>,
    sets: Option<watch::Receiver<Vec<Set>>>,
    closing: Closing,
}

impl Counter {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            sets: None,
            closing: Closing::default(),
        }
    }

    /// Can say what the next run of these sets would do, until the service is closed.
    #[must_use]
    pub fn planning(self, sets: watch::Receiver<Vec<Set>>, closing: &Closing) -> Self {
        Self {
            sets: Some(sets),
            closing: closing.clone(),
            ..self
        }
    }
}

#[async_trait]
impl Desk for Counter {
    async fn start(&self, set: &str, purpose: Purpose) -> Result<String, Refused> {
        if self.service.board.status().draining {
            return Err(Refused::NotNow("the service is about to end".to_owned()));
        }
        self.service.order(set, purpose)
    }

    async fn cancel(&self, run: &str) -> Result<(), Refused> {
        self.service.cancel(run).await
    }

    async fn plan(&self, set: &str) -> Result<serde_json::Value, Refused> {
        let sets = self.sets.as_ref().map(|sets| sets.borrow().clone());
        let named = sets
            .unwrap_or_default()
            .into_iter()
            .find(|known| known.name == set);
        let known = named.ok_or_else(|| Refused::Unknown {
            what: "set",
            name: set.to_owned(),
        })?;
        known
            .runner
            .plan(&self.closing)
            .await
            .map_err(Refused::Failed)
    }

    async fn runs(&self, most: usize, before: Option<&str>) -> Result<Vec<Run>, Refused> {
        Ok(self.service.memory.runs(most, before).await)
    }

    async fn run(&self, id: &str) -> Result<Option<Run>, Refused> {
        Ok(self.service.memory.run(id).await)
    }
}
