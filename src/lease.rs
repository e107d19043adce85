//! The right to run at a target, one process at a time: an object there that says who has it and until when.
//!
//! Taking it is one conditional write: nothing may be there, or what is there must still be what was read and has expired. Of two
//! that try at once the target lets one through. Whether it honours conditions is not believed but tried, with writes that must
//! fail; where they don't, a lease is *unguarded*: it still tells others that somebody runs, but two that begin at the same moment
//! may both run. That wastes a crossing and breaks nothing, since what is written is verified and the same whoever writes it.
//!
//! Clocks of hosts differ. So a lease counts as expired only half of its lifetime after it says so (at most
//! [`SKEW_MAX`] after), while its owner stops when the lifetime is over.

mod claim;
mod holder;
mod name;
mod owner;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::claim::{Claim, Standing, standing};
pub use self::holder::holder;
pub use self::name::Name;
pub use self::owner::Owner;
use self::place::{Found, Place};
use crate::asset::Key;
use crate::events::told;
use crate::retry::{Attempts, Class, Policy};
use crate::store::{Condition, ETag, Object, Store, StoreError, StoreErrorKind};

/// The most that clocks of two hosts are held to differ by.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// A race is decided after a few of these; a store that is busy gets a few seconds.
const PATIENCE: Policy = Policy {
    attempts: 6,
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
};

/// The leases that bear on one, as they were at a moment: its own and those that it excludes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook(BTreeMap<Key, ETag>);

impl Outlook {
    /// Of those that a listing has.
    pub fn of(name: Name, listed: &[Object]) -> Self {
        let bearing = listed.iter().filter(|object| {
            Name::at(&object.key).is_some_and(|other| other == name || name.excludes(other))
        });
        let etag = |object: &Object| (object.key.clone(), object.etag.clone());
        Self(bearing.map(etag).collect())
    }
}

/// What came of taking a lease.
#[derive(Debug)]
pub enum Taken {
    Ours(Lease),
    /// Another process has it.
    Theirs {
        owner: Owner,
        /// When it can be taken if nobody renews it.
        until: Timestamp,
    },
    /// Ours, but the target does not honour conditions: another may hold itself for the owner as well.
    Unguarded(Lease),
}

/// Why a lease is not ours any more: what runs under it must stop.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{address} was taken over by {owner}: this run stops")]
    TakenOver { address: String, owner: Owner },
    #[error("{address} was removed: this run stops, and the next one takes it anew")]
    Removed { address: String },
    #[error("{address} could not be renewed in time: this run stops")]
    Expired {
        address: String,
        /// None where no answer came.
        source: Option<StoreError>,
    },
}

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum NotRenewed {
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It may still be ours: try again before it expires.
    #[error(transparent)]
    Store(StoreError),
}

/// A lease that is ours until it expires, is released or lost. Dropped, it expires.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    ttl: Duration,
    claim: Claim,
    etag: ETag,
    /// Whether the target honours conditions.
    is_guarded: bool,
    /// When the last renewal that succeeded was begun.
    renewed: Instant,
    /// What it found, its own key as it was before.
    found: Outlook,
    /// It was seen that it is another's.
    is_lost: bool,
}

impl Lease {
    /// Takes the lease if nobody has it, it has expired or been released, or is this owner's already; and if nobody has one that it
    /// excludes.
    ///
    /// Of two that exclude each other each writes its own first and looks for the other's then, so that one of them at least sees
    /// the other.
    pub async fn take(
        store: &Arc<dyn Store>,
        name: Name,
        owner: &Owner,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let place = Place {
            store: Arc::clone(store),
            key: name.key(),
        };
        let mut attempts = Attempts::new(PATIENCE);
        let lease = loop {
            let renewed = Instant::now();
            let found = place.read().await?;
            let found_etag = found.as_ref().map(|found| found.etag.clone());
            let (condition, generation) = match standing(found, owner, now) {
                Standing::Free(condition, generation) => (condition, generation),
                Standing::Theirs { owner, until } => return Ok(Taken::Theirs { owner, until }),
            };
            let claim = Claim::new(owner, ttl, now, generation);
            match place.put(&claim, &condition).await {
                Ok(etag) => {
                    break Self {
                        found: Outlook(
                            found_etag
                                .map(|e| (place.key.clone(), e))
                                .into_iter()
                                .collect(),
                        ),
                        place,
                        ttl,
                        claim,
                        etag,
                        is_guarded: true,
                        renewed,
                        is_lost: false,
                    };
                }
                Err(error) => pause_after(error, &mut attempts).await?,
            }
        };
        lease.unrivalled(name, now).await
    }

