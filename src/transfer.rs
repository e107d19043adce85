//! The engine: carries out a plan.
//!
//! Three questions, three functions: how many at once ([`carry_out`]), what does this target need (`need`), which steps does a
//! byte take (`carry`, `obtain`). A failed asset is an outcome, not an error: it never stops the rest.

mod entry;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::entry::entry;
pub use self::entry::entry_of_content;
use crate::asset::Key;
use crate::digest::{Algorithm, Digest, Digests, Hasher};
use crate::events::{Event, Observer, told};
use crate::fetch::{Fetch, FetchError, Tally};
use crate::index::{self, Entry};
use crate::limits::Limits;
use crate::origin::{Origins, Shown, Source};
use crate::plan::{Action, Item};
use crate::publish;
use crate::retry::{Attempts, Class, Policy};
use crate::spool::{Reservation, Spool, SpoolFolder};
use crate::store::{Condition, ETag, Stat, Store, StoreError};
use crate::verify::{self, Mismatch, Verified};

/// Wrong bytes are fetched anew this often: once for a fault on the way, once more to be sure.
const CORRUPT_ATTEMPTS: usize = 3;

/// Everything that a run works with.
#[derive(Debug)]
pub struct Mirror {
    pub origins: Origins,
    pub limits: Limits,
    /// In the order of every item's actions.
    pub targets: Vec<Arc<dyn Store>>,
    pub spools: SpoolFolder,
    /// For what is tried again, at origins and at stores alike.
    pub policy: Policy,
    pub observer: Arc<dyn Observer>,
    /// Assets on their way at a time.
    pub in_flight: usize,
}

/// Why an asset is not at a target.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "wrong content came {attempts} times from {}; it is not published: try another source with --origin HOST=URL",
        sources.join(", ")
    )]
    Corrupt {
        attempts: usize,
        sources: Vec<String>,
        source: Mismatch,
    },
    #[error("the spool {folder} can't be used")]
    Spool { folder: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nobody says what it must hash to")]
    Unvouched,
}

/// How one asset ended.
#[derive(Debug)]
pub struct Outcome {
    pub item: Item,
    /// At each target, in order.
    pub places: Vec<Ended>,
    /// Body bytes that came from origins for it, also when it failed.
    pub received_bytes: u64,
    /// Those of them that had come before.
    pub refetched_bytes: u64,
    /// What goes into the index, when its content is known.
    pub entry: Option<Entry>,
}

/// How one asset ended at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was there and right.
    Held,
    /// It was put, or mended inside the store.
    Stored,
    /// In one line, for the reader.
    Failed(String),
    /// The run was stopped before it was done.
    Cancelled,
}

impl Outcome {
    /// Whether it is right at every target.
    pub fn is_done(&self) -> bool {
        self.places
            .iter()
            .all(|ended| matches!(ended, Ended::Held | Ended::Stored))
    }

    fn all(item: Item, ended: &Ended) -> Self {
        let places = vec![ended.clone(); item.actions.len()];
        Self {
            item,
            places,
            received_bytes: 0,
            refetched_bytes: 0,
            entry: None,
        }
    }
}

/// Carries out items, so many at a time. Every task started here has ended before this returns; once `stop` fires, no new one
/// begins and those under way are dropped: nothing half-done can be seen, and the spool keeps what has arrived.
pub async fn carry_out(
    items: Vec<Item>,
    mirror: &Arc<Mirror>,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    let mut waiting = items.into_iter();
    let mut in_flight = JoinSet::new();
    let mut outcomes = Vec::new();
    loop {
        while in_flight.len() < mirror.in_flight && !stop.is_cancelled() {
            let Some(item) = waiting.next() else { break };
            let (mirror, stop) = (Arc::clone(mirror), stop.clone());
            in_flight.spawn(async move { mirror.transfer(item, &stop).await });
        }
        let Some(ended) = in_flight.join_next().await else {
            break;
        };
        outcomes.push(ended.expect("a transfer reports its failures, it does not panic"));
    }
    outcomes.extend(waiting.map(|item| Outcome::all(item, &Ended::Cancelled)));
    outcomes
}

/// What a target needs before an asset is right there.
enum Need {
    Nothing,
    Sidecars(Vec<Algorithm>),
    /// Its object has the right bytes and can't be mended where it is: they are put again.
    Rewrite,
    Content,
    /// Nothing any more, since it could not be looked at.
    Failed(StoreError),
}

impl Need {
    fn is_for_content(&self) -> bool {
        matches!(self, Self::Rewrite | Self::Content)
    }

    /// Whether the right bytes are there.
    fn is_held(&self) -> bool {
        matches!(self, Self::Nothing | Self::Sidecars(_) | Self::Rewrite)
    }
}

/// What an object was found to hold.
type FoundOut = Option<(Digests, u64)>;

