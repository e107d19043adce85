//! The engine: carries out a plan.
//!
//! Three questions, three functions: how many at once ([`carry_out`]), what does this target need (`need`), which steps does a
//! byte take (`carry`, `obtain`). A failed asset is an outcome, not an error: it never stops the rest.

mod early;
mod entry;
mod need;
mod obtain;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::entry::entry;
pub use self::entry::entry_of_content;
use self::need::Need;
use crate::asset::Key;
use crate::digest::{Algorithm, Digests};
use crate::events::{Event, Observer, told};
use crate::fetch::{FetchError, Tally};
use crate::index::Entry;
use crate::limits::Limits;
use crate::origin::{Origins, Shown};
use crate::plan::Item;
use crate::publish;
use crate::record::FailureClass;
use crate::retry::Policy;
use crate::spool::SpoolFolder;
use crate::store::{Expected, Store, StoreError, StoreErrorKind};
use crate::verify::{Mismatch, Verified};

/// Everything that a run works with.
#[derive(Debug)]
pub struct Mirror {
    pub origins: Origins,
    pub limits: Limits,
    /// In the order of every item's actions.
    pub targets: Vec<Arc<dyn Store>>,
    pub spools: SpoolFolder,
    /// For what is tried again, at origins and at stores alike.
    pub policy: Policy,
    pub observer: Arc<dyn Observer>,
    /// Assets on their way at a time.
    pub in_flight: usize,
    /// Once it fires no asset is begun; those under way go on to their end.
    pub draining: CancellationToken,
}

/// Why an asset is not at a target.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "wrong content came {attempts} times from {}; it is not published: try another source with --origin HOST=URL",
        sources.join(", ")
    )]
    Corrupt {
        attempts: usize,
        sources: Vec<String>,
        source: Mismatch,
    },
    #[error("the spool {folder} can't be used")]
    Spool { folder: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nobody says what it must hash to")]
    Unvouched,
}

/// How one asset ended.
#[derive(Debug)]
pub struct Outcome {
    pub item: Item,
    /// At each target, in order.
    pub places: Vec<Ended>,
    /// Body bytes that came from origins for it, also when it failed.
    pub received_bytes: u64,
    /// Those of them that had come before.
    pub refetched_bytes: u64,
    /// What goes into the index, when its content is known.
    pub entry: Option<Entry>,
}

/// How one asset ended at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was there and right.
    Held,
    /// It was put, or mended inside the store.
    Stored,
    Failed {
        class: FailureClass,
        /// In one line, for the reader.
        why: String,
    },
    /// The run was stopped before it was done.
    Cancelled,
}

impl Ended {
    fn of(error: &TransferError) -> Self {
        Self::Failed {
            class: error.class(),
            why: told(error),
        }
    }

    fn of_store(error: &StoreError) -> Self {
        Self::Failed {
            class: class_at_store(error),
            why: told(error),
        }
    }
}

impl TransferError {
    /// What it is counted as.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Fetch(_) => FailureClass::Origin,
            Self::Corrupt { .. } => FailureClass::Corrupt,
            Self::Spool { .. } => FailureClass::Spool,
            Self::Store(error) => class_at_store(error),
            Self::Unvouched => FailureClass::Unvouched,
        }
    }
}

fn class_at_store(error: &StoreError) -> FailureClass {
    match error.kind {
        StoreErrorKind::Spool => FailureClass::Spool,
        _ => FailureClass::Store,
    }
}

impl Outcome {
    /// Whether it is right at every target.
    pub fn is_done(&self) -> bool {
        self.places
            .iter()
            .all(|ended| matches!(ended, Ended::Held | Ended::Stored))
    }

    fn all(item: Item, ended: &Ended) -> Self {
        let places = vec![ended.clone(); item.actions.len()];
        Self {
            item,
            places,
            received_bytes: 0,
            refetched_bytes: 0,
            entry: None,
        }
    }
}

