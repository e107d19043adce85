//! One asset's bytes between the two sides of the border: a sparse file and the set of ranges that have arrived.
//!
//! Fetchers write ranges in any order; the hasher follows the contiguous *frontier*; the publisher reads from the start, as
//! often as it must. Each range is noted in a journal beside the file *after* its bytes are written, so a process that is
//! killed has lost only what was still in its sockets.
//!
//! Nothing here is synced to the disk. After a power cut the journal may name bytes that are not there; the digest finds that
//! out, the spool is discarded and the file is fetched again. Paying an fsync per range for that rare case would be wrong.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use rangemap::RangeSet;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

use crate::digest::Digest;

/// Spools that nobody came back for are removed after this long: a release is retried for days, not for weeks.
const ABANDONED_AFTER: Duration = Duration::from_hours(14 * 24);

/// What a journal record holds in its first word when the second is the asset's length.
const LENGTH_MARK: u64 = u64::MAX;

/// The folder where spools live, held by one process at a time.
#[derive(Debug)]
pub struct SpoolFolder {
    folder: PathBuf,
    /// In MiB, so that any sensible limit fits a semaphore.
    budget: Arc<Semaphore>,
    budget_mebibytes: u32,
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Holds the lock for as long as it is open.
    _lock: File,
}

/// Room for one spool within the folder's limit.
#[derive(Debug)]
pub struct Reservation(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// Why a spool folder can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFolderError {
    #[error("can't use the spool folder {}; choose another with --spool DIR", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("another run is using the spool folder {}", path.display())]
    Busy { path: PathBuf },
}

impl SpoolFolder {
    /// Opens the folder (made when missing), and clears away what was abandoned there. `Busy` while another run has it.
    /// Spools in use at a time may hold `limit_bytes` together; one that is larger by itself waits until it is alone.
    pub fn open(path: &Path, limit_bytes: u64) -> Result<Self, SpoolFolderError> {
        let unusable = |source| SpoolFolderError::Unusable {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(SpoolFolderError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(source)) => return Err(unusable(source)),
        }
        remove_abandoned(path).map_err(unusable)?;
        let budget_mebibytes = u32::try_from(limit_bytes >> 20)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28);
        let budget = Arc::new(Semaphore::new(budget_mebibytes as usize));
        Ok(Self {
            folder: path.to_owned(),
            budget,
            budget_mebibytes,
            turns: Mutex::default(),
            _lock: lock,
        })
    }

    /// As [`SpoolFolder::spool`], for one asset at a time: two keys may want the same content, and the second waits until the
    /// first has done with it. What the first leaves, the second finds.
    pub async fn claim(&self, digest: &Digest) -> io::Result<Spool> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns
                .get(digest)
                .and_then(Weak::upgrade)
                .unwrap_or_default();
            turns.insert(*digest, Arc::downgrade(&turn));
            turn
        };
        let claim = turn.lock_owned().await;
        let mut spool = self.spool(digest)?;
        spool.claim = Some(claim);
        Ok(spool)
    }

    /// The spool of the content with this digest, with whatever an earlier run left of it.
    pub fn spool(&self, digest: &Digest) -> io::Result<Spool> {
        Spool::open(
            &self
                .folder
                .join(format!("{}-{}", digest.algorithm(), digest.hex())),
        )
    }

    /// Waits until `length` more bytes fit into the limit; they are given back when the reservation is dropped.
    pub async fn reserve(&self, length: u64) -> Reservation {
        let budget = Arc::clone(&self.budget);
        let permit = budget.acquire_many_owned(self.mebibytes(length)).await;
        Reservation(permit.expect("the budget is never closed"))
    }

    /// As [`SpoolFolder::reserve`], or None where it would have to wait.
    pub fn try_reserve(&self, length: u64) -> Option<Reservation> {
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(self.mebibytes(length));
        permit.ok().map(Reservation)
    }

    fn mebibytes(&self, length: u64) -> u32 {
        u32::try_from(length.div_ceil(1 << 20))
            .unwrap_or(u32::MAX)
            .min(self.budget_mebibytes)
    }

    /// Bytes free for another spool.
    pub fn available_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }
}

