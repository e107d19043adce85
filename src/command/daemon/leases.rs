//! The leases of all targets of a run, taken and kept together.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::events::told;
use crate::lease::{Lease, Lost, Name, Owner, Taken};
use crate::store::{Store, StoreError};
use crate::sync::Shard;

/// Whoever ends does not wait longer for a target that is away.
const GIVING_BACK_MAX: Duration = Duration::from_secs(5);

/// Leases that are ours: at least one, since there is no set without a target.
#[derive(Debug)]
pub(in crate::command) struct Leases {
    leases: Vec<Lease>,
    /// Targets that do not honour conditions, in one line each.
    pub(super) notes: Vec<String>,
}

/// What came of taking them.
#[derive(Debug)]
pub(in crate::command) enum All {
    Ours(Leases),
    /// Another has one of them: none is held.
    Theirs {
        why: String,
        /// When it can be taken if nobody renews it.
        until: Timestamp,
    },
}

impl Leases {
    pub(in crate::command) async fn take(
        targets: &[Arc<dyn Store>],
        shard: Option<Shard>,
        owner: &Owner,
        ttl: Duration,
    ) -> Result<All, StoreError> {
        let mut ours = Self {
            leases: Vec::new(),
            notes: Vec::new(),
        };
        for target in targets {
            let now = Timestamp::now();
            match Lease::take(target, name(shard), owner, ttl, now).await {
                Ok(Taken::Ours(lease)) => ours.leases.push(lease),
                Ok(Taken::Unguarded(lease)) => {
                    ours.leases.push(lease);
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
                Err(error) => {
                    ours.give_back().await;
                    return Err(error);
                }
            }
        }
        Ok(All::Ours(ours))
    }

    /// Keeps them while some work goes on, and gives them back at its end. When one is lost, `stop` is cancelled, which the work heeds.
    pub(in crate::command) async fn during<T>(
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
            .leases
            .iter_mut()
            .map(|lease| Box::pin(lease.keep(&clock, ended)));
        select_all(keeping).await.0
    }

    /// Gives them back. What can't be given back expires.
    async fn give_back(self) {
        for lease in self.leases {
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
