//! Whether the mirror has what the cluster will ask for, verified: nodes that miss one file loop for hours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::asset::{Asset, Key};
use crate::audit::Audit;
use crate::catalogue::CatalogueError;
use crate::catalogue::listing::{Listing, ListingError};
use crate::cluster::ClusterFile;
use crate::digest::Digest;
use crate::image::{BadReference, Reference};
use crate::index::Index;
use crate::layout::Layout;

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
    let keys: Vec<_> = wanted.iter().map(|asset| &asset.key).collect();
    Coverage {
        files: wanted.len(),
        uncovered: uncovered(&keys, audit),
        images: 0,
    }
}

fn uncovered(keys: &[&Key], audit: &Audit) -> Vec<Uncovered> {
    let indexed: BTreeSet<&Key> = audit
        .indexes()
        .iter()
        .flat_map(|index| index.files.iter().chain(&index.pointers))
        .map(|entry| &entry.key)
        .collect();
    let mut uncovered = Vec::new();
    for key in keys {
        let why = match (indexed.contains(key), audit.findings.get(*key)) {
            (_, Some(finding)) => finding.to_string(),
            (true, None) => continue,
            (false, None) => "no complete release has it: run 'kops-mirror sync'".to_owned(),
        };
        let what = key.to_string();
        uncovered.push(Uncovered { what, why });
    }
    uncovered
}

/// What kops itself lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub uncovered: Vec<Uncovered>,
    /// The hosts other than the mirror's that files come from all the same.
    pub elsewhere: BTreeSet<String>,
}

/// What `kops get assets` prints, held against an audit of the mirror, which nodes read at `base`. With KOPS_BASE_URL kops takes addresses in
/// the mirror for the files' own.
pub fn of_listing(
    text: &str,
    layout: Layout,
    base: &Url,
    audit: &Audit,
) -> Result<Listed, ListingError> {
    let (keys, elsewhere) = keys_of(&Listing::parse(text)?, layout, base)?;
    let keys: Vec<_> = keys.iter().collect();
    Ok(Listed {
        uncovered: uncovered(&keys, audit),
        elsewhere,
    })
}

/// Where a list's files are in the mirror, and the other hosts that they come from.
fn keys_of(
    listing: &Listing,
    layout: Layout,
    base: &Url,
) -> Result<(Vec<Key>, BTreeSet<String>), ListingError> {
    let base = format!("{}/", base.as_str().trim_end_matches('/'));
    let in_mirror = |url: &str| url.strip_prefix(&base).and_then(|key| key.parse().ok());
    let (mut keys, mut elsewhere) = (Vec::<Key>::new(), BTreeSet::new());
    let mut canonical = Listing::default();
    for file in &listing.files {
        if !file.download.starts_with(&base) {
            let host = Url::parse(&file.download).ok();
            elsewhere.extend(host.and_then(|url| url.host_str().map(str::to_owned)));
        }
        match in_mirror(&file.canonical) {
            Some(key) => keys.push(key),
            None => canonical.files.push(file.clone()),
        }
    }
    if keys.is_empty() || !canonical.files.is_empty() {
        let assets = canonical.assets(layout)?;
        keys.extend(assets.into_iter().map(|asset| asset.key));
    }
    Ok((keys, elsewhere))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kops_lists_is_found_by_its_address_in_the_mirror_or_by_its_own() {
        const KUBELET: &str = "https://dl.k8s.io/release/v1.35.5/bin/linux/amd64/kubelet";
        let file = |canonical: &str, download: &str| {
            format!("- {{canonical: \"{canonical}\", download: \"{download}\", sha: \"\"}}\n")
        };
        let keys_of = |files: &[String], layout| {
            let listing = Listing::parse(&format!("files:\n{}", files.concat())).unwrap();
            let base = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s".parse();
            let (keys, elsewhere) = keys_of(&listing, layout, &base.unwrap()).unwrap();
            let keys: Vec<_> = keys.iter().map(Key::to_string).collect();
            (keys, elsewhere.into_iter().collect::<Vec<_>>())
        };
        let mirrored = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s/";
        // spec.assets.fileRepository: the files' own addresses, and where they are in the mirror.
        let download = format!("{mirrored}release/v1.35.5/bin/linux/amd64/kubelet");
        let found = keys_of(&[file(KUBELET, &download)], Layout::FileRepository);
        assert_eq!(
            found,
            (
                vec!["release/v1.35.5/bin/linux/amd64/kubelet".to_owned()],
                vec![]
            )
        );
        // KOPS_BASE_URL: addresses in the mirror, and others that it does not redirect.
        let nodeup = format!("{mirrored}kops/1.36.2/linux/amd64/nodeup");
        let runc = "https://github.com/opencontainers/runc/releases/download/v1.3.5/runc.amd64";
        let files = [file(&nodeup, &nodeup), file(runc, runc)];
        let (keys, elsewhere) = keys_of(&files, Layout::Offline);
        assert_eq!(keys.first().unwrap(), "kops/1.36.2/linux/amd64/nodeup");
        assert_eq!(keys.len(), 2);
        assert_eq!(elsewhere, ["github.com"]);
    }
}
