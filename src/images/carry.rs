//! Carries images to their shelves, several at a time: blobs through the engine, then the manifests that name them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Image;
use super::plan::{Planned, Step};
use super::report::key;
use super::shelf::Shelf;
use crate::digest::Digest;
use crate::events::{Event, told};
use crate::image::{Manifest, Reference};
use crate::plan::{Action, Item};
use crate::record::FailureClass;
use crate::retry::{Attempts, Class, Policy};
use crate::store::StoreError;
use crate::transfer::{self, Ended, Mirror};

/// Images on their way at a time: each has few large blobs, and the engine bounds the connections.
const AT_ONCE: usize = 4;

/// Repositories that are got ready at a time.
const PREPARED_AT_ONCE: usize = 4;

/// Blobs of an image that are mounted at a time.
const MOUNTED_AT_ONCE: usize = 8;

/// A shelf is patient by itself with each request; what still fails may be mended by asking for all of it again, but rarely.
const ATTEMPTS_MAX: u32 = 3;

/// What became of an image.
#[derive(Debug)]
pub struct Carried {
    pub image: Image,
    /// At each shelf, in order.
    pub places: Vec<Ended>,
    /// Body bytes that came from registries for it.
    pub received_bytes: u64,
    /// Those of them that had come before.
    pub refetched_bytes: u64,
    /// Where they came from, as it may be printed.
    pub sources: BTreeSet<String>,
}

impl Carried {
    /// Whether it is at every shelf.
    pub fn is_done(&self) -> bool {
        let mut places = self.places.iter();
        places.all(|ended| matches!(ended, Ended::Held | Ended::Stored))
    }
}

/// How a blob ended at each shelf; images that have it wait for the one that brings it.
type Settled = watch::Receiver<Option<Vec<Ended>>>;

/// A blob that an image brings, for itself and for the others that have it.
type Brought = (Item, watch::Sender<Option<Vec<Ended>>>);

/// Carries what was planned. `mirror` has the shelves' blobs as its targets, in their order.
///
/// Every repository is got ready before the first blob moves: a blob goes to all that need it at once, and one that is not there
/// would fail it for the others.
pub async fn carry(
    planned: Vec<Planned>,
    shelves: &[Arc<dyn Shelf>],
    mirror: &Arc<Mirror>,
    stop: &CancellationToken,
) -> Vec<Carried> {
    let loads = planned.into_iter().map(|planned| Load {
        planned,
        shelves,
        mirror,
        stop,
    });
    let preparing = loads.map(|mut load| async {
        let ready = load.prepare().await;
        load.mount(&ready).await;
        (load, ready)
    });
    let preparing: Vec<_> = preparing.collect();
    let loads: Vec<_> = stream::iter(preparing)
        .buffered(PREPARED_AT_ONCE)
        .collect()
        .await;
    let mut needed: BTreeMap<Digest, Vec<bool>> = BTreeMap::new();
    for (load, ready) in &loads {
        load.expect(ready, &mut needed);
    }
    let mut settled: BTreeMap<Digest, Settled> = BTreeMap::new();
    let mut begun = Vec::new();
    for (mut load, ready) in loads {
        let mut brought = Vec::new();
        for mut item in std::mem::take(&mut load.planned.items) {
            if let Entry::Vacant(entry) = settled.entry(name(&item)) {
                let (settle, wait) = watch::channel(None);
                only_where(&mut item, &needed[entry.key()]);
                entry.insert(wait);
                brought.push((item, settle));
            }
        }
        begun.push((load, ready, brought));
    }
    let settled = &settled;
    let carrying = begun
        .into_iter()
        .map(|(load, ready, brought)| load.carry(ready, brought, settled));
    let carrying: Vec<_> = carrying.collect();
    // Who brings a blob comes before those that wait for it, and waits for nobody before he has brought his own.
    stream::iter(carrying).buffered(AT_ONCE).collect().await
}

/// One image on its way.
struct Load<'a> {
    planned: Planned,
    shelves: &'a [Arc<dyn Shelf>],
    mirror: &'a Arc<Mirror>,
    stop: &'a CancellationToken,
}

