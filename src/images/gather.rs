//! Finds out what images consist of: reads the manifest that a tag or a digest names, and all that it names in turn.
//!
//! A manifest that was named by digest is what hashes to it, whoever brings it. One that was named by a tag is whatever the registry
//! says; there, what it says of the digest must agree with what came.

use std::collections::{BTreeMap, HashSet};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;
use url::Url;

use super::{Image, source};
use crate::digest::Digest;
use crate::events::{Event, Observer, told};
use crate::image::{BadManifest, Child, Manifest, Platform, Reference, media};
use crate::limits::{Limits, Rank};
use crate::origin::{Document, OriginError, Origins, Source};
use crate::retry::{Attempts, Class, Policy};

/// Images that are looked at at a time, and children of each; the connections to each host have their own limit.
const IMAGES_AT_ONCE: usize = 16;
const CHILDREN_AT_ONCE: usize = 8;

/// No registry takes larger ones.
const MANIFEST_MAX_BYTES: u64 = 4 << 20;

/// An index of indexes is rare, and a third storey has not been seen.
const STOREYS_MAX: usize = 4;

/// The largest known indexes name some thirty; each is a request.
const CHILDREN_MAX: usize = 256;

/// Why an image could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("{url} is no manifest to be mirrored")]
    Manifest { url: String, source: BadManifest },
    #[error("{url} says that it hashes to {told}, and what came hashes to {got}")]
    Disagrees {
        url: String,
        told: Digest,
        got: Digest,
    },
    #[error(
        "it has nothing for {wanted}, but for {found}: choose among these, or leave it as it is"
    )]
    NoPlatform { wanted: String, found: String },
    #[error(
        "{url} is more than an image: it names too many manifests, or too many storeys of them"
    )]
    TooMany { url: String },
}

impl GatherError {
    pub fn class(&self) -> Class {
        match self {
            Self::Origin(error) => error.class(),
            // Cut, or another's: the next time, or the next source, may be better.
            Self::Manifest {
                source: BadManifest::Another { .. },
                ..
            }
            | Self::Disagrees { .. } => Class::Corrupt,
            Self::Manifest { .. } | Self::NoPlatform { .. } | Self::TooMany { .. } => {
                Class::Permanent
            }
        }
    }
}

/// What looking at images needs.
#[derive(Debug, Clone, Copy)]
pub struct Gather<'a> {
    pub origins: &'a Origins,
    pub limits: &'a Limits,
    pub policy: Policy,
}

