//! The image is there, available and of the right processors; copied or built where the file says so.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::ami::Kind;
use crate::provision::image::{self, ImageMaker};
use crate::provision::journal::{Made, MadeKind, StepName};
use crate::provision::kept::keep_in;
use crate::provision::{Journal, Site};

#[derive(Debug)]
pub struct Image(pub ImageMaker);

#[async_trait]
impl Step for Image {
    fn name(&self) -> StepName {
        StepName::Image
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let sight = image::look_up(&self.0.cloud, &site.file).await?;
        let told: Vec<_> = sight
            .images
            .iter()
            .map(|(arch, image)| format!("{image} for {}", arch.name()))
            .collect();
        site.found.images = sight.images;
        Ok(match sight.to_come {
            None => Observed::Right(told.join(", ")),
            Some(what) => Observed::Wanting(what),
        })
    }

    /// What is made is in the journal here before anything is done with it: a run that is killed then leaves nothing that nobody knows of.
    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        let journal = Mutex::new(site.journal.clone());
        let (region, folder) = (site.file.region.clone(), site.folder.clone());
        let ledger = |kind: Kind, id: &str| {
            let mut journal = lock(&journal);
            journal.add_made(Made {
                kind: kind.into(),
                id: id.to_owned(),
                region: region.clone(),
            });
            if let Err(error) = keep_in(&folder, &journal) {
                // Its tags tell as much; the next step that is kept says why.
                tracing::warn!("{}", crate::events::told(&error));
            }
        };
        let made = self.0.make(&site.file, &ledger, site.observer.as_ref());
        let made = made.await;
        site.journal = lock(&journal).clone();
        made?;
        Ok(())
    }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<Kind> for MadeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Image => Self::Image,
            Kind::Snapshot => Self::Snapshot,
            Kind::Instance => Self::Instance,
        }
    }
}
