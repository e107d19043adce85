//! What the repositories of a shelf have already: a blob of one may be mounted into another, and crosses nothing then.
//!
//! What this run has looked at is known without asking. Of other images, which the indexes of releases name, the manifests are read at
//! the shelf itself: a few requests that find what a hundred questions for single blobs would.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, StreamExt};

use super::plan::Planned;
use super::shelf::Shelf;
use crate::digest::Digest;
use crate::events::told;
use crate::image::{Blob, Manifest, Reference};
use crate::plan::Action;

/// Images whose manifests are read at a time.
const READ_AT_ONCE: usize = 8;

/// Manifests that are read at a shelf: some twenty images of several platforms, at eight at a time a few seconds.
const READS_MAX: usize = 200;

/// Which repositories of each shelf have which blobs; None where blobs are not of repositories.
pub(super) struct Holdings(Vec<Option<BTreeMap<Digest, String>>>);

impl Holdings {
    pub(super) fn of(shelves: &[Arc<dyn Shelf>]) -> Self {
        let empty = |shelf: &Arc<dyn Shelf>| shelf.can_mount().then(BTreeMap::new);
        Self(shelves.iter().map(empty).collect())
    }

    /// Notes what a repository of the shelf of this number has. What a manifest there names goes before: ECR mounts nothing else.
    pub(super) fn note(&mut self, at: usize, repository: &str, blobs: &[Digest], are_named: bool) {
        let Some(there) = &mut self.0[at] else { return };
        for blob in blobs {
            if are_named || !there.contains_key(blob) {
                there.insert(*blob, repository.to_owned());
            }
        }
    }

    /// Where what is missing at each shelf can be mounted from.
    pub(super) fn mounts(&self, missing: &[(Blob, Vec<bool>)]) -> Vec<BTreeMap<Digest, String>> {
        let at_shelf = |(at, there): (usize, &Option<BTreeMap<Digest, String>>)| {
            let lacking = missing.iter().filter(|(_, lacking)| lacking[at]);
            let from = lacking.filter_map(|(blob, _)| {
                let repository = there.as_ref()?.get(&blob.digest)?;
                Some((blob.digest, repository.clone()))
            });
            from.collect()
        };
        self.0.iter().enumerate().map(at_shelf).collect()
    }
}

/// Whether a shelf lacks blobs that no repository there is known to have.
pub fn lacks_unknown(planned: &[Planned], shelves: &[Arc<dyn Shelf>]) -> bool {
    let mut shelves = shelves.iter().enumerate();
    shelves.any(|(at, shelf)| shelf.can_mount() && !unknown(planned, at).is_empty())
}

/// Looks for what is lacking in `others`, images that are said to be there, the first of them first. What can't be read has nothing.
pub async fn look_elsewhere(
    planned: &mut [Planned],
    shelves: &[Arc<dyn Shelf>],
    others: &[(Reference, Digest)],
) {
    for (at, shelf) in shelves.iter().enumerate() {
        let mut unknown = unknown(planned, at);
        if unknown.is_empty() || !shelf.can_mount() {
            continue;
        }
        let ours: HashSet<Digest> = planned
            .iter()
            .map(|planned| planned.image.root().digest)
            .collect();
        let left = AtomicUsize::new(READS_MAX);
        let others = others.iter().filter(|(_, root)| !ours.contains(root));
        let reads: Vec<_> = others
            .map(|(image, root)| blobs_of(shelf, image, *root, &left))
            .collect();
        let mut reads = stream::iter(reads).buffered(READ_AT_ONCE);
        let mut found: BTreeMap<Digest, String> = BTreeMap::new();
        while !unknown.is_empty()
            && let Some(read) = reads.next().await
        {
            let Some((repository, blobs)) = read else {
                continue;
            };
            let known = blobs.into_iter().filter(|blob| unknown.remove(blob));
            found.extend(known.map(|blob| (blob, repository.clone())));
        }
        drop(reads);
        for planned in &mut *planned {
            let lacking = lacking(planned, at);
            let mounts = lacking.filter_map(|blob| Some((blob, found.get(&blob)?.clone())));
            let mounts: Vec<_> = mounts.collect();
            planned.mounts[at].extend(mounts);
        }
    }
}

/// The blobs that this shelf lacks of an image.
fn lacking(planned: &Planned, at: usize) -> impl Iterator<Item = Digest> {
    let items = planned.items.iter();
    items
        .filter(move |item| item.actions[at] != Action::Skip)
        .filter_map(|item| item.wanted.name())
}

fn unknown(planned: &[Planned], at: usize) -> BTreeSet<Digest> {
    let unknown = planned.iter().flat_map(|planned| {
        lacking(planned, at).filter(move |blob| !planned.mounts[at].contains_key(blob))
    });
    unknown.collect()
}

/// The repository of an image at a shelf, and the blobs that its manifests there name.
async fn blobs_of(
    shelf: &Arc<dyn Shelf>,
    image: &Reference,
    root: Digest,
    left: &AtomicUsize,
) -> Option<(String, Vec<Digest>)> {
    let repository = shelf.repository(image).ok()?;
    let mut blobs = Vec::new();
    let mut named = VecDeque::from([root]);
    while let Some(digest) = named.pop_front() {
        let is_spent = |left: usize| left.checked_sub(1);
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_spent);
        if taken.is_err() {
            break;
        }
        let read = shelf.read_manifest(&repository, digest).await;
        let read = read.inspect_err(|error| {
            tracing::debug!("what {image} has at {}: {}", shelf.place(), told(error));
        });
        let Some(raw) = read.ok().flatten() else {
            break;
        };
        let media_type = raw.media_type.as_deref();
        let Ok(manifest) = Manifest::parse(raw.content, media_type, Some(digest)) else {
            break;
        };
        blobs.extend(manifest.blobs.iter().map(|blob| blob.digest));
        named.extend(manifest.children.iter().map(|child| child.digest));
    }
    Some((repository, blobs))
}
