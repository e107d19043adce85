//! A kubeconfig for the cluster's administrator, in a file of its own.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::kops::Kops;
use crate::provision::Site;
use crate::provision::journal::StepName;

#[derive(Debug)]
pub struct Kubeconfig(pub Arc<Kops>);

#[async_trait]
impl Step for Kubeconfig {
    fn name(&self) -> StepName {
        StepName::Kubeconfig
    }

    /// What it has in it expires, so each run writes it anew.
    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let path = self.0.kubeconfig();
        match site.acted.contains(&StepName::Kubeconfig) && path.is_file() {
            true => Ok(Observed::Right(path.display().to_string())),
            false => Ok(Observed::Wanting(format!("write {}", path.display()))),
        }
    }

    async fn act(&self, _site: &mut Site) -> Result<(), StepError> {
        self.0.export().await?;
        Ok(())
    }
}
