//! Where at a registry the manifests and blobs of an image are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::{Algorithm, Digest};
use crate::image::Reference;

/// The registry of Kubernetes itself.
const KUBERNETES: &str = "registry.k8s.io";

/// `https://registry.k8s.io/v2/pause/manifests/3.10.1`. `wanted` is a tag or a digest.
pub fn manifest(image: &Reference, wanted: &str) -> Url {
    below(image, "manifests", wanted)
}

/// `https://registry.k8s.io/v2/pause/blobs/sha256:…`, the canonical URL of a blob.
pub fn blob(image: &Reference, digest: Digest) -> Url {
    below(image, "blobs", &digest.to_string())
}

/// The list of what refers to a manifest: signatures, attestations.
pub fn referrers(image: &Reference, digest: Digest) -> Url {
    below(image, "referrers", &digest.to_string())
}

fn below(image: &Reference, kind: &str, wanted: &str) -> Url {
    let (host, repository) = (image.api_host(), image.repository());
    // What is on this machine is asked in the clear, as by every tool.
    let is_here = ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|name| host.split_once(*name).is_some_and(is_port));
    let scheme = if is_here { "http" } else { "https" };
    let url = format!("{scheme}://{host}/v2/{repository}/{kind}/{wanted}");
    url.parse().expect(
        "hosts, repositories, tags and digests of a reference are parts of a URL as they are",
    )
}

fn is_port((before, after): (&str, &str)) -> bool {
    before.is_empty() && (after.is_empty() || after.starts_with(':'))
}

/// A region of AWS with a bucket of registry.k8s.io's blobs: `ap-east-1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobRegion(String);

/// A text that names no region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no region of AWS: give one as ap-east-1", .0.escape_debug())]
pub struct BadRegion(String);

impl FromStr for BlobRegion {
    type Err = BadRegion;

    fn from_str(text: &str) -> Result<Self, BadRegion> {
        let is_word = |word: &str| {
            let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            !word.is_empty() && word.chars().all(is_lower)
        };
        let is_region = text.split('-').count() >= 3 && text.split('-').all(is_word);
        if !is_region {
            return Err(BadRegion(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for BlobRegion {
    type Error = BadRegion;

    fn try_from(text: String) -> Result<Self, BadRegion> {
        text.parse()
    }
}

impl From<BlobRegion> for String {
    fn from(region: BlobRegion) -> Self {
        region.0
    }
}

impl fmt::Display for BlobRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where else a blob may be had: registry.k8s.io redirects to buckets in some regions, each with all blobs, and some are nearer or
/// less crowded than the one that it chooses. Its people say that this may change at any time, so these are asked only where the user
/// names regions, and never alone; what isn't there is brought from the canonical URL
/// (github.com/kubernetes/registry.k8s.io `cmd/archeio/internal/app/buckets.go`).
pub fn alternates(image: &Reference, digest: Digest, regions: &[BlobRegion]) -> Vec<Url> {
    if image.registry() != KUBERNETES || digest.algorithm() != Algorithm::Sha256 {
        return Vec::new();
    }
    let at = |BlobRegion(region): &BlobRegion| {
        let host = format!("prod-registry-k8s-io-{region}.s3.dualstack.{region}.amazonaws.com");
        let url = format!("https://{host}/containers/images/{digest}");
        url.parse().expect("a region is part of a host's name")
    };
    regions.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn urls_are_those_of_the_distribution_protocol() {
        let at = |text: &str| {
            let image = image(text);
            manifest(&image, &image.wanted()).to_string()
        };
        assert_eq!(
            at("registry.k8s.io/coredns/coredns:v1.12.1"),
            "https://registry.k8s.io/v2/coredns/coredns/manifests/v1.12.1"
        );
        assert_eq!(
            at("busybox"),
            "https://registry-1.docker.io/v2/library/busybox/manifests/latest"
        );
        assert_eq!(
            at("localhost:5000/a:b"),
            "http://localhost:5000/v2/a/manifests/b"
        );
        assert_eq!(
            at("localhost.example:5000/a:b"),
            "https://localhost.example:5000/v2/a/manifests/b"
        );
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let blob = blob(&image("quay.io/cilium/cilium:v1"), digest).to_string();
        assert_eq!(
            blob,
            format!("https://quay.io/v2/cilium/cilium/blobs/{digest}")
        );
    }

    #[test]
    fn only_the_registry_of_kubernetes_has_buckets() {
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let regions: Vec<BlobRegion> = ["ap-east-1", "us-gov-west-1"]
            .iter()
            .map(|region| region.parse().unwrap())
            .collect();
        let found = alternates(&image("registry.k8s.io/pause:3"), digest, &regions);
        let first = format!(
            "https://prod-registry-k8s-io-ap-east-1.s3.dualstack.ap-east-1.amazonaws.com/containers/images/{digest}"
        );
        assert_eq!((found.len(), found[0].as_str()), (2, first.as_str()));
        assert_eq!(alternates(&image("quay.io/pause:3"), digest, &regions), []);
        for bad in ["", "ap-east", "ap-east-1/x", "AP-EAST-1", "a.b-c-d"] {
            assert!(bad.parse::<BlobRegion>().is_err(), "{bad}");
        }
    }
}
