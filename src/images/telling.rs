//! Tells of blobs by the images that they belong to: nobody knows them by their digests.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::plan::Planned;
use super::report::key;
use crate::asset::Key;
use crate::events::{Event, Observer};

/// Of a digest, enough to tell an image's blobs apart.
const DIGITS: usize = 12;

/// Passes on what happens to images; of a blob it says `registry.k8s.io/pause:3.10.1/sha256:0123456789ab`, and not that it is put:
/// what counts is when its image is there.
#[derive(Debug)]
pub struct ByImage {
    listener: Arc<dyn Observer>,
    names: OnceLock<BTreeMap<Key, Key>>,
}

impl ByImage {
    pub fn new(listener: Arc<dyn Observer>) -> Self {
        Self {
            listener,
            names: OnceLock::new(),
        }
    }

    /// Says how much there is to do, and learns whose the blobs are; once, before they move.
    pub fn plan(&self, planned: &[Planned]) {
        let mut names: BTreeMap<Key, Key> = BTreeMap::new();
        let mut lengths = BTreeMap::new();
        for planned in planned {
            for item in &planned.items {
                let blob = &item.wanted.asset.key;
                let name = || below(&key(&planned.image.reference), blob);
                names.entry(blob.clone()).or_insert_with(name);
            }
            for item in planned.crossing() {
                lengths.insert(&item.wanted.asset.key, item.likely_length());
            }
        }
        let images = planned.iter().filter(|planned| !planned.is_done()).count();
        self.listener.event(&Event::Planned {
            images: Some(images),
            transfers: lengths.len(),
            inspected: 0,
            bytes: lengths.into_values().sum(),
            skipped: planned.len() - images,
        });
        // Only the first plan is carried out.
        let _known = self.names.set(names);
    }

    fn name(&self, key: &Key) -> Option<&Key> {
        self.names.get()?.get(key)
    }
}

/// `registry.k8s.io/pause:3.10.1/sha256:0123456789ab`
fn below(image: &Key, blob: &Key) -> Key {
    let digits = &blob.file_name()[..DIGITS];
    format!("{image}/sha256:{digits}")
        .parse()
        .expect("an image's name and a digest have no empty or dotted segments")
}

impl Observer for ByImage {
    fn event(&self, event: &Event) {
        let mut event = event.clone();
        match &mut event {
            Event::Published { key, place } => {
                if let Some(name) = self.name(key) {
                    tracing::debug!("published {name} to {place}");
                    return;
                }
            }
            Event::Started { key, .. }
            | Event::Received { key, .. }
            | Event::Verified { key }
            | Event::Retrying { key, .. }
            | Event::Failed { key, .. }
            | Event::Finished { key } => {
                if let Some(name) = self.name(key) {
                    key.clone_from(name);
                }
            }
            _ => {}
        }
        self.listener.event(&event);
    }
}
