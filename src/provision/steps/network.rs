//! The network that the file names is there, with the addresses that the manifest was rendered with.

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::cloud::Cloud;
use crate::provision::journal::StepName;
use crate::provision::{Addresses, Site};

#[derive(Debug)]
pub struct Network(pub Cloud);

#[async_trait]
impl Step for Network {
    fn name(&self) -> StepName {
        StepName::Network
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let addresses = Addresses::look_up(&self.0, &site.file).await;
        let addresses = addresses.map_err(|error| StepError::Failed {
            what: "can't look at the network".to_owned(),
            source: error.into(),
        })?;
        if addresses != Addresses::of(&site.found) {
            let what = "its addresses have changed since the manifest was rendered".to_owned();
            return Ok(Observed::Wanting(what));
        }
        Ok(Observed::Right(
            match (&site.file.network.vpc, &addresses.vpc) {
                (Some(vpc), Some(cidr)) => {
                    format!(
                        "{vpc} has {cidr}, with {} subnets of its own",
                        addresses.subnets.len()
                    )
                }
                _ => "kops makes all of it".to_owned(),
            },
        ))
    }

    /// Another manifest would follow, which nobody has seen: that is another plan.
    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        let vpc = site.file.network.vpc.clone().unwrap_or_default();
        Err(StepError::Blocked {
            what: format!("the addresses of {vpc} have changed: run 'provision apply' again"),
        })
    }
}
