//! A manifest as the bytes that came, and what it names.

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::Platform;
use crate::digest::{Algorithm, Digest};

/// The media types of manifests (image-spec `media-types.md`; Docker's are older and still published).
pub mod media {
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// What a registry is asked for, the newer first.
    pub const ACCEPTED: [&str; 4] = [INDEX, DOCKER_LIST, MANIFEST, DOCKER_MANIFEST];
}

/// Larger ones are refused, as registries do (distribution-spec, "Pushing manifests": at least 4 MiB are to be taken).
const MANIFEST_MAX_BYTES: usize = 4 << 20;

/// One manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// As they came.
    pub bytes: Bytes,
    pub media_type: String,
    pub digest: Digest,
    /// The manifests of an index, one per platform; none of a manifest.
    pub children: Vec<Child>,
    /// The configuration, then the layers.
    pub blobs: Vec<Blob>,
}

/// A manifest that an index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    pub digest: Digest,
    /// In bytes.
    pub length: u64,
    pub media_type: String,
    /// None where it is no image of a platform: an attestation.
    pub platform: Option<Platform>,
}

/// A configuration or a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub length: u64,
    pub media_type: String,
}

/// What came is no manifest that can be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    #[error("it is no manifest: {0}")]
    Rubbish(String),
    #[error(
        "it is of Docker's first schema, which has no digests that hold: it was replaced in 2016; ask for a newer tag of the image"
    )]
    FirstSchema,
    #[error("it has {0} bytes; registries take at most 4 MiB")]
    TooLarge(usize),
    #[error("it hashes to {got} where {wanted} was asked for")]
    Another { wanted: Digest, got: Digest },
}

/// What tells the kinds apart. Where a document says nothing itself, the answer's header does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest. `told` is the media type that came with it; `wanted` the digest that it must have, where one is known.
    pub fn parse(
        bytes: impl Into<Bytes>,
        told: Option<&str>,
        wanted: Option<Digest>,
    ) -> Result<Self, BadManifest> {
        let bytes = bytes.into();
        if bytes.len() > MANIFEST_MAX_BYTES {
            return Err(BadManifest::TooLarge(bytes.len()));
        }
        let algorithm = wanted.map_or(Algorithm::Sha256, |wanted| wanted.algorithm());
        let digest = Digest::of(algorithm, &bytes);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(BadManifest::Another {
                wanted,
                got: digest,
            });
        }
        let rubbish = |error: &dyn std::fmt::Display| BadManifest::Rubbish(error.to_string());
        let kind: Kind = serde_json::from_slice(&bytes).map_err(|e| rubbish(&e))?;
        if kind.schema_version == 1 {
            return Err(BadManifest::FirstSchema);
        }
        let told = told.map(|told| told.split(';').next().unwrap_or_default().trim());
        let told = told.filter(|told| media::ACCEPTED.contains(told));
        let presumed = if kind.manifests.is_some() {
            media::INDEX
        } else {
            media::MANIFEST
        };
        let media_type = kind
            .media_type
            .as_deref()
            .or(told)
            .unwrap_or(presumed)
            .to_owned();
        let mut manifest = Self {
            media_type,
            digest,
            children: Vec::new(),
            blobs: Vec::new(),
            bytes,
        };
        if kind.manifests.is_some() {
            let index: ImageIndex =
                serde_json::from_slice(&manifest.bytes).map_err(|e| rubbish(&e))?;
            let children = index
                .manifests()
                .iter()
                .map(child)
                .collect::<Result<_, _>>();
            manifest.children = children.map_err(|e: String| rubbish(&e))?;
        } else {
            let image: ImageManifest =
                serde_json::from_slice(&manifest.bytes).map_err(|e| rubbish(&e))?;
            let parts = std::iter::once(image.config()).chain(image.layers());
            // Layers of Windows that only their publisher may hand out are named by URL, and no registry has them.
            let parts = parts.filter(|part| part.urls().as_ref().is_none_or(Vec::is_empty));
            let blobs = parts.map(blob).collect::<Result<_, _>>();
            manifest.blobs = blobs.map_err(|e: String| rubbish(&e))?;
        }
        Ok(manifest)
    }

    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), media::INDEX | media::DOCKER_LIST)
    }

    /// The index with only the manifests for these platforms, and those that belong to them. It is another one, with another digest.
    /// None where nothing would be left.
    pub fn thinned(&self, platforms: &[Platform]) -> Option<Self> {
        let is_kept = |child: &Child| {
            let of = child.platform.as_ref();
            of.is_some_and(|of| platforms.iter().any(|wanted| wanted.wants(of)))
        };
        let kept: Vec<&Child> = self
            .children
            .iter()
            .filter(|child| is_kept(child))
            .collect();
        if kept.is_empty() || kept.len() == self.children.len() {
            return (!kept.is_empty()).then(|| self.clone());
        }
        let mut document: serde_json::Value = serde_json::from_slice(&self.bytes).ok()?;
        let is_in = |manifest: &serde_json::Value| {
            kept.iter()
                .any(|child| manifest["digest"] == child.digest.to_string())
        };
        document["manifests"].as_array_mut()?.retain(is_in);
        let bytes = serde_json::to_vec_pretty(&document).ok()?;
        Self::parse(bytes, Some(&self.media_type), None).ok()
    }
}