impl Gather<'_> {
    /// Looks at every image, at several at a time; one that fails does not stop the others. With `platforms`, indexes are left with
    /// the manifests for these alone. In the order of `references`.
    pub async fn all(
        &self,
        references: Vec<Reference>,
        platforms: &[Platform],
        observer: &dyn Observer,
    ) -> Vec<(Reference, Result<Image, GatherError>)> {
        let total = references.len();
        let looked_at = references.into_iter().map(|reference| async move {
            let image = self.image(&reference, platforms).await;
            (reference, image)
        });
        let looked_at: Vec<_> = looked_at.collect();
        let mut looked_at = stream::iter(looked_at).buffered(IMAGES_AT_ONCE);
        let mut images = Vec::with_capacity(total);
        while let Some(image) = looked_at.next().await {
            images.push(image);
            let done = images.len();
            observer.event(&Event::Resolving { done, total });
        }
        images
    }

    /// Looks at the roots of images alone, those that can be had.
    pub async fn roots(&self, references: Vec<Reference>, platforms: &[Platform]) -> Vec<Image> {
        let looks: Vec<_> = references
            .iter()
            .map(|reference| self.root(reference, platforms))
            .collect();
        let looks = stream::iter(looks).buffered(IMAGES_AT_ONCE);
        let roots = looks.filter_map(|looked| async {
            let failed = |error: &GatherError| tracing::info!("it is not known: {}", told(error));
            looked.inspect_err(failed).ok()
        });
        roots.collect().await
    }

    /// Looks at one image. Without `platforms`, or named by its digest, it is what its registry has, with all platforms and
    /// attestations.
    pub async fn image(
        &self,
        reference: &Reference,
        platforms: &[Platform],
    ) -> Result<Image, GatherError> {
        let image = self.root(reference, platforms).await?;
        let (published, root) = (image.published, image.root().clone());
        let known = BTreeMap::new();
        self.whole(reference, published, root, &known).await
    }

    /// An image of which nothing but the root is known.
    async fn root(
        &self,
        reference: &Reference,
        platforms: &[Platform],
    ) -> Result<Image, GatherError> {
        let url = source::manifest(reference, &reference.wanted());
        let mut root = self.manifest(&url, reference.digest()).await?;
        let published = root.digest;
        // What is named by its digest would not be found by it any more.
        let may_be_thinned = root.is_index() && reference.digest().is_none();
        if may_be_thinned && !platforms.is_empty() {
            root = thinned(&root, platforms)?;
        }
        Ok(Image {
            reference: reference.clone(),
            published,
            manifests: vec![root],
        })
    }

    /// The image that a digest names, whatever the tag of `reference` leads to by now. Manifests that are `known` need no source.
    pub async fn image_of(
        &self,
        reference: &Reference,
        digest: Digest,
        known: &BTreeMap<Digest, Manifest>,
    ) -> Result<Image, GatherError> {
        let root = self.known_or_read(reference, digest, known).await?;
        self.whole(reference, digest, root, known).await
    }

    async fn whole(
        &self,
        reference: &Reference,
        published: Digest,
        root: Manifest,
        known: &BTreeMap<Digest, Manifest>,
    ) -> Result<Image, GatherError> {
        let mut manifests = self.tree(reference, root, STOREYS_MAX, known).await?;
        let mut seen = HashSet::new();
        manifests.retain(|manifest| seen.insert(manifest.digest));
        Ok(Image {
            reference: reference.clone(),
            published,
            manifests,
        })
    }

    /// A manifest with everything that it names, itself last.
    fn tree<'b>(
        &'b self,
        reference: &'b Reference,
        manifest: Manifest,
        storeys: usize,
        known: &'b BTreeMap<Digest, Manifest>,
    ) -> BoxFuture<'b, Result<Vec<Manifest>, GatherError>> {
        let growing = async move {
            let children = manifest.children.clone();
            if children.len() > CHILDREN_MAX || (storeys == 0 && !children.is_empty()) {
                let url = source::manifest(reference, &manifest.digest.to_string());
                return Err(GatherError::TooMany { url: url.into() });
            }
            let branches = children.into_iter().map(|child: Child| async move {
                let manifest = self.known_or_read(reference, child.digest, known).await?;
                self.tree(reference, manifest, storeys - 1, known).await
            });
            let branches: Vec<_> = branches.collect();
            let branches = stream::iter(branches).buffered(CHILDREN_AT_ONCE);
            let mut manifests = branches.try_concat().await?;
            manifests.push(manifest);
            Ok(manifests)
        };
        growing.boxed()
    }

    async fn known_or_read(
        &self,
        reference: &Reference,
        digest: Digest,
        known: &BTreeMap<Digest, Manifest>,
    ) -> Result<Manifest, GatherError> {
        if let Some(manifest) = known.get(&digest) {
            return Ok(manifest.clone());
        }
        let url = source::manifest(reference, &digest.to_string());
        self.manifest(&url, Some(digest)).await
    }

    /// The manifest at a canonical URL, from the first source that has it.
    async fn manifest(&self, url: &Url, wanted: Option<Digest>) -> Result<Manifest, GatherError> {
        let read = |source| self.manifest_from(source, wanted).boxed();
        self.ask_sources(url, read).await
    }

    async fn manifest_from(
        &self,
        source: Source,
        wanted: Option<Digest>,
    ) -> Result<Manifest, GatherError> {
        let document = self.document(&source, &media::ACCEPTED).await?;
        let url = source.to_string();
        // Before it is read: what was damaged on the way may be no manifest, and comes whole the next time.
        if let Some(told) = document.digest {
            let got = Digest::of(told.algorithm(), &document.content);
            if told != got {
                return Err(GatherError::Disagrees { url, told, got });
            }
        }
        let media_type = document.media_type.as_deref();
        Manifest::parse(document.content, media_type, wanted)
            .map_err(|source| GatherError::Manifest { url, source })
    }

    /// One attempt to read a document, when its host has a connection for it.
    pub(super) async fn document(
        &self,
        source: &Source,
        accept: &[&str],
    ) -> Result<Document, OriginError> {
        let host = self.limits.host(source);
        let admission = host.admit(Rank::FIRST).await;
        let read = self
            .origins
            .document(source, accept, MANIFEST_MAX_BYTES)
            .await;
        admission.give_back().await;
        read.inspect_err(|error| host.failed(error))
    }

    /// What the first source of a canonical URL says that can say it, each asked again while that is worth it.
    pub(super) async fn ask_sources<'b, T>(
        &self,
        url: &Url,
        read: impl Fn(Source) -> BoxFuture<'b, Result<T, GatherError>>,
    ) -> Result<T, GatherError> {
        let mut last = None;
        for source in self.origins.sources(url) {
            let mut attempts = Attempts::new(self.policy);
            loop {
                let error = match read(source.clone()).await {
                    Ok(read) => return Ok(read),
                    Err(error) => error,
                };
                let is_worth_it = error.class() != Class::Permanent;
                let Some(pause) = is_worth_it.then(|| attempts.failed()).flatten() else {
                    last = Some(error);
                    break;
                };
                tracing::info!("again in {pause:.1?}: {}", told(&error));
                sleep(pause).await;
            }
        }
        Err(last.expect("there is at least one source"))
    }
}

fn thinned(index: &Manifest, platforms: &[Platform]) -> Result<Manifest, GatherError> {
    let words = |platforms: &mut dyn Iterator<Item = &Platform>| -> String {
        let words: Vec<String> = platforms.map(ToString::to_string).collect();
        words.join(", ")
    };
    index.thinned(platforms).ok_or_else(|| {
        let mut found = index
            .children
            .iter()
            .filter_map(|child| child.platform.as_ref());
        GatherError::NoPlatform {
            wanted: words(&mut platforms.iter()),
            found: words(&mut found),
        }
    })
}
