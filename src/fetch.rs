//! Brings an asset's missing ranges into its spool, from any of its sources, over as many connections as it may use.
//!
//! One loop launches *flights*, each a request for a part. What a flight brought stays when it breaks; the loop only ever asks
//! for gaps, so nothing that arrived is asked for again. Retries count failures without progress ([`crate::retry`]); a source
//! that says no for good is left, and the next takes over. All of it is one future: dropping it stops everything.

mod course;
mod tally;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep_until;

use self::course::{Course, Heading, Lost};
pub use self::tally::Tally;
use crate::asset::Key;
use crate::digest::Digest;
use crate::events::{Event, Observer};
use crate::limits::{Host, Limits};
use crate::origin::{Answer, OriginError, Origins, Source};
use crate::retry::{Class, Policy};
use crate::spool::{Admission, Reservation, Spool, SpoolFolder};
use crate::store::SINGLE_PART_MAX_BYTES;

/// A chunk is small enough that every connection has work and a lost one costs little, and large enough that the round trip
/// between two of them is noise.
const CHUNK_MIN_BYTES: u64 = 1 << 20;
const CHUNK_MAX_BYTES: u64 = 8 << 20;

/// So often may a file change at one source, there and back, before that source is no use.
const CHANGES_MAX: u32 = 4;

/// So many changes of an ETag are believed. Many servers behind one name may disagree on it about one file: the digest decides.
const ETAG_CHANGES_MAX: u32 = 2;

/// Written and noted at a time, when as much is there.
const WRITE_BYTES: usize = 256 << 10;

/// Why an asset's bytes could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("none of the {} sources brought it: {}", tried.len(), tried.join("; "))]
    /// Each was left for good; why, in their order.
    NoSource { tried: Vec<String> },
    #[error("can't write to the spool folder {folder}; is there room, and the right to write?")]
    Spool { folder: String, source: io::Error },
    #[error(
        "the spool folder {folder} has {available_bytes} bytes free where {needed_bytes} are needed; \
         free some, or choose another with --spool DIR"
    )]
    DiskFull {
        folder: String,
        needed_bytes: u64,
        available_bytes: u64,
    },
    #[error(
        "it has {length} bytes; no single-part object can be larger than {SINGLE_PART_MAX_BYTES} bytes (5 GiB)"
    )]
    TooLarge { length: u64 },
}

impl FetchError {
    fn class(&self) -> Class {
        match self {
            Self::Origin(error) => error.class(),
            _ => Class::Permanent,
        }
    }
}

/// What a fetch needs to know and to have.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    pub key: &'a Key,
    /// In the order to try them.
    pub sources: &'a [Source],
    pub spool: &'a Arc<Spool>,
    pub folder: &'a SpoolFolder,
    pub origins: &'a Origins,
    pub limits: &'a Limits,
    pub policy: Policy,
    pub observer: &'a Arc<dyn Observer>,
    pub tally: &'a Arc<Tally>,
    /// Told the whole file's MD5 as soon as a source's transport tells it: an extra check, and known before the last byte.
    pub foretold_md5: &'a watch::Sender<Option<Digest>>,
}

/// What the flights of one fetch share.
#[derive(Debug, Default)]
struct Shared {
    /// A source answered with the whole file where a part was asked for.
    whole: AtomicBool,
    /// The strong validator that each source answered with, and how often it has changed.
    validators: Mutex<HashMap<usize, (String, u32)>>,
    /// Which source told the length, if one of this fetch did.
    told_length: Mutex<Option<usize>>,
    reservation: Mutex<Option<Reservation>>,
}

impl Shared {
    /// Whether a source's validator shows another file than before, and may be believed.
    fn is_another(&self, source: usize, etag: &str) -> bool {
        let mut validators = locked(&self.validators);
        let (before, changes) = validators
            .entry(source)
            .or_insert_with(|| (etag.to_owned(), 0));
        if before == etag || *changes == ETAG_CHANGES_MAX {
            return false;
        }
        etag.clone_into(before);
        *changes += 1;
        true
    }