/// Carries out items, so many at a time. Every task started here has ended before this returns; once `stop` fires, no new one
/// begins and those under way are dropped: nothing half-done can be seen, and the spool keeps what has arrived. Once the mirror is
/// draining, no new one begins.
pub async fn carry_out(
    items: Vec<Item>,
    mirror: &Arc<Mirror>,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    let mut waiting = in_order(items, &mirror.targets).into_iter();
    let mut in_flight = JoinSet::new();
    let mut outcomes = Vec::new();
    loop {
        while in_flight.len() < mirror.in_flight && !mirror.is_closing(stop) {
            let Some(item) = waiting.next() else { break };
            let (mirror, stop) = (Arc::clone(mirror), stop.clone());
            in_flight.spawn(async move { mirror.transfer(item, &stop).await });
        }
        let Some(ended) = in_flight.join_next().await else {
            break;
        };
        outcomes.push(ended.expect("a transfer reports its failures, it does not panic"));
    }
    outcomes.extend(waiting.map(|item| Outcome::all(item, &Ended::Cancelled)));
    outcomes
}

/// The order of the plan has the small ones first: many of them end soon. Where a target is slow, one that is large begins
/// first, since nothing can be done beside it when it is the last.
fn in_order(mut items: Vec<Item>, targets: &[Arc<dyn Store>]) -> Vec<Item> {
    if targets.iter().any(|target| target.is_slow()) {
        items.sort_by_key(|item| Reverse(item.likely_length().filter(|_| item.needs_content())));
    }
    items
}

impl Mirror {
    fn is_closing(&self, stop: &CancellationToken) -> bool {
        stop.is_cancelled() || self.draining.is_cancelled()
    }

    async fn transfer(&self, item: Item, stop: &CancellationToken) -> Outcome {
        if item.is_done() {
            let entry = item
                .held
                .clone()
                .zip(item.length)
                .map(|(digests, length)| entry(&item, &digests, length, &[]));
            return Outcome {
                entry,
                ..Outcome::all(item, &Ended::Held)
            };
        }
        let key = item.wanted.asset.key.clone();
        let tally = Arc::new(Tally::default());
        let carried = stop.run_until_cancelled(self.carry(&item, &tally)).await;
        let (places, entry) = match carried {
            Some(Ok((places, entry))) => (places, Some(entry)),
            Some(Err(error)) => (vec![Ended::of(&error); self.targets.len()], None),
            None => (vec![Ended::Cancelled; self.targets.len()], None),
        };
        let failed = places.iter().filter_map(|ended| match ended {
            Ended::Failed { why, .. } => Some(why),
            _ => None,
        });
        // What fails for every target is told once.
        for why in failed.collect::<BTreeSet<_>>() {
            self.observer.event(&Event::Failed {
                key: key.clone(),
                why: why.clone(),
            });
        }
        let (received_bytes, refetched_bytes) = (tally.received_bytes(), tally.refetched_bytes());
        let outcome = Outcome {
            item,
            places,
            received_bytes,
            refetched_bytes,
            entry,
        };
        if outcome.is_done() {
            self.observer.event(&Event::Finished { key });
        }
        outcome
    }

