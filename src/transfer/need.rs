//! Finds out what a target needs of an asset, inside the store: nothing crosses.

use futures::StreamExt;

use super::Mirror;
use crate::digest::{Algorithm, Digest, Digests, Hasher};
use crate::events::{Event, told};
use crate::index;
use crate::plan::{Action, Item};
use crate::publish;
use crate::retry::{Attempts, Class};
use crate::store::{ETag, Stat, Store, StoreError};
use crate::verify;

/// What a target needs before an asset is right there.
pub(super) enum Need {
    Nothing,
    Sidecars(Vec<Algorithm>),
    /// Its object has the right bytes and can't be mended where it is: they are put again.
    Rewrite,
    Content,
    /// Nothing any more, since it could not be looked at.
    Failed(StoreError),
}

impl Need {
    pub(super) fn is_for_content(&self) -> bool {
        matches!(self, Self::Rewrite | Self::Content)
    }

    /// Whether the right bytes are there.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Nothing | Self::Sidecars(_) | Self::Rewrite)
    }
}

/// What an object was found to hold.
pub(super) type FoundOut = Option<(Digests, u64)>;

impl Mirror {
    /// What one target needs; looks into the store where the plan could not know.
    pub(super) async fn need(
        &self,
        at: usize,
        item: &Item,
    ) -> Result<(Need, FoundOut), StoreError> {
        match &item.actions[at] {
            Action::Skip => return Ok((Need::Nothing, None)),
            Action::Sidecars { sidecars } => return Ok((Need::Sidecars(sidecars.clone()), None)),
            Action::Transfer { .. } => return Ok((Need::Content, None)),
            Action::Inspect { .. } => {}
        }
        let mut attempts = Attempts::new(self.policy);
        loop {
            let error = match self.inspect(at, item).await {
                Err(error) if error.class() == Class::Transient => error,
                ended => return ended,
            };
            let Some(pause) = attempts.failed() else {
                return Err(error);
            };
            self.observer.event(&Event::Retrying {
                key: item.wanted.asset.key.clone(),
                why: told(&error),
                pause,
            });
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads an object that nothing tells about, inside the store: nothing crosses. One that is right but multipart is mended
    /// there by a copy onto itself.
    async fn inspect(&self, at: usize, item: &Item) -> Result<(Need, FoundOut), StoreError> {
        let (target, asset) = (self.targets[at].as_ref(), &item.wanted.asset);
        let Some(stat) = target.stat(&asset.key).await? else {
            return Ok((Need::Content, None));
        };
        let (etag, length) = (stat.object.etag.clone(), stat.object.length);
        let known = digests_in_metadata(&stat, item);
        let digests = match known {
            Some(digests) => Some(digests),
            None => self.digests_of(target, item).await?,
        };
        let Some(digests) = digests else {
            return Ok((Need::Content, None));
        };
        if verify::satisfies(&digests, &item.wanted.expected).is_err() {
            return Ok((Need::Content, None));
        }
        let sidecars = missing_sidecars(item, at, &digests);
        let single_part = ETag::from(digests.md5);
        if etag == single_part {
            let need = if sidecars.is_empty() {
                Need::Nothing
            } else {
                Need::Sidecars(sidecars)
            };
            return Ok((need, Some((digests, length))));
        }
        let attributes = publish::attributes(asset, &digests);
        let need = match target.restate(&asset.key, &etag, &attributes).await {
            Ok(mended) if mended == single_part => Need::Sidecars(sidecars),
            Err(error) if error.class() == Class::Transient => return Err(error),
            // Some servers keep the ETag of a multipart upload, some policies forbid to copy.
            _ => Need::Rewrite,
        };
        Ok((need, Some((digests, length))))
    }

    async fn digests_of(
        &self,
        target: &dyn Store,
        item: &Item,
    ) -> Result<Option<Digests>, StoreError> {
        let Some(mut content) = target.open(&item.wanted.asset.key).await? else {
            return Ok(None);
        };
        let also: Vec<_> = item
            .wanted
            .expected
            .iter()
            .map(Digest::algorithm)
            .chain(item.wanted.asset.sidecars.clone())
            .collect();
        let mut hasher = Hasher::new(&also);
        while let Some(chunk) = content.chunks.next().await {
            hasher.update(&chunk?);
        }
        Ok(Some(hasher.finish()))
    }
}

/// The sidecars that are not there yet, or are those of another content.
fn missing_sidecars(item: &Item, at: usize, digests: &Digests) -> Vec<Algorithm> {
    let is_there = |algorithm: &Algorithm| {
        let wanted = digests
            .get(*algorithm)
            .map(|digest| ETag::from(index::sidecar(&digest).digests().md5));
        wanted.is_some() && item.sidecars[at].get(algorithm) == wanted.as_ref()
    };
    item.wanted
        .asset
        .sidecars
        .iter()
        .copied()
        .filter(|algorithm| !is_there(algorithm))
        .collect()
}

/// What the object's own metadata says, if it speaks of the content that is there (its MD5 is the ETag) and tells every digest
/// that is needed: then the object need not be read.
fn digests_in_metadata(stat: &Stat, item: &Item) -> Option<Digests> {
    let told = |name: &str| stat.metadata.get(name)?.parse::<Digest>().ok();
    let (md5, sha256) = (told("md5")?, told("sha256")?);
    let digests = Digests {
        md5,
        sha256,
        sha1: None,
        sha512: None,
    };
    let needed = item
        .wanted
        .expected
        .iter()
        .map(Digest::algorithm)
        .chain(item.wanted.asset.sidecars.iter().copied());
    let enough = needed
        .into_iter()
        .all(|algorithm| digests.get(algorithm).is_some());
    (enough && stat.object.etag == ETag::from(md5) && sha256.algorithm() == Algorithm::Sha256)
        .then_some(digests)
}
