//! Where a spool's bytes are: in a sparse file with a journal beside it, or in memory under a budget.
//!
//! Most of a release's files are small, and a file that is here for a second is not worth two files on a disk. So what is no
//! longer than [`SMALL_MAX_BYTES`] stays in memory as long as the budget for it lasts, and goes to the disk when its spool is
//! dropped before its content was published. Only a process that is killed loses it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::journal::{Journal, Told};
use super::memory::{Memory, Share};
use bytes::Bytes;
use rangemap::RangeSet;

/// A kill loses no more of a file than this, and a few such fit any memory; what is longer is worth its place on a disk.
pub const SMALL_MAX_BYTES: u64 = 4 << 20;

/// The bytes of one spool, and the notes about them that outlive the process.
#[derive(Debug)]
pub(super) struct Storage {
    /// The path of its files without their endings.
    base: PathBuf,
    place: RwLock<Place>,
    memory: Memory,
}

#[derive(Debug)]
enum Place {
    /// Nothing is known and nothing has arrived.
    Open,
    Memory(Share),
    Disk {
        file: File,
        journal: Journal,
    },
}

impl Storage {
    /// What an earlier run left on the disk stays there. With nothing there, the place is open.
    pub(super) fn open(base: &Path, memory: &Memory) -> io::Result<(Self, Told)> {
        let mut told = Told::default();
        let mut place = Place::Open;
        if fs::exists(part(base))? {
            let (file, journal);
            (file, journal, told) = open_files(base)?;
            place = Place::Disk { file, journal };
        }
        let storage = Self {
            base: base.to_owned(),
            place: RwLock::new(place),
            memory: memory.clone(),
        };
        Ok((storage, told))
    }

    fn place(&self) -> RwLockReadGuard<'_, Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn place_mut(&self) -> RwLockWriteGuard<'_, Place> {
        self.place.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether content of this length is, or from now on will be, in memory.
    pub(super) fn takes_memory(&self, length: u64) -> bool {
        let mut place = self.place_mut();
        if length <= SMALL_MAX_BYTES
            && matches!(*place, Place::Open)
            && let Some(share) = self.memory.share(length)
        {
            *place = Place::Memory(share);
        }
        matches!(&*place, Place::Memory(share) if share.length() == length)
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(*self.place(), Place::Memory(_))
    }

    /// Whether bytes up to `end` can be written where the bytes are now.
    pub(super) fn has_place_until(&self, end: u64) -> bool {
        match &*self.place() {
            Place::Open => false,
            Place::Memory(share) => end <= share.length(),
            Place::Disk { .. } => true,
        }
    }

    /// Moves what is in memory to files, and notes there what has arrived of it. Does nothing where files are already.
    pub(super) fn move_to_disk(
        &self,
        arrived: &RangeSet<u64>,
        length: Option<u64>,
    ) -> io::Result<()> {
        let mut place = self.place_mut();
        if matches!(*place, Place::Disk { .. }) {
            return Ok(());
        }
        let (file, journal, _) = open_files(&self.base)?;
        journal.clear()?;
        if let Place::Memory(share) = &*place {
            share
                .pieces()
                .try_for_each(|piece| (&file).write_all(piece))?;
        }
        if let Some(length) = length {
            journal.note_length(length)?;
        }
        for range in arrived.iter() {
            journal.note_range(range)?;
        }
        *place = Place::Disk { file, journal };
        Ok(())
    }

    /// Writes what of the pieces, which begin at `offset`, lies in `gap`. There must be place for it.
    pub(super) fn write_within(
        &self,
        gap: &Range<u64>,
        offset: u64,
        pieces: &[Bytes],
    ) -> io::Result<()> {
        if let Place::Disk { file, .. } = &*self.place() {
            return parts(gap, offset, pieces)
                .try_for_each(|(at, part)| file.write_all_at(part, at));
        }
        let mut place = self.place_mut();
        parts(gap, offset, pieces).try_for_each(|(at, part)| place.write_all_at(part, at))
    }

    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &*self.place() {
            Place::Disk { file, .. } => file.read_exact_at(buffer, offset),
            Place::Memory(share) => share.read_exact_at(buffer, offset),
            Place::Open if buffer.is_empty() => Ok(()),
            Place::Open => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Notes a range that was written, where notes outlive the process.
    pub(super) fn note_range(&self, range: &Range<u64>) -> io::Result<()> {
        match &*self.place() {
            Place::Disk { journal, .. } => journal.note_range(range),
            _ => Ok(()),
        }
    }

    /// As [`Storage::note_range`], for the length.
    pub(super) fn note_length(&self, length: u64) -> io::Result<()> {
        match &*self.place() {
            Place::Disk { journal, .. } => journal.note_length(length),
            _ => Ok(()),
        }
    }

    /// Forgets every byte. Memory is given back.
    pub(super) fn clear(&self) -> io::Result<()> {
        let mut place = self.place_mut();
        match &*place {
            Place::Disk { file, journal } => {
                journal.clear()?;
                file.set_len(0)?;
            }
            _ => *place = Place::Open,
        }
        Ok(())
    }

    /// Removes the files, if there are any. Who has them open reads on.
    pub(super) fn remove_files(&self) -> io::Result<()> {
        if !matches!(*self.place(), Place::Disk { .. }) {
            return Ok(());
        }
        fs::remove_file(ranges(&self.base))?;
        fs::remove_file(part(&self.base))
    }
}

impl Place {
    fn write_all_at(&mut self, part: &[u8], at: u64) -> io::Result<()> {
        match self {
            Self::Disk { file, .. } => file.write_all_at(part, at),
            Self::Memory(share) => share.write_all_at(part, at),
            Self::Open => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// What of each piece lies in `gap`, and where.
fn parts<'a>(
    gap: &'a Range<u64>,
    offset: u64,
    pieces: &'a [Bytes],
) -> impl Iterator<Item = (u64, &'a [u8])> {
    let mut next = offset;
    pieces.iter().map(move |piece| {
        let (at, length) = (next, piece.len() as u64);
        next += length;
        let within = |position: u64| {
            let within = position.saturating_sub(at).min(length);
            usize::try_from(within).unwrap_or(piece.len())
        };
        (
            at.max(gap.start),
            &piece[within(gap.start)..within(gap.end)],
        )
    })
}

fn part(base: &Path) -> PathBuf {
    base.with_added_extension("part")
}

fn ranges(base: &Path) -> PathBuf {
    base.with_added_extension("ranges")
}

fn open_files(base: &Path) -> io::Result<(File, Journal, Told)> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(part(base))?;
    let (journal, told) = Journal::open(&ranges(base), file.metadata()?.len())?;
    Ok((file, journal, told))
}
