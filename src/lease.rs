//! The right to run at a target, one process at a time: an object there that says who has it and until when.
//!
//! Taking it is one conditional write: nothing may be there, or what is there must still be what was read and has expired. Of two
//! that try at once the target lets one through. Whether it honours conditions is not believed but tried, with writes that must
//! fail; where they don't, a lease is *unguarded*: it still tells others that somebody runs, but two that begin at the same moment
//! may both run. That wastes a crossing and breaks nothing, since what is written is verified and the same whoever writes it.
//!
//! Clocks of hosts differ. So a lease counts as expired only half of its lifetime after it says so (at most
//! [`SKEW_MAX`] after), while its owner stops when the lifetime is over.

use std::fmt;
use std::fs;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::asset::Key;
use crate::events::told;
use crate::retry::{Attempts, Class, Policy};
use crate::store::{
    Attributes, Condition, ETag, SERVICE_FOLDER, Store, StoreError, StoreErrorKind,
};
use crate::verify::Verified;

/// The most that clocks of two hosts are held to differ by.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// A lease that is larger than this is none.
const CLAIM_MAX_BYTES: u64 = 64 * 1024;

/// A race is decided after a few of these; a store that is busy gets a few seconds.
const PATIENCE: Policy = Policy {
    attempts: 6,
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
};

/// What a lease is for: all of a target, or one of several shards of the work there. Those of different names do not exclude each
/// other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Name {
    /// `lease.json`
    #[default]
    Whole,
    /// `lease-2-of-4.json`: the shard, counted from 1, and how many there are.
    Shard { number: u32, of: u32 },
}

impl Name {
    /// Where it is, below the mirror's prefix.
    pub fn key(self) -> Key {
        let key = match self {
            Self::Whole => format!("{SERVICE_FOLDER}lease.json"),
            Self::Shard { number, of } => format!("{SERVICE_FOLDER}lease-{number}-of-{of}.json"),
        };
        key.parse().expect("it is made of words and numbers")
    }
}

/// A process that runs, told from every other one. It sees by itself to it that it takes a lease once at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Drawn when the process starts.
    #[serde(rename = "owner")]
    pub id: String,
    /// For the reader.
    pub host: String,
    pub pid: u32,
}

impl Owner {
    /// This process, under a new name each time.
    pub fn this_process() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            host: Some(host.trim())
                .filter(|host| !host.is_empty())
                .unwrap_or("unknown")
                .to_owned(),
            pid: process::id(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// The content of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    #[serde(flatten)]
    owner: Owner,
    acquired: Timestamp,
    renewed: Timestamp,
    /// Not after `renewed` when it was released.
    expires: Timestamp,
    /// Counts the owners.
    generation: u64,
}

impl Claim {
    fn new(owner: &Owner, ttl: Duration, now: Timestamp, generation: u64) -> Self {
        Self {
            owner: owner.clone(),
            acquired: now,
            renewed: now,
            expires: later(now, ttl),
            generation,
        }
    }

    fn renewed(&self, ttl: Duration, now: Timestamp) -> Self {
        Self {
            renewed: now,
            expires: later(now, ttl),
            ..self.clone()
        }
    }

    fn is_of(&self, owner: &Owner) -> bool {
        self.owner.id == owner.id
    }

    /// From when on others may take it; None when it was released.
    fn until(&self) -> Option<Timestamp> {
        let lifetime = self.expires.duration_since(self.renewed);
        let lifetime = Duration::try_from(lifetime).ok().filter(|t| !t.is_zero())?;
        Some(later(self.expires, SKEW_MAX.min(lifetime / 2)))
    }

    fn document(&self) -> Verified {
        let mut text = serde_json::to_vec_pretty(self).expect("a claim has only strings for keys");
        text.push(b'\n');
        Verified::composed(text)
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
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
}

impl Lease {
    /// Takes the lease if nobody has it, it has expired or been released, or is this owner's already.
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
        loop {
            let renewed = Instant::now();
            let (condition, generation) = match standing(place.read().await?, owner, now) {
                Standing::Free(condition, generation) => (condition, generation),
                Standing::Theirs { owner, until } => return Ok(Taken::Theirs { owner, until }),
            };
            let claim = Claim::new(owner, ttl, now, generation);
            match place.put(&claim, &condition).await {
                Ok(etag) => {
                    let lease = Self {
                        place,
                        ttl,
                        claim,
                        etag,
                        is_guarded: true,
                        renewed,
                    };
                    return lease.proven().await;
                }
                Err(error) => pause_after(error, &mut attempts).await?,
            }
        }
    }

