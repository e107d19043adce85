//! Puts a file at its targets while it still arrives, so that its upload ends with its last byte and does not begin there.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::watch;

use super::Mirror;
use crate::digest::Digest;
use crate::plan::Item;
use crate::publish;
use crate::spool::Spool;
use crate::verify::{Arriving, Publishable, Verified};

/// What is no longer than this is put when it is whole: there is nothing to gain.
const SMALL_BYTES: u64 = 4 << 20;

/// A file on its way, and what is told of it meanwhile.
pub(super) struct Coming {
    pub(super) spool: Arc<Spool>,
    /// The transport's word, as soon as there is one.
    pub(super) md5: watch::Receiver<Option<Digest>>,
    /// Once all of it is verified.
    pub(super) verdict: watch::Receiver<Option<Verified>>,
}

impl Mirror {
    /// Puts what comes at the targets at these places, if enough is known beforehand; returns where it is by the end. Nothing
    /// that goes wrong here is a failure: where it is not, it is put when it is whole.
    pub(super) async fn put_early(
        &self,
        item: &Item,
        targets: &[usize],
        coming: Coming,
    ) -> Vec<usize> {
        let Some(content) = coming.foreseen(item).await else {
            return Vec::new();
        };
        let asset = &item.wanted.asset;
        let attributes = publish::attributes(asset, content.digests());
        let puts = targets.iter().map(|&at| {
            let (store, condition) = (self.targets[at].as_ref(), item.condition(at));
            let (content, attributes) = (&content, &attributes);
            async move {
                publish::while_arriving(store, &asset.key, content, attributes, &condition)
                    .await
                    .then_some(at)
            }
        });
        join_all(puts).await.into_iter().flatten().collect()
    }
}

impl Coming {
    /// The content as it can be published before it is whole: there is a first byte of it, and all that goes with an object is
    /// known. None once there is no sense in it.
    async fn foreseen(mut self, item: &Item) -> Option<Arriving> {
        let mut whole = self.verdict.clone();
        let foreseen = async {
            let md5 = (*self.md5.wait_for(Option::is_some).await.ok()?)?;
            let generation = self.spool.seen().generation;
            self.spool.beyond(0, generation).await;
            let expected = &item.wanted.expected;
            Arriving::new(&self.spool, expected, md5, self.verdict)
                .filter(|content| content.length() > SMALL_BYTES)
        };
        tokio::select! {
            content = foreseen => content,
            _ = whole.changed() => None,
        }
    }
}
