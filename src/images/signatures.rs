//! Finds what belongs to an image and is not named by it: signatures, attestations, bills of materials.
//!
//! There are two ways to attach them. cosign's tags: `sha256-<hex>.sig`, `.att`, `.sbom` beside the image
//! (github.com/sigstore/cosign `specs/SIGNATURE_SPEC.md`). Referrers: manifests that name the image as their subject, listed by the registry,
//! or, where it keeps no such list, by an index at the tag `sha256-<hex>` (distribution-spec, "Listing Referrers").

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::vetting::{Evidence, EvidenceError};
use super::{Gather, GatherError, Image, source};
use crate::digest::Digest;
use crate::image::{Blob, Manifest, Reference, media};
use crate::origin::{OriginError, Source};
use crate::signature::subject_tag;

/// What cosign puts behind the digest.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// Only what can be a signature of an image.
const SIGNATURES: [&str; 1] = [".sig"];

/// Manifests that are looked after at a time; the connections to each host have their own limit.
const AT_ONCE: usize = 8;

/// A list that goes on for longer is no list of signatures.
const PAGES_MAX: usize = 32;

/// What a registry says of what refers to a manifest.
enum Listed {
    Referrers(Vec<Digest>),
    /// It keeps no such lists.
    NoList,
}

impl Gather<'_> {
    /// What is attached to an image, as images of the same repository, by tag or by digest, to be carried with it: to each of its
    /// manifests, since some sign the index and some the platforms; but not to attestations, and a root that was thinned is nobody's
    /// subject.
    pub async fn signatures(&self, image: &Image) -> Result<Vec<Image>, GatherError> {
        let children = image.manifests.iter().flat_map(|one| &one.children);
        let attestations: HashSet<Digest> = children
            .filter(|child| child.platform.is_none())
            .map(|child| child.digest)
            .collect();
        let manifests = image.manifests.iter().map(|manifest| manifest.digest);
        let manifests = manifests.filter(|digest| !attestations.contains(digest));
        let attached = manifests.map(|digest| self.attached(&image.reference, digest, &SUFFIXES));
        let attached: Vec<_> = attached.collect();
        let attached = stream::iter(attached).buffered(AT_ONCE);
        let mut attached: Vec<Image> = attached.try_concat().await?;
        let mut seen: HashSet<Reference> = HashSet::new();
        attached.retain(|one| seen.insert(one.reference.clone()));
        Ok(attached)
    }

    async fn attached(
        &self,
        image: &Reference,
        subject: Digest,
        suffixes: &[&str],
    ) -> Result<Vec<Image>, GatherError> {
        let name = image.name();
        let tag = subject_tag(subject);
        let mut names: Vec<String> = suffixes
            .iter()
            .map(|suffix| format!("{name}:{tag}{suffix}"))
            .collect();
        let url = source::referrers(image, subject);
        let listed = |source| self.listed(source).boxed();
        match self.ask_sources(&url, listed).await? {
            Listed::NoList => names.push(format!("{name}:{tag}")),
            Listed::Referrers(digests) => {
                names.extend(digests.iter().map(|digest| format!("{name}@{digest}")));
            }
        }
        let mut images = Vec::new();
        for name in names {
            let reference: Reference = name
                .parse()
                .expect("a repository's name with a tag or a digest is a reference");
            match self.image(&reference, &[]).await {
                Ok(image) => images.push(image),
                // Most have none. What a list has, though, must be there.
                Err(GatherError::Origin(error))
                    if error.is_absent() && reference.digest().is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(images)
    }

    /// A small blob, whole.
    async fn blob(&self, source: Source, wanted: Digest) -> Result<Bytes, GatherError> {
        let document = self.document(&source, &["*/*"]).await?;
        let got = Digest::of(wanted.algorithm(), &document.content);
        if got != wanted {
            let (url, told) = (source.to_string(), wanted);
            return Err(GatherError::Disagrees { url, told, got });
        }
        Ok(document.content)
    }

    async fn listed(&self, source: Source) -> Result<Listed, GatherError> {
        let mut digests = Vec::new();
        let mut page = Some(source);
        for _ in 0..PAGES_MAX {
            let Some(at) = page.take() else { break };
            let document = match self.document(&at, &[media::INDEX]).await {
                Ok(document) => document,
                Err(error) if says_no_list(&error) => return Ok(Listed::NoList),
                Err(error) => return Err(error.into()),
            };
            let media_type = document.media_type.as_deref();
            // What answers something else knows nothing of referrers.
            match Manifest::parse(document.content, media_type, None) {
                Ok(list) if list.is_index() => {
                    digests.extend(list.children.iter().map(|child| child.digest));
                }
                _ => return Ok(Listed::NoList),
            }
            page = document.next;
        }
        match page {
            None => Ok(Listed::Referrers(digests)),
            Some(page) => Err(GatherError::TooMany {
                url: page.to_string(),
            }),
        }
    }
}

#[async_trait]
impl Evidence for Gather<'_> {
    async fn attached(
        &self,
        image: &Reference,
        subject: Digest,
    ) -> Result<Vec<Image>, EvidenceError> {
        Ok(self.attached(image, subject, &SIGNATURES).await?)
    }

    async fn content(&self, of: &Reference, blob: &Blob) -> Result<Bytes, EvidenceError> {
        let url = source::blob(of, blob.digest);
        let read = |source| self.blob(source, blob.digest).boxed();
        Ok(self.ask_sources(&url, read).await?)
    }

    fn lack(&self) -> &'static str {
        "its registry has none, neither by cosign's tag nor among the referrers"
    }
}

/// What registries answer that know no such question; 404 is the specification's.
fn says_no_list(error: &OriginError) -> bool {
    match error {
        OriginError::Status { status, .. } => {
            matches!(status.as_u16(), 400 | 404 | 405 | 406 | 410 | 501)
        }
        OriginError::WebPage { .. } => true,
        _ => false,
    }
}
