//! The manifest goes into kops' state store, and is read back: kops drops what it does not know.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Observed, Step, StepError, readback};
use crate::cluster::Manifest;
use crate::kops::Kops;
use crate::provision::journal::StepName;
use crate::provision::kept::write_in;
use crate::provision::{Dropped, Site};

/// How many differences are told.
const TOLD: usize = 8;

#[derive(Debug)]
pub struct Config(pub Arc<Kops>);

#[async_trait]
impl Step for Config {
    fn name(&self) -> StepName {
        StepName::Config
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let manifest = rendered(site)?;
        let Some(documents) = self.0.read().await? else {
            return Ok(Observed::Wanting("kops has no such cluster yet".to_owned()));
        };
        let dropped = readback::dropped(manifest, &documents);
        let surplus = readback::surplus(manifest, &documents);
        if dropped.is_empty() && surplus.is_empty() {
            return Ok(Observed::Right(format!(
                "a cluster and {} instance groups, as rendered",
                manifest.groups.len()
            )));
        }
        let surplus = surplus
            .iter()
            .map(|group| format!("instance group {group} is not wanted"));
        let told: Vec<_> = dropped
            .iter()
            .map(Dropped::to_string)
            .chain(surplus)
            .collect();
        Ok(Observed::Wanting(few(&told)))
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        let manifest = rendered(site)?;
        write_in(
            &site.folder,
            "manifest.yaml",
            manifest.to_string().as_bytes(),
        )?;
        self.0.replace(&site.manifest_path()).await?;
        let documents = self.0.read().await?.unwrap_or_default();
        for group in readback::surplus(manifest, &documents) {
            self.0.delete_group(&group).await?;
        }
        Ok(())
    }
}

pub(super) fn rendered(site: &Site) -> Result<&Manifest, StepError> {
    site.manifest.as_ref().ok_or_else(|| StepError::Blocked {
        what: "the manifest has not been rendered".to_owned(),
    })
}

/// The first of them, and how many there are besides.
fn few(told: &[String]) -> String {
    let first = told
        .iter()
        .take(TOLD)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match told.len().saturating_sub(TOLD) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}
