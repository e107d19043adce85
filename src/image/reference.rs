//! The name of an image: `registry.k8s.io/pause:3.10.1`, `docker.io/calico/node:v3.31.3@sha256:…`.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Algorithm, Digest};

/// An image at a registry, by its tag, its digest, or both: then the digest is what it must be.
///
/// A name without a registry is Docker Hub's, and one without a path there is of its `library`, as every tool has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no image: {why}", text.escape_debug())]
pub struct BadReference {
    text: String,
    why: String,
}

impl Reference {
    /// The host, with its port where it has one, as it is written: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path at the registry: `calico/node`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest where there is one, else the tag.
    pub fn wanted(&self) -> String {
        let tag = || self.tag.clone().unwrap_or_else(|| "latest".to_owned());
        self.digest.map_or_else(tag, |digest| digest.to_string())
    }

    /// The host that the registry's API is at: Docker Hub's is another than its name.
    pub fn api_host(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// The name without tag and digest: `docker.io/calico/node`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl Reference {
    /// What this digest is of at the same repository, whatever the tag leads to.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let refuse = |why: String| BadReference {
            text: text.chars().take(200).collect(),
            why,
        };
        let parsed: distribution::Reference = text
            .trim()
            .parse()
            .map_err(|e: distribution::ParseError| refuse(e.to_string()))?;
        let digest: Option<Digest> = match parsed.digest() {
            None => None,
            Some(digest) => Some(digest.parse().map_err(|e| refuse(format!("{e}")))?),
        };
        let is_known =
            |digest: &Digest| matches!(digest.algorithm(), Algorithm::Sha256 | Algorithm::Sha512);
        if digest.as_ref().is_some_and(|digest| !is_known(digest)) {
            return Err(refuse(
                "its digest is neither SHA-256 nor SHA-512".to_owned(),
            ));
        }
        // The parser adds `latest` where neither is written, and that is what is meant then.
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parsed(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_read_as_every_tool_reads_it() {
        for (text, shown) in [
            (
                "registry.k8s.io/pause:3.10.1",
                "registry.k8s.io/pause:3.10.1",
            ),
            ("calico/node:v3", "docker.io/calico/node:v3"),
            ("busybox", "docker.io/library/busybox:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            (
                "gcr.io/google_containers/pause-amd64:3.0",
                "gcr.io/google_containers/pause-amd64:3.0",
            ),
        ] {
            assert_eq!(parsed(text).to_string(), shown);
        }
        let pinned = parsed(&format!("quay.io/cilium/cilium:v1@{DIGEST}"));
        assert_eq!(
            (pinned.tag(), pinned.wanted()),
            (Some("v1"), DIGEST.to_owned())
        );
        assert_eq!(parsed("quay.io/a:v1").wanted(), "v1");
        assert_eq!(parsed("busybox").api_host(), "registry-1.docker.io");
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            "a/UPPER",
            "a b",
            "x@sha256:12",
            ":tag",
            "a/b:",
            "https://a/b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
