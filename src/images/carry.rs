//! Carries images to their shelves, several at a time: blobs through the engine, then the manifests that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Image;
use super::plan::{Planned, Step};
use super::shelf::Shelf;
use crate::digest::Digest;
use crate::events::told;
use crate::image::{Manifest, Reference};
use crate::plan::Item;
use crate::record::FailureClass;
use crate::retry::{Attempts, Class};
use crate::store::StoreError;
use crate::transfer::{self, Mirror};

/// Images on their way at a time: each has few large blobs, and the engine bounds the connections.
const AT_ONCE: usize = 4;

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

/// How an image ended at one shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was there.
    Held,
    /// It is there now.
    Stored,
    Failed {
        class: FailureClass,
        /// In one line, for the reader.
        why: String,
    },
    /// The run was stopped before it was done.
    Cancelled,
}

impl Carried {
    /// Whether it is at every shelf.
    pub fn is_done(&self) -> bool {
        let mut places = self.places.iter();
        places.all(|ended| matches!(ended, Ended::Held | Ended::Stored))
    }
}

/// How a blob ended at each shelf; images that have it wait for the one that brings it.
type Settled = watch::Receiver<Option<Vec<transfer::Ended>>>;

/// Carries what was planned. `mirror` has the shelves' blobs as its targets, in their order.
pub async fn carry(
    planned: Vec<Planned>,
    shelves: &[Arc<dyn Shelf>],
    mirror: &Arc<Mirror>,
    stop: &CancellationToken,
) -> Vec<Carried> {
    let mut settled: BTreeMap<Digest, Settled> = BTreeMap::new();
    let mut loads = Vec::new();
    for mut planned in planned {
        let mut brought = Vec::new();
        for item in std::mem::take(&mut planned.items) {
            let name = item.wanted.name().expect("a blob is known by its digest");
            if let std::collections::btree_map::Entry::Vacant(entry) = settled.entry(name) {
                let (settle, wait) = watch::channel(None);
                entry.insert(wait);
                brought.push((item, settle));
            }
        }
        loads.push((planned, brought));
    }
    let settled = &settled;
    let carrying = loads.into_iter().map(|(planned, brought)| {
        let load = Load {
            planned,
            shelves,
            mirror,
            stop,
        };
        load.carry(brought, settled)
    });
    let carrying: Vec<_> = carrying.collect();
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
        brought: Vec<(Item, watch::Sender<Option<Vec<transfer::Ended>>>)>,
        settled: &BTreeMap<Digest, Settled>,
    ) -> Carried {
        let mut carried = Carried {
            places: Vec::new(),
            received_bytes: 0,
            refetched_bytes: 0,
            sources: BTreeSet::new(),
            image: self.planned.image.clone(),
        };
        let mut ready = self.prepare().await;
        self.bring(brought, &mut carried).await;
        for blob in self.planned.image.blobs() {
            let Some(blob) = settled.get(&blob.digest) else {
                continue;
            };
            let mut blob = blob.clone();
            // Whoever brings it says how it ended, whatever happens.
            let Ok(ended) = blob.wait_for(Option::is_some).await else {
                continue;
            };
            for (place, ended) in ready.iter_mut().zip(ended.iter().flatten()) {
                settle(place, ended);
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

    /// Gets each shelf ready that lacks the image; how it ended there already, if it did.
    async fn prepare(&self) -> Vec<Option<Ended>> {
        let preparing = self
            .shelves
            .iter()
            .zip(&self.planned.steps)
            .map(|(shelf, step)| async {
                match step {
                    Step::Held => Some(Ended::Held),
                    Step::Refused { why } => Some(Ended::Failed {
                        class: FailureClass::Store,
                        why: why.clone(),
                    }),
                    Step::Put { repository } => {
                        let preparing = self.again("make ready", || shelf.prepare(repository));
                        preparing.await.err()
                    }
                }
            });
        join_all(preparing).await
    }

    async fn bring(
        &self,
        brought: Vec<(Item, watch::Sender<Option<Vec<transfer::Ended>>>)>,
        carried: &mut Carried,
    ) {
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
            Some(Ok(())) => Ended::Stored,
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
        let mut attempts = Attempts::new(self.mirror.policy);
        loop {
            let Err(error) = attempt().await else {
                return Ok(());
            };
            let pause = attempts
                .failed()
                .filter(|_| error.class() == Class::Transient);
            let Some(pause) = pause else {
                return Err(Ended::Failed {
                    class: FailureClass::Store,
                    why: told(&error),
                });
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

/// What an image comes to where one of its blobs ended so.
fn settle(place: &mut Option<Ended>, blob: &transfer::Ended) {
    let ended = match blob {
        transfer::Ended::Held | transfer::Ended::Stored => return,
        transfer::Ended::Cancelled => Ended::Cancelled,
        transfer::Ended::Failed { class, why } => Ended::Failed {
            class: *class,
            why: why.clone(),
        },
    };
    if place.is_none() {
        *place = Some(ended);
    }
}
