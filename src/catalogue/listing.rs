//! Prints the files and images in kops' own schema, and reads that schema as the exact list to mirror.
//!
//! `kops get assets -o json|yaml` and this print the same bytes for the same list, so that `diff` compares the two. One field
//! differs: kops asks the net for the digests that it does not carry (nodeup, protokube, channels); a list that is made without
//! the net leaves those `sha` empty.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::asset::{Arch, Asset, Key, Role, Voucher, Witness};
use crate::digest::{Algorithm, Digest};
use crate::layout::{Layout, NoPlace};

/// The assets of a cluster as `kops get assets` gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Listing {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ListedImage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ListedFile>,
}

/// A container image and where it would be pulled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    pub canonical: String,
    pub download: String,
}

/// A file, where it would be downloaded from, and its digest in bare hexadecimal: empty where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedFile {
    pub canonical: String,
    pub download: String,
    pub sha: String,
}

/// Why a list can't be taken as the list of what to mirror.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("this is not the output of `kops get assets -o json` or `-o yaml`")]
    Syntax(#[source] serde_yaml_ng::Error),
    #[error("the list has no files: is it the output of `kops get assets -o json` or `-o yaml`?")]
    Empty,
    #[error("file {number} of the list has no canonical URL")]
    NoCanonical { number: usize },
    #[error("file {number} of the list: '{}' is not a URL", text.escape_debug())]
    Url {
        number: usize,
        text: String,
        #[source]
        source: url::ParseError,
    },
    #[error("file {number} of the list: {url} can't be fetched, only http and https can")]
    Scheme { number: usize, url: String },
    #[error("file {number} of the list ({url}): '{}' is not a digest", sha.escape_debug())]
    Sha {
        number: usize,
        url: String,
        sha: String,
    },
    #[error("file {number} of the list")]
    NoPlace {
        number: usize,
        #[source]
        source: NoPlace,
    },
    #[error("files {first} and {second} of the list would both be '{key}' in the mirror")]
    SameKey {
        first: usize,
        second: usize,
        key: String,
    },
}

