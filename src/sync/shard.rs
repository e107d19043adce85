//! Deals assets out to several workers that know nothing of each other, by rendezvous hashing of their keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde::{Deserialize, Deserializer};
use tokio_util::sync::CancellationToken;

use super::{Left, LeftTo, Prepared, SyncError, Wanted, carry_out, look};
use crate::asset::{Asset, Key};
use crate::digest::{Algorithm, Digest};
use crate::events::{Event, told};
use crate::plan::Item;
use crate::report::{Exit, Report};
use crate::transfer::Mirror;
use crate::vouch::Vouched;

/// One of several workers: `2/4` is the third of four. The numbers count from 0, as an Indexed Job's do
/// (kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    index: usize,
    of: usize,
}

/// A text that is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no shard: give its number and how many there are, counted from 0: 0/4, 1/4, 2/4, 3/4", .0.escape_debug())]
pub struct BadShard(String);

impl Shard {
    /// More than these are a mistake: each is a process.
    const MOST: usize = 1000;

    /// None where there is no such one.
    pub fn new(index: usize, of: usize) -> Option<Self> {
        (index < of && of <= Self::MOST).then_some(Self { index, of })
    }

    /// Whether it is this one that brings the key. With one worker more or less, only a fair share of the keys changes hands.
    pub fn takes(self, key: &Key) -> bool {
        (0..self.of).max_by_key(|&worker| score(key, worker)) == Some(self.index)
    }

    /// Its number and how many there are.
    pub fn parts(self) -> (usize, usize) {
        (self.index, self.of)
    }
}

fn score(key: &Key, worker: usize) -> [u8; 8] {
    let digest = Digest::of(Algorithm::Sha256, format!("{key}\n{worker}").as_bytes());
    let mut score = [0; 8];
    score.copy_from_slice(&digest.bytes()[..8]);
    score
}

impl Prepared {
    /// Leaves to others what is not this shard's; what is there already is nobody's.
    pub fn only_of(&mut self, shard: Shard) {
        let is_others = |item: &Item| !item.is_done() && !shard.takes(&item.wanted.asset.key);
        let (others, ours) = std::mem::take(&mut self.plan.items)
            .into_iter()
            .partition::<Vec<_>, _>(is_others);
        self.plan.items = ours;
        let left = others.into_iter().map(|item| Left {
            key: item.wanted.asset.key,
            why: "another shard brings it".to_owned(),
            by: LeftTo::OtherShard,
        });
        self.left.extend(left);
    }
}

/// What other workers bring of releases that is no file.
#[async_trait]
pub trait Others: Send + Sync + fmt::Debug {
    /// Looks what is there by now, and notes it.
    async fn look(&self, wanted: &mut [Wanted]);
}

/// Carries out one worker's share. Then it looks again, at what is of `others` too: whoever finds that they have brought theirs marks the
/// releases. Of workers that end at once each may find that, and write the same.
pub async fn carry_out_share(
    mirror: &Arc<Mirror>,
    mut prepared: Prepared,
    shard: Shard,
    others: Option<&dyn Others>,
    stop: &CancellationToken,
) -> Report {
    let again = Again::of(&prepared);
    prepared.only_of(shard);
    let report = carry_out(mirror, prepared, stop).await;
    if report.exit() != Exit::Done {
        return report;
    }
    let looked = stop.run_until_cancelled(again.look(mirror, others)).await;
    let again = match looked {
        None => return report,
        Some(Ok(again)) => again,
        Some(Err(error)) => {
            let what = format!("whether all shards are done is not known: {}", told(&error));
            mirror.observer.event(&Event::Warned { what });
            return report;
        }
    };
    // What is there and in no index yet is looked at by whoever marks.
    if again.plan.items.iter().any(Item::needs_content) {
        return report;
    }
    joined(report, carry_out(mirror, again, stop).await)
}

/// What is wanted and who vouches for it, to be compared once more with what is there.
struct Again {
    wanted: Vec<Wanted>,
    vouched: Vec<Vouched>,
    left: Vec<Left>,
}