fn child(descriptor: &Descriptor) -> Result<Child, String> {
    let platform = descriptor.platform().as_ref().map(|platform| Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    });
    Ok(Child {
        digest: digest(descriptor)?,
        length: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
        platform: platform.filter(|platform| platform.os != "unknown"),
    })
}

fn blob(descriptor: &Descriptor) -> Result<Blob, String> {
    Ok(Blob {
        digest: digest(descriptor)?,
        length: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
    })
}

fn digest(descriptor: &Descriptor) -> Result<Digest, String> {
    let text = descriptor.digest().to_string();
    let digest: Digest = text.parse().map_err(|e| format!("{e}"))?;
    match digest.algorithm() {
        Algorithm::Sha256 | Algorithm::Sha512 => Ok(digest),
        _ => Err(format!("{text} is no digest that holds")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest_of(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn described(text: &str, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": digest_of(text).to_string(), "size": text.len()})
    }

    fn index() -> Bytes {
        let of = |text: &str, os: &str, arch: &str| {
            let mut child = described(text, media::MANIFEST);
            child["platform"] = json!({"os": os, "architecture": arch});
            child
        };
        let document = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [
            of("a", "linux", "amd64"), of("b", "linux", "arm64"), of("c", "unknown", "unknown")
        ]});
        serde_json::to_vec(&document).unwrap().into()
    }

    #[test]
    fn an_index_names_manifests_and_a_manifest_blobs() {
        let index = Manifest::parse(index(), None, None).unwrap();
        assert!(index.is_index() && index.blobs.is_empty());
        let platforms: Vec<Option<String>> = index
            .children
            .iter()
            .map(|child| child.platform.as_ref().map(ToString::to_string))
            .collect();
        let wanted = [
            Some("linux/amd64".to_owned()),
            Some("linux/arm64".to_owned()),
            None,
        ];
        assert_eq!(platforms, wanted);
        let mut foreign = described(
            "foreign",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        );
        foreign["urls"] = json!(["https://elsewhere/layer"]);
        let document = json!({"schemaVersion": 2, "config": described("config", "application/json"),
            "layers": [described("layer", "application/gzip"), foreign]});
        let bytes: Bytes = serde_json::to_vec(&document).unwrap().into();
        let told = format!("{}; charset=utf-8", media::DOCKER_MANIFEST);
        let manifest = Manifest::parse(bytes.clone(), Some(&told), None).unwrap();
        assert_eq!(manifest.media_type, media::DOCKER_MANIFEST);
        let blobs: Vec<Digest> = manifest.blobs.iter().map(|blob| blob.digest).collect();
        assert_eq!(blobs, [digest_of("config"), digest_of("layer")]);
        assert_eq!(manifest.bytes, bytes);
    }

    #[test]
    fn a_thinned_index_is_another_one() {
        let whole = Manifest::parse(index(), None, None).unwrap();
        let arm = whole.thinned(&["linux/arm64".parse().unwrap()]).unwrap();
        assert_eq!(arm.children.len(), 1);
        assert_ne!(arm.digest, whole.digest);
        assert_eq!(whole.thinned(&["linux/s390x".parse().unwrap()]), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let wanted = digest_of("other");
        let another = Manifest::parse(index(), None, Some(wanted)).unwrap_err();
        assert!(matches!(another, BadManifest::Another { .. }));
        let first = Manifest::parse(r#"{"schemaVersion": 1}"#, None, None);
        assert_eq!(first, Err(BadManifest::FirstSchema));
        for rubbish in [
            "",
            "<html>",
            "{}",
            r#"{"schemaVersion": 2, "manifests": 7}"#,
        ] {
            let parsed = Manifest::parse(rubbish, None, None);
            assert!(matches!(parsed, Err(BadManifest::Rubbish(_))), "{rubbish}");
        }
        let large = vec![b' '; MANIFEST_MAX_BYTES + 1];
        assert!(matches!(
            Manifest::parse(large, None, None),
            Err(BadManifest::TooLarge(_))
        ));
    }
}