impl Mirror {
    async fn transfer(&self, item: Item, stop: &CancellationToken) -> Outcome {
        if item.is_done() {
            let entry = item
                .held
                .clone()
                .zip(item.length)
                .map(|(digests, length)| entry(&item, &digests, length, &[]));
            return Outcome {
                entry,
                ..Outcome::all(item, &Ended::Held)
            };
        }
        let key = item.wanted.asset.key.clone();
        let tally = Arc::new(Tally::default());
        let carried = stop.run_until_cancelled(self.carry(&item, &tally)).await;
        let (places, entry) = match carried {
            Some(Ok((places, entry))) => (places, Some(entry)),
            Some(Err(error)) => (vec![Ended::Failed(told(&error)); self.targets.len()], None),
            None => (vec![Ended::Cancelled; self.targets.len()], None),
        };
        let failed = places.iter().filter_map(|ended| match ended {
            Ended::Failed(why) => Some(why),
            _ => None,
        });
        // What fails for every target is told once.
        for why in failed.collect::<BTreeSet<_>>() {
            self.observer.event(&Event::Failed {
                key: key.clone(),
                why: why.clone(),
            });
        }
        let (received_bytes, refetched_bytes) = (tally.received_bytes(), tally.refetched_bytes());
        let outcome = Outcome {
            item,
            places,
            received_bytes,
            refetched_bytes,
            entry,
        };
        if outcome.is_done() {
            self.observer.event(&Event::Finished { key });
        }
        outcome
    }

    /// The steps of one asset: look where it is needed, obtain its verified content once, put it wherever it is needed.
    async fn carry(
        &self,
        item: &Item,
        tally: &Arc<Tally>,
    ) -> Result<(Vec<Ended>, Entry), TransferError> {
        let asset = &item.wanted.asset;
        let mut needs = Vec::new();
        let mut digests = item.held.clone();
        let mut length = item.length;
        for at in 0..self.targets.len() {
            let looked = self.need(at, item).await;
            let (need, found) = looked.unwrap_or_else(|error| (Need::Failed(error), None));
            if let Some((found, found_length)) = found {
                digests.get_or_insert(found);
                length.get_or_insert(found_length);
            }
            needs.push(need);
        }
        let mut content = None;
        if needs.iter().any(Need::is_for_content) {
            let holders = self
                .targets
                .iter()
                .zip(&needs)
                .filter(|(_, need)| need.is_held());
            let holders: Vec<&dyn Store> = holders.map(|(target, _)| target.as_ref()).collect();
            let obtained = self.obtain(item, &holders, tally).await?;
            digests = Some(obtained.content.digests().clone());
            length = Some(obtained.content.length());
            content = Some(obtained);
        }
        let (Some(digests), Some(length)) = (digests, length) else {
            let failed = needs.into_iter().find_map(|need| match need {
                Need::Failed(error) => Some(error),
                _ => None,
            });
            return Err(failed.map_or(TransferError::Unvouched, TransferError::Store));
        };
        let mut places = Vec::new();
        for (at, need) in needs.iter().enumerate() {
            let ended = match (need, &content) {
                (Need::Sidecars(sidecars), _) => {
                    self.put_sidecars(at, item, &digests, sidecars).await
                }
                (Need::Rewrite | Need::Content, Some(obtained)) => {
                    self.put(at, item, &obtained.content).await
                }
                (Need::Failed(error), _) => Ended::Failed(told(error)),
                (Need::Nothing | Need::Rewrite | Need::Content, _) => Ended::Held,
            };
            places.push(ended);
        }
        let sources: Vec<String> = tally
            .origins()
            .into_keys()
            .filter(|s| *s != Shown(&asset.canonical).to_string())
            .collect();
        let mut entry = entry(item, &digests, length, &sources);
        if let Some(obtained) = content {
            entry
                .vouched_by
                .extend(obtained.also_checked.iter().cloned());
            if places
                .iter()
                .all(|ended| matches!(ended, Ended::Held | Ended::Stored))
            {
                obtained.forget();
            }
        }
        Ok((places, entry))
    }