    /// Gives it back where another holds a lease that this one excludes.
    async fn unrivalled(mut self, name: Name, now: Timestamp) -> Result<Taken, StoreError> {
        let mut attempts = Attempts::new(PATIENCE);
        loop {
            let Some(rival) = self.rival(name, now).await? else {
                return self.proven().await;
            };
            let is_patient =
                !name.gives_way_to(rival.name) && self.renewed.elapsed() < self.ttl / 3;
            let patience = attempts.failed().filter(|_| is_patient);
            let Some(pause) = patience else {
                self.release(now).await?;
                let Rival { owner, until, .. } = rival;
                return Ok(Taken::Theirs { owner, until });
            };
            sleep(pause).await;
        }
    }

    /// One that holds a lease that this one excludes, of those that are left the longest. Notes what is there.
    async fn rival(&mut self, name: Name, now: Timestamp) -> Result<Option<Rival>, StoreError> {
        let listed = self.place.store.list_service().await?;
        let outlook = Outlook::of(name, &listed);
        let mut rivals = Vec::new();
        for (key, etag) in outlook.0 {
            if key == self.place.key {
                continue;
            }
            let place = Place {
                store: Arc::clone(&self.place.store),
                key: key.clone(),
            };
            let claim = place.read().await?.and_then(|found| found.claim);
            rivals.extend(claim.and_then(|claim| self.rival_by(Name::at(&key)?, claim, now)));
            self.found.0.insert(key, etag);
        }
        Ok(rivals.into_iter().max_by_key(|rival| rival.until))
    }

    fn rival_by(&self, name: Name, claim: Claim, now: Timestamp) -> Option<Rival> {
        let until = claim.held(now).filter(|_| !claim.is_of(self.owner()))?;
        let owner = claim.owner;
        Some(Rival { name, owner, until })
    }

    /// Whether nobody can have run between that outlook and the taking: what was seen at the target since then is as it was left.
    pub fn is_next_after(&self, outlook: &Outlook) -> bool {
        self.found == *outlook
    }

    /// Finds out whether the target would have refused, by writes that it must refuse. They have the content that is there, so one
    /// that it lets through changes nothing.
    async fn proven(mut self) -> Result<Taken, StoreError> {
        let never = ETag::new(&"0".repeat(self.etag.as_str().len()));
        let (absent, unchanged) = (Condition::Absent, Condition::Unchanged(never));
        let lets_through = |condition| self.place.lets_through(&self.claim, condition);
        let (first, second) = try_join(lets_through(&absent), lets_through(&unchanged)).await?;
        if first || second {
            self.is_guarded = false;
            return Ok(Taken::Unguarded(self));
        }
        Ok(Taken::Ours(self))
    }

    /// Whose it is.
    pub fn owner(&self) -> &Owner {
        &self.claim.owner
    }

    /// When it expires if it is not renewed.
    pub fn expires(&self) -> Timestamp {
        self.claim.expires
    }

    /// Counts the owners that this lease has had: who acts under it can be told from who did before.
    pub fn generation(&self) -> u64 {
        self.claim.generation
    }

    /// Renews it for another lifetime; to be called each third of that. One attempt.
    pub async fn renew(&mut self, now: Timestamp) -> Result<(), NotRenewed> {
        let begun = Instant::now();
        let claim = self.claim.renewed(self.ttl, now);
        self.replace(claim).await?;
        self.renewed = begun;
        Ok(())
    }

