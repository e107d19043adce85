//! What a catalogue says besides the files: warnings, and refusals.

use std::fmt;

use semver::Version;
use url::Url;

use super::ClusterOption;
use crate::asset::{Arch, Key};
use crate::layout::NoPlace;

/// Something that a user of the list should know, though it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// kops refuses this Kubernetes version unless it is overruled.
    Unsupported {
        kops: Version,
        kubernetes: Version,
        supported: String,
    },
    /// `kops create cluster` of this release does not take the name.
    Networking { kops: Version, networking: String },
    /// A release newer than the sources that the catalogue was made from.
    Unchecked { kops: Version, checked: Version },
    /// The images are those of another release: the newest known one of the minor, or the one that a pre-release leads to.
    ImagesOf { kops: Version, listed: Version },
    /// An option that brings images brings none here.
    NoImagesOf {
        kops: Version,
        networking: String,
        option: ClusterOption,
    },
    /// kops has nothing for this architecture.
    NoArch { kops: Version, arch: Arch },
    /// A note of the catalogue.
    Note(String),
}

/// Why a catalogue can't be read, or a selection can't be resolved.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("{what} can't be read")]
    Syntax {
        what: &'static str,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("the catalogue's '{text}' has a placeholder that nothing fills")]
    Placeholder { text: String },
    #[error("the catalogue's '{text}' is not a URL")]
    Url {
        text: String,
        #[source]
        source: url::ParseError,
    },
    #[error("the catalogue's file '{name}' {why}")]
    File { name: String, why: String },
    #[error(
        "nobody vouches for {canonical}: the catalogue has no digest of it and knows no publisher of one"
    )]
    NoWitness { canonical: Url },
    #[error(
        "{product} {version} is outside of what this catalogue knows ({span}); another catalogue can be given in its place"
    )]
    Span {
        product: &'static str,
        version: Version,
        span: String,
    },
    #[error("'{networking}' is not a networking choice of kops: {known}")]
    Networking { networking: String, known: String },
    #[error("nothing is selected: name at least one {what}")]
    Nothing { what: &'static str },
    #[error("kops {kops} has no file for {archs}: it runs on other architectures only")]
    NoAssets { kops: Version, archs: String },
    #[error("{first} and {second} would both be '{key}' in the mirror")]
    SameKey { key: Key, first: Url, second: Url },
    #[error("this catalogue does not know the images of {what}; known are {known}")]
    NoImages { what: String, known: String },
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported {
                kops,
                kubernetes,
                supported,
            } => write!(
                f,
                "kops {kops} refuses Kubernetes {kubernetes}: it takes {supported}"
            ),
            Self::Networking { kops, networking } => {
                write!(
                    f,
                    "kops {kops} creates no cluster with networking '{networking}'"
                )
            }
            Self::Unchecked { kops, checked } => write!(
                f,
                "kops {kops} is newer than this catalogue, which was made from {checked}: compare with `kops get assets`"
            ),
            Self::ImagesOf { kops, listed } => write!(
                f,
                "the images of kops {kops} are listed as those of {listed}: compare with `kops get assets`"
            ),
            Self::NoImagesOf {
                kops,
                networking,
                option,
            } => write!(
                f,
                "kops {kops} has no images for '{option}' with networking '{networking}'"
            ),
            Self::NoArch { kops, arch } => write!(f, "kops {kops} has no nodes on {arch}"),
            Self::Note(text) => f.write_str(text),
        }
    }
}
