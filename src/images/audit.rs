//! Compares a shelf with what the indexes of releases say of images: each name leads to its digest, and all that the digest names is there.
//!
//! Manifests are read from the shelf itself and hashed, so no source is asked and nothing is believed. Blobs are looked for; a deep audit
//! reads them too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::future::FutureExt;
use futures::stream::{self, StreamExt};
use serde::Serialize;

use super::shelf::Shelf;
use crate::digest::{Digest, Hasher};
use crate::events::told;
use crate::image::{Blob, Manifest, Reference};
use crate::index::Index;
use crate::store::StoreError;

/// Images that are looked at at a time, and manifests or blobs of each.
const AT_ONCE: usize = 8;

/// What images the indexes name, and their digests there, the newest last: a tag that has moved is another digest in a newer release.
pub type Named = BTreeMap<Reference, Vec<Digest>>;

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// Its name leads to nothing.
    TagMissing {
        expected: Digest,
    },
    /// Its name leads to what no index says.
    TagMoved {
        expected: Digest,
        got: Digest,
    },
    ManifestMissing {
        digest: Digest,
    },
    /// What is there under its digest is not what the digest says.
    ManifestRotten {
        digest: Digest,
        why: String,
    },
    BlobMissing {
        digest: Digest,
        /// In bytes.
        length: u64,
    },
    BlobChanged {
        digest: Digest,
        expected_length: u64,
        length: u64,
    },
    /// Its bytes are not what its digest says: the shelf's disk lies.
    BlobRotten {
        digest: Digest,
        got: Digest,
    },
    /// The shelf did not tell.
    Unreadable {
        why: String,
    },
    /// It has no name there.
    Nameless {
        why: String,
    },
}

/// An audited shelf.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// In a user's words.
    pub place: String,
    /// How many images the indexes name.
    pub images: usize,
    /// Manifests that were read and are right, each once.
    pub manifests: usize,
    /// Blobs that these name, each once.
    pub blobs: usize,
    /// The lengths of the blobs together, as the manifests say.
    pub bytes: u64,
    /// What is wrong, by the image's name, and nothing else.
    pub findings: BTreeMap<Reference, Vec<Finding>>,
    /// Whether blobs were read, and not only looked for.
    pub deep: bool,
    /// The right manifests.
    #[serde(skip)]
    pub(crate) known: BTreeMap<Digest, Manifest>,
    /// What can be brought back: images by the names that are to lead to them, and their digests.
    #[serde(skip)]
    pub(crate) lacking: BTreeSet<(Reference, Digest)>,
}

