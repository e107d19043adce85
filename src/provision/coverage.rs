//! Whether the mirror has what the cluster will ask for, verified: nodes that miss one file loop for hours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::asset::{Asset, Key};
use crate::audit::Audit;
use crate::catalogue::CatalogueError;
use crate::cluster::ClusterFile;
use crate::digest::Digest;
use crate::image::{BadReference, Reference};
use crate::index::Index;

/// What a cluster will ask for, and what of it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub files: usize,
    pub images: usize,
    pub uncovered: Vec<Uncovered>,
}

/// Something that a node or kops will ask for in vain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uncovered {
    /// The key, or the image's name.
    pub what: String,
    pub why: String,
}

impl Coverage {
    pub fn is_whole(&self) -> bool {
        self.uncovered.is_empty()
    }

    /// Takes in what another list says that can't be had.
    pub fn add_uncovered(&mut self, more: Vec<Uncovered>) {
        self.uncovered.extend(more);
        self.uncovered.sort();
        self.uncovered.dedup();
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, images) = (self.files, self.images);
        if self.is_whole() {
            return write!(
                f,
                "{files} files and {images} images, all there and verified"
            );
        }
        write!(
            f,
            "{} of {files} files and {images} images can't be had:",
            self.uncovered.len()
        )?;
        for one in &self.uncovered {
            write!(f, "\n  {}: {}", one.what, one.why)?;
        }
        Ok(())
    }
}

/// The files that a cluster will ask for, held against an audit of the mirror.
pub fn of_files(wanted: &[Asset], audit: &Audit) -> Coverage {
    let indexed: BTreeSet<&Key> = audit
        .indexes()
        .iter()
        .flat_map(|index| index.files.iter().chain(&index.pointers))
        .map(|entry| &entry.key)
        .collect();
    let mut coverage = Coverage {
        files: wanted.len(),
        ..Coverage::default()
    };
    for asset in wanted {
        let why = match (indexed.contains(&asset.key), audit.findings.get(&asset.key)) {
            (_, Some(finding)) => finding.to_string(),
            (true, None) => continue,
            (false, None) => "no complete release has it: run 'kops-mirror sync'".to_owned(),
        };
        coverage.uncovered.push(Uncovered {
            what: asset.key.to_string(),
            why,
        });
    }
    coverage
}

/// What is missing where kops' channel is to be in the mirror, at this key, and is not.
pub fn of_channel(channel: &Key, audit: &Audit) -> Option<Uncovered> {
    let is_missing = !audit.holds(channel);
    is_missing.then(|| Uncovered {
        what: channel.to_string(),
        why: "kops reads its channel there: run 'kops-mirror sync', which brings it, or give mirror.channel".to_owned(),
    })
}

/// The images that it will ask for, with the digests that the mirror's indexes have of them; those that none has are uncovered.
pub fn of_images(
    file: &ClusterFile,
    indexes: &[Index],
) -> Result<(BTreeMap<Reference, Digest>, Vec<Uncovered>), ImagesError> {
    let mut known = BTreeMap::new();
    for entry in indexes.iter().flat_map(|index| &index.release.images) {
        known.insert(entry.image.clone(), entry.digest);
    }
    let mut images = BTreeMap::new();
    let mut uncovered = Vec::new();
    for name in file.images()? {
        let reference: Reference = name.parse()?;
        match known.get(&reference) {
            Some(digest) => {
                images.insert(reference, *digest);
            }
            None => uncovered.push(Uncovered {
                what: name,
                why: "no complete release has it: run 'kops-mirror sync --images'".to_owned(),
            }),
        }
    }
    Ok((images, uncovered))
}

/// Why it can't be said which images a cluster asks for.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Reference(#[from] BadReference),
}