    /// Finds out whether the target would have refused, by writes that it must refuse. They have the content that is there, so one
    /// that it lets through changes nothing.
    async fn proven(mut self) -> Result<Taken, StoreError> {
        let never = ETag::new(&"0".repeat(self.etag.as_str().len()));
        for condition in [Condition::Absent, Condition::Unchanged(never)] {
            if self.place.lets_through(&self.claim, &condition).await? {
                self.is_guarded = false;
                return Ok(Taken::Unguarded(self));
            }
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
    pub async fn release(mut self, now: Timestamp) -> Result<(), StoreError> {
        let claim = self.claim.renewed(Duration::ZERO, now);
        match self.replace(claim).await {
            Ok(()) | Err(NotRenewed::Lost(_)) => Ok(()),
            Err(NotRenewed::Store(error)) => Err(error),
        }
    }

    /// Puts another claim in the place of ours.
    async fn replace(&mut self, claim: Claim) -> Result<(), NotRenewed> {
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
                let owner = claim.map_or_else(unknown, |claim| claim.owner);
                Err(Lost::TakenOver { address, owner }.into())
            }
        }
    }
}

/// Whoever wrote what nobody can read.
fn unknown() -> Owner {
    Owner {
        id: String::new(),
        host: "an unknown host".to_owned(),
        pid: 0,
    }
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

/// Whether a lease can be taken.
#[derive(Debug, PartialEq)]
enum Standing {
    /// Under this condition, as this generation.
    Free(Condition, u64),
    Theirs {
        owner: Owner,
        until: Timestamp,
    },
}

fn standing(found: Option<Found>, owner: &Owner, now: Timestamp) -> Standing {
    let Some(Found { etag, claim }) = found else {
        return Standing::Free(Condition::Absent, 1);
    };
    let unchanged = Condition::Unchanged(etag);
    let Some(claim) = claim else {
        return Standing::Free(unchanged, 1);
    };
    match claim.until() {
        Some(_) if claim.is_of(owner) => Standing::Free(unchanged, claim.generation),
        Some(until) if now < until => Standing::Theirs {
            owner: claim.owner,
            until,
        },
        _ => Standing::Free(unchanged, claim.generation.saturating_add(1)),
    }
}

/// What is at a lease's key.
#[derive(Debug)]
struct Found {
    etag: ETag,
    /// None when nobody can read it.
    claim: Option<Claim>,
}

/// A key at a target.
#[derive(Debug, Clone)]
struct Place {
    store: Arc<dyn Store>,
    key: Key,
}

impl Place {
    fn address(&self) -> String {
        format!("{}/{}", self.store.place(), self.key)
    }

    async fn read(&self) -> Result<Option<Found>, StoreError> {
        let Some(content) = self.store.open(&self.key).await? else {
            return Ok(None);
        };
        let etag = content.etag;
        if content.length > CLAIM_MAX_BYTES {
            return Ok(Some(Found { etag, claim: None }));
        }
        let chunks: Vec<_> = content.chunks.try_collect().await?;
        let claim = serde_json::from_slice(&chunks.concat());
        if let Err(error) = &claim {
            let address = self.address();
            tracing::warn!(
                "{address} is no lease that anybody can read, so nobody has it: {error}"
            );
        }
        let claim = claim.ok();
        Ok(Some(Found { etag, claim }))
    }

    async fn put(&self, claim: &Claim, condition: &Condition) -> Result<ETag, StoreError> {
        let attributes = Attributes {
            content_type: "application/json".to_owned(),
            ..Attributes::default()
        };
        let content = claim.document();
        self.store
            .put(&self.key, &content, &attributes, condition)
            .await
    }

    /// Whether a put gets through whose condition does not hold.
    async fn lets_through(&self, claim: &Claim, condition: &Condition) -> Result<bool, StoreError> {
        let mut attempts = Attempts::new(PATIENCE);
        loop {
            match self.put(claim, condition).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == StoreErrorKind::ConditionFailed => return Ok(false),
                Err(error) => pause_after(error, &mut attempts).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str) -> Owner {
        Owner {
            id: id.to_owned(),
            host: "host".to_owned(),
            pid: 7,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn found(claim: Option<Claim>) -> Found {
        let etag = ETag::new("abc");
        Found { etag, claim }
    }

    #[test]
    fn names_have_keys_of_their_own_out_of_sight() {
        let shard = Name::Shard { number: 2, of: 4 };
        assert_eq!(Name::Whole.key().as_str(), ".service/lease.json");
        assert_eq!(shard.key().as_str(), ".service/lease-2-of-4.json");
    }

    #[test]
    fn a_lease_is_free_when_it_has_expired_and_clocks_had_their_margin() {
        let ttl = Duration::from_secs(20);
        let unchanged = Condition::Unchanged(ETag::new("abc"));
        let claim = Claim::new(&owner("a"), ttl, at(0), 3);
        let theirs = Standing::Theirs {
            owner: owner("a"),
            until: at(30),
        };
        let standing_at = |now| standing(Some(found(Some(claim.clone()))), &owner("b"), now);
        assert_eq!(standing_at(at(29)), theirs);
        assert_eq!(standing_at(at(30)), Standing::Free(unchanged.clone(), 4));
        // Its own owner needs no margin and is no new one.
        let own = standing(Some(found(Some(claim.clone()))), &owner("a"), at(1));
        assert_eq!(own, Standing::Free(unchanged, 3));
    }

    #[test]
    fn the_margin_is_bounded() {
        let claim = Claim::new(&owner("a"), Duration::from_hours(1), at(0), 1);
        assert_eq!(claim.until(), Some(at(3600 + 30)));
    }

    #[test]
    fn a_released_lease_is_free_whatever_the_clocks_say() {
        let held = Claim::new(&owner("a"), Duration::from_secs(20), at(1000), 3);
        let released = held.renewed(Duration::ZERO, at(1000));
        let long_before = standing(Some(found(Some(released))), &owner("b"), at(0));
        assert!(matches!(long_before, Standing::Free(_, 4)));
    }

    #[test]
    fn rubbish_is_nobodys() {
        let condition = Condition::Unchanged(ETag::new("abc"));
        let standing = standing(Some(found(None)), &owner("b"), at(0));
        assert_eq!(standing, Standing::Free(condition, 1));
    }

    #[test]
    fn a_claim_is_one_flat_document() {
        let claim = Claim::new(&owner("a"), Duration::from_secs(20), at(0), 3);
        let text = serde_json::to_value(&claim).unwrap();
        let names: Vec<&str> = text
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            names,
            [
                "acquired",
                "expires",
                "generation",
                "host",
                "owner",
                "pid",
                "renewed"
            ]
        );
        assert_eq!(serde_json::from_value::<Claim>(text).unwrap(), claim);
    }
}
