//! Obtains an asset's verified content: from what it carries, from another target that has it, or over the border.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{self, Either};
use tokio::sync::watch;

use super::early::Coming;
use super::{Mirror, TransferError};
use crate::digest::Digest;
use crate::events::{Event, told};
use crate::fetch::{Fetch, Fetched, Tally};
use crate::origin::Source;
use crate::plan::Item;
use crate::spool::{Reservation, Spool};
use crate::store::Store;
use crate::verify::{self, Mismatch, Verdict, Verified};

/// Wrong bytes are fetched anew this often: once for a fault on the way, once more to be sure.
const CORRUPT_ATTEMPTS: usize = 3;

/// The sources of one attempt. At first all of them bring parts of the file together. Where what they brought was wrong, nobody
/// knows whose part it was: from then on each is asked alone, the first one last.
fn sources_of_attempt(sources: &[Source], attempt: usize) -> &[Source] {
    if attempt == 1 {
        return sources;
    }
    let at = (attempt - 1) % sources.len();
    &sources[at..=at]
}

/// Whether to give up after so many attempts. Where an only source brings what it brought before, that is what it has, and no
/// fault on the way.
fn is_enough(
    sources: &[Source],
    attempt: usize,
    before: Option<&Mismatch>,
    now: &Mismatch,
) -> bool {
    let same_again = sources.len() == 1 && before == Some(now);
    same_again || attempt == CORRUPT_ATTEMPTS.max(sources.len() + 1)
}

/// Verified content and what holds it.
pub(super) struct Obtained {
    pub(super) content: Verified,
    spool: Option<(Arc<Spool>, Option<Reservation>)>,
    pub(super) also_checked: Vec<String>,
    /// The targets where it was put while it arrived.
    pub(super) put_at: Vec<usize>,
}

impl Obtained {
    fn spooled(
        content: Verified,
        spool: &Arc<Spool>,
        reservation: Option<Reservation>,
        also_checked: Vec<String>,
    ) -> Self {
        Self {
            content,
            spool: Some((Arc::clone(spool), reservation)),
            also_checked,
            put_at: Vec::new(),
        }
    }

    /// It is published everywhere: the spool has done its work. One that can't be removed is removed when it is abandoned.
    pub(super) fn forget(self) {
        if let Some((spool, _)) = self.spool
            && let Err(error) = spool.remove()
        {
            tracing::debug!(%error, "a spool could not be removed");
        }
    }
}

impl Mirror {
    /// Gets verified content: what the asset carries, what the spool holds, what another target holds, or from the origins.
    /// What comes from there may be put at the targets that are `wanting` while it comes.
    pub(super) async fn obtain(
        &self,
        item: &Item,
        holders: &[&dyn Store],
        wanting: &[usize],
        tally: &Arc<Tally>,
    ) -> Result<Obtained, TransferError> {
        if let Some(content) = &item.wanted.content {
            return Ok(Obtained {
                content: content.clone(),
                spool: None,
                also_checked: Vec::new(),
                put_at: Vec::new(),
            });
        }
        let name = item.wanted.name().ok_or(TransferError::Unvouched)?;
        let claimed = self.spools.claim(&name).await;
        let spool = Arc::new(claimed.map_err(|error| self.spool_error(error))?);
        for holder in holders {
            if let Some(obtained) = self.copy_from(*holder, item, &spool).await? {
                let put_at = self.put_staged(item, wanting, &spool, &obtained).await;
                return Ok(Obtained { put_at, ..obtained });
            }
        }
        self.fetch_verified(item, &spool, wanting, tally).await
    }

    /// Puts content that is there already where it gets there sooner in parts.
    async fn put_staged(
        &self,
        item: &Item,
        wanting: &[usize],
        spool: &Arc<Spool>,
        obtained: &Obtained,
    ) -> Vec<usize> {
        let verdict = watch::Sender::new(Ok(obtained.content.clone()).into());
        let md5 = watch::Sender::new(Some(obtained.content.digests().md5));
        let whole = Coming {
            spool: Arc::clone(spool),
            md5: md5.subscribe(),
            verdict: verdict.subscribe(),
        };
        self.put_early(item, wanting, whole).await
    }

    /// Copies from a target that holds the asset, so that nothing crosses; None when that did not work out.
    async fn copy_from(
        &self,
        holder: &dyn Store,
        item: &Item,
        spool: &Arc<Spool>,
    ) -> Result<Option<Obtained>, TransferError> {
        let Ok(Some(mut content)) = holder.open(&item.wanted.asset.key).await else {
            return Ok(None);
        };
        let reservation = if spool.takes_memory(content.length) {
            None
        } else {
            Some(self.spools.reserve(content.length).await)
        };
        spool
            .set_length(content.length)
            .map_err(|error| self.spool_error(error))?;
        let mut at = 0;
        while let Some(Ok(chunk)) = content.chunks.next().await {
            let length = chunk.len() as u64;
            let writer = Arc::clone(spool);
            tokio::task::spawn_blocking(move || writer.write_at(at, &[chunk]))
                .await
                .map_err(io::Error::other)
                .flatten()
                .map_err(|error| self.spool_error(error))?;
            at += length;
        }
        if !spool.is_whole() {
            return Ok(None);
        }
        if let Ok(content) = self.follow(item, spool).await? {
            return Ok(Some(Obtained::spooled(
                content,
                spool,
                reservation,
                Vec::new(),
            )));
        }
        spool.discard().map_err(|error| self.spool_error(error))?;
        Ok(None)
    }