fn remove_abandoned(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = [".part", ".ranges"]
            .iter()
            .any(|end| name.to_string_lossy().ends_with(end));
        let age = now
            .duration_since(entry.metadata()?.modified()?)
            .unwrap_or_default();
        if ours && age > ABANDONED_AFTER {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

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
    file: File,
    path: PathBuf,
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
    /// Held while somebody writes; counts how often those who write were told to stop.
    writers: RwLock<u64>,
    claim: Option<OwnedMutexGuard<()>>,
}

#[derive(Debug)]
struct State {
    arrived: RangeSet<u64>,
    length: Option<u64>,
    generation: u64,
    journal: File,
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

    fn note(&mut self, first: u64, second: u64) -> io::Result<()> {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&first.to_le_bytes());
        record[8..].copy_from_slice(&second.to_le_bytes());
        self.journal.write_all(&record)
    }
}

impl Spool {
    fn open(base: &Path) -> io::Result<Self> {
        let path = base.with_added_extension("part");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?;
        let mut journal = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(base.with_added_extension("ranges"))?;
        let (arrived, length) = read_back(&mut journal, file.metadata()?.len())?;
        let state = State {
            arrived,
            length,
            generation: 0,
            journal,
        };
        let seen = watch::Sender::new(state.seen());
        Ok(Self {
            file,
            path,
            state: Mutex::new(state),
            seen,
            writers: RwLock::default(),
            claim: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        state.note(LENGTH_MARK, length)?;
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
        // What has arrived may have been hashed already: it must stay what it was.
        let gaps: Vec<Range<u64>> = self.state().arrived.gaps(&(offset..end)).collect();
        for gap in &gaps {
            self.write_within(gap, offset, pieces)?;
        }
        let mut state = self.state();
        for gap in &gaps {
            state.note(gap.start, gap.end)?;
            state.arrived.insert(gap.clone());
        }
        let fresh = gaps.iter().map(|gap| gap.end - gap.start).sum();
        count(fresh);
        self.seen.send_replace(state.seen());
        Ok(fresh)
    }

    /// Writes what of the pieces, which begin at `offset`, lies in `gap`.
    fn write_within(&self, gap: &Range<u64>, offset: u64, pieces: &[Bytes]) -> io::Result<()> {
        let mut at = offset;
        for piece in pieces {
            let length = piece.len() as u64;
            let within = |position: u64| {
                let within = position.saturating_sub(at).min(length);
                usize::try_from(within).unwrap_or(piece.len())
            };
            let part = &piece[within(gap.start)..within(gap.end)];
            self.file.write_all_at(part, at.max(gap.start))?;
            at += length;
        }
        Ok(())
    }

    /// Reads bytes that have arrived. Blocking.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
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
        state.journal.set_len(0)?;
        self.file.set_len(0)
    }

    /// Removes the files: the content is published. The spool itself stays readable until it is dropped. Files that another
    /// asset waits for are left to it.
    pub fn remove(&self) -> io::Result<()> {
        let is_awaited = |claim| Arc::strong_count(OwnedMutexGuard::mutex(claim)) > 1;
        if self.claim.as_ref().is_some_and(is_awaited) {
            return Ok(());
        }
        fs::remove_file(self.path.with_extension("ranges"))?;
        fs::remove_file(&self.path)
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
        self.file.read_exact_at(&mut buffer, at)?;
        Ok(buffer.into())
    }
}

/// Reads a journal: what it says that also lies within the file. A torn last record is cut off.
fn read_back(journal: &mut File, file_length: u64) -> io::Result<(RangeSet<u64>, Option<u64>)> {
    let mut records = Vec::new();
    journal.read_to_end(&mut records)?;
    let (records, torn) = records.as_chunks::<16>();
    if !torn.is_empty() {
        journal.set_len(16 * records.len() as u64)?;
    }
    let mut arrived = RangeSet::new();
    let mut length = None;
    for record in records {
        let first = u64::from_le_bytes(record[..8].try_into().expect("8 bytes"));
        let second = u64::from_le_bytes(record[8..].try_into().expect("8 bytes"));
        if first == LENGTH_MARK {
            length = Some(second);
        } else if first < second && second <= file_length {
            arrived.insert(first..second);
        }
    }
    Ok((arrived, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn folder() -> (tempfile::TempDir, SpoolFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = SpoolFolder::open(&dir.path().join("spool"), 1 << 30).unwrap();
        (dir, folder)
    }

    fn gaps(spool: &Spool) -> Vec<Range<u64>> {
        let mut expected = RangeSet::new();
        std::iter::from_fn(|| {
            let gap = spool.first_gap(&expected)?;
            expected.insert(gap.clone());
            Some(gap)
        })
        .collect()
    }

    fn digest() -> Digest {
        Digest::of(Algorithm::Sha256, b"any")
    }

    #[test]
    fn the_frontier_is_the_contiguous_prefix() {
        let (_dir, folder) = folder();
        let spool = folder.spool(&digest()).unwrap();
        spool.set_length(10).unwrap();
        spool.write_at(5, &[Bytes::from_static(b"56")]).unwrap();
        assert_eq!(
            spool.seen(),
            Seen {
                frontier: 0,
                length: Some(10),
                generation: 0
            }
        );
        spool
            .write_at(0, &[Bytes::from_static(b"012"), Bytes::from_static(b"34")])
            .unwrap();
        assert_eq!(spool.seen().frontier, 7);
        assert_eq!(gaps(&spool), vec![7..10]);
        assert_eq!(spool.arrived_bytes(), 7);
    }

    #[test]
    fn bytes_are_counted_before_they_are_seen() {
        let (_dir, folder) = folder();
        let spool = folder.spool(&digest()).unwrap();
        spool.set_length(4).unwrap();
        let mut counted = None;
        let count = |fresh| counted = Some((fresh, spool.is_whole()));
        let pieces = [Bytes::from_static(b"0123")];
        spool.write_as(spool.admit(), 0, &pieces, count).unwrap();
        assert_eq!(counted, Some((4, false)));
        assert!(spool.is_whole());
    }

    #[test]
    fn a_new_process_finds_what_arrived() {
        let (_dir, folder) = folder();
        let spool = folder.spool(&digest()).unwrap();
        spool.set_length(8).unwrap();
        spool.write_at(2, &[Bytes::from_static(b"234")]).unwrap();
        drop(spool);
        let spool = folder.spool(&digest()).unwrap();
        assert_eq!(spool.seen().length, Some(8));
        assert_eq!(gaps(&spool), vec![0..2, 5..8]);
    }

    #[test]
    fn a_torn_or_lying_journal_loses_only_its_own_ranges() {
        let (dir, folder) = folder();
        let spool = folder.spool(&digest()).unwrap();
        spool.write_at(0, &[Bytes::from_static(b"0123")]).unwrap();
        drop(spool);
        let name = format!("sha256-{}.ranges", digest().hex());
        let mut journal = OpenOptions::new()
            .append(true)
            .open(dir.path().join("spool").join(name))
            .unwrap();
        journal.write_all(&4u64.to_le_bytes()).unwrap();
        journal.write_all(&900u64.to_le_bytes()).unwrap();
        journal.write_all(&[7; 5]).unwrap();
        let spool = folder.spool(&digest()).unwrap();
        assert_eq!(spool.arrived_bytes(), 4);
    }

    #[test]
    fn another_length_is_another_content() {
        let (_dir, folder) = folder();
        let spool = folder.spool(&digest()).unwrap();
        spool.set_length(4).unwrap();
        spool.write_at(0, &[Bytes::from_static(b"0123")]).unwrap();
        spool.set_length(9).unwrap();
        assert_eq!(gaps(&spool), vec![0..9]);
    }

    #[test]
    fn one_process_at_a_time() {
        let (_dir, folder) = folder();
        let again = SpoolFolder::open(folder.path(), 1 << 30);
        assert!(matches!(again, Err(SpoolFolderError::Busy { .. })));
    }
}
