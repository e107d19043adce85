//! One flight's way: ask for a part, check that the answer is it, and write what comes into the spool.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::course::Lost;
use super::flight::Flight;
use super::{Fetch, FetchError, HostAdmission, Shared, WRITE_BYTES, locked};
use crate::events::Event;
use crate::limits::Host;
use crate::origin::{Answer, OriginError};
use crate::spool::Admission;
use crate::store::SINGLE_PART_MAX_BYTES;

impl Fetch<'_> {
    /// One request for one part; tells the flight again when it ends.
    pub(super) async fn fly(
        &self,
        shared: &Shared,
        flight: Arc<Flight>,
        failures: u32,
        admission: HostAdmission,
    ) -> (Arc<Flight>, Result<(), Lost>) {
        let mut gained = false;
        let bringing = self.bring(shared, &flight, admission, &mut gained);
        let brought = flight.needless.run_until_cancelled(bringing).await;
        let ended = brought.unwrap_or(Ok(())).map_err(|error| Lost {
            error,
            gained,
            failures,
        });
        (flight, ended)
    }

    async fn bring(
        &self,
        shared: &Shared,
        flight: &Flight,
        admission: HostAdmission,
        gained: &mut bool,
    ) -> Result<(), FetchError> {
        let host = self.limits.host(&self.sources[flight.source]);
        let brought = self.bring_from(&host, shared, flight, admission, gained);
        let brought = brought.await;
        if let Err(FetchError::Origin(error)) = &brought {
            host.failed(error);
        }
        brought
    }

    async fn bring_from(
        &self,
        host: &Arc<Host>,
        shared: &Shared,
        flight: &Flight,
        admission: HostAdmission,
        gained: &mut bool,
    ) -> Result<(), FetchError> {
        let source = &self.sources[flight.source];
        let part = flight.rest();
        let asked = (!flight.is_whole() || part.start > 0).then(|| part.clone());
        let begun = Instant::now();
        let mut answer = self.origins.open(source, asked).await?;
        host.answered(begun.elapsed());
        if let Some(length) = self.learn(shared, flight, &answer)? {
            // Those who have room may need this connection to get done: it is given back while waiting.
            drop((answer, admission));
            self.make_room(shared, length).await?;
            return self.settle_length(shared, flight.source, length);
        }
        let body = self.place(&answer, flight, &part)?;
        if self.take(host, flight, &mut answer, body, gained).await? {
            admission.give_back().await;
        }
        Ok(())
    }

    /// Where in the file the answer's body lies, and how much of its start is at hand already.
    fn place(
        &self,
        answer: &Answer,
        flight: &Flight,
        part: &Range<u64>,
    ) -> Result<Body, FetchError> {
        if let Some(part) = &answer.part {
            return Ok(Body {
                at: part.start,
                end: Some(part.end),
                skip: 0,
                admission: self.spool.admit(),
            });
        }
        let nothing_else_in_flight =
            flight.asks_for_all || (part.start == 0 && self.spool.arrived_bytes() == 0);
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

    /// Brings the body into the spool; false when it was cut short, since another flight brings the rest.
    async fn take(
        &self,
        host: &Arc<Host>,
        flight: &Flight,
        answer: &mut Answer,
        mut body: Body,
        gained: &mut bool,
    ) -> Result<bool, FetchError> {
        let name = self.sources[flight.source].to_string();
        while let Some(mut pieces) = answer.pieces(WRITE_BYTES).await? {
            let bytes = pieces.len();
            flight.is_heard();
            self.limits.pass(host, bytes).await;
            let held_back = self.limits.hold_back_at(host);
            if let Some(link) = host.received(bytes as u64, held_back) {
                let host = self.sources[flight.source].host();
                self.observer.event(&Event::Measured { host, link });
            }
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
            flight.brought_up_to(body.at);
            let cut = !flight.is_whole() && body.at >= flight.end();
            if cut && body.end.is_some_and(|end| body.at < end) {
                return Ok(false);
            }
        }
        match body.end {
            Some(end) if body.at < end => Err(OriginError::Nonsense {
                url: answer.shown().to_owned(),
                what: format!("its body ended {} bytes short", end - body.at),
            }
            .into()),
            Some(_) => Ok(true),
            // The origin told no length: the end of the body is the end of the file.
            None => self
                .spool
                .set_length(body.at)
                .map(|()| true)
                .map_err(|error| self.spool_error(error)),
        }
    }

    /// Writes, counts and tells in one step that nothing interrupts: another flight may end the fetch while this one writes.
    async fn write(
        &self,
        admission: Admission,
        offset: u64,
        pieces: Bytes,
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
            spool.write_as(admission, offset, &[pieces], told)
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
        flight: &Flight,
        answer: &Answer,
    ) -> Result<Option<u64>, FetchError> {
        match &answer.part {
            None => flight.answered_whole(),
            Some(part) => flight.shorten(part.end),
        }
        let source = flight.source;
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
    pub(super) async fn make_room(&self, shared: &Shared, length: u64) -> Result<(), FetchError> {
        if !self.has_room(shared, length)? {
            let reservation = self.folder.reserve(length).await;
            *locked(&shared.reservation) = Some(reservation);
        }
        Ok(())
    }

    /// Whether there is room for this content, which is taken if so: in memory, or within the spool's limit.
    fn has_room(&self, shared: &Shared, length: u64) -> Result<bool, FetchError> {
        if length > SINGLE_PART_MAX_BYTES {
            return Err(FetchError::TooLarge { length });
        }
        if self.spool.takes_memory(length) {
            return Ok(true);
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
}

/// A body on its way into the spool: where its next byte goes, and how many bytes at its start are known already.
struct Body {
    at: u64,
    end: Option<u64>,
    skip: u64,
    admission: Admission,
}

impl Body {
    /// Drops what of the bytes is known already; returns where the rest goes.
    fn drop_known(&mut self, pieces: &mut Bytes) -> u64 {
        let known = self.skip.saturating_sub(self.at).min(pieces.len() as u64);
        // `known` is no more than the length.
        *pieces = pieces.split_off(usize::try_from(known).unwrap_or(pieces.len()));
        let offset = self.at + known;
        self.at = offset + pieces.len() as u64;
        offset
    }
}
