//! kops makes what the cluster consists of, or writes terraform's files for somebody who does.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::cluster::TargetKind;
use crate::events::{Event, told};
use crate::kops::Kops;
use crate::provision::Site;
use crate::provision::journal::StepName;

/// What is said where kops lists what it never does.
pub const RESIDUE: &str = "kops lists only what its update left as it is";

#[derive(Debug)]
pub struct Resources {
    pub kops: Arc<Kops>,
    /// Whether hosts that run are replaced where they have to be.
    pub rolls: bool,
}

#[async_trait]
impl Step for Resources {
    fn name(&self) -> StepName {
        StepName::Resources
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        if site.file.target.kind == TargetKind::Terraform {
            return Ok(match site.acted.contains(&StepName::Resources) {
                true => Observed::Right(
                    "terraform's files are written: apply them, then 'provision validate'"
                        .to_owned(),
                ),
                false => Observed::Wanting("terraform's files are to be written".to_owned()),
            });
        }
        let preview = self.kops.preview().await?;
        let listed = preview.has_changes.then(|| preview.digest());
        if listed.is_none() || listed == site.journal.residue {
            site.journal.residue = listed;
            let what = listed.map_or("kops has nothing to change", |_| RESIDUE);
            return Ok(Observed::Right(what.to_owned()));
        }
        if !site.acted.contains(&StepName::Resources) {
            return Ok(Observed::Wanting("kops has changes to make".to_owned()));
        }
        // Some resources never look to kops as it made them; what the cluster is like is the next steps' to see.
        let what = "kops still lists changes after its update: see its record".to_owned();
        site.observer.event(&Event::Warned { what });
        site.journal.residue = listed;
        Ok(Observed::Right("updated".to_owned()))
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        match (&site.file.target.kind, &site.file.target.folder) {
            (TargetKind::Terraform, Some(folder)) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                self.kops.write_terraform(&folder).await?;
            }
            _ if self.rolls => self.kops.reconcile().await?,
            _ => {
                self.kops.update().await?;
                // What it lists after that may be work that needed the first; what it can't do is not to fail what it did.
                if self.kops.preview().await?.has_changes
                    && let Err(error) = self.kops.update().await
                {
                    let what = format!("a second update came to nothing: {}", told(&error));
                    site.observer.event(&Event::Warned { what });
                }
            }
        }
        Ok(())
    }
}
