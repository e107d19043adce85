//! A folder in the OCI image layout, which can be carried by hand (image-spec `image-layout.md`).
//!
//! An image's full name is its reference name there: `skopeo copy oci:DIR:registry.k8s.io/pause:3.10.1 …` finds it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Image;
use super::shelf::{Shelf, blob_key};
use crate::asset::Key;
use crate::digest::Digest;
use crate::image::{BadManifest, BadNaming, BadReference, Blob, Manifest, Reference, media};
use crate::store::folder::FolderStore;
use crate::store::registry::{BlobThere, RawManifest};
use crate::store::{Attributes, Condition, Content, Store, StoreError, StoreErrorKind};
use crate::transfer::read_object;
use crate::verify::Verified;

const INDEX: &str = "index.json";
const MARK: &str = "oci-layout";
const NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd looks for the full name when it imports.
const NAME_FOR_CONTAINERD: &str = "io.containerd.image.name";

/// A manifest has at most 4 MiB, and an index of all images of a cluster some 100 KiB.
const DOCUMENT_MAX_BYTES: u64 = 8 << 20;

/// Of one image; those that are known have some thirty.
const MANIFESTS_MAX: usize = 1024;

/// The folder.
#[derive(Debug)]
pub struct LayoutShelf {
    place: String,
    store: Arc<dyn Store>,
    /// Held while the index is read and written.
    index: Mutex<()>,
}

/// Why an image of the folder can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("{place} is no OCI image layout: it has no {INDEX}")]
    NoLayout { place: String },
    #[error("{place}/{INDEX} can't be read: {why}")]
    Index { place: String, why: String },
    #[error(
        "{place}: the manifest {digest} is missing, or is not what its name says: copy the folder again"
    )]
    Manifest {
        place: String,
        digest: Digest,
        source: Option<BadManifest>,
    },
    #[error(
        "{place}: the blob {digest} is missing, or is not what its name says: copy the folder again"
    )]
    Blob { place: String, digest: Digest },
    #[error(transparent)]
    Name(#[from] BadReference),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LayoutShelf {
    pub fn new(folder: &Path) -> Self {
        let store = FolderStore::new(folder);
        Self {
            place: format!("oci:{}", store.place()),
            store: Arc::new(store),
            index: Mutex::default(),
        }
    }

    /// Every image that is in the folder, with its manifests.
    pub async fn images(&self) -> Result<Vec<Image>, LayoutError> {
        let place = self.store.place().to_owned();
        let Some(index) = self.document(INDEX).await? else {
            return Err(LayoutError::NoLayout { place });
        };
        let index = entries(&index).map_err(|why| LayoutError::Index { place, why })?;
        let mut images = Vec::new();
        for (name, digest) in index {
            images.push(self.image(name, digest).await?);
        }
        Ok(images)
    }

    async fn image(&self, reference: Reference, digest: Digest) -> Result<Image, LayoutError> {
        let mut manifests = vec![self.manifest(digest).await?];
        let mut named: VecDeque<Digest> = children(&manifests[0]).collect();
        while let Some(digest) = named.pop_front() {
            if manifests.len() > MANIFESTS_MAX {
                let why = format!("{reference} names too many manifests");
                let place = self.store.place().to_owned();
                return Err(LayoutError::Index { place, why });
            }
            let manifest = self.manifest(digest).await?;
            named.extend(children(&manifest));
            manifests.push(manifest);
        }
        // Whoever is named comes before those that name it.
        manifests.reverse();
        let mut seen = HashSet::new();
        manifests.retain(|manifest| seen.insert(manifest.digest));
        Ok(Image {
            reference,
            published: digest,
            manifests,
        })
    }

    async fn manifest(&self, digest: Digest) -> Result<Manifest, LayoutError> {
        let unreadable = |source| LayoutError::Manifest {
            place: self.store.place().to_owned(),
            digest,
            source,
        };
        let found = self.document(blob_key(digest).as_str()).await?;
        let bytes = found.ok_or_else(|| unreadable(None))?;
        Manifest::parse(bytes, None, Some(digest)).map_err(|bad| unreadable(Some(bad)))
    }

    /// A small blob, whole.
    pub async fn content(&self, digest: Digest) -> Result<Bytes, LayoutError> {
        let found = self.document(blob_key(digest).as_str()).await?;
        let is_right = |content: &Vec<u8>| Digest::of(digest.algorithm(), content) == digest;
        let content = found.filter(is_right);
        let place = self.store.place().to_owned();
        let content = content.ok_or(LayoutError::Blob { place, digest })?;
        Ok(content.into())
    }

    async fn document(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        read_object(self.store.as_ref(), &key_of(key), DOCUMENT_MAX_BYTES).await
    }

    async fn put(&self, key: &Key, content: &Verified) -> Result<(), StoreError> {
        let attributes = Attributes::default();
        let put = self.store.put(key, content, &attributes, &Condition::Any);
        put.await.map(|_| ())
    }

    /// Lets the folder's index lead to a manifest by an image's name.
    async fn name(&self, manifest: &Manifest, name: &Reference) -> Result<(), StoreError> {
        let _alone = self.index.lock().await;
        let before = self.document(INDEX).await?;
        let mut index = match &before {
            None => json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": []}),
            Some(text) => serde_json::from_slice(text).map_err(|error| self.rubbish(&error))?,
        };
        let name = name.to_string();
        let entry = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest.to_string(),
            "size": manifest.bytes.len(),
            "annotations": {NAME: name, NAME_FOR_CONTAINERD: name},
        });
        let manifests = index["manifests"].as_array_mut();
        let manifests = manifests.ok_or_else(|| self.rubbish(&"it lists no manifests"))?;
        manifests.retain(|other| other["annotations"][NAME] != name.as_str());
        manifests.push(entry);
        let text = serde_json::to_vec_pretty(&index).expect("JSON values can be written");
        self.put(&key_of(INDEX), &Verified::composed(text)).await?;
        let mark = r#"{"imageLayoutVersion":"1.0.0"}"#;
        self.put(&key_of(MARK), &Verified::composed(mark)).await
    }

    fn rubbish(&self, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::new(
            StoreErrorKind::Permanent,
            format!(
                "{}/{INDEX} is not an index of images, so none is added: {error}; choose another folder",
                self.store.place()
            ),
        )
    }
}

