//! The index of a release, `releases/<name>.json` in the mirror: what it holds, and what vouched for it.
//!
//! It is written after every file of the release is in place, so it is the release's *ready marker* too: a reader that finds
//! it finds the whole release. With a listing, it says whether the mirror is right, without reading an object. Lost local
//! state is rebuilt from it; a lost index is rebuilt by the next `sync`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::asset::{Arch, Key};
use crate::digest::{Algorithm, Digest, Digests};
use crate::image::Reference;
use crate::verify::Verified;

/// The folder of the indexes, below the mirror's prefix.
pub const FOLDER: &str = "releases/";

/// The version of this format; a reader refuses a newer one.
pub const FORMAT: u32 = 1;

/// Everything that a mirrored release consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// See [`FORMAT`].
    pub format: u32,
    pub release: Release,
    /// The program that wrote it: `kops-mirror 0.1.0`.
    pub written_by: String,
    /// When the release was complete for the first time with this content, RFC 3339.
    pub completed_at: String,
    /// Sorted by key.
    pub files: Vec<Entry>,
    /// Files that tell readers which release to take; published after this index, and changed by later releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pointers: Vec<Entry>,
}

/// What was selected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The index's file name without `.json`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kops: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<Arch>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networking: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The container images of its clusters, where they are mirrored too; sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageEntry>,
    /// Hosts among where these can be pulled that speak no TLS, though they are on other machines: `registry.lan:5000`. Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_http: Vec<String>,
}

/// One container image of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageEntry {
    /// As kops names it: `registry.k8s.io/pause:3.10.1`.
    pub image: Reference,
    /// Of its root: an index, as a rule.
    pub digest: Digest,
    /// What it is called where it can be pulled: `registry.example.cn/k8s/pause:3.10.1`. Sorted.
    pub at: Vec<String>,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: Key,
    /// In bytes.
    pub length: u64,
    pub md5: Digest,
    pub sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// Where somebody vouches with it, or a sidecar needs it.
    pub sha1: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Digest>,
    /// The URL by which the world knows the file.
    pub canonical: String,
    /// Where its bytes came from, when that is another place. No secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Whose digests it was compared with.
    pub vouched_by: Vec<String>,
    /// The sidecars beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Algorithm>,
}

impl Entry {
    /// Every digest that it tells.
    pub fn digests(&self) -> Digests {
        Digests {
            md5: self.md5,
            sha256: self.sha256,
            sha1: self.sha1,
            sha512: self.sha512,
        }
    }
}

impl Release {
    /// Adds what an earlier run mirrored of the same release.
    pub fn unite(&mut self, other: &Self) {
        self.arch.extend(&other.arch);
        self.arch.sort_unstable();
        self.arch.dedup();
        self.networking.extend(other.networking.iter().cloned());
        self.networking.sort_unstable();
        self.networking.dedup();
        // Of a host that this run has used it knows better.
        let is_used = |host: &String| {
            let mut names = self.images.iter().flat_map(|image| &image.at);
            names.any(|name| name.split('/').next() == Some(host))
        };
        let kept = other.plain_http.iter().filter(|host| !is_used(host));
        let kept: Vec<String> = kept.cloned().collect();
        self.plain_http.extend(kept);
        self.plain_http.sort_unstable();
        self.plain_http.dedup();
        for before in &other.images {
            match self.images.iter_mut().find(|now| now.image == before.image) {
                Some(now) if now.digest == before.digest => {
                    now.at.extend(before.at.iter().cloned());
                    now.at.sort_unstable();
                    now.at.dedup();
                }
                Some(_) => {}
                None => self.images.push(before.clone()),
            }
        }
        self.images.sort_unstable();
    }

    /// Where the release's index is.
    pub fn key(&self) -> Key {
        format!("{FOLDER}{}.json", self.name)
            .parse()
            .expect("a release's name is made of versions")
    }
}

/// A text that is not an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "{key} is not an index of this mirror: it is repaired by another 'kops-mirror sync' of that release"
    )]
    Rubbish { key: Key, source: serde_json::Error },
    #[error("{key} has format {format}, which is newer than this program: update kops-mirror")]
    Newer { key: Key, format: u32 },
}

impl Index {
    /// Reads an index, as it was found at `key`.
    pub fn parse(key: &Key, text: &[u8]) -> Result<Self, IndexError> {
        let index: Self = serde_json::from_slice(text).map_err(|source| IndexError::Rubbish {
            key: key.clone(),
            source,
        })?;
        if index.format > FORMAT {
            return Err(IndexError::Newer {
                key: key.clone(),
                format: index.format,
            });
        }
        Ok(index)
    }

    /// The index of a release that is complete now, unless `before` says the same: then that one, byte for byte.
    pub fn of(
        release: Release,
        files: Vec<Entry>,
        pointers: Vec<Entry>,
        before: Option<&Self>,
    ) -> Self {
        let completed_at = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let written_by = concat!("kops-mirror ", env!("CARGO_PKG_VERSION")).to_owned();
        let mut index = Self {
            format: FORMAT,
            release,
            written_by,
            completed_at,
            files,
            pointers,
        };
        index.files.sort_by(|a, b| a.key.cmp(&b.key));
        index.pointers.sort_by(|a, b| a.key.cmp(&b.key));
        match before {
            Some(before) if before.says_the_same(&index) => before.clone(),
            _ => index,
        }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.release == other.release
            && self.files == other.files
            && self.pointers == other.pointers
    }

    /// The document as it is stored.
    pub fn document(&self) -> Verified {
        let mut text = serde_json::to_vec_pretty(self).expect("an index has only strings for keys");
        text.push(b'\n');
        Verified::composed(text)
    }
}

/// What a sidecar holds: bare hexadecimal and a newline. Every kops from 1.7 to 1.37 reads it, and no other form does for all.
pub fn sidecar(digest: &Digest) -> Verified {
    Verified::composed(format!("{}\n", digest.hex()))
}

/// Everything that must be in the mirror for a set of indexes, sidecars included, by key: length and MD5.
pub fn objects_of<'a>(
    indexes: impl IntoIterator<Item = &'a Index>,
) -> BTreeMap<Key, (u64, Digest)> {
    let mut objects = BTreeMap::new();
    for entry in indexes.into_iter().flat_map(|index| &index.files) {
        objects.insert(entry.key.clone(), (entry.length, entry.md5));
        for &algorithm in &entry.sidecars {
            if let Some(digest) = entry.digests().get(algorithm) {
                let sidecar = sidecar(&digest);
                objects.insert(
                    entry.key.sidecar(algorithm),
                    (sidecar.length(), sidecar.digests().md5),
                );
            }
        }
    }
    objects
}
