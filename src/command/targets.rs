//! The targets of a run: those where it works, and those that are away, which it goes without.
//!
//! What can't be reached must not hold up what can. The next run looks for it anew, and fills it from what the others have.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::leases::{All, Leases, Taker};
use super::parts;
use crate::config::{Config, Target};
use crate::events::{Event, Observer, told};
use crate::retry::Class;
use crate::store::{Store, StoreError};
use crate::sync::{self, Prepared, SyncError, Wanted};
use crate::transfer::Mirror;

/// Which failures of a target a run bears, as long as another target is there: it goes on without that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bears {
    Nothing,
    /// What may be over the next time. A mistake in the settings is told at once to whoever typed them.
    Passing,
    /// All of them: there is nobody to wait for an answer.
    Anything,
}

impl Bears {
    pub(super) fn bears(self, error: &StoreError) -> bool {
        match self {
            Self::Nothing => false,
            Self::Passing => error.class() == Class::Transient,
            Self::Anything => true,
        }
    }
}

/// What a run is there for at its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    /// A bucket or folder that is missing is made where the settings let it.
    Write,
}

/// The targets of a run.
#[derive(Debug)]
pub(super) struct Targets {
    /// Those where it works: at least one, in the order of the settings.
    pub(super) here: Vec<Arc<dyn Store>>,
    /// Why it goes without the others, by their place.
    pub(super) away: BTreeMap<String, String>,
    bears: Bears,
    observer: Arc<dyn Observer>,
}

impl Targets {
    /// Looks which of the targets are fit to hold a mirror. An error where none is, or where one fails in a way that is not borne.
    pub(super) async fn reach(
        config: &Config,
        purpose: Purpose,
        bears: Bears,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<Self> {
        let reaching = config.to.iter().map(|to| reached(config, to, purpose));
        let mut here = Vec::new();
        let mut failed = Vec::new();
        for (to, reached) in config.to.iter().zip(join_all(reaching).await) {
            match reached {
                Ok(target) => here.push(target),
                Err(error) if bears.bears(&error) => failed.push((to.to_string(), error)),
                Err(error) => return Err(error.into()),
            }
        }
        if here.is_empty() {
            return Err(nowhere(failed));
        }
        let mut targets = Self {
            here,
            away: BTreeMap::new(),
            bears,
            observer,
        };
        for (place, error) in failed {
            targets.note(place, &error);
        }
        Ok(targets)
    }

    /// Goes on without some of them, given by their numbers in ascending order. An error where none would be left.
    pub(super) fn leave_out(&mut self, failed: Vec<(usize, StoreError)>) -> anyhow::Result<()> {
        let place = |at: usize| self.here[at].place().to_owned();
        if failed.len() == self.here.len() {
            let failed = failed.into_iter().map(|(at, error)| (place(at), error));
            return Err(nowhere(failed.collect()));
        }
        for (at, error) in failed.into_iter().rev() {
            self.remove(at, &error);
        }
        Ok(())
    }

    fn remove(&mut self, at: usize, error: &StoreError) {
        let target = self.here.remove(at);
        self.note(target.place().to_owned(), error);
    }

    fn note(&mut self, place: String, error: &StoreError) {
        let why = told(error);
        let what = format!("{place} is left out of this run: {why}");
        self.observer.event(&Event::Warned { what });
        self.away.insert(place, why);
    }

    /// Takes the leases of those that are there, and leaves out those whose lease can't be had.
    pub(super) async fn leases(&mut self, taker: &Taker<'_>) -> anyhow::Result<All> {
        let mut taken = taker.take(&self.here, self.bears).await?;
        if let All::Ours(leases) = &mut taken {
            self.leave_out(std::mem::take(&mut leases.refused))?;
        }
        Ok(taken)
    }

    /// The same, as soon as nobody else has one of them.
    pub(super) async fn leases_in_turn(&mut self, taker: &Taker<'_>) -> anyhow::Result<Leases> {
        let mut leases = taker
            .wait(&self.here, self.bears, self.observer.as_ref())
            .await?;
        self.leave_out(std::mem::take(&mut leases.refused))?;
        Ok(leases)
    }

    /// Plans for a mirror of these, and leaves out those that can't be looked at.
    pub(super) async fn plan(
        &mut self,
        mirror: &mut Mirror,
        wanted: &[Wanted],
        stop: &CancellationToken,
    ) -> Result<Prepared, SyncError> {
        loop {
            mirror.targets.clone_from(&self.here);
            match sync::prepare(mirror, wanted.to_vec(), stop).await {
                Err(SyncError::Target { at, error })
                    if self.here.len() > 1 && self.bears.bears(&error) =>
                {
                    self.remove(at, &error);
                }
                prepared => return prepared,
            }
        }
    }

    /// Whether the run works there.
    pub(super) fn has(&self, target: &Arc<dyn Store>) -> bool {
        self.here.iter().any(|here| Arc::ptr_eq(here, target))
    }

    /// Why the run is not all that was asked for, in one line; None where it goes without none.
    pub(super) fn why(&self) -> Option<String> {
        let lines = self
            .away
            .iter()
            .map(|(place, why)| format!("{place} is left out: {why}"));
        let lines: Vec<String> = lines.collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

async fn reached(
    config: &Config,
    to: &Target,
    purpose: Purpose,
) -> Result<Arc<dyn Store>, StoreError> {
    let target = parts::target(config, to).await?;
    let makes = config.s3.create_bucket || matches!(to, Target::Folder(_));
    target.prepare(purpose == Purpose::Write && makes).await?;
    Ok(target)
}

/// That no target is left. One alone is told as if it were the only one.
fn nowhere(mut failed: Vec<(String, StoreError)>) -> anyhow::Error {
    if failed.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return error.into();
    }
    let lines = failed
        .iter()
        .map(|(place, error)| format!("{place}: {}", told(error)));
    let lines: Vec<String> = lines.collect();
    anyhow!("no target can be used: {}", lines.join("; "))
}