fn children(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    manifest.children.iter().map(|child| child.digest)
}

fn key_of(text: &str) -> Key {
    text.parse().expect("it is made of words and digits")
}

/// The names of an index and the manifests that they lead to.
fn entries(index: &[u8]) -> Result<Vec<(Reference, Digest)>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let manifests = index["manifests"]
        .as_array()
        .ok_or("it lists no manifests")?;
    let mut entries = Vec::new();
    for entry in manifests {
        let annotations = &entry["annotations"];
        let name = annotations[NAME_FOR_CONTAINERD]
            .as_str()
            .or(annotations[NAME].as_str());
        let name = name.ok_or("one of its manifests has no name")?;
        let digest = entry["digest"].as_str().unwrap_or_default();
        entries.push((
            name.parse()
                .map_err(|error: BadReference| error.to_string())?,
            digest.parse().map_err(|error| format!("{error}"))?,
        ));
    }
    Ok(entries)
}

#[async_trait]
impl Shelf for LayoutShelf {
    fn place(&self) -> &str {
        &self.place
    }

    fn repository(&self, image: &Reference) -> Result<String, BadNaming> {
        Ok(image.name())
    }

    fn pull_name(&self, _: &Reference) -> Option<String> {
        None
    }

    fn blobs(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn root(
        &self,
        _: &str,
        image: &Reference,
        _: Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let Some(index) = self.document(INDEX).await? else {
            return Ok(None);
        };
        let entries = entries(&index).map_err(|why| self.rubbish(&why))?;
        let named = entries.into_iter().find(|(name, _)| name == image);
        Ok(named.map(|(_, digest)| digest))
    }

    async fn read_manifest(
        &self,
        _: &str,
        digest: Digest,
    ) -> Result<Option<RawManifest>, StoreError> {
        let content = self.document(blob_key(digest).as_str()).await?;
        Ok(content.map(|content| RawManifest {
            content: content.into(),
            media_type: None,
        }))
    }

    async fn has_blob(&self, _: &str, blob: &Blob) -> Result<bool, StoreError> {
        let there = self.store.stat(&blob_key(blob.digest)).await?;
        Ok(there.is_some_and(|there| there.object.length == blob.length))
    }

    async fn blob_there(&self, _: &str, digest: Digest) -> Result<Option<BlobThere>, StoreError> {
        let there = self.store.stat(&blob_key(digest)).await?;
        Ok(there.map(|there| BlobThere {
            length: Some(there.object.length),
        }))
    }

    async fn open_blob(&self, _: &str, digest: Digest) -> Result<Option<Content>, StoreError> {
        self.store.open(&blob_key(digest)).await
    }

    async fn prepare(&self, _: &str) -> Result<(), StoreError> {
        self.store.prepare(true).await
    }

    fn expect(&self, _: Digest, _: BTreeSet<String>) {}

    async fn put_manifest(
        &self,
        _: &str,
        manifest: &Manifest,
        name: Option<&Reference>,
    ) -> Result<(), StoreError> {
        let content = Verified::composed(manifest.bytes.clone());
        self.put(&blob_key(manifest.digest), &content).await?;
        match name {
            Some(name) => self.name(manifest, name).await,
            None => Ok(()),
        }
    }
}