impl Load<'_> {
    async fn carry(
        self,
        mut ready: Vec<Option<Ended>>,
        brought: Vec<Brought>,
        settled: &BTreeMap<Digest, Settled>,
    ) -> Carried {
        let mut carried = Carried {
            places: Vec::new(),
            received_bytes: 0,
            refetched_bytes: 0,
            sources: BTreeSet::new(),
            image: self.planned.image.clone(),
        };
        self.bring(brought, &mut carried).await;
        for blob in self.planned.image.blobs() {
            let Some(blob) = settled.get(&blob.digest) else {
                continue;
            };
            let mut blob = blob.clone();
            match blob.wait_for(Option::is_some).await {
                Ok(ended) => {
                    for (place, ended) in ready.iter_mut().zip(ended.iter().flatten()) {
                        settle(place, ended);
                    }
                }
                // Nobody knows of it, so nothing may name it.
                Err(_) => ready
                    .iter_mut()
                    .for_each(|place| settle(place, &Ended::Cancelled)),
            }
        }
        let load = &self;
        let putting = ready.into_iter().enumerate().map(|(at, ended)| async move {
            match ended {
                Some(ended) => ended,
                None => load.name_all(at).await,
            }
        });
        carried.places = join_all(putting).await;
        carried
    }

    /// Says where blobs go, at each shelf that lacks them and is ready for the image.
    fn expect(&self, ready: &[Option<Ended>], needed: &mut BTreeMap<Digest, Vec<bool>>) {
        for item in &self.planned.items {
            let name = name(item);
            let needed = needed.entry(name).or_default();
            needed.resize(self.shelves.len(), false);
            for (at, shelf) in self.shelves.iter().enumerate() {
                let is_lacking = item.actions[at] != Action::Skip && ready[at].is_none();
                if let (true, Step::Put { repository }) = (is_lacking, &self.planned.steps[at]) {
                    shelf.expect(name, BTreeSet::from([repository.clone()]));
                    needed[at] = true;
                }
            }
        }
    }

    /// Gets each shelf ready that lacks the image; how it ended there already, if it did.
    async fn prepare(&self) -> Vec<Option<Ended>> {
        let preparing = self
            .shelves
            .iter()
            .zip(&self.planned.steps)
            .map(|(shelf, step)| async {
                match step {
                    Step::Held => Some(Ended::Held),
                    Step::Refused { why } => Some(self.failed(why.clone())),
                    // It was told once, for all images.
                    Step::Away { why } => Some(Ended::Failed {
                        class: FailureClass::Store,
                        why: why.clone(),
                    }),
                    Step::Put { repository } => {
                        let preparing = self.again("make ready", || shelf.prepare(repository));
                        let prepared = self.stop.run_until_cancelled(preparing).await;
                        prepared.unwrap_or(Err(Ended::Cancelled)).err()
                    }
                }
            });
        join_all(preparing).await
    }

    /// Has mounted what other repositories of a shelf have. What is refused, or not answered, is brought as if it were nowhere.
    async fn mount(&mut self, ready: &[Option<Ended>]) {
        for (at, shelf) in self.shelves.iter().enumerate() {
            let (None, Step::Put { repository }) = (&ready[at], &self.planned.steps[at]) else {
                continue;
            };
            let mounts = self.planned.mounts[at].iter();
            let mounting: Vec<_> = mounts
                .map(|(blob, from)| async move {
                    let mounted = shelf.mount(*blob, from, repository).await;
                    let mounted = mounted.unwrap_or_else(|error| {
                        tracing::info!("{blob} is brought again: {}", told(&error));
                        false
                    });
                    mounted.then_some(*blob)
                })
                .collect();
            let mounting = stream::iter(mounting).buffer_unordered(MOUNTED_AT_ONCE);
            let mounting = mounting.filter_map(std::future::ready).collect();
            let mounted = self.stop.run_until_cancelled(mounting).await;
            let mounted: BTreeSet<Digest> = mounted.unwrap_or_default();
            for item in &mut self.planned.items {
                if mounted.contains(&name(item)) {
                    item.actions[at] = Action::Skip;
                }
            }
        }
        self.planned.items.retain(|item| !item.is_done());
    }

    async fn bring(&self, brought: Vec<Brought>, carried: &mut Carried) {
        let (items, waiting): (Vec<Item>, Vec<_>) = brought.into_iter().unzip();
        let names: Vec<Option<Digest>> = items.iter().map(|item| item.wanted.name()).collect();
        let mut waiting: BTreeMap<Option<Digest>, _> = names.into_iter().zip(waiting).collect();
        for outcome in transfer::carry_out(items, self.mirror, self.stop).await {
            carried.received_bytes += outcome.received_bytes;
            carried.refetched_bytes += outcome.refetched_bytes;
            let entry = outcome.entry.iter();
            carried
                .sources
                .extend(entry.flat_map(|entry| entry.sources.iter().cloned()));
            if let Some(settle) = waiting.remove(&outcome.item.wanted.name()) {
                settle.send_replace(Some(outcome.places));
            }
        }
    }

    /// Puts the manifests, those first that others name, and lets the tag lead to the root.
    async fn name_all(&self, at: usize) -> Ended {
        let (shelf, image) = (&self.shelves[at], &self.planned.image);
        let Step::Put { repository } = &self.planned.steps[at] else {
            return Ended::Held;
        };
        let (root, children) = image
            .manifests
            .split_last()
            .expect("an image has a manifest");
        let naming = async {
            for child in children {
                self.put(shelf, repository, child, None).await?;
            }
            self.put(shelf, repository, root, Some(&image.reference))
                .await
        };
        match self.stop.run_until_cancelled(naming).await {
            None => Ended::Cancelled,
            Some(Err(ended)) => ended,
            Some(Ok(())) => {
                self.mirror.observer.event(&Event::Published {
                    key: key(&image.reference),
                    place: shelf.place().to_owned(),
                });
                Ended::Stored
            }
        }
    }

    /// What is told of a shelf that can't have the image, though nothing is wrong with its blobs.
    fn failed(&self, why: String) -> Ended {
        self.mirror.observer.event(&Event::Failed {
            key: key(&self.planned.image.reference),
            why: why.clone(),
        });
        Ended::Failed {
            class: FailureClass::Store,
            why,
        }
    }

    async fn put(
        &self,
        shelf: &Arc<dyn Shelf>,
        repository: &str,
        manifest: &Manifest,
        name: Option<&Reference>,
    ) -> Result<(), Ended> {
        let what = "put a manifest of";
        self.again(what, || shelf.put_manifest(repository, manifest, name))
            .await
    }

    /// Tries for as long as it is worth another attempt.
    async fn again<F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<(), Ended>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let policy = self.mirror.policy;
        let mut attempts = Attempts::new(Policy {
            attempts: policy.attempts.min(ATTEMPTS_MAX),
            ..policy
        });
        loop {
            let Err(error) = attempt().await else {
                return Ok(());
            };
            let pause = attempts
                .failed()
                .filter(|_| error.class() == Class::Transient);
            let Some(pause) = pause else {
                return Err(self.failed(told(&error)));
            };
            tracing::info!(
                "can't {what} {} yet: {}",
                self.planned.image.reference,
                told(&error)
            );
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Err(Ended::Cancelled);
            }
        }
    }
}

fn name(item: &Item) -> Digest {
    item.wanted.name().expect("a blob is known by its digest")
}

/// Leaves a blob alone where no image needs it, and has it put where any does: one brings it for all.
fn only_where(item: &mut Item, needed: &[bool]) {
    for (action, is_needed) in item.actions.iter_mut().zip(needed) {
        *action = match is_needed {
            true => Action::Transfer {
                why: "it is missing".to_owned(),
            },
            false => Action::Skip,
        };
    }
}

/// What an image comes to where one of its blobs ended so.
fn settle(place: &mut Option<Ended>, blob: &Ended) {
    if !matches!(blob, Ended::Held | Ended::Stored) {
        place.get_or_insert_with(|| blob.clone());
    }
}
