//! Lets an image come only if it is signed as the policies ask for, before the first of its blobs is asked for.
//!
//! What is signed is the digest that the image has where it comes from, whatever is left of its index here. Signatures are looked for
//! there too and nowhere else, by cosign's tag and among the referrers; where one is found tells nothing, only what is in it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::layout::{LayoutError, LayoutShelf};
use super::{GatherError, Image, Missed};
use crate::digest::Digest;
use crate::events::told;
use crate::image::{Blob, Reference};
use crate::record::FailureClass;
use crate::signature::{Offer, Policies, Policy, belongs_to, offers};

/// More signatures of one image are not looked at: those of Kubernetes have one for each time that they were promoted.
const OFFERS_MAX: usize = 64;

/// What is longer is no signature: a claim has some 300 bytes, a bundle some 10 KiB.
const CONTENT_MAX_BYTES: u64 = 1 << 20;

/// Reasons that are told, each once, and characters of each.
const REASONS_MAX: usize = 4;
const REASON_CHARS_MAX: usize = 300;

/// Images of a folder that are vetted at a time.
const AT_ONCE: usize = 8;

/// Why an image may not come.
#[derive(Debug, thiserror::Error)]
pub enum VetError {
    #[error(
        "{image} ({digest}) is not brought: no signature of it is one that the policy for {policy} asks for; {found}. Have it signed so, or change the policy in [[registry.policies]]"
    )]
    Unsigned {
        image: Reference,
        digest: Digest,
        policy: String,
        /// What was found in place of it.
        found: String,
    },
    #[error("whether {image} is signed can't be told")]
    Unread {
        image: Reference,
        source: EvidenceError,
    },
}

/// Why a signature could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Registry(#[from] GatherError),
    #[error(transparent)]
    Folder(#[from] LayoutError),
}

impl VetError {
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Unsigned { .. } => FailureClass::Unvouched,
            Self::Unread { .. } => FailureClass::Origin,
        }
    }
}

/// Where the signatures of images are read: the registry that they come from, or the folder.
#[async_trait]
pub trait Evidence: Sync {
    /// What may be signatures of a manifest, as images.
    async fn attached(
        &self,
        image: &Reference,
        subject: Digest,
    ) -> Result<Vec<Image>, EvidenceError>;

    /// A blob of one of them, which hashes to its digest.
    async fn content(&self, of: &Reference, blob: &Blob) -> Result<Bytes, EvidenceError>;

    /// What it means that none was found, and what to do.
    fn lack(&self) -> &'static str;
}

/// Whether an image satisfies every policy that fits it.
pub async fn vet(
    image: &Image,
    policies: &Policies,
    evidence: &dyn Evidence,
) -> Result<(), VetError> {
    let open = policies.of(&image.reference);
    if open.is_empty() {
        return Ok(());
    }
    let unread = |source| VetError::Unread {
        image: image.reference.clone(),
        source,
    };
    let attached = evidence.attached(&image.reference, image.published).await;
    let mut hearing = Hearing {
        image,
        open,
        evidence,
        read: None,
        reasons: Vec::new(),
        unread: None,
    };
    for (of, offer) in offered(&attached.map_err(unread)?) {
        hearing.hear(of, &offer).await;
        if hearing.open.is_empty() {
            return Ok(());
        }
    }
    // What could not be read may have been the right one.
    Err(match hearing.unread.take() {
        Some(source) => unread(source),
        None => hearing.unsigned(),
    })
}

fn offered(attached: &[Image]) -> impl Iterator<Item = (&Reference, Offer)> {
    let manifests = attached.iter().flat_map(|one| {
        let manifests = one.manifests.iter();
        manifests.map(move |manifest| (&one.reference, manifest))
    });
    let offered = manifests.flat_map(|(of, manifest)| {
        let offers = offers(&manifest.bytes).into_iter();
        offers.map(move |offer| (of, offer))
    });
    offered.take(OFFERS_MAX)
}

/// What has been said for one image so far.
struct Hearing<'a> {
    image: &'a Image,
    /// The policies that nothing has satisfied yet.
    open: Vec<&'a Policy>,
    evidence: &'a dyn Evidence,
    /// What was read last: many signatures, one after the other, are of the same payload.
    read: Option<(Digest, Bytes)>,
    reasons: Vec<String>,
    unread: Option<EvidenceError>,
}