    /// What a source told that was left for good contradicts nobody any more.
    fn forget_length_of(&self, course: &Course) {
        let mut told = locked(&self.told_length);
        if told.is_some_and(|source| course.left[source].is_some()) {
            *told = None;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A whole spool, and what was learnt on the way.
#[derive(Debug)]
pub struct Fetched {
    /// Keep it for as long as the spool is used.
    pub reservation: Option<Reservation>,
}

impl Fetch<'_> {
    /// Brings whatever is missing. When it returns, the spool is whole, though not yet verified. An error means that every source
    /// was left for good, or that the spool can't be written; what has arrived stays there.
    pub async fn fill(&self) -> Result<Fetched, FetchError> {
        let shared = Shared::default();
        self.resume(&shared).await?;
        let mut course = Course::new(self.sources.len(), self.policy);
        let mut flights = FuturesUnordered::new();
        let mut seen = self.spool.watch();
        let mut present = (course.source, self.host(&course).enter());
        while !self.spool.is_whole() {
            if present.0 != course.source {
                present = (course.source, self.host(&course).enter());
            }
            course.whole |= shared.whole.swap(false, Ordering::Relaxed);
            while flights.len() < self.width(&course) {
                let Some(part) = self.next_part(&course) else {
                    break;
                };
                course.expected.insert(part.clone());
                flights.push(self.fly(&shared, course.heading(), part));
            }
            tokio::select! {
                Some((part, ended)) = flights.next() => {
                    course.expected.remove(part);
                    let Err(lost) = ended else {
                        course.attempts.progressed();
                        continue;
                    };
                    if course.absorb(self, lost)? {
                        flights.clear();
                        course.expected.clear();
                        self.spool.revoke();
                    }
                    shared.forget_length_of(&course);
                }
                // More connections become useful once the length is known.
                _ = seen.changed(), if self.spool.seen().length.is_none() => {}
            }
        }
        drop(flights);
        self.spool.revoke();
        let reservation = locked(&shared.reservation).take();
        Ok(Fetched { reservation })
    }

    /// Makes room for what an earlier run left, and says that it is there.
    async fn resume(&self, shared: &Shared) -> Result<(), FetchError> {
        let length = self.spool.seen().length;
        if let Some(length) = length {
            self.make_room(shared, length).await?;
        }
        self.observer.event(&Event::Started {
            key: self.key.clone(),
            length,
            resumed_bytes: self.spool.arrived_bytes(),
        });
        Ok(())
    }

    fn host(&self, course: &Course) -> Arc<Host> {
        self.limits.host(&self.sources[course.source])
    }

    fn width(&self, course: &Course) -> usize {
        if course.whole || self.spool.seen().length.is_none() {
            return 1;
        }
        self.host(course).share()
    }

    fn next_part(&self, course: &Course) -> Option<Range<u64>> {
        let gap = self.spool.first_gap(&course.expected)?;
        if course.whole {
            return Some(gap.start..gap.end);
        }
        let chunk = self.spool.seen().length.map_or(CHUNK_MIN_BYTES, |length| {
            let streams = self.host(course).share() as u64;
            (length / (4 * streams)).clamp(CHUNK_MIN_BYTES, CHUNK_MAX_BYTES)
        });
        Some(gap.start..gap.end.min(gap.start + chunk))
    }

    /// One request for one part; tells the part again when it ends.
    async fn fly(
        &self,
        shared: &Shared,
        heading: Heading,
        part: Range<u64>,
    ) -> (Range<u64>, Result<(), Lost>) {
        if let Some(until) = heading.not_before {
            sleep_until(until).await;
        }
        let mut gained = false;
        let ended = self
            .bring(shared, heading, part.clone(), &mut gained)
            .await
            .map_err(|error| Lost {
                error,
                gained,
                heading,
            });
        (part, ended)
    }

    async fn bring(
        &self,
        shared: &Shared,
        heading: Heading,
        part: Range<u64>,
        gained: &mut bool,
    ) -> Result<(), FetchError> {
        let Heading { source, whole, .. } = heading;
        let (at_source, source) = (source, &self.sources[source]);
        let host = self.limits.host(source);
        let admission = host.admit().await;
        let asked = (!whole || part.start > 0).then_some(part.start..part.end);
        let mut answer = match self.origins.open(source, asked).await {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(pause) = error.retry_after() {
                    host.pause(pause);
                }
                return Err(error.into());
            }
        };
        if let Some(length) = self.learn(shared, at_source, &answer)? {
            // Those who have room may need this connection to get done: it is given back while waiting.
            drop((answer, admission));
            self.make_room(shared, length).await?;
            return self.settle_length(shared, at_source, length);
        }
        let body = self.place(&answer, whole, &part)?;
        self.take(source, &mut answer, body, gained).await?;
        admission.give_back().await;
        Ok(())
    }

    /// Where in the file the answer's body lies, and how much of its start is at hand already.
    fn place(&self, answer: &Answer, whole: bool, part: &Range<u64>) -> Result<Body, FetchError> {
        if let Some(part) = &answer.part {
            return Ok(Body {
                at: part.start,
                end: Some(part.end),
                skip: 0,
                admission: self.spool.admit(),
            });
        }
        let nothing_else_in_flight = whole || (part.start == 0 && self.spool.arrived_bytes() == 0);
        if !nothing_else_in_flight {
            return Err(OriginError::IgnoresRange {
                url: answer.shown().to_owned(),
            }
            .into());
        }
        Ok(Body {
            at: 0,
            end: answer.total.or(self.spool.seen().length),
            skip: part.start,
            admission: self.spool.admit(),
        })
    }

    async fn take(
        &self,
        source: &Source,
        answer: &mut Answer,
        mut body: Body,
        gained: &mut bool,
    ) -> Result<(), FetchError> {
        let name = source.to_string();
        while let Some(mut pieces) = answer.pieces(WRITE_BYTES).await? {
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            self.limits.pass(bytes).await;
            let past_end = body.end.is_some_and(|end| body.at + bytes as u64 > end);
            if past_end {
                return Err(OriginError::Nonsense {
                    url: answer.shown().to_owned(),
                    what: "its body is longer than promised".to_owned(),
                }
                .into());
            }
            if body.at + bytes as u64 > SINGLE_PART_MAX_BYTES {
                let length = body.at + bytes as u64;
                return Err(FetchError::TooLarge { length });
            }
            let offset = body.drop_known(&mut pieces);
            let write = self.write(body.admission, offset, pieces, bytes as u64, &name);
            *gained |= write.await? > 0;
        }
        match body.end {
            Some(end) if body.at < end => Err(OriginError::Nonsense {
                url: answer.shown().to_owned(),
                what: format!("its body ended {} bytes short", end - body.at),
            }
            .into()),
            Some(_) => Ok(()),
            // The origin told no length: the end of the body is the end of the file.
            None => self
                .spool
                .set_length(body.at)
                .map_err(|error| self.spool_error(error)),
        }
    }

    /// Writes, counts and tells in one step that nothing interrupts: another flight may end the fetch while this one writes.
    async fn write(
        &self,
        admission: Admission,
        offset: u64,
        pieces: Vec<Bytes>,
        received: u64,
        origin: &str,
    ) -> Result<u64, FetchError> {
        let (spool, tally, origin) = (
            Arc::clone(self.spool),
            Arc::clone(self.tally),
            origin.to_owned(),
        );
        let (observer, key) = (Arc::clone(self.observer), self.key.clone());
        let write = move || {
            let told = |bytes| {
                tally.count(&origin, received, bytes);
                if bytes > 0 {
                    observer.event(&Event::Received { key, bytes });
                }
            };
            spool.write_as(admission, offset, &pieces, told)
        };
        let written = tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)
            .flatten();
        written.map_err(|error| self.spool_error(error))
    }

