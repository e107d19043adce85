//! Keeps what a registry holds: repositories with their blobs, manifests and tags, and uploads that are begun.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::digest::Digest;

/// Everything that is kept, in memory.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<u64, Upload>,
    begun: u64,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    found: Found,
}

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub blobs: BTreeMap<Digest, Bytes>,
    pub manifests: BTreeMap<Digest, Kept>,
    pub tags: BTreeMap<String, Digest>,
    /// What the ECR API was told about it, by its operation's name: `CreateRepository`, `PutLifecyclePolicy`.
    pub told: BTreeMap<String, Value>,
}

/// A manifest as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub media_type: String,
    pub content: Bytes,
}

/// An upload that is begun.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) repository: String,
    /// Changes with each request, and the next must bring it.
    pub(super) state: u64,
    pub(super) content: BytesMut,
    /// The length of the chunk that came last, where one came.
    pub(super) last_chunk: Option<u64>,
}

impl Shelf {
    pub(super) fn create(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn repository(&mut self, name: &str) -> Option<&mut Repository> {
        self.repositories.get_mut(name)
    }

    pub(super) fn find(&self, name: &str) -> Option<Found> {
        let repository = self.repositories.get(name)?;
        Some(repository.found.clone())
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.repositories.keys().cloned().collect()
    }

    pub(super) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// A blob of whatever repository.
    pub(super) fn blob_anywhere(&self, digest: &Digest) -> Option<Bytes> {
        let mut all = self.repositories.values();
        all.find_map(|repository| repository.blob(digest))
    }

    pub(super) fn begin(&mut self, repository: &str) -> (u64, &mut Upload) {
        self.begun += 1;
        let upload = Upload {
            repository: repository.to_owned(),
            state: 0,
            content: BytesMut::new(),
            last_chunk: None,
        };
        let id = self.begun;
        (id, self.uploads.entry(id).or_insert(upload))
    }

    pub(super) fn upload(&mut self, id: u64) -> Option<&mut Upload> {
        self.uploads.get_mut(&id)
    }

    pub(super) fn end(&mut self, id: u64) -> Option<Upload> {
        self.uploads.remove(&id)
    }

    pub(super) fn forget_uploads(&mut self) {
        self.uploads.clear();
    }
}

impl Repository {
    pub(super) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.found.blobs.get(digest).cloned()
    }

    pub(super) fn add_blob(&mut self, digest: Digest, content: Bytes) {
        self.found.blobs.insert(digest, content);
    }

    /// A manifest by its tag or its digest.
    pub(super) fn manifest(&self, reference: &str) -> Option<(Digest, Kept)> {
        let digest = match self.found.tags.get(reference) {
            Some(digest) => *digest,
            None => reference.parse().ok()?,
        };
        Some((digest, self.found.manifests.get(&digest)?.clone()))
    }

    pub(super) fn manifests(&self) -> impl Iterator<Item = (&Digest, &Kept)> {
        self.found.manifests.iter()
    }

    pub(super) fn add_manifest(&mut self, digest: Digest, media_type: &str, content: Bytes) {
        let media_type = media_type.to_owned();
        let kept = Kept {
            media_type,
            content,
        };
        self.found.manifests.insert(digest, kept);
    }

    /// Whether a manifest here names this blob.
    pub(super) fn refers_to(&self, digest: &Digest) -> bool {
        let digest = digest.to_string();
        let mut manifests = self.found.manifests.values();
        manifests.any(|kept| String::from_utf8_lossy(&kept.content).contains(&digest))
    }

    pub(super) fn tagged(&self, tag: &str) -> Option<Digest> {
        self.found.tags.get(tag).copied()
    }

    pub(super) fn tag(&mut self, tag: &str, digest: Digest) {
        self.found.tags.insert(tag.to_owned(), digest);
    }

    pub(super) fn untag(&mut self, tag: &str) {
        self.found.tags.remove(tag);
    }

    pub(super) fn lose(&mut self, digest: &Digest) {
        self.found.blobs.remove(digest);
        self.found.manifests.remove(digest);
    }

    pub(super) fn tags(&self) -> Vec<String> {
        self.found.tags.keys().cloned().collect()
    }

    pub(super) fn told(&mut self) -> &mut BTreeMap<String, Value> {
        &mut self.found.told
    }
}
