//! Which images are there, and which ones other shards are still to bring.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::digest::Digest;
use crate::image::Reference;
use crate::images::Image;
use crate::images::plan::standing;
use crate::images::shelf::Shelf;
use crate::index::ImageEntry;
use crate::sync::{self, Wanted};

/// The images of a run as the shelves have them. Without shards all are this run's own.
#[derive(Debug)]
pub(in crate::command) struct Others {
    shelves: Vec<Arc<dyn Shelf>>,
    /// Of those that other shards bring, as far as they could be had.
    roots: Vec<Image>,
    names: BTreeSet<Reference>,
    /// What is at every shelf.
    there: BTreeMap<Reference, Digest>,
    /// By release.
    wanted: BTreeMap<String, Vec<Reference>>,
}

impl Others {
    pub(super) fn new(
        shelves: Vec<Arc<dyn Shelf>>,
        roots: Vec<Image>,
        names: BTreeSet<Reference>,
    ) -> Self {
        Self {
            shelves,
            roots,
            names,
            there: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// The images that other shards bring.
    pub(super) fn names(&self) -> impl Iterator<Item = &Reference> {
        self.names.iter()
    }

    /// Takes in that these are at every shelf.
    pub(super) fn have(&mut self, there: impl IntoIterator<Item = (Reference, Digest)>) {
        self.there.extend(there);
    }

    /// Takes in which images belong to which release.
    pub(super) fn belong_to(&mut self, wanted: &[Wanted]) {
        let images = wanted
            .iter()
            .map(|wanted| (wanted.release.name.clone(), wanted.images.clone()));
        self.wanted = images.collect();
    }

    /// Notes in a release what came of its images.
    pub(super) fn note(&self, wanted: &mut Wanted) {
        self.note_by(wanted, &self.there);
    }

    fn note_by(&self, wanted: &mut Wanted, there: &BTreeMap<Reference, Digest>) {
        let (mut lacking, mut is_awaited) = (Vec::new(), false);
        let images = self.wanted.get(&wanted.release.name).into_iter().flatten();
        let mut entries = Vec::new();
        for name in images {
            match there.get(name) {
                Some(root) => entries.push(self.entry(name, *root)),
                None if self.names.contains(name) => is_awaited = true,
                None => lacking.push(name.to_string()),
            }
        }
        entries.sort_unstable();
        entries.dedup();
        let hosts = self.shelves.iter().filter_map(|shelf| shelf.plain_host());
        let hosts: BTreeSet<String> = hosts.filter(|_| !entries.is_empty()).collect();
        wanted.release.images = entries;
        wanted.release.plain_http = hosts.into_iter().collect();
        wanted.awaits = is_awaited;
        if !lacking.is_empty() {
            wanted.lacks = Some(format!("images are missing: {}", lacking.join(", ")));
        }
    }

    fn entry(&self, image: &Reference, digest: Digest) -> ImageEntry {
        let names = self
            .shelves
            .iter()
            .filter_map(|shelf| shelf.pull_name(image));
        let at: BTreeSet<String> = names.collect();
        ImageEntry {
            image: image.clone(),
            digest,
            at: at.into_iter().collect(),
        }
    }
}

#[async_trait]
impl sync::Others for Others {
    async fn look(&self, wanted: &mut [Wanted]) {
        let mut there = self.there.clone();
        there.extend(standing(&self.roots, &self.shelves).await);
        for wanted in wanted {
            self.note_by(wanted, &there);
        }
    }
}