    /// Takes note of what an answer tells about the file as a whole; refuses what contradicts an earlier answer. Tells the
    /// length when there is no room for it yet.
    fn learn(
        &self,
        shared: &Shared,
        source: usize,
        answer: &Answer,
    ) -> Result<Option<u64>, FetchError> {
        if answer.part.is_none() {
            shared.whole.store(true, Ordering::Relaxed);
        }
        let url = || answer.shown().to_owned();
        if let Some(etag) = &answer.etag
            && shared.is_another(source, etag)
        {
            let what = "its ETag is another".to_owned();
            return Err(OriginError::Changed { url: url(), what }.into());
        }
        if answer.md5.is_some() {
            self.foretold_md5.send_replace(answer.md5);
        }
        let Some(total) = answer.total else {
            return Ok(None);
        };
        match self.spool.seen().length {
            Some(length) if length == total => Ok(None),
            Some(length) => {
                let teller = *locked(&shared.told_length);
                Err(if teller.is_some_and(|teller| teller != source) {
                    let what = format!("{total} bytes where another source has {length}");
                    OriginError::Another { url: url(), what }
                } else {
                    let what = format!("it had {length} bytes and now has {total}");
                    OriginError::Changed { url: url(), what }
                }
                .into())
            }
            None if self.has_room(shared, total)? => {
                self.settle_length(shared, source, total).map(|()| None)
            }
            None => Ok(Some(total)),
        }
    }

