//! Puts a file at its targets while it still arrives, so that its upload ends with its last byte and does not begin there.
//!
//! Where the store is slow, in parts out of sight; elsewhere in one PUT whose end is held back, if the origin tells the MD5 that
//! stands before it. Nothing that goes wrong here is a failure: the file is put from the spool when it is whole.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::watch;

use super::Mirror;
use crate::digest::Digest;
use crate::events::{Event, told};
use crate::plan::Item;
use crate::publish::{self, Batch};
use crate::spool::{SMALL_MAX_BYTES, Spool};
use crate::store::staging::{Staged, Staging};
use crate::verify::{Arriving, Verdict};

/// A file on its way, or there, and what is told of it meanwhile.
pub(super) struct Coming {
    pub(super) spool: Arc<Spool>,
    /// The transport's word, as soon as there is one.
    pub(super) md5: watch::Receiver<Option<Digest>>,
    pub(super) verdict: watch::Receiver<Verdict>,
}

impl Mirror {
    /// Puts what comes at the targets at these places, where that can be done; returns those where it is by the end. Ends soon
    /// once the content is lost.
    pub(super) async fn put_early(
        &self,
        item: &Item,
        targets: &[usize],
        coming: Coming,
    ) -> Vec<usize> {
        let Some(length) = coming
            .length()
            .await
            .filter(|length| *length > SMALL_MAX_BYTES)
        else {
            return Vec::new();
        };
        let puts = targets.iter().map(|&at| {
            let coming = &coming;
            async move {
                let is_there = match self.batch(at, item, coming, length).await {
                    Some(batch) => self.stage(at, item, batch, coming).await,
                    None => self.cut_through(at, item, coming).await,
                };
                is_there.then_some(at)
            }
        });
        join_all(puts).await.into_iter().flatten().collect()
    }

    /// The parts to stage, where staging is worth it.
    async fn batch<'a>(
        &'a self,
        at: usize,
        item: &'a Item,
        coming: &'a Coming,
        length: u64,
    ) -> Option<Batch<'a>> {
        let staging = self.targets[at].staging()?;
        let staged = Staged {
            run: self.spools.name().to_owned(),
            digest: item.wanted.name()?,
            length,
        };
        let part_bytes = staging.parts_for(&staged).await;
        self.tell_complaint(staging);
        Some(Batch {
            store: self.targets[at].as_ref(),
            staging,
            asset: &item.wanted.asset,
            spool: &coming.spool,
            staged,
            part_bytes: part_bytes?,
            policy: self.policy,
            observer: self.observer.as_ref(),
        })
    }

    fn tell_complaint(&self, staging: &dyn Staging) {
        if let Some(what) = staging.complaint() {
            self.observer.event(&Event::Warned { what });
        }
    }

    async fn stage(&self, at: usize, item: &Item, batch: Batch<'_>, coming: &Coming) -> bool {
        let published = batch.publish(item.condition(at), coming.verdict.clone());
        let Err(error) = published.await else {
            return true;
        };
        self.tell_complaint(batch.staging);
        let key = &item.wanted.asset.key;
        tracing::info!("{key} is put in one part: {}", told(&error));
        false
    }

    /// One PUT of what arrives, given up as soon as the content is lost.
    async fn cut_through(&self, at: usize, item: &Item, coming: &Coming) -> bool {
        let Some(content) = coming.foreseen(item).await else {
            return false;
        };
        let asset = &item.wanted.asset;
        let (attributes, condition) = (
            publish::attributes(asset, content.digests()),
            item.condition(at),
        );
        let store = self.targets[at].as_ref();
        tokio::select! {
            is_there = publish::while_arriving(store, &asset.key, &content, &attributes, &condition) => is_there,
            () = coming.lost() => false,
        }
    }
}

impl Coming {
    /// The content's length, as soon as it is known; None once there is no content.
    async fn length(&self) -> Option<u64> {
        let mut seen = self.spool.watch();
        tokio::select! {
            seen = seen.wait_for(|seen| seen.length.is_some()) => seen.ok()?.length,
            () = self.lost() => None,
        }
    }

    /// Ends when nothing is to come of it.
    async fn lost(&self) {
        let mut verdict = self.verdict.clone();
        // That nobody is left to judge says the same.
        let _lost = verdict
            .wait_for(|verdict| matches!(verdict, Verdict::Lost))
            .await;
    }

    /// The content as it can be published before it is whole: there is a first byte of it, and all that goes with an object is
    /// known. None once it is whole or lost.
    async fn foreseen(&self, item: &Item) -> Option<Arriving> {
        let (mut md5, mut verdict) = (self.md5.clone(), self.verdict.clone());
        let foreseen = async {
            let md5 = (*md5.wait_for(Option::is_some).await.ok()?)?;
            let generation = self.spool.seen().generation;
            self.spool.beyond(0, generation).await;
            let expected = &item.wanted.expected;
            Arriving::new(&self.spool, expected, md5, self.verdict.clone())
        };
        tokio::select! {
            biased;
            _ = verdict.wait_for(|verdict| !matches!(verdict, Verdict::Open)) => None,
            content = foreseen => content,
        }
    }
}