impl Audit {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Finding {
    /// Whether it is enough to put there again what is missing. A registry that has the wrong bytes takes no others, since it has them.
    pub(crate) fn is_mendable(&self) -> bool {
        match self {
            Self::TagMissing { .. }
            | Self::TagMoved { .. }
            | Self::ManifestMissing { .. }
            | Self::ManifestRotten { .. }
            | Self::BlobMissing { .. }
            | Self::BlobChanged { .. } => true,
            Self::BlobRotten { .. } | Self::Unreadable { .. } | Self::Nameless { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TagMissing { expected } => {
                write!(f, "its name leads to nothing where {expected} was put")
            }
            Self::TagMoved { expected, got } => {
                write!(f, "its name leads to {got} where {expected} was put")
            }
            Self::ManifestMissing { digest } => write!(f, "its manifest {digest} is missing"),
            Self::ManifestRotten { digest, why } => {
                write!(f, "its manifest {digest} is another content: {why}")
            }
            Self::BlobMissing { digest, length } => {
                write!(f, "its blob {digest} of {length} bytes is missing")
            }
            Self::BlobChanged {
                digest,
                expected_length,
                length,
            } => write!(
                f,
                "its blob {digest} has {length} bytes where {expected_length} were put"
            ),
            Self::BlobRotten { digest, got } => {
                write!(f, "the bytes of its blob {digest} have {got}")
            }
            Self::Unreadable { why } | Self::Nameless { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (image, findings) in &self.findings {
            for finding in findings {
                writeln!(f, "wrong     {image}: {finding}")?;
            }
        }
        writeln!(f, "Images       {}", self.place)?;
        let how = if self.deep { "read" } else { "looked for" };
        writeln!(
            f,
            "Checked      {} images: {} manifests read, {} blobs {how}, {}",
            self.images,
            self.manifests,
            self.blobs,
            indicatif::BinaryBytes(self.bytes)
        )?;
        match self.findings.len() {
            0 if self.images == 0 => writeln!(
                f,
                "No release names images: nothing could be checked here. 'kops-mirror sync --images' notes them."
            ),
            0 => writeln!(f, "All is right."),
            wrong => writeln!(
                f,
                "Wrong        {wrong}; 'kops-mirror repair' brings them back"
            ),
        }
    }
}

/// What the indexes say of images.
pub fn named<'a>(indexes: impl IntoIterator<Item = &'a Index>) -> Named {
    let mut indexes: Vec<&Index> = indexes.into_iter().collect();
    indexes.sort_by(|a, b| a.completed_at.cmp(&b.completed_at));
    let mut named = Named::new();
    for entry in indexes.iter().flat_map(|index| &index.release.images) {
        let digests = named.entry(entry.image.clone()).or_default();
        digests.retain(|digest| *digest != entry.digest);
        digests.push(entry.digest);
    }
    named
}

/// Audits one shelf; with `deep`, reads the blobs that are there. An error is one that keeps all of it from being looked at.
pub async fn audit(shelf: &Arc<dyn Shelf>, named: &Named, deep: bool) -> Result<Audit, StoreError> {
    shelf.blobs().prepare(false).await?;
    // Boxed, so that who awaits this can be sent between threads.
    let looks: Vec<_> = named
        .iter()
        .map(|(image, digests)| look(shelf, image, digests).boxed())
        .collect();
    let looked: Vec<Looked> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut audit = Audit {
        place: shelf.place().to_owned(),
        images: named.len(),
        manifests: 0,
        blobs: 0,
        bytes: 0,
        findings: BTreeMap::new(),
        deep,
        known: BTreeMap::new(),
        lacking: BTreeSet::new(),
    };
    let mut lengths: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut there: BTreeMap<Digest, (String, Blob)> = BTreeMap::new();
    let mut holders: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
    for looked in looked {
        for (blob, is_right) in looked.blobs {
            lengths.insert(blob.digest, blob.length);
            if is_right {
                let image = looked.image.clone();
                holders.entry(blob.digest).or_default().insert(image);
                there.insert(blob.digest, (looked.repository.clone(), blob));
            }
        }
        audit.known.extend(looked.known);
        audit.lacking.extend(looked.lacking);
        if !looked.findings.is_empty() {
            let findings = looked.findings.into_iter().collect();
            audit.findings.insert(looked.image, findings);
        }
    }
    if deep {
        for (blob, finding) in read_all(shelf, there).await {
            for image in holders.remove(&blob).into_iter().flatten() {
                let findings = audit.findings.entry(image).or_default();
                findings.push(finding.clone());
            }
        }
    }
    audit.manifests = audit.known.len();
    audit.blobs = lengths.len();
    audit.bytes = lengths.into_values().sum();
    Ok(audit)
}

/// What one image is like.
#[derive(Debug)]
struct Looked {
    image: Reference,
    repository: String,
    findings: BTreeSet<Finding>,
    known: BTreeMap<Digest, Manifest>,
    /// With whether each is there.
    blobs: Vec<(Blob, bool)>,
    lacking: BTreeSet<(Reference, Digest)>,
}

async fn look(shelf: &Arc<dyn Shelf>, image: &Reference, digests: &[Digest]) -> Looked {
    let mut looked = Looked {
        image: image.clone(),
        repository: String::new(),
        findings: BTreeSet::new(),
        known: BTreeMap::new(),
        blobs: Vec::new(),
        lacking: BTreeSet::new(),
    };
    match shelf.repository(image) {
        Ok(repository) => looked.repository = repository,
        Err(bad) => {
            let why = told(&bad);
            looked.findings.insert(Finding::Nameless { why });
            return looked;
        }
    }
    let newest = *digests.last().expect("an image is named with a digest");
    if let Some(finding) = name(shelf, &looked, newest, digests).await {
        looked.note(finding, image.clone(), newest);
    }
    for &digest in digests {
        let name = match digest == newest {
            true => image.clone(),
            false => image.at(digest),
        };
        looked.descend(shelf, &name, digest).await;
    }
    looked
}

/// What is wrong with where an image's name leads to.
async fn name(
    shelf: &Arc<dyn Shelf>,
    looked: &Looked,
    newest: Digest,
    digests: &[Digest],
) -> Option<Finding> {
    match shelf.root(&looked.repository, &looked.image, newest).await {
        Ok(Some(got)) if digests.contains(&got) => None,
        Ok(Some(got)) => Some(Finding::TagMoved {
            expected: newest,
            got,
        }),
        Ok(None) => Some(Finding::TagMissing { expected: newest }),
        Err(error) => Some(unreadable(&error)),
    }
}

fn unreadable(error: &StoreError) -> Finding {
    Finding::Unreadable { why: told(error) }
}

impl Looked {
    fn note(&mut self, finding: Finding, name: Reference, digest: Digest) {
        if finding.is_mendable() {
            self.lacking.insert((name, digest));
        }
        self.findings.insert(finding);
    }

    /// Looks at a manifest and all that it names, storey by storey.
    async fn descend(&mut self, shelf: &Arc<dyn Shelf>, name: &Reference, root: Digest) {
        let mut storey = vec![root];
        let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
        while !storey.is_empty() {
            let reads = storey.into_iter().map(|digest| {
                let repository = &self.repository;
                async move { manifest(shelf, repository, digest).await }.boxed()
            });
            let read: Vec<_> = stream::iter(reads).buffered(AT_ONCE).collect().await;
            storey = Vec::new();
            for read in read {
                match read {
                    Err(finding) => self.note(finding, name.clone(), root),
                    Ok(manifest) => {
                        storey.extend(manifest.children.iter().map(|child| child.digest));
                        let named = manifest.blobs.iter();
                        blobs.extend(named.map(|blob| (blob.digest, blob.clone())));
                        self.known.insert(manifest.digest, manifest);
                    }
                }
            }
        }
        let looks = blobs.into_values().map(|blob| {
            let repository = &self.repository;
            async move {
                let finding = look_for(shelf, repository, &blob).await;
                (blob, finding)
            }
            .boxed()
        });
        let looked: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        for (blob, finding) in looked {
            self.blobs.push((blob, finding.is_none()));
            if let Some(finding) = finding {
                self.note(finding, name.clone(), root);
            }
        }
    }
}

async fn manifest(
    shelf: &Arc<dyn Shelf>,
    repository: &str,
    digest: Digest,
) -> Result<Manifest, Finding> {
    let read = shelf.read_manifest(repository, digest).await;
    let read = read.map_err(|error| unreadable(&error))?;
    let read = read.ok_or(Finding::ManifestMissing { digest })?;
    let media_type = read.media_type.as_deref();
    Manifest::parse(read.content, media_type, Some(digest)).map_err(|bad| Finding::ManifestRotten {
        digest,
        why: told(&bad),
    })
}

async fn look_for(shelf: &Arc<dyn Shelf>, repository: &str, blob: &Blob) -> Option<Finding> {
    let digest = blob.digest;
    match shelf.blob_there(repository, digest).await {
        Ok(Some(there)) => {
            let length = there.length.filter(|length| *length != blob.length)?;
            Some(Finding::BlobChanged {
                digest,
                expected_length: blob.length,
                length,
            })
        }
        Ok(None) => Some(Finding::BlobMissing {
            digest,
            length: blob.length,
        }),
        Err(error) => Some(unreadable(&error)),
    }
}

async fn read_all(
    shelf: &Arc<dyn Shelf>,
    there: BTreeMap<Digest, (String, Blob)>,
) -> Vec<(Digest, Finding)> {
    let reads = there.into_values().map(|(repository, blob)| {
        async move {
            let finding = read(shelf, &repository, &blob).await;
            finding.map(|finding| (blob.digest, finding))
        }
        .boxed()
    });
    let read: Vec<_> = stream::iter(reads)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    read.into_iter().flatten().collect()
}

/// Reads a blob to its end and hashes it.
async fn read(shelf: &Arc<dyn Shelf>, repository: &str, blob: &Blob) -> Option<Finding> {
    let digest = blob.digest;
    let mut content = match shelf.open_blob(repository, digest).await {
        Ok(Some(content)) => content,
        Ok(None) => {
            let length = blob.length;
            return Some(Finding::BlobMissing { digest, length });
        }
        Err(error) => return Some(unreadable(&error)),
    };
    let mut hasher = Hasher::new(&[digest.algorithm()]);
    let (mut length, mut failed) = (0, None);
    while let Some(chunk) = content.chunks.next().await {
        match chunk {
            Ok(chunk) => {
                length += chunk.len() as u64;
                hasher.update(&chunk);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let got = hasher.finish().get(digest.algorithm())?;
    match failed {
        // One that fails after its last byte has failed because of its bytes.
        Some(error) if length != blob.length || got == digest => Some(unreadable(&error)),
        _ => (got != digest).then_some(Finding::BlobRotten { digest, got }),
    }
}
