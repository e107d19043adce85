//! The key that hosts let in, where the file names one.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::digest::{Algorithm, Digest};
use crate::kops::Kops;
use crate::provision::Site;
use crate::provision::journal::{Journal, StepName, StepState};
use crate::provision::kept::KeptError;

/// What is to be done about this key; None where it is what kops was last given.
pub fn key_to_give(journal: &Journal, path: &Path) -> Result<Option<String>, KeptError> {
    let given = given(path)?;
    let entry = journal.steps.get(&StepName::Keys);
    let is_done = entry.is_some_and(|entry| entry.state == StepState::Done && entry.note == given);
    Ok((!is_done).then(|| format!("give kops {}", path.display())))
}

/// What is noted of a key that was given.
fn given(path: &Path) -> Result<String, KeptError> {
    let key = std::fs::read(path).map_err(|source| KeptError::File {
        path: path.to_owned(),
        source,
    })?;
    let digest = Digest::of(Algorithm::Sha256, &key);
    Ok(format!("{} is known to kops ({digest})", path.display()))
}

#[derive(Debug)]
pub struct Keys(pub Arc<Kops>);

#[async_trait]
impl Step for Keys {
    fn name(&self) -> StepName {
        StepName::Keys
    }

    /// kops tells of keys in a form that differs with each release, so what was done is remembered, with the digest of the key. Giving it
    /// the same key again changes nothing.
    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let Some(path) = &site.file.ssh.public_key else {
            return Ok(Observed::Right(
                "no key: nobody logs in to hosts".to_owned(),
            ));
        };
        let wanting = key_to_give(&site.journal, path)?;
        Ok(match wanting {
            Some(what) if !site.acted.contains(&StepName::Keys) => Observed::Wanting(what),
            _ => Observed::Right(given(path)?),
        })
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        if let Some(path) = &site.file.ssh.public_key {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            self.0.add_key(&path).await?;
        }
        Ok(())
    }
}