impl Again {
    fn of(prepared: &Prepared) -> Self {
        let vouched: Vec<Vouched> = prepared
            .plan
            .all()
            .map(|item| item.wanted.clone())
            .collect();
        let assets_of = |keys: &std::collections::BTreeSet<Key>| -> Vec<Asset> {
            let assets = vouched.iter().map(|vouched| &vouched.asset);
            assets
                .filter(|asset| keys.contains(&asset.key))
                .cloned()
                .collect()
        };
        let releases = prepared.releases.iter();
        let wanted = releases.map(|(release, keys)| Wanted {
            release: release.clone(),
            assets: assets_of(keys),
            images: Vec::new(),
            lacks: prepared.lacking.get(&release.name).cloned(),
            awaits: prepared.awaiting.contains(&release.name),
        });
        Self {
            wanted: wanted.collect(),
            vouched,
            left: prepared.left.clone(),
        }
    }

    async fn look(
        mut self,
        mirror: &Mirror,
        others: Option<&dyn Others>,
    ) -> Result<Prepared, SyncError> {
        if let Some(others) = others {
            others.look(&mut self.wanted).await;
        }
        let targets = mirror.targets.iter();
        let looks = targets.map(|target| look(target.as_ref(), &self.wanted));
        let seen = try_join_all(looks).await?;
        let mut prepared = Prepared::known(self.wanted, self.vouched, seen, &[])?;
        prepared.left = self.left;
        Ok(prepared)
    }
}

/// What was brought first, and what became of the rest.
fn joined(share: Report, rest: Report) -> Report {
    let mut outcomes = rest.outcomes;
    for outcome in &mut outcomes {
        let ours = share.outcomes.iter().find(|ours| ours.key == outcome.key);
        if let Some(ours) = ours.filter(|ours| ours.why.is_none()) {
            *outcome = ours.clone();
        }
    }
    Report {
        outcomes,
        marked: rest.marked,
        bytes_fetched: share.bytes_fetched + rest.bytes_fetched,
        bytes_refetched: share.bytes_refetched + rest.bytes_refetched,
        elapsed: share.elapsed + rest.elapsed,
        interrupted: rest.interrupted,
        ..share
    }
}

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            let (index, of) = (index.trim().parse().ok()?, of.trim().parse().ok()?);
            Self::new(index, of)
        });
        numbers.ok_or_else(|| BadShard(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl<'de> Deserialize<'de> for Shard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Key> {
        let key = |n: usize| format!("release/v1.34.8/file-{n}").parse().unwrap();
        (0..1000).map(key).collect()
    }

    fn owner(key: &Key, of: usize) -> usize {
        let takes: Vec<usize> = (0..of)
            .filter(|&index| Shard::new(index, of).unwrap().takes(key))
            .collect();
        assert_eq!(takes.len(), 1, "{key} has one owner");
        takes[0]
    }

    #[test]
    fn each_key_has_one_owner_and_the_shares_are_fair() {
        let mut shares = [0; 4];
        for key in keys() {
            shares[owner(&key, 4)] += 1;
        }
        assert!(
            shares.iter().all(|&share| (200..300).contains(&share)),
            "{shares:?}"
        );
    }

    #[test]
    fn one_worker_more_takes_from_all_and_moves_nothing_else() {
        let moved = keys()
            .iter()
            .filter(|key| owner(key, 4) != owner(key, 5))
            .count();
        let to_the_new_one = keys().iter().filter(|key| owner(key, 5) == 4).count();
        assert_eq!(moved, to_the_new_one);
    }

    #[test]
    fn a_shard_counts_from_nought() {
        assert_eq!("0/4".parse(), Ok(Shard { index: 0, of: 4 }));
        for bad in ["4/4", "1", "1/0", "-1/4", "a/b", "1/4/4", "0/5000"] {
            let error = bad.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains("counted from 0"));
        }
    }
}
