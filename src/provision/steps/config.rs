//! The manifest goes into kops' state store, and is read back: kops drops what it does not know.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Observed, Step, StepError, readback};
use crate::cluster::Manifest;
use crate::digest::{Algorithm, Digest};
use crate::kops::Kops;
use crate::provision::journal::{Journal, StepName, StepState};
use crate::provision::kept::write_in;
use crate::provision::{Dropped, Site};

/// How many differences are told.
const TOLD: usize = 8;

/// Why a manifest is written though kops has each field of it.
pub const TAKEN_OUT: &str =
    "the manifest is not the one that was written last: what it has no more goes";

/// Whether this manifest, to the byte, is what was last written. What kops has besides may be what a manifest before it had, or what
/// kops has added: that can't be told apart by looking.
pub fn is_written(journal: &Journal, manifest: &Manifest) -> bool {
    let entry = journal.steps.get(&StepName::Config);
    entry.is_some_and(|entry| entry.state == StepState::Done && entry.note == written(manifest))
}

fn written(manifest: &Manifest) -> String {
    let digest = Digest::of(Algorithm::Sha256, manifest.to_string().as_bytes());
    format!(
        "a cluster and {} instance groups, as rendered ({})",
        manifest.groups.len(),
        &digest.hex()[..16]
    )
}

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
            let is_right =
                site.acted.contains(&StepName::Config) || is_written(&site.journal, manifest);
            return Ok(match is_right {
                true => Observed::Right(written(manifest)),
                false => Observed::Wanting(TAKEN_OUT.to_owned()),
            });
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
