//! One asset's bytes between the two sides of the border: a sparse file, or memory, and the set of ranges that have arrived.
//!
//! Fetchers write ranges in any order; the hasher follows the contiguous *frontier*; the publisher reads from the start, as
//! often as it must. Each range is noted in a journal beside the file *after* its bytes are written, so a process that is
//! killed has lost only what was still in its sockets.
//!
//! Nothing here is synced to the disk. After a power cut the journal may name bytes that are not there; the digest finds that
//! out, the spool is discarded and the file is fetched again. Paying an fsync per range for that rare case would be wrong.
//!
//! Small files stay in memory ([`SpoolFolder::with_memory`]), and only a process that is killed loses them: a spool that is
//! dropped before its content was published writes what it has to the disk.

mod folder;
mod journal;
mod memory;
mod storage;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use rangemap::RangeSet;
use tokio::sync::{OwnedMutexGuard, watch};

pub use self::folder::{Reservation, SpoolFolder, SpoolFolderError};
use self::memory::Memory;
pub use self::storage::SMALL_MAX_BYTES;
use self::storage::Storage;

/// How far a spool has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Bytes from the start without a gap.
    pub frontier: u64,
    /// Known once a source has told it.
    pub length: Option<u64>,
    /// How often everything was discarded: what was read before the last time is void.
    pub generation: u64,
}

/// The right to write to a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission(u64);

/// One content's bytes; see the module.
#[derive(Debug)]
pub struct Spool {
    storage: Storage,
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
    /// Held while somebody writes; counts how often those who write were told to stop.
    writers: RwLock<u64>,
    claim: Option<OwnedMutexGuard<()>>,
}

#[derive(Debug)]
struct State {
    arrived: RangeSet<u64>,
    /// On their way into the storage.
    being_written: RangeSet<u64>,
    length: Option<u64>,
    generation: u64,
    /// The content is published: nobody comes back for these bytes.
    done: bool,
}

impl State {
    fn seen(&self) -> Seen {
        let frontier = self.arrived.get(&0).map_or(0, |range| range.end);
        Seen {
            frontier,
            length: self.length,
            generation: self.generation,
        }
    }
}