    /// The steps of one asset: look where it is needed, obtain its verified content once, put it wherever it is needed.
    async fn carry(
        &self,
        item: &Item,
        tally: &Arc<Tally>,
    ) -> Result<(Vec<Ended>, Entry), TransferError> {
        let asset = &item.wanted.asset;
        let mut needs = Vec::new();
        let mut digests = item.held.clone();
        let mut length = item.length;
        for at in 0..self.targets.len() {
            let looked = self.need(at, item).await;
            let (need, found) = looked.unwrap_or_else(|error| (Need::Failed(error), None));
            if let Some((found, found_length)) = found {
                digests.get_or_insert(found);
                length.get_or_insert(found_length);
            }
            needs.push(need);
        }
        let mut content = None;
        if needs.iter().any(Need::is_for_content) {
            let holders = self
                .targets
                .iter()
                .zip(&needs)
                .filter(|(_, need)| need.is_held());
            let holders: Vec<&dyn Store> = holders.map(|(target, _)| target.as_ref()).collect();
            let targets = needs.iter().enumerate();
            let wanting: Vec<usize> = targets
                .filter(|(_, need)| need.is_for_content())
                .map(|(at, _)| at)
                .collect();
            let expected = self.expected(item, &wanting);
            let obtained = self.obtain(item, &holders, &wanting, tally).await?;
            drop(expected);
            digests = Some(obtained.content.digests().clone());
            length = Some(obtained.content.length());
            content = Some(obtained);
        }
        let (Some(digests), Some(length)) = (digests, length) else {
            let failed = needs.into_iter().find_map(|need| match need {
                Need::Failed(error) => Some(error),
                _ => None,
            });
            return Err(failed.map_or(TransferError::Unvouched, TransferError::Store));
        };
        let mut places = Vec::new();
        for (at, need) in needs.iter().enumerate() {
            let ended = match (need, &content) {
                (Need::Sidecars(sidecars), _) => {
                    self.put_sidecars(at, item, &digests, sidecars).await
                }
                (Need::Rewrite | Need::Content, Some(obtained)) => {
                    let is_there = obtained.put_at.contains(&at);
                    self.put(at, item, &obtained.content, is_there).await
                }
                (Need::Failed(error), _) => Ended::of_store(error),
                (Need::Nothing | Need::Rewrite | Need::Content, _) => Ended::Held,
            };
            places.push(ended);
        }
        let sources: Vec<String> = tally
            .origins()
            .into_keys()
            .filter(|s| *s != Shown(&asset.canonical).to_string())
            .collect();
        let mut entry = entry(item, &digests, length, &sources);
        if let Some(obtained) = content {
            entry
                .vouched_by
                .extend(obtained.also_checked.iter().cloned());
            if places
                .iter()
                .all(|ended| matches!(ended, Ended::Held | Ended::Stored))
            {
                obtained.forget();
            }
        }
        Ok((places, entry))
    }

    /// Tells the targets that are `wanting` what is on its way.
    fn expected(&self, item: &Item, wanting: &[usize]) -> Vec<Expected> {
        let Some(length) = item.likely_length() else {
            return Vec::new();
        };
        let targets = wanting.iter().map(|&at| &self.targets[at]);
        targets.map(|target| target.expect(length)).collect()
    }

    /// Puts an asset, unless the object itself is there already, then its sidecars.
    async fn put(&self, at: usize, item: &Item, content: &Verified, is_there: bool) -> Ended {
        let (target, asset) = (self.targets[at].as_ref(), &item.wanted.asset);
        if !is_there && let Err(error) = self.put_object(at, item, content).await {
            return Ended::of_store(&error);
        }
        let ended = self
            .put_sidecars(at, item, content.digests(), &asset.sidecars)
            .await;
        if ended == Ended::Stored {
            let (key, place) = (asset.key.clone(), target.place().to_owned());
            self.observer.event(&Event::Published { key, place });
        }
        ended
    }

    async fn put_object(
        &self,
        at: usize,
        item: &Item,
        content: &Verified,
    ) -> Result<(), StoreError> {
        let asset = &item.wanted.asset;
        publish::object(
            self.targets[at].as_ref(),
            &asset.key,
            content,
            &publish::attributes(asset, content.digests()),
            item.condition(at),
            self.policy,
            self.observer.as_ref(),
        )
        .await
    }

    async fn put_sidecars(
        &self,
        at: usize,
        item: &Item,
        digests: &Digests,
        wanted: &[Algorithm],
    ) -> Ended {
        let (target, asset) = (self.targets[at].as_ref(), &item.wanted.asset);
        match publish::sidecars(
            target,
            &asset.key,
            digests,
            wanted,
            self.policy,
            self.observer.as_ref(),
        )
        .await
        {
            Ok(()) => Ended::Stored,
            Err(error) => Ended::of_store(&error),
        }
    }

    fn spool_error(&self, source: io::Error) -> TransferError {
        TransferError::Spool {
            folder: self.spools.path().display().to_string(),
            source,
        }
    }
}

/// Reads a small object whole, from an index to a pointer.
pub async fn read_object(
    store: &dyn Store,
    key: &Key,
    limit_bytes: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut content) = store.open(key).await? else {
        return Ok(None);
    };
    if content.length > limit_bytes {
        return Err(StoreError::new(
            StoreErrorKind::Permanent,
            format!(
                "{}/{key} has {} bytes; at most {limit_bytes} are read",
                store.place(),
                content.length
            ),
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = content.chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(Some(bytes))
}