impl Listing {
    /// What `kops get assets` lists of these assets, below a repository as `spec.assets.fileRepository` if one is given.
    pub fn new(assets: &[Asset], images: &[String], repository: Option<&Url>) -> Self {
        let files = assets.iter().filter(|asset| asset.listed_by_kops);
        Self {
            images: images
                .iter()
                .map(|image| ListedImage {
                    canonical: image.clone(),
                    download: image.clone(),
                })
                .collect(),
            files: files
                .map(|asset| ListedFile {
                    canonical: asset.canonical.to_string(),
                    download: match repository {
                        Some(repository) => remapped(repository, &asset.canonical),
                        None => asset.canonical.to_string(),
                    },
                    sha: known(asset).map(|digest| digest.hex()).unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// As `kops get assets -o json`: one line, no newline, and Go's escapes.
    pub fn json(&self) -> String {
        serde_json::to_string(self)
            .expect("strings in vectors are always JSON")
            .replace('&', "\\u0026")
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
    }

    /// As `kops get assets -o yaml`: keys in alphabetical order.
    pub fn yaml(&self) -> String {
        if self.files.is_empty() && self.images.is_empty() {
            return "{}\n".to_owned();
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        if !self.files.is_empty() {
            let _ = writeln!(text, "files:");
        }
        for file in &self.files {
            let _ = writeln!(text, "- canonical: {}", scalar(&file.canonical));
            let _ = writeln!(text, "  download: {}", scalar(&file.download));
            let _ = writeln!(text, "  sha: {}", scalar(&file.sha));
        }
        if !self.images.is_empty() {
            let _ = writeln!(text, "images:");
        }
        for image in &self.images {
            let _ = writeln!(text, "- canonical: {}", scalar(&image.canonical));
            let _ = writeln!(text, "  download: {}", scalar(&image.download));
        }
        text
    }

    /// For people: a column of URLs and a column of digests, then the images.
    pub fn table(&self) -> String {
        let urls = self.files.iter().map(|file| file.download.len());
        let width = urls.max().unwrap_or(0);
        let mut text = String::new();
        for file in &self.files {
            let sha = match file.sha.as_str() {
                "" => "(published beside it)",
                sha => sha,
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:width$}  {sha}", file.download);
        }
        for image in &self.images {
            let _ = writeln!(text, "{}", image.download);
        }
        text
    }
}

fn known(asset: &Asset) -> Option<Digest> {
    asset.witnesses.iter().flatten().find_map(Voucher::digest)
}

/// kops' rule: the repository's URL with the canonical path joined to its own; a file that is on that host already stays there.
fn remapped(repository: &Url, canonical: &Url) -> String {
    if repository.host_str() == canonical.host_str() && repository.port() == canonical.port() {
        return canonical.to_string();
    }
    let mut url = repository.clone();
    let joined = format!("{}/{}", repository.path(), canonical.path());
    let segments: Vec<_> = joined.split('/').filter(|s| !s.is_empty()).collect();
    url.set_path(&segments.join("/"));
    url.to_string()
}

/// A YAML scalar as Go's encoder writes it: plain, unless it would be read as something else than this text.
fn scalar(text: &str) -> String {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    if text.is_empty() || is_number(text) || text.contains(": ") || text.contains(" #") {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text.to_owned()
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    files: Vec<WrittenFile>,
    #[serde(default)]
    images: Vec<WrittenImage>,
}

#[derive(Deserialize)]
struct WrittenFile {
    canonical: Option<String>,
    download: Option<String>,
    sha: Option<String>,
}

#[derive(Deserialize)]
struct WrittenImage {
    canonical: String,
    download: Option<String>,
}

impl Listing {
    /// Reads the output of `kops get assets -o json` or `-o yaml`.
    pub fn parse(text: &str) -> Result<Self, ListingError> {
        // JSON is YAML, so one reader does for both.
        let written: Written = serde_yaml_ng::from_str(text).map_err(ListingError::Syntax)?;
        let mut listing = Self::default();
        for (at, file) in written.files.into_iter().enumerate() {
            let canonical = file.canonical.filter(|url| !url.is_empty());
            let canonical = canonical.ok_or(ListingError::NoCanonical { number: at + 1 })?;
            listing.files.push(ListedFile {
                download: file.download.unwrap_or_else(|| canonical.clone()),
                sha: file.sha.unwrap_or_default(),
                canonical,
            });
        }
        for image in written.images {
            listing.images.push(ListedImage {
                download: image.download.unwrap_or_else(|| image.canonical.clone()),
                canonical: image.canonical,
            });
        }
        Ok(listing)
    }

    /// The assets of a list that kops made: exactly its files, known by their canonical URLs.
    pub fn assets(&self, layout: Layout) -> Result<Vec<Asset>, ListingError> {
        let mut assets: Vec<Asset> = Vec::with_capacity(self.files.len());
        let mut firsts: HashMap<Key, (usize, Url)> = HashMap::with_capacity(self.files.len());
        for (at, file) in self.files.iter().enumerate() {
            let asset = file.asset(at + 1, layout)?;
            match firsts.get(&asset.key) {
                None => {
                    firsts.insert(asset.key.clone(), (at + 1, asset.canonical.clone()));
                    assets.push(asset);
                }
                Some((_, canonical)) if *canonical == asset.canonical => {}
                Some(&(first, _)) => {
                    return Err(ListingError::SameKey {
                        first,
                        second: at + 1,
                        key: asset.key.to_string(),
                    });
                }
            }
        }
        if assets.is_empty() {
            return Err(ListingError::Empty);
        }
        Ok(assets)
    }
}

/// Reads a list that kops made as the exact list of files to mirror.
pub fn from_listing(text: &str, layout: Layout) -> Result<Vec<Asset>, ListingError> {
    Listing::parse(text)?.assets(layout)
}

/// A file whose digest somebody gives beside its URL; `number` is its place in what was given, for errors.
pub fn vouched_file(
    url: &Url,
    digest: Digest,
    number: usize,
    layout: Layout,
) -> Result<Asset, ListingError> {
    let file = ListedFile {
        canonical: url.to_string(),
        download: String::new(),
        sha: digest.hex(),
    };
    file.asset(number, layout)
}

impl ListedFile {
    fn asset(&self, number: usize, layout: Layout) -> Result<Asset, ListingError> {
        let canonical = Url::parse(&self.canonical).map_err(|source| ListingError::Url {
            number,
            text: without_query(&self.canonical),
            source,
        })?;
        if !matches!(canonical.scheme(), "http" | "https") {
            return Err(ListingError::Scheme {
                number,
                url: without_query(&self.canonical),
            });
        }
        let key = layout
            .key(&canonical)
            .map_err(|source| ListingError::NoPlace { number, source })?;
        let digest = self.digest(number)?;
        let legacy = digest.is_some_and(|digest| digest.algorithm() == Algorithm::Sha1);
        Ok(Asset {
            key,
            witnesses: match digest {
                Some(digest) => vec![vec![Voucher::Known {
                    digest,
                    source: "the given list".to_owned(),
                }]],
                None => vec![published_beside(&canonical)],
            },
            arch: arch_in(canonical.path()),
            canonical,
            alternates: Vec::new(),
            unvouched: None,
            sidecars: if legacy {
                vec![Algorithm::Sha256, Algorithm::Sha1]
            } else {
                vec![Algorithm::Sha256]
            },
            role: Role::File,
            listed_by_kops: true,
        })
    }

    fn digest(&self, number: usize) -> Result<Option<Digest>, ListingError> {
        if self.sha.is_empty() {
            return Ok(None);
        }
        let digest: Option<Digest> = self.sha.parse().ok();
        let digest = digest.filter(|digest| digest.algorithm() != Algorithm::Md5);
        digest.map(Some).ok_or_else(|| ListingError::Sha {
            number,
            url: without_query(&self.canonical),
            sha: self.sha.chars().take(80).collect(),
        })
    }
}

/// Where kops itself would look for a digest, in its order.
fn published_beside(canonical: &Url) -> Witness {
    [
        ("sha256", Algorithm::Sha256),
        ("sha256sum", Algorithm::Sha256),
        ("sha1", Algorithm::Sha1),
    ]
    .into_iter()
    .map(|(extension, algorithm)| {
        let mut url = canonical.clone();
        url.set_path(&format!("{}.{extension}", canonical.path()));
        Voucher::Sidecar { url, algorithm }
    })
    .collect()
}

fn arch_in(path: &str) -> Option<Arch> {
    let names = |names: [&str; 2]| names.into_iter().any(|name| path.contains(name));
    match (names(["amd64", "x86_64"]), names(["arm64", "aarch64"])) {
        (true, false) => Some(Arch::Amd64),
        (false, true) => Some(Arch::Arm64),
        _ => None,
    }
}

/// A signed URL has its secrets in the query, where an error message must not show them.
fn without_query(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
