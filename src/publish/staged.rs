//! Puts an object in parts out of sight while it arrives, and copies it to its key once it is verified.
//!
//! Each part is a request of its own, tried again by itself, so that a broken connection costs a part. Parts that have not
//! arrived are not waited for in order: whatever is whole goes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::Patience;
use crate::asset::Asset;
use crate::events::Observer;
use crate::retry::Policy;
use crate::spool::Spool;
use crate::store::staging::{Part, Staged, Staging, Upload};
use crate::store::{Condition, ETag, Store, StoreError, StoreErrorKind};
use crate::verify::{Verdict, Verified};

/// One object's parts on their way to one store.
pub struct Batch<'a> {
    pub store: &'a dyn Store,
    pub staging: &'a dyn Staging,
    pub asset: &'a Asset,
    /// Where the parts come from; its length is known.
    pub spool: &'a Arc<Spool>,
    pub staged: Staged,
    /// Of each part but the last.
    pub part_bytes: u64,
    pub policy: Policy,
    pub observer: &'a dyn Observer,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("store", &self.store)
            .field("staged", &self.staged)
            .field("part_bytes", &self.part_bytes)
            .finish_non_exhaustive()
    }
}

impl Batch<'_> {
    /// Ends when the object is at its key, or with nothing left of it in the store.
    pub async fn publish(
        &self,
        condition: Condition,
        verdict: watch::Receiver<Verdict>,
    ) -> Result<(), StoreError> {
        let begin = || self.staging.begin(&self.staged);
        let upload = self.patience().with(begin).await?;
        let published = self.publish_as(&upload, condition, verdict).await;
        match published {
            Ok(()) => self.staging.remove(&upload).await,
            Err(_) => self.staging.abandon(&upload).await,
        }
        published
    }

    async fn publish_as(
        &self,
        upload: &Upload,
        condition: Condition,
        verdict: watch::Receiver<Verdict>,
    ) -> Result<(), StoreError> {
        let verified = self.verified(verdict);
        let (parts, content) = tokio::try_join!(self.put_parts(upload), verified)?;
        let complete = || self.staging.complete(upload, &parts);
        let staged = &self.patience().with(complete).await?;
        let attributes = &super::attributes(self.asset, content.digests());
        let (staging, key, content) = (self.staging, &self.asset.key, &content);
        let copy = |condition: Condition| async move {
            staging
                .publish(upload, staged, key, content, attributes, &condition)
                .await
        };
        self.patience()
            .until_there(self.store, content, condition, copy)
            .await
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            key: &self.asset.key,
            policy: self.policy,
            observer: self.observer,
        }
    }

    /// Waits for the verdict; an error as soon as it is certain that there is nothing to publish.
    async fn verified(
        &self,
        mut verdict: watch::Receiver<Verdict>,
    ) -> Result<Verified, StoreError> {
        let judged = verdict.wait_for(|verdict| !matches!(verdict, Verdict::Open));
        match judged.await.as_deref() {
            Ok(Verdict::Right(content)) => Ok(Verified::clone(content)),
            _ => Err(self.lost()),
        }
    }

    fn lost(&self) -> StoreError {
        let (place, key) = (self.store.place(), &self.asset.key);
        let what = format!("can't put {place}/{key}: what arrived is not to be published");
        StoreError::new(StoreErrorKind::Spool, what)
    }

    /// Puts every part as soon as it has arrived; their `ETag`s in order.
    async fn put_parts(&self, upload: &Upload) -> Result<Vec<ETag>, StoreError> {
        let mut arriving = self.spool.watch();
        let generation = arriving.borrow_and_update().generation;
        let mut awaited = parts(self.staged.length, self.part_bytes);
        let mut under_way = FuturesUnordered::new();
        let mut etags = BTreeMap::new();
        loop {
            for (number, range) in awaited.extract_if(.., |(_, range)| self.spool.has(range)) {
                under_way.push(self.put_part(upload, number, range));
            }
            if awaited.is_empty() && under_way.is_empty() {
                return Ok(etags.into_values().collect());
            }
            tokio::select! {
                Some(put) = under_way.next() => {
                    let (number, etag) = put?;
                    etags.insert(number, etag);
                }
                _ = arriving.changed(), if !awaited.is_empty() => {}
            }
            if arriving.borrow_and_update().generation != generation {
                return Err(self.lost());
            }
        }
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: i32,
        range: Range<u64>,
    ) -> Result<(i32, ETag), StoreError> {
        let read = Part::read(self.spool, number, range).await;
        let part = read.map_err(|error| self.lost().caused_by(error))?;
        let put = || self.staging.put_part(upload, &part);
        Ok((number, self.patience().with(put).await?))
    }
}

/// The numbers and ranges of an object's parts.
fn parts(length: u64, part_bytes: u64) -> Vec<(i32, Range<u64>)> {
    let starts = (0..length).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX));
    (1..)
        .zip(starts)
        .map(|(number, start)| (number, start..length.min(start + part_bytes)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object_once() {
        assert_eq!(parts(10, 4), [(1, 0..4), (2, 4..8), (3, 8..10)]);
        assert_eq!(parts(8, 4), [(1, 0..4), (2, 4..8)]);
        assert_eq!(parts(1, 4), [(1, 0..1)]);
    }
}