impl Spool {
    fn open(base: &Path, memory: &Memory) -> io::Result<Self> {
        let (storage, told) = Storage::open(base, memory)?;
        let state = State {
            arrived: told.arrived,
            being_written: RangeSet::new(),
            length: told.length,
            generation: 0,
            done: false,
        };
        let seen = watch::Sender::new(state.seen());
        Ok(Self {
            storage,
            state: Mutex::new(state),
            seen,
            writers: RwLock::default(),
            claim: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether content of this length is in memory, or will be: its share of the memory is taken then, so that no disk need be
    /// asked for room. To be asked before [`Spool::set_length`]; what is on the disk already stays there.
    pub fn takes_memory(&self, length: u64) -> bool {
        self.storage.takes_memory(length)
    }

    /// Notes the length that a source told. A second, different one starts the spool anew: it is another content.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.length == Some(length) {
            return Ok(());
        }
        if state.length.is_some() {
            drop(state);
            self.discard()?;
            state = self.state();
        }
        if !self.storage.has_place_until(length) {
            self.storage.move_to_disk(&state.arrived, state.length)?;
        }
        self.storage.note_length(length)?;
        state.length = Some(length);
        self.seen.send_replace(state.seen());
        Ok(())
    }

    /// The right to write, until it is revoked.
    pub fn admit(&self) -> Admission {
        Admission(*self.writers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the rights given so far, and waits for writes under way: what a flight that was given up still writes must not
    /// land in what has been verified or begun anew.
    pub fn revoke(&self) {
        *self.stopped_writers() += 1;
    }

    fn stopped_writers(&self) -> RwLockWriteGuard<'_, u64> {
        self.writers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes that arrived for `offset`, then notes them; those that had arrived before are left as they were. Returns
    /// how many had not. Blocking.
    pub fn write_at(&self, offset: u64, pieces: &[Bytes]) -> io::Result<u64> {
        self.write_as(self.admit(), offset, pieces, |_| {})
    }

    /// As [`Spool::write_at`], and nothing once the right to write was revoked. `count` is told how many bytes are new before
    /// anybody sees them: who waits for the last byte finds all of them counted.
    pub fn write_as(
        &self,
        admission: Admission,
        offset: u64,
        pieces: &[Bytes],
        count: impl FnOnce(u64),
    ) -> io::Result<u64> {
        let writing = self.writers.read().unwrap_or_else(PoisonError::into_inner);
        let revoked = *writing != admission.0;
        let end = offset + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if revoked || end == offset {
            count(0);
            return Ok(0);
        }
        // What has arrived may have been hashed already: it must stay what it was. Two flights may bring the same bytes.
        let gaps = self.take_gaps(offset..end)?;
        let write = |gap| self.storage.write_within(gap, offset, pieces);
        let written = gaps.iter().try_for_each(write);
        let mut state = self.state();
        for gap in &gaps {
            state.being_written.remove(gap.clone());
        }
        written?;
        for gap in &gaps {
            self.storage.note_range(gap)?;
            state.arrived.insert(gap.clone());
        }
        let fresh = gaps.iter().map(|gap| gap.end - gap.start).sum();
        count(fresh);
        self.seen.send_replace(state.seen());
        Ok(fresh)
    }

    /// What of a range has not arrived and nobody else is writing, from now on the caller's to write; there is place for it then.
    fn take_gaps(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let mut state = self.state();
        if !self.storage.has_place_until(range.end) {
            self.storage.move_to_disk(&state.arrived, state.length)?;
        }
        let missing = state.arrived.gaps(&range);
        let free = |gap| state.being_written.gaps(&gap).collect::<Vec<_>>();
        let gaps: Vec<Range<u64>> = missing.flat_map(free).collect();
        state.being_written.extend(gaps.iter().cloned());
        Ok(gaps)
    }

    /// Reads bytes that have arrived. Blocking.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.storage.read_exact_at(buffer, offset)
    }

    /// Tells whenever more has been seen.
    pub fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// How far it has come by now.
    pub fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until the frontier has passed `position`, or the content ends there, or everything was discarded since `generation`.
    pub async fn beyond(&self, position: u64, generation: u64) -> Seen {
        let mut seen = self.seen.subscribe();
        *seen
            .wait_for(|seen| {
                seen.frontier > position
                    || seen.length == Some(position)
                    || seen.generation != generation
            })
            .await
            .expect("the sender lives as long as the spool")
    }

    /// The first range that has neither arrived nor is expected already. It has no end while the length is unknown.
    pub fn first_gap(&self, expected: &RangeSet<u64>) -> Option<Range<u64>> {
        let state = self.state();
        let whole = 0..state.length.unwrap_or(u64::MAX);
        state
            .arrived
            .gaps(&whole)
            .find_map(|gap| expected.gaps(&gap).next())
    }

    /// Bytes that have neither arrived nor are expected already; None while the length is unknown.
    pub fn unclaimed_bytes(&self, expected: &RangeSet<u64>) -> Option<u64> {
        let state = self.state();
        let whole = 0..state.length?;
        let gaps = state.arrived.gaps(&whole);
        let unclaimed = gaps.flat_map(|gap| expected.gaps(&gap).collect::<Vec<_>>());
        Some(unclaimed.map(|gap| gap.end - gap.start).sum())
    }

    /// Whether all of a part has arrived.
    pub fn has(&self, part: &Range<u64>) -> bool {
        part.is_empty() || self.state().arrived.gaps(part).next().is_none()
    }

    /// Whether every byte has arrived.
    pub fn is_whole(&self) -> bool {
        let seen = self.seen();
        seen.length == Some(seen.frontier)
    }

    /// Bytes that have arrived, each counted once.
    pub fn arrived_bytes(&self) -> u64 {
        self.state()
            .arrived
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Forgets every byte: they were wrong.
    pub fn discard(&self) -> io::Result<()> {
        *self.stopped_writers() += 1;
        let mut state = self.state();
        state.arrived.clear();
        state.length = None;
        state.generation += 1;
        // Before the bytes go: who reads them meanwhile must find out why.
        self.seen.send_replace(state.seen());
        self.storage.clear()
    }

    /// Leaves nothing behind: the content is published. The spool itself stays readable until it is dropped. What another asset
    /// waits for is left to it.
    pub fn remove(&self) -> io::Result<()> {
        let is_awaited = |claim| Arc::strong_count(OwnedMutexGuard::mutex(claim)) > 1;
        if self.claim.as_ref().is_some_and(is_awaited) {
            return Ok(());
        }
        self.state().done = true;
        self.storage.remove_files()
    }

    /// The first `length` bytes in chunks of at most 256 KiB.
    pub(crate) fn chunks(self: Arc<Self>, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
        const CHUNK: u64 = 256 * 1024;
        stream::unfold(0, move |at| {
            let spool = Arc::clone(&self);
            async move {
                if at == length {
                    return None;
                }
                let want = CHUNK.min(length - at);
                let chunk = tokio::task::spawn_blocking(move || spool.read_chunk(at, want))
                    .await
                    .map_err(io::Error::other)
                    .flatten();
                Some((chunk, at + want))
            }
        })
        .boxed()
    }

    fn read_chunk(&self, at: u64, length: u64) -> io::Result<Bytes> {
        let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.storage.read_exact_at(&mut buffer, at)?;
        Ok(buffer.into())
    }
}

impl Drop for Spool {
    /// What was to stay in memory is given to the next who asks for it, by way of the disk.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let wanted = !state.done && !state.arrived.is_empty() && self.storage.is_in_memory();
        if wanted && let Err(error) = self.storage.move_to_disk(&state.arrived, state.length) {
            tracing::debug!(%error, "what a spool had in memory could not be kept");
        }
    }
}