impl Hearing<'_> {
    async fn hear(&mut self, of: &Reference, offer: &Offer) {
        if offer.blob.length > CONTENT_MAX_BYTES {
            self.note(of, &format!("it has {} bytes", offer.blob.length));
            return;
        }
        let content = match self.content(of, &offer.blob).await {
            Ok(content) => content,
            Err(error) => {
                self.unread.get_or_insert(error);
                return;
            }
        };
        let mut open = Vec::new();
        for policy in std::mem::take(&mut self.open) {
            match policy.check(self.image.published, offer, &content) {
                Ok(()) => tracing::info!(
                    "{} is signed as the policy for {} asks, by {}",
                    self.image.reference,
                    policy.text(),
                    of.wanted()
                ),
                Err(refusal) => {
                    self.note(of, &refusal.to_string());
                    open.push(policy);
                }
            }
        }
        self.open = open;
    }

    async fn content(&mut self, of: &Reference, blob: &Blob) -> Result<Bytes, EvidenceError> {
        if let Some((digest, content)) = &self.read
            && *digest == blob.digest
        {
            return Ok(content.clone());
        }
        let content = self.evidence.content(of, blob).await?;
        self.read = Some((blob.digest, content.clone()));
        Ok(content)
    }

    fn note(&mut self, of: &Reference, why: &str) {
        let reason = format!("that of {}: {}", of.wanted(), printable(why));
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn unsigned(self) -> VetError {
        let more = self.reasons.len().saturating_sub(REASONS_MAX);
        let mut found = match self.reasons.is_empty() {
            true => self.evidence.lack().to_owned(),
            false => self.reasons[..self.reasons.len() - more].join("; "),
        };
        if more > 0 {
            found += &format!("; and {more} more reasons");
        }
        VetError::Unsigned {
            image: self.image.reference.clone(),
            digest: self.image.published,
            policy: self.open[0].text().to_owned(),
            found,
        }
    }
}

/// What strangers wrote is in it: it stays on its line, and short.
fn printable(why: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    why.chars().map(plain).take(REASON_CHARS_MAX).collect()
}

/// A folder in the OCI image layout, with all that is in it.
struct Folder<'a> {
    shelf: &'a LayoutShelf,
    images: &'a [Image],
}

#[async_trait]
impl Evidence for Folder<'_> {
    async fn attached(
        &self,
        image: &Reference,
        subject: Digest,
    ) -> Result<Vec<Image>, EvidenceError> {
        let attached = self.images.iter().filter(|other| {
            let root = &other.root().bytes;
            other.reference.name() == image.name() && belongs_to(&other.reference, root, subject)
        });
        Ok(attached.cloned().collect())
    }

    async fn content(&self, _: &Reference, blob: &Blob) -> Result<Bytes, EvidenceError> {
        Ok(self.shelf.content(blob.digest).await?)
    }

    fn lack(&self) -> &'static str {
        "the folder has none; fill it with 'signatures = true' in [registry], and without --platform, which makes another image of it"
    }
}

impl Folder<'_> {
    /// The image of this folder that something is attached to.
    fn owner(&self, attached: &Image) -> Option<&Image> {
        let root = &attached.root().bytes;
        let name = attached.reference.name();
        let owns = |image: &Image| {
            let of = |subject| belongs_to(&attached.reference, root, subject);
            image.manifests.iter().any(|manifest| of(manifest.digest))
        };
        let mut images = self.images.iter();
        images.find(|image| image.reference.name() == name && owns(image))
    }
}

/// Of the images of a folder those that may go on, and those that may not. `wanted` are those that were asked for by name; none: all.
/// What is attached to an image shares its lot, unless it is wanted by its own name.
pub async fn vet_folder(
    shelf: &LayoutShelf,
    images: &[Image],
    wanted: &[Reference],
    policies: &Policies,
) -> (Vec<Image>, Vec<Missed>) {
    let folder = Folder { shelf, images };
    let is_wanted = |image: &&Image| wanted.is_empty() || wanted.contains(&image.reference);
    let (attached, proper): (Vec<_>, Vec<_>) = images.iter().filter(is_wanted).partition(|image| {
        wanted.is_empty() && !policies.is_empty() && folder.owner(image).is_some()
    });
    let vetting = proper.into_iter().map(|image| {
        let folder = &folder;
        async move { (image, vet(image, policies, folder).await) }
    });
    let vetting: Vec<_> = vetting.collect();
    let vetted: Vec<_> = stream::iter(vetting).buffered(AT_ONCE).collect().await;
    let (mut may, mut missed) = (Vec::new(), Vec::new());
    for (image, vetted) in vetted {
        match vetted {
            Ok(()) => may.push(image.clone()),
            Err(error) => missed.push(Missed::new(&image.reference, error.class(), told(&error))),
        }
    }
    let is_let_in = |owner: &Image| may.iter().any(|one| one.reference == owner.reference);
    let follow = attached.into_iter();
    let follow = follow.filter(|image| folder.owner(image).is_some_and(is_let_in));
    let follow: Vec<Image> = follow.cloned().collect();
    may.extend(follow);
    (may, missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_stays_on_its_line() {
        assert_eq!(printable("a\n\u{1b}[31mb"), "a  [31mb");
        assert_eq!(printable(&"x".repeat(10_000)).len(), REASON_CHARS_MAX);
    }
}
