//! The image that is carried: an index that names one platform's manifest, with a configuration and layers of noise.

use std::sync::LazyLock;

use bytes::Bytes;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::media;
use kops_mirror::loopback::registry::LoopbackRegistry;
use serde_json::{Value, json};

/// The registry that the image's name is of.
pub(crate) const HOST: &str = "registry.k8s.io";

pub(crate) const REPOSITORY: &str = "kops/kops-controller";

pub(crate) const TAG: &str = "1.36.2";

const LAYERS: usize = 6;

/// Made once, however often it is carried.
static LARGE: LazyLock<Image> = LazyLock::new(|| Image::new(20_000_000));
static SMALL: LazyLock<Image> = LazyLock::new(|| Image::new(100_000));

/// An image as its registry has it.
#[derive(Debug)]
pub(crate) struct Image {
    /// The configuration and the layers.
    blobs: Vec<(Digest, Bytes)>,
    manifest: Bytes,
    index: Bytes,
}

impl Image {
    /// Six layers of 20 MB.
    pub(crate) fn large() -> &'static Self {
        &LARGE
    }

    /// Six layers of 100 kB, for a look whether it works.
    pub(crate) fn small() -> &'static Self {
        &SMALL
    }

    fn new(layer_bytes: usize) -> Self {
        let layers: Vec<Bytes> = (1..).take(LAYERS).map(|n| noise(n, layer_bytes)).collect();
        let digests: Vec<String> = layers.iter().map(|l| digest(l).to_string()).collect();
        let config = text(&json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": digests },
        }));
        let manifest = text(&json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| {
                described("application/vnd.oci.image.layer.v1.tar+gzip", layer)
            }).collect::<Vec<_>>(),
        }));
        let mut child = described(media::MANIFEST, &manifest);
        child["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        let index = text(&json!({
            "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [child],
        }));
        let blobs = std::iter::once(config).chain(layers);
        Self {
            blobs: blobs.map(|blob| (digest(&blob), blob)).collect(),
            manifest,
            index,
        }
    }

    /// Of its blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, blob)| blob.len() as u64).sum()
    }

    /// `registry.k8s.io/kops/kops-controller:1.36.2`.
    pub(crate) fn name() -> String {
        format!("{HOST}/{REPOSITORY}:{TAG}")
    }

    pub(crate) fn publish(&self, registry: &LoopbackRegistry) {
        for (_, blob) in &self.blobs {
            registry.add_blob(REPOSITORY, blob.clone());
        }
        registry.add_manifest(REPOSITORY, None, media::MANIFEST, self.manifest.clone());
        registry.add_manifest(REPOSITORY, Some(TAG), media::INDEX, self.index.clone());
    }

    /// Whether a registry has all of it, byte for byte, under its tag; whatever the repository is called there.
    pub(crate) fn is_at(&self, registry: &LoopbackRegistry) -> bool {
        let repositories = registry.repositories();
        let mut found = repositories
            .iter()
            .filter_map(|repository| registry.find(repository));
        found.any(|found| {
            let manifest = found.manifests.get(&digest(&self.manifest));
            manifest.is_some_and(|kept| kept.content == self.manifest)
                && found.tags.get(TAG) == Some(&digest(&self.index))
                && self
                    .blobs
                    .iter()
                    .all(|(name, blob)| found.blobs.get(name) == Some(blob))
        })
    }
}

fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut content);
    content.into()
}

fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

fn text(document: &Value) -> Bytes {
    document.to_string().into()
}

fn described(media_type: &str, content: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": digest(content).to_string(),
        "size": content.len(),
    })
}
