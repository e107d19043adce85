//! Where images are put: a registry, or a folder that can be carried by hand.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::asset::Key;
use crate::digest::Digest;
use crate::image::{BadNaming, Blob, Manifest, Reference};
use crate::store::registry::{BlobThere, RawManifest};
use crate::store::{Content, Store, StoreError};

/// A place for images. What is in it is known by digests, so that whatever is there is right.
#[async_trait]
pub trait Shelf: Send + Sync + fmt::Debug {
    /// In a user's words: `123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/k8s`, `oci:images`.
    fn place(&self) -> &str;

    /// What an image's repository is called here.
    fn repository(&self, image: &Reference) -> Result<String, BadNaming>;

    /// What an image is pulled by from here; None where it can't be.
    fn pull_name(&self, image: &Reference) -> Option<String>;

    /// The host that images are pulled from here without TLS, though it is on another machine; None where that is not so.
    fn plain_host(&self) -> Option<String> {
        None
    }

    /// Whether repositories have blobs of their own, which may be had of each other.
    fn can_mount(&self) -> bool {
        false
    }

    /// Looks whether it is there and lets us in; changes nothing.
    async fn reach(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What the engine puts blobs into, each at its [`blob_key`].
    fn blobs(&self) -> Arc<dyn Store>;

    /// The digest of the manifest that an image's tag leads to; of an image without a tag, `digest` if that is there.
    async fn root(
        &self,
        repository: &str,
        image: &Reference,
        digest: Digest,
    ) -> Result<Option<Digest>, StoreError>;

    /// What is there under a manifest's digest, as it is; None where there is nothing.
    async fn read_manifest(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<RawManifest>, StoreError>;

    async fn has_blob(&self, repository: &str, blob: &Blob) -> Result<bool, StoreError>;

    /// What is told of a blob without reading it; None where it is not there.
    async fn blob_there(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<BlobThere>, StoreError>;

    /// A blob's content; None where it is not there.
    async fn open_blob(
        &self,
        repository: &str,
        digest: Digest,
    ) -> Result<Option<Content>, StoreError>;

    /// Gets a repository ready to take blobs.
    async fn prepare(&self, repository: &str) -> Result<(), StoreError>;

    /// Lets a repository have a blob that another one has; false where it has to be put.
    async fn mount(&self, _blob: Digest, _from: &str, _to: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Says to which repositories a blob goes once it is put.
    fn expect(&self, blob: Digest, repositories: BTreeSet<String>);

    /// Puts a manifest whose blobs and children are there; one attempt. `tag` leads to it from then on.
    async fn put_manifest(
        &self,
        repository: &str,
        manifest: &Manifest,
        name: Option<&Reference>,
    ) -> Result<(), StoreError>;
}

/// Where a blob is in a store: `blobs/sha256/9f86…`, as in the OCI image layout (image-spec `image-layout.md`).
pub fn blob_key(digest: Digest) -> Key {
    let key = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    key.parse().expect("it is made of words and digits")
}