    /// What one target needs; looks into the store where the plan could not know.
    async fn need(&self, at: usize, item: &Item) -> Result<(Need, FoundOut), StoreError> {
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

    /// Gets verified content: what the asset carries, what the spool holds, what another target holds, or from the origins.
    async fn obtain(
        &self,
        item: &Item,
        holders: &[&dyn Store],
        tally: &Arc<Tally>,
    ) -> Result<Obtained, TransferError> {
        if let Some(content) = &item.wanted.content {
            return Ok(Obtained {
                content: content.clone(),
                spool: None,
                also_checked: Vec::new(),
            });
        }
        let name = item.wanted.name().ok_or(TransferError::Unvouched)?;
        let claimed = self.spools.claim(&name).await;
        let spool = Arc::new(claimed.map_err(|error| self.spool_error(error))?);
        for holder in holders {
            if let Some(obtained) = self.copy_from(*holder, item, &spool).await? {
                return Ok(obtained);
            }
        }
        self.fetch_verified(item, &spool, tally).await
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
        let reservation = self.spools.reserve(content.length).await;
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
                Some(reservation),
                Vec::new(),
            )));
        }
        spool.discard().map_err(|error| self.spool_error(error))?;
        Ok(None)
    }

    /// Fetches and hashes at the same time; wrong content is fetched anew, from the next source if there is one.
    async fn fetch_verified(
        &self,
        item: &Item,
        spool: &Arc<Spool>,
        tally: &Arc<Tally>,
    ) -> Result<Obtained, TransferError> {
        let asset = &item.wanted.asset;
        let urls = std::iter::once(&asset.canonical).chain(&asset.alternates);
        let mut sources: Vec<Source> = urls.flat_map(|url| self.origins.sources(url)).collect();
        let mut attempt = 1;
        loop {
            let fetch = Fetch {
                key: &asset.key,
                sources: &sources,
                spool,
                folder: &self.spools,
                origins: &self.origins,
                limits: &self.limits,
                policy: self.policy,
                observer: &self.observer,
                tally,
            };
            let filled = async { fetch.fill().await.map_err(TransferError::from) };
            let (fetched, verdict) = tokio::try_join!(filled, self.follow(item, spool))?;
            match verdict {
                Ok(content) => {
                    self.observer.event(&Event::Verified {
                        key: asset.key.clone(),
                    });
                    let checked = self.check_transport(item, &content, fetched.md5_of_transport);
                    return Ok(Obtained::spooled(
                        content,
                        spool,
                        fetched.reservation,
                        checked,
                    ));
                }
                Err(mismatch) => {
                    tally.discarded(spool.arrived_bytes());
                    spool.discard().map_err(|error| self.spool_error(error))?;
                    if attempt == CORRUPT_ATTEMPTS {
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
                    sources.rotate_left(1);
                    attempt += 1;
                }
            }
        }
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

    async fn put(&self, at: usize, item: &Item, content: &Verified) -> Ended {
        let (target, asset) = (self.targets[at].as_ref(), &item.wanted.asset);
        let attributes = publish::attributes(asset, content.digests());
        let condition = item.replaces[at]
            .clone()
            .map_or(Condition::Absent, Condition::Unchanged);
        let put = publish::object(
            target,
            &asset.key,
            content,
            &attributes,
            condition,
            self.policy,
            self.observer.as_ref(),
        );
        match put.await {
            Ok(()) => {
                let ended = self
                    .put_sidecars(at, item, content.digests(), &asset.sidecars)
                    .await;
                if ended == Ended::Stored {
                    let (key, place) = (asset.key.clone(), target.place().to_owned());
                    self.observer.event(&Event::Published { key, place });
                }
                ended
            }
            Err(error) => Ended::Failed(told(&error)),
        }
    }

    async fn put_sidecars(
        &self,
        at: usize,
        item: &Item,
        digests: &Digests,
        wanted: &[Algorithm],
    ) -> Ended {
        let (target, asset) = (self.targets[at].as_ref(), &item.wanted.asset);
        match publish::sidecars(
            target,
            &asset.key,
            digests,
            wanted,
            self.policy,
            self.observer.as_ref(),
        )
        .await
        {
            Ok(()) => Ended::Stored,
            Err(error) => Ended::Failed(told(&error)),
        }
    }

    fn spool_error(&self, source: io::Error) -> TransferError {
        TransferError::Spool {
            folder: self.spools.path().display().to_string(),
            source,
        }
    }
}

/// Verified content and what holds it.
struct Obtained {
    content: Verified,
    spool: Option<(Arc<Spool>, Option<Reservation>)>,
    also_checked: Vec<String>,
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
        }
    }

    /// It is published everywhere: the spool has done its work. One that can't be removed is removed when it is abandoned.
    fn forget(self) {
        if let Some((spool, _)) = self.spool
            && let Err(error) = spool.remove()
        {
            tracing::debug!(%error, "a spool could not be removed");
        }
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

/// Reads a small object whole, from an index to a pointer.
pub async fn read_object(
    store: &dyn Store,
    key: &Key,
    limit_bytes: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut content) = store.open(key).await? else {
        return Ok(None);
    };
    if content.length > limit_bytes {
        return Err(StoreError::new(
            crate::store::StoreErrorKind::Permanent,
            format!(
                "{}/{key} has {} bytes; at most {limit_bytes} are read",
                store.place(),
                content.length
            ),
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = content.chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(Some(bytes))
}