    /// Fetches until the content is right: wrong content is fetched anew, from the next source if there is one.
    async fn fetch_verified(
        &self,
        item: &Item,
        spool: &Arc<Spool>,
        wanting: &[usize],
        tally: &Arc<Tally>,
    ) -> Result<Obtained, TransferError> {
        let asset = &item.wanted.asset;
        let sources = self.origins.sources_of(asset);
        let mut attempt = 1;
        let mut before = None;
        loop {
            let fetched = self.fetch_once(
                item,
                sources_of_attempt(&sources, attempt),
                spool,
                wanting,
                tally,
            );
            let mismatch = match fetched.await? {
                Ok(obtained) => return Ok(obtained),
                Err(mismatch) => mismatch,
            };
            tally.discarded(spool.arrived_bytes());
            spool.discard().map_err(|error| self.spool_error(error))?;
            if is_enough(&sources, attempt, before.as_ref(), &mismatch) {
                let sources = sources.iter().map(ToString::to_string).collect();
                return Err(TransferError::Corrupt {
                    attempts: attempt,
                    sources,
                    source: mismatch,
                });
            }
            let why = told(&mismatch);
            self.observer.event(&Event::Retrying {
                key: asset.key.clone(),
                why,
                pause: self.policy.pause_min,
            });
            tokio::time::sleep(self.policy.pause_min).await;
            before = Some(mismatch);
            attempt += 1;
        }
    }

    /// Fetches, hashes and, where that can be, puts the content, all at the same time. What was put of wrong content is dropped
    /// before its end, and cleared away before this ends.
    async fn fetch_once(
        &self,
        item: &Item,
        sources: &[Source],
        spool: &Arc<Spool>,
        wanting: &[usize],
        tally: &Arc<Tally>,
    ) -> Result<Result<Obtained, Mismatch>, TransferError> {
        let key = &item.wanted.asset.key;
        let (foretold_md5, verdict) = (watch::Sender::new(None), watch::Sender::default());
        let fetch = Fetch {
            key,
            sources,
            spool,
            folder: &self.spools,
            origins: &self.origins,
            limits: &self.limits,
            policy: self.policy,
            observer: &self.observer,
            tally,
            foretold_md5: &foretold_md5,
        };
        let coming = Coming {
            spool: Arc::clone(spool),
            md5: foretold_md5.subscribe(),
            verdict: verdict.subscribe(),
        };
        let arriving = pin!(self.fetch_and_follow(item, &fetch, &verdict));
        let early = pin!(self.put_early(item, wanting, coming));
        let (arrived, early) = match future::select(arriving, early).await {
            Either::Left((arrived, early)) => (arrived, Either::Left(early)),
            Either::Right((put_at, arriving)) => (arriving.await, Either::Right(put_at)),
        };
        match &arrived {
            Ok((_, Ok(_))) => self.observer.event(&Event::Verified { key: key.clone() }),
            _ => drop(verdict.send_replace(Verdict::Lost)),
        }
        let put_at = match early {
            Either::Left(early) => early.await,
            Either::Right(put_at) => put_at,
        };
        let (fetched, content) = match arrived? {
            (fetched, Ok(content)) => (fetched, content),
            (_, Err(mismatch)) => return Ok(Err(mismatch)),
        };
        let checked = self.check_transport(item, &content, *foretold_md5.borrow());
        Ok(Ok(Obtained {
            put_at,
            ..Obtained::spooled(content, spool, fetched.reservation, checked)
        }))
    }

    /// Fetches and hashes at the same time, and tells those who wait for it when the content is verified.
    async fn fetch_and_follow(
        &self,
        item: &Item,
        fetch: &Fetch<'_>,
        verdict: &watch::Sender<Verdict>,
    ) -> Result<(Fetched, Result<Verified, Mismatch>), TransferError> {
        let filled = async { fetch.fill().await.map_err(TransferError::from) };
        let (fetched, verified) = tokio::try_join!(filled, self.follow(item, fetch.spool))?;
        verdict.send_replace(verified.clone().into());
        Ok((fetched, verified))
    }

    async fn follow(
        &self,
        item: &Item,
        spool: &Arc<Spool>,
    ) -> Result<Result<Verified, Mismatch>, TransferError> {
        let also = &item.wanted.asset.sidecars;
        verify::follow(Arc::clone(spool), &item.wanted.expected, also)
            .await
            .map_err(|error| self.spool_error(error))
    }

    /// Compares with the MD5 that the origin's transport told. The vouchers' word stands above it: a difference is only told.
    fn check_transport(
        &self,
        item: &Item,
        content: &Verified,
        told: Option<Digest>,
    ) -> Vec<String> {
        let Some(md5) = told else { return Vec::new() };
        if md5 == content.digests().md5 {
            return vec!["the origin's MD5 header".to_owned()];
        }
        let key = &item.wanted.asset.key;
        self.observer.event(&Event::Warned {
            what: format!(
                "{key}: the origin's header says {md5}, though the content is what was vouched for"
            ),
        });
        Vec::new()
    }
}
