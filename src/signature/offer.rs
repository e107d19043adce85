//! What a manifest of signatures has to offer, and which image it belongs to.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::image::{Blob, Reference};

/// cosign's first form: the layer is what was signed.
const CLAIM: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// How the media types of bundles begin: `…bundle.v0.3+json`, and of older ones `…bundle+json;version=0.2`.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// What cosign and others put behind the digest of what they attach something to; nothing is a list of referrers.
const SUFFIXES: [&str; 4] = [".sig", ".att", ".sbom", ""];

/// One signature. What it is of, or all of it, is in a blob that is still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Where the rest of it is.
    pub blob: Blob,
    pub(super) form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// The annotations of the layer, by name.
    Claim(BTreeMap<String, String>),
    Bundle,
}

/// As much of a manifest as signatures need.
#[derive(Debug, Deserialize)]
struct Document {
    subject: Option<Named>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Named {
    digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

/// The signatures that a manifest names, in its order; none where it is of something else.
pub fn offers(manifest: &[u8]) -> Vec<Offer> {
    let Ok(document) = serde_json::from_slice::<Document>(manifest) else {
        return Vec::new();
    };
    document.layers.into_iter().filter_map(offer).collect()
}

fn offer(layer: Layer) -> Option<Offer> {
    let form = if layer.media_type == CLAIM {
        Form::Claim(layer.annotations.unwrap_or_default())
    } else if layer.media_type.starts_with(BUNDLE) {
        Form::Bundle
    } else {
        return None;
    };
    Some(Offer {
        blob: Blob {
            digest: layer.digest.parse().ok()?,
            length: layer.size,
            media_type: layer.media_type,
        },
        form,
    })
}

/// `sha256-<hex>`: the tag that tells which manifest something belongs to, and before the suffixes of cosign.
pub fn subject_tag(digest: Digest) -> String {
    /// A tag has at most 128 characters, so the digest is cut (distribution-spec, "Referrers Tag Schema").
    const HEX_MAX: usize = 64;
    let hex = digest.hex();
    format!("{}-{}", digest.algorithm(), &hex[..hex.len().min(HEX_MAX)])
}

/// Whether an image is something that is attached to the manifest with this digest, as its name and its own manifest say. Nothing that is
/// called by an ordinary tag is attached to anything: such a name is what people pull.
pub fn belongs_to(reference: &Reference, manifest: &[u8], subject: Digest) -> bool {
    if let Some(tag) = reference.tag() {
        let of = subject_tag(subject);
        return SUFFIXES
            .iter()
            .any(|suffix| tag.strip_suffix(suffix) == Some(of.as_str()));
    }
    let document = serde_json::from_slice::<Document>(manifest).ok();
    let named = document.and_then(|document| document.subject);
    reference.digest().is_some() && named.is_some_and(|it| it.digest == subject.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::digest::Algorithm;

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    #[test]
    fn both_forms_are_offered_and_nothing_else() {
        let layer = |media_type: &str| {
            json!({"mediaType": media_type, "digest": digest("x").to_string(), "size": 7,
                "annotations": {"dev.cosignproject.cosign/signature": "MEUC"}})
        };
        let manifest = json!({"schemaVersion": 2, "layers": [
            layer(CLAIM), layer("application/vnd.in-toto+json"), layer("application/vnd.dev.sigstore.bundle.v0.3+json")]});
        let found = offers(manifest.to_string().as_bytes());
        let annotations = [(
            "dev.cosignproject.cosign/signature".to_owned(),
            "MEUC".to_owned(),
        )];
        let forms: Vec<&Form> = found.iter().map(|offer| &offer.form).collect();
        assert_eq!(forms, [&Form::Claim(annotations.into()), &Form::Bundle]);
        assert_eq!(
            (found[0].blob.digest, found[0].blob.length),
            (digest("x"), 7)
        );
        assert_eq!(offers(b"<html>"), []);
    }

    #[test]
    fn what_is_attached_says_so_by_its_name() {
        let root = digest("root");
        let referring = json!({"subject": {"digest": root.to_string()}}).to_string();
        let belongs = |name: &str| {
            let name: Reference = format!("quay.io/a/b{name}").parse().unwrap();
            belongs_to(&name, referring.as_bytes(), root)
        };
        let hex = root.hex();
        for name in [
            format!(":sha256-{hex}.sig"),
            format!(":sha256-{hex}.att"),
            format!(":sha256-{hex}"),
            format!("@{}", digest("referring")),
        ] {
            assert!(belongs(&name), "{name}");
        }
        // Else any image could be let through by a subject in its manifest.
        for name in [
            ":v1".to_owned(),
            format!(":v1@{}", digest("referring")),
            format!(":sha256-{}.sig", digest("other").hex()),
        ] {
            assert!(!belongs(&name), "{name}");
        }
        let other: Reference = format!("quay.io/a/b@{}", digest("x")).parse().unwrap();
        assert!(!belongs_to(&other, b"{}", root));
    }
}
