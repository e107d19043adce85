//! Container images by the same engine as files: their blobs are its assets, known by their digests.
//!
//! ```text
//! names ─▶ gather ─▶ plan ─▶ carry: blobs ─▶ manifests ─▶ index and tag
//! ```
//!
//! A reader of a registry sees a whole image or none: a manifest is put once all that it names is there, and a tag is moved last.

mod carry;
pub mod layout;
pub mod plan;
mod report;
pub mod shelf;
mod source;

use std::collections::BTreeMap;

pub use self::carry::{Carried, Ended, carry};
pub use self::report::report;
use crate::digest::Digest;
use crate::image::{Blob, Manifest, Reference};

/// An image with all of its manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub reference: Reference,
    /// Children before those that name them: the root is last. Never empty.
    pub manifests: Vec<Manifest>,
}

impl Image {
    /// What its name leads to.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("an image has a manifest")
    }

    /// Its blobs, each once.
    pub fn blobs(&self) -> BTreeMap<Digest, Blob> {
        let blobs = self.manifests.iter().flat_map(|manifest| &manifest.blobs);
        blobs.map(|blob| (blob.digest, blob.clone())).collect()
    }
}

/// Stand-in until the reading side is here.
pub async fn gather(
    _mirror: &crate::transfer::Mirror,
    _names: Vec<Reference>,
    _platforms: &[crate::image::Platform],
    _observer: &dyn crate::events::Observer,
) -> Vec<(Reference, Result<Image, crate::origin::OriginError>)> {
    Vec::new()
}
