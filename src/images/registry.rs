//! A registry as a place for images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::shelf::Shelf;
use crate::digest::Digest;
use crate::image::{BadNaming, Blob, Manifest, Naming, Reference};
use crate::store::registry::{BlobThere, RawManifest, RegistryStore};
use crate::store::{Content, Store, StoreError};

/// A registry, and how repositories are named there.
#[derive(Debug)]
pub struct RegistryShelf {
    store: Arc<RegistryStore>,
    naming: Naming,
}

impl RegistryShelf {
    pub fn new(store: RegistryStore, naming: Naming) -> Self {
        Self {
            store: Arc::new(store),
            naming,
        }
    }
}

/// What leads to an image: its tag, or its digest where it has none.
fn name(image: &Reference, digest: Digest) -> String {
    image
        .tag()
        .map_or_else(|| digest.to_string(), str::to_owned)
}

#[async_trait]
impl Shelf for RegistryShelf {
    fn place(&self) -> &str {
        self.store.place()
    }

    fn repository(&self, image: &Reference) -> Result<String, BadNaming> {
        self.naming.repository(image)
    }

    fn pull_name(&self, image: &Reference) -> Option<String> {
        let repository = self.naming.repository(image).ok()?;
        let name = format!("{}/{repository}", self.store.address().name());
        let tag = image.tag().map(|tag| format!(":{tag}"));
        let digest = || image.digest().map(|digest| format!("@{digest}"));
        Some(name + &tag.or_else(digest)?)
    }

    fn plain_host(&self) -> Option<String> {
        let address = self.store.address();
        address.is_plain().then(|| address.host())
    }

    fn can_mount(&self) -> bool {
        true
    }

    async fn reach(&self) -> Result<(), StoreError> {
        self.store.prepare(false).await
    }

    fn blobs(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn root(
        &self,
        repository: &str,
        image: &Reference,
        digest: Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let name = name(image, digest);
        self.store.manifest_at(repository, &name).await
    }

    async fn read_manifest(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<RawManifest>, StoreError> {
        let digest = digest.to_string();
        self.store.read_manifest(repository, &digest).await
    }

    async fn has_blob(&self, repository: &str, blob: &Blob) -> Result<bool, StoreError> {
        self.store.has_blob(repository, &blob.digest).await
    }

    async fn blob_there(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<BlobThere>, StoreError> {
        self.store.blob_there(repository, &digest).await
    }

    async fn open_blob(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<Content>, StoreError> {
        self.store.open_blob_of(repository, &digest).await
    }

    async fn prepare(&self, repository: &str) -> Result<(), StoreError> {
        self.store
            .prepare_repositories(&[repository.to_owned()])
            .await
    }

    async fn mount(&self, blob: Digest, from: &str, to: &str) -> Result<bool, StoreError> {
        self.store.mount_blob(from, to, &blob).await
    }

    fn expect(&self, blob: Digest, repositories: BTreeSet<String>) {
        self.store.needs(BTreeMap::from([(blob, repositories)]));
    }

    async fn put_manifest(
        &self,
        repository: &str,
        manifest: &Manifest,
        named: Option<&Reference>,
    ) -> Result<(), StoreError> {
        let digest = manifest.digest.to_string();
        let name = named.map_or(digest, |image| name(image, manifest.digest));
        self.store.put_manifest(repository, &name, manifest).await
    }
}
