//! Runs steps one after the other: observe, act where that is not what is wanted, observe again.

mod config;
mod image;
mod keys;
mod kubeconfig;
mod manifest;
mod network;
mod preflight;
mod ready;
mod resources;
mod state_store;

use async_trait::async_trait;

pub use self::config::{Config, TAKEN_OUT, is_written};
pub use self::image::Image;
pub use self::keys::{Keys, key_to_give};
pub use self::kubeconfig::Kubeconfig;
pub use self::manifest::Manifest;
pub use self::network::Network;
pub use self::preflight::Preflight;
pub use self::ready::Ready;
pub use self::resources::{RESIDUE, Resources};
pub use self::state_store::StateStore;
use super::journal::{StepName, StepState};
use super::kept::{self, KeptError};
use super::{Site, readback};
use crate::ami::AmiError;
use crate::cluster::RenderError;
use crate::events::{Event, told};
use crate::kops::KopsError;

/// What a step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// All is as it is wanted; in a few words what that is.
    Right(String),
    /// Something is to be done, and what.
    Wanting(String),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Kops(#[from] KopsError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(transparent)]
    Image(#[from] AmiError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("what is wanted was done, and it is not so: {what}")]
    NotSo { what: String },
    /// Something is to be done by somebody else, or by another command.
    #[error("{what}")]
    Blocked { what: String },
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("stopped")]
    Stopped,
}

/// One step of the way.
#[async_trait]
pub trait Step: Send + Sync {
    fn name(&self) -> StepName;

    /// Looks, and changes nothing.
    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError>;

    /// Does what is wanting. May be done again after it was cut off anywhere.
    async fn act(&self, site: &mut Site) -> Result<(), StepError>;
}

/// Runs the steps, each written down before and after. Ends at the first that fails; a later run begins with the first whose
/// observation is not what is wanted.
pub async fn run(steps: &[Box<dyn Step>], site: &mut Site) -> Result<(), (StepName, StepError)> {
    for step in steps {
        let name = step.name();
        if let Err(error) = carry_out(step.as_ref(), site).await {
            let why = told(&error);
            if matches!(error, StepError::Stopped) {
                site.observer.event(&Event::Stepped {
                    step: name.to_string(),
                    what: "stopped: the same command goes on from there".to_owned(),
                });
            }
            site.journal.note(name, StepState::Failed, why);
            // The step's own failure is the one to tell.
            let _ = keep(site).await;
            return Err((name, error));
        }
    }
    Ok(())
}

async fn carry_out(step: &dyn Step, site: &mut Site) -> Result<(), StepError> {
    let name = step.name();
    if site.stop.is_cancelled() {
        return Err(StepError::Stopped);
    }
    let wanting = match step.observe(site).await? {
        Observed::Right(note) => return done(site, name, note).await,
        Observed::Wanting(what) => what,
    };
    site.observer.event(&Event::Stepped {
        step: name.to_string(),
        what: wanting.clone(),
    });
    site.journal.note(name, StepState::Begun, wanting);
    keep(site).await?;
    let stop = site.stop.clone();
    let acted = stop.run_until_cancelled(step.act(site)).await;
    acted.unwrap_or(Err(StepError::Stopped))?;
    site.acted.insert(name);
    match step.observe(site).await? {
        Observed::Right(note) => done(site, name, note).await,
        Observed::Wanting(what) => Err(StepError::NotSo { what }),
    }
}

async fn done(site: &mut Site, step: StepName, note: String) -> Result<(), StepError> {
    site.observer.event(&Event::Stepped {
        step: step.to_string(),
        what: note.clone(),
    });
    site.journal.note(step, StepState::Done, note);
    keep(site).await
}

/// Writes the journal here and, once that is there, into the state store.
async fn keep(site: &Site) -> Result<(), StepError> {
    kept::keep_in(&site.folder, &site.journal)?;
    if let Some(kept) = &site.kept {
        kept.keep(&site.journal).await?;
    }
    Ok(())
}