    fn settle_length(&self, shared: &Shared, source: usize, length: u64) -> Result<(), FetchError> {
        self.spool
            .set_length(length)
            .map_err(|error| self.spool_error(error))?;
        *locked(&shared.told_length) = Some(source);
        self.observer.event(&Event::Started {
            key: self.key.clone(),
            length: Some(length),
            resumed_bytes: self.spool.arrived_bytes(),
        });
        Ok(())
    }

    /// Refuses what can never be stored or spooled, before its bytes move; waits for its share of the spool's limit.
    async fn make_room(&self, shared: &Shared, length: u64) -> Result<(), FetchError> {
        if !self.has_room(shared, length)? {
            let reservation = self.folder.reserve(length).await;
            *locked(&shared.reservation) = Some(reservation);
        }
        Ok(())
    }

    /// Whether the spool's limit has room for this content, which is taken if so.
    fn has_room(&self, shared: &Shared, length: u64) -> Result<bool, FetchError> {
        if length > SINGLE_PART_MAX_BYTES {
            return Err(FetchError::TooLarge { length });
        }
        let needed_bytes = length.saturating_sub(self.spool.arrived_bytes());
        let available_bytes = self
            .folder
            .available_bytes()
            .map_err(|error| self.spool_error(error))?;
        if needed_bytes > available_bytes {
            let folder = self.folder.path().display().to_string();
            return Err(FetchError::DiskFull {
                folder,
                needed_bytes,
                available_bytes,
            });
        }
        let mut reservation = locked(&shared.reservation);
        if reservation.is_none() {
            *reservation = self.folder.try_reserve(length);
        }
        Ok(reservation.is_some())
    }

    fn spool_error(&self, source: io::Error) -> FetchError {
        FetchError::Spool {
            folder: self.folder.path().display().to_string(),
            source,
        }
    }

    fn discard(&self) -> Result<(), FetchError> {
        self.tally.discarded(self.spool.arrived_bytes());
        self.spool
            .discard()
            .map_err(|error| self.spool_error(error))
    }
}

/// A body on its way into the spool: where its next byte goes, and how many bytes at its start are known already.
struct Body {
    at: u64,
    end: Option<u64>,
    skip: u64,
    admission: Admission,
}

impl Body {
    /// Drops the part of the pieces that is known already; returns where the rest goes.
    fn drop_known(&mut self, pieces: &mut [Bytes]) -> u64 {
        for piece in pieces.iter_mut() {
            let known = self.skip.saturating_sub(self.at).min(piece.len() as u64);
            // `known` is no more than a piece's length.
            let rest = piece.split_off(usize::try_from(known).unwrap_or(piece.len()));
            *piece = rest;
            self.at += known;
        }
        let offset = self.at;
        self.at += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        offset
    }
}
