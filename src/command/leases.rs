//! The leases of all targets of a run, taken and kept together, so that one process runs at each of them at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Observer, told};
use crate::lease::{Lease, Lost, Name, Outlook, Owner, Taken};
use crate::store::{Object, Store, StoreError};
use crate::sync::Shard;

use super::targets::Bears;

/// Whoever ends does not wait longer for a target that is away.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether another process has ended; not at the same moments as others who wait.
const LOOK_AGAIN_MS: std::ops::Range<u64> = 500..2000;

/// Leases that are ours: at least one, since there is no set without a target.
#[derive(Debug)]
pub(super) struct Leases {
    held: Vec<Lease>,
    /// Targets that do not honour conditions, in one line each.
    pub(super) notes: Vec<String>,
    /// Targets whose lease could not be had, by their numbers, in order; none where nothing is borne.
    pub(super) refused: Vec<(usize, StoreError)>,
}

/// What a run takes leases with.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    pub(super) shard: Option<Shard>,
    pub(super) owner: &'a Owner,
    pub(super) ttl: Duration,
}

impl Taker<'_> {
    /// Takes those of all targets, but for those that fail in a way that is borne. An error where none is had.
    pub(super) async fn take(
        &self,
        targets: &[Arc<dyn Store>],
        bears: Bears,
    ) -> Result<All, StoreError> {
        let mut ours = Leases {
            held: Vec::new(),
            notes: Vec::new(),
            refused: Vec::new(),
        };
        for (at, target) in targets.iter().enumerate() {
            let now = Timestamp::now();
            match Lease::take(target, name(self.shard), self.owner, self.ttl, now).await {
                Ok(Taken::Ours(lease)) => ours.held.push(lease),
                Ok(Taken::Unguarded(lease)) => {
                    ours.held.push(lease);
                    ours.notes.push(format!(
                        "{} has no conditional writes: two processes may run there at once, which wastes bytes and breaks nothing",
                        target.place()
                    ));
                }
                Ok(Taken::Theirs { owner, until }) => {
                    ours.give_back().await;
                    let place = target.place();
                    return Ok(All::Theirs {
                        why: format!("{owner} runs at {place}; it can be taken over after {until}"),
                        until,
                    });
                }
                Err(error) if bears.bears(&error) => ours.refused.push((at, error)),
                Err(error) => {
                    ours.give_back().await;
                    return Err(error);
                }
            }
        }
        if ours.held.is_empty() && !ours.refused.is_empty() {
            return Err(ours.refused.swap_remove(0).1);
        }
        Ok(All::Ours(ours))
    }

    /// Takes them once nobody else has them, and tells for whom that has to wait.
    pub(super) async fn wait(
        &self,
        targets: &[Arc<dyn Store>],
        bears: Bears,
        observer: &dyn Observer,
    ) -> Result<Leases, StoreError> {
        let mut told = String::new();
        loop {
            let why = match self.take(targets, bears).await? {
                All::Ours(leases) => return Ok(leases),
                All::Theirs { why, .. } => why,
            };
            if told != why {
                let what = format!("its turn: {why}");
                observer.event(&Event::Waiting { what });
                told = why;
            }
            sleep(Duration::from_millis(fastrand::u64(LOOK_AGAIN_MS))).await;
        }
    }
}

/// What came of taking them.
#[derive(Debug)]
pub(super) enum All {
    Ours(Leases),
    /// Another has one of them: none is held.
    Theirs {
        why: String,
        /// When it can be taken if nobody renews it.
        until: Timestamp,
    },
}

impl Leases {
    /// Whether nobody else can have run at a target since it was looked at.
    pub(super) fn are_next_after<'a>(
        &self,
        seen: impl Iterator<Item = &'a [Object]>,
        shard: Option<Shard>,
    ) -> bool {
        let mut both = self.held.iter().zip(seen);
        both.all(|(lease, listed)| lease.is_next_after(&Outlook::of(name(shard), listed)))
    }

    /// Keeps them while some work goes on, and gives them back at its end. When one is lost, `stop` is cancelled, which the work heeds.
    pub(super) async fn during<T>(
        mut self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> (T, Option<Lost>) {
        let ended = CancellationToken::new();
        let keeping = async {
            let lost = self.keep(&ended).await.err();
            if lost.is_some() {
                stop.cancel();
            }
            lost
        };
        let working = async {
            let done = work.await;
            ended.cancel();
            done
        };
        let (done, lost) = tokio::join!(working, keeping);
        if timeout(GIVING_BACK_MAX, self.give_back()).await.is_err() {
            tracing::warn!("a target does not take its lease back in time, which has to expire");
        }
        (done, lost)
    }

    /// Renews them until the end; the first that is lost ends it.
    async fn keep(&mut self, ended: &CancellationToken) -> Result<(), Lost> {
        let clock = Timestamp::now;
        let keeping = self
            .held
            .iter_mut()
            .map(|lease| Box::pin(lease.keep(&clock, ended)));
        select_all(keeping).await.0
    }

    /// Gives them back. What can't be given back expires.
    async fn give_back(self) {
        for lease in self.held {
            if let Err(error) = lease.release(Timestamp::now()).await {
                tracing::warn!(
                    "a lease was not given back and has to expire: {}",
                    told(&error)
                );
            }
        }
    }
}

fn name(shard: Option<Shard>) -> Name {
    shard.map_or(Name::Whole, |shard| {
        let (index, of) = shard.parts();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Name::Shard {
            number: number(index) + 1,
            of: number(of),
        }
    })
}
