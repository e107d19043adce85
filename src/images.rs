//! Container images by the same engine as files: their blobs are its assets, known by their digests.
//!
//! ```text
//! names ─▶ gather ─▶ vet ─▶ plan ─▶ carry: blobs ─▶ manifests ─▶ index and tag
//! ```
//!
//! A reader of a registry sees a whole image or none: a manifest is put once all that it names is there, and a tag is moved last.

pub mod audit;
mod carry;
mod gather;
pub mod holdings;
pub mod layout;
pub mod plan;
pub mod registry;
mod report;
pub mod shelf;
mod signatures;
pub mod source;
mod summary;
mod telling;
pub mod vetting;

use std::collections::HashSet;

pub use self::carry::{Carried, carry};
pub use self::gather::{Gather, GatherError};
pub use self::report::{Missed, report};
pub(crate) use self::report::{key, of_another_shard};
pub use self::summary::Summary;
pub use self::telling::ByImage;
use crate::digest::Digest;
use crate::image::{Blob, Manifest, Reference};

/// An image, down to the names of its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub reference: Reference,
    /// What the registry has for the reference. Where platforms were left out the root is another.
    pub published: Digest,
    /// Each once, children before those that name them, the root last.
    pub manifests: Vec<Manifest>,
}

impl Image {
    /// What its tag is of.
    pub fn root(&self) -> &Manifest {
        self.manifests
            .last()
            .expect("an image has at least its root")
    }

    /// The configurations and layers of all its manifests, each once.
    pub fn blobs(&self) -> Vec<&Blob> {
        let mut seen = HashSet::new();
        let blobs = self.manifests.iter().flat_map(|manifest| &manifest.blobs);
        blobs.filter(|blob| seen.insert(blob.digest)).collect()
    }
}
