//! What the preflight found stands in nobody's way.

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::preflight::{Finding, Weight};
use crate::provision::Site;
use crate::provision::journal::StepName;

/// With what was found when the plan was made, just before.
#[derive(Debug)]
pub struct Preflight(pub Vec<Finding>);

#[async_trait]
impl Step for Preflight {
    fn name(&self) -> StepName {
        StepName::Preflight
    }

    async fn observe(&self, _site: &mut Site) -> Result<Observed, StepError> {
        let stopping: Vec<_> = self.0.iter().filter(|finding| finding.stops()).collect();
        if !stopping.is_empty() {
            let told: Vec<_> = stopping.iter().map(ToString::to_string).collect();
            return Err(StepError::Blocked {
                what: told.join("; "),
            });
        }
        let count = |weight| {
            self.0
                .iter()
                .filter(|finding| finding.weight == weight)
                .count()
        };
        Ok(Observed::Right(format!(
            "{} findings: {} warnings, {} unknown, {} accepted",
            self.0.len(),
            count(Weight::Warning),
            count(Weight::Unknown),
            count(Weight::Error)
        )))
    }

    async fn act(&self, _site: &mut Site) -> Result<(), StepError> {
        Ok(())
    }
}