    /// Renews it until it is stopped, or else says how it was lost. May be dropped at any time.
    pub async fn keep(
        &mut self,
        clock: &(dyn Fn() -> Timestamp + Send + Sync),
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            lost = self.renew_until_lost(clock) => Err(lost),
        }
    }

    async fn renew_until_lost(&mut self, clock: &(dyn Fn() -> Timestamp + Send + Sync)) -> Lost {
        let mut next = self.renewed + self.ttl / 3;
        loop {
            let deadline = self.renewed + self.ttl;
            sleep_until(next).await;
            let failed = match timeout_at(deadline, self.renew(clock())).await {
                Ok(Ok(())) => {
                    next = self.renewed + self.ttl / 3;
                    continue;
                }
                Ok(Err(NotRenewed::Lost(lost))) => return lost,
                Ok(Err(NotRenewed::Store(error))) => Some(error),
                Err(_) => None,
            };
            // Often enough before the end, and never without a pause.
            next = Instant::now() + (self.ttl / 12).max(Duration::from_millis(10));
            if next >= deadline {
                let address = self.place.address();
                return Lost::Expired {
                    address,
                    source: failed,
                };
            }
            if let Some(error) = failed {
                tracing::warn!("{}; it is tried again", told(&error));
            }
        }
    }

    /// Gives it back, so that the next one need not wait. One that is not ours any more is left alone.
    ///
    /// What is still ours for a while is removed. Where that is refused it stays, as one that nobody has.
    pub async fn release(mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.is_lost {
            return Ok(());
        }
        if self.is_guarded && self.renewed.elapsed() < self.ttl / 2 {
            match self.place.store.delete(&self.place.key).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!("{}; it is given back instead", told(&error)),
            }
        }
        let claim = self.claim.renewed(Duration::ZERO, now);
        match self.replace(claim).await {
            Ok(()) | Err(NotRenewed::Lost(_)) => Ok(()),
            Err(NotRenewed::Store(error)) => Err(error),
        }
    }

    /// Puts another claim in the place of ours.
    async fn replace(&mut self, claim: Claim) -> Result<(), NotRenewed> {
        let replaced = self.replace_ours(claim).await;
        self.is_lost |= matches!(replaced, Err(NotRenewed::Lost(_)));
        replaced
    }

    async fn replace_ours(&mut self, claim: Claim) -> Result<(), NotRenewed> {
        if !self.is_guarded {
            // The target does not compare, so we do; the moment between is what it can't guard.
            self.etag = self.ours().await?;
        }
        let first = self.put(&claim).await;
        let put = match first {
            Err(error) if error.class() == Class::Permanent => {
                self.etag = self.ours_or(error).await?;
                self.put(&claim).await
            }
            put => put,
        };
        self.etag = put.map_err(NotRenewed::Store)?;
        self.claim = claim;
        Ok(())
    }

    async fn put(&self, claim: &Claim) -> Result<ETag, StoreError> {
        let condition = Condition::Unchanged(self.etag.clone());
        self.place.put(claim, &condition).await
    }

    /// What our claim's `ETag` is by now, after a write was refused: an earlier one of ours, whose answer was lost, may have got
    /// through.
    async fn ours_or(&self, refused: StoreError) -> Result<ETag, NotRenewed> {
        let etag = self.ours().await?;
        let is_known = etag == self.etag && refused.kind != StoreErrorKind::ConditionFailed;
        if is_known {
            return Err(NotRenewed::Store(refused));
        }
        Ok(etag)
    }

    /// The `ETag` of what is there, while it is ours.
    async fn ours(&self) -> Result<ETag, NotRenewed> {
        let address = self.place.address();
        match self.place.read().await.map_err(NotRenewed::Store)? {
            None => Err(Lost::Removed { address }.into()),
            Some(Found {
                etag,
                claim: Some(claim),
            }) if claim.is_of(&self.claim.owner) => Ok(etag),
            Some(Found { claim, .. }) => {
                let owner = claim.map_or_else(Owner::unknown, |claim| claim.owner);
                Err(Lost::TakenOver { address, owner }.into())
            }
        }
    }
}

/// Who holds a lease that excludes ours.
#[derive(Debug)]
struct Rival {
    name: Name,
    owner: Owner,
    until: Timestamp,
}

/// Waits a little where a race was lost or the store may do better; else gives the error back.
async fn pause_after(error: StoreError, attempts: &mut Attempts) -> Result<(), StoreError> {
    let is_worth_it =
        error.kind == StoreErrorKind::ConditionFailed || error.class() == Class::Transient;
    match attempts.failed().filter(|_| is_worth_it) {
        Some(pause) => sleep(pause).await,
        None => return Err(error),
    }
    Ok(())
}
