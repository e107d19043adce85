//! Waits for the cluster to answer and to be well.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::{Observed, Step, StepError};
use crate::kops::{Health, Kops};
use crate::provision::Site;
use crate::provision::journal::StepName;

/// A look costs kops a few seconds, and nodes take minutes.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(16);

const WELL: &str = "the cluster answers and is well";

#[derive(Debug)]
pub struct Ready(pub Arc<Kops>);

#[async_trait]
impl Step for Ready {
    fn name(&self) -> StepName {
        StepName::Ready
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        // It was well when the wait ended; one that has just come up may waver.
        if site.acted.contains(&StepName::Ready) {
            return Ok(Observed::Right(WELL.to_owned()));
        }
        Ok(match self.0.validate().await? {
            Health::Ready => Observed::Right(WELL.to_owned()),
            Health::Failing(said) => Observed::Wanting(format!("not all is well: {said}")),
            Health::Unreachable(said) => {
                Observed::Wanting(format!("it does not answer yet: {said}"))
            }
        })
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        let limit = site.file.timeouts.ready;
        let deadline = Instant::now() + limit;
        let mut pause = PAUSE_MIN;
        loop {
            let said = match self.0.validate().await? {
                Health::Ready => return Ok(()),
                Health::Failing(said) | Health::Unreachable(said) => said,
            };
            if Instant::now() + pause > deadline {
                return Err(StepError::Blocked {
                    what: format!(
                        "the cluster is not ready after {} s: {said}; 'provision validate' looks again, and 'provision apply' goes on",
                        limit.as_secs()
                    ),
                });
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }
}
