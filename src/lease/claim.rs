//! What is written at a lease's key, and what that means for who comes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::SKEW_MAX;
use super::owner::Owner;
use super::place::Found;
use crate::store::Condition;
use crate::verify::Verified;

/// The content of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    #[serde(flatten)]
    pub(super) owner: Owner,
    acquired: Timestamp,
    renewed: Timestamp,
    /// Not after `renewed` when it was released.
    pub(super) expires: Timestamp,
    /// Counts the owners.
    pub(super) generation: u64,
}

impl Claim {
    pub(super) fn new(owner: &Owner, ttl: Duration, now: Timestamp, generation: u64) -> Self {
        Self {
            owner: owner.clone(),
            acquired: now,
            renewed: now,
            expires: later(now, ttl),
            generation,
        }
    }

    pub(super) fn renewed(&self, ttl: Duration, now: Timestamp) -> Self {
        Self {
            renewed: now,
            expires: later(now, ttl),
            ..self.clone()
        }
    }

    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        self.owner.id == owner.id
    }

    /// From when on others may take it; None when it was released.
    fn until(&self) -> Option<Timestamp> {
        let lifetime = self.expires.duration_since(self.renewed);
        let lifetime = Duration::try_from(lifetime).ok().filter(|t| !t.is_zero())?;
        Some(later(self.expires, SKEW_MAX.min(lifetime / 2)))
    }

    /// Until when nobody else may take it, if that is still to come and its owner is not known to be gone.
    pub(super) fn held(&self, now: Timestamp) -> Option<Timestamp> {
        self.until()
            .filter(|until| now < *until && !self.owner.is_gone())
    }

    pub(super) fn document(&self) -> Verified {
        let mut text = serde_json::to_vec_pretty(self).expect("a claim has only strings for keys");
        text.push(b'\n');
        Verified::composed(text)
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether a lease can be taken.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    /// Under this condition, as this generation.
    Free(Condition, u64),
    Theirs {
        owner: Owner,
        until: Timestamp,
    },
}

pub(super) fn standing(found: Option<Found>, owner: &Owner, now: Timestamp) -> Standing {
    let Some(Found { etag, claim }) = found else {
        return Standing::Free(Condition::Absent, 1);
    };
    let unchanged = Condition::Unchanged(etag);
    let Some(claim) = claim else {
        return Standing::Free(unchanged, 1);
    };
    match claim.held(now) {
        _ if claim.is_of(owner) && claim.until().is_some() => {
            Standing::Free(unchanged, claim.generation)
        }
        Some(until) => Standing::Theirs {
            owner: claim.owner,
            until,
        },
        None => Standing::Free(unchanged, claim.generation.saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn owner(id: &str) -> Owner {
        Owner::named(id, "host", 7)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn found(claim: Option<Claim>) -> Found {
        let etag = ETag::new("abc");
        Found { etag, claim }
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
