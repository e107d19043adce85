//! The journal beside a spool's file: which ranges are in it, and how long the whole is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use rangemap::RangeSet;

/// What a record holds in its first word when the second is the asset's length.
const LENGTH_MARK: u64 = u64::MAX;

/// Records of 16 bytes, each appended after what it speaks of was written.
#[derive(Debug)]
pub(super) struct Journal(File);

/// What a journal tells that also lies within the file.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) arrived: RangeSet<u64>,
    pub(super) length: Option<u64>,
}

impl Journal {
    /// Opens a journal, made when missing, and reads it back. A torn last record is cut off.
    pub(super) fn open(path: &Path, file_bytes: u64) -> io::Result<(Self, Told)> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        let told = read_back(&mut file, file_bytes)?;
        Ok((Self(file), told))
    }

    pub(super) fn note_range(&self, range: &Range<u64>) -> io::Result<()> {
        self.note(range.start, range.end)
    }

    pub(super) fn note_length(&self, length: u64) -> io::Result<()> {
        self.note(LENGTH_MARK, length)
    }

    fn note(&self, first: u64, second: u64) -> io::Result<()> {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&first.to_le_bytes());
        record[8..].copy_from_slice(&second.to_le_bytes());
        (&self.0).write_all(&record)
    }

    /// Forgets every record.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

fn read_back(file: &mut File, file_bytes: u64) -> io::Result<Told> {
    let mut records = Vec::new();
    file.read_to_end(&mut records)?;
    let (records, torn) = records.as_chunks::<16>();
    if !torn.is_empty() {
        file.set_len(16 * records.len() as u64)?;
    }
    let mut told = Told::default();
    for record in records {
        let first = u64::from_le_bytes(record[..8].try_into().expect("8 bytes"));
        let second = u64::from_le_bytes(record[8..].try_into().expect("8 bytes"));
        if first == LENGTH_MARK {
            told.length = Some(second);
        } else if first < second && second <= file_bytes {
            told.arrived.insert(first..second);
        }
    }
    Ok(told)
}
