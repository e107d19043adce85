//! Remembers which blocks of a snapshot have been written, with their digests: AWS lists those of an unfinished one to nobody, and
//! wants all their digests at the end.
//!
//! A line per block, appended once AWS has it. A torn line is no line; a lost file costs a second crossing and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::ami::failure::AmiError;

/// A block: its digest, or that nothing is in it.
type Written = Option<[u8; 32]>;

/// The blocks of one snapshot.
#[derive(Debug)]
pub(super) struct Blocks {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    written: BTreeMap<u64, Written>,
}

impl Blocks {
    /// Reads what is known of a snapshot.
    pub(super) fn open(folder: &Path, snapshot: &str) -> Result<Self, AmiError> {
        let path = folder.join(format!("{snapshot}.blocks"));
        let failed = |source| AmiError::Journal {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(failed)?;
        }
        let written = text.split_inclusive('\n').filter_map(line).collect();
        Ok(Self {
            inner: Mutex::new(Inner { file, written }),
            path,
        })
    }

    pub(super) fn has(&self, index: u64) -> bool {
        self.locked().written.contains_key(&index)
    }

    pub(super) fn count(&self) -> u64 {
        self.locked().written.values().flatten().count() as u64
    }

    /// Notes a block that AWS has, or that has nothing in it.
    pub(super) fn add(&self, index: u64, digest: Written) -> Result<(), AmiError> {
        let shown = digest.map_or_else(|| "zero".to_owned(), hex::encode);
        let mut inner = self.locked();
        let noted = inner
            .file
            .write_all(format!("{index} {shown}\n").as_bytes());
        noted.map_err(|source| AmiError::Journal {
            path: self.path.clone(),
            source,
        })?;
        inner.written.insert(index, digest);
        Ok(())
    }

    /// The digest of the digests, in the order of the blocks: what CompleteSnapshot calls LINEAR.
    pub(super) fn linear(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for digest in self.locked().written.values().flatten() {
            hasher.update(digest);
        }
        hasher.finalize().into()
    }

    /// It is done with.
    pub(super) fn forget(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::info!("can't remove {}: {error}", self.path.display());
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(line: &str) -> Option<(u64, Written)> {
    let (index, digest) = line.strip_suffix('\n')?.split_once(' ')?;
    let digest = match digest {
        "zero" => None,
        digest => Some(hex::decode(digest).ok()?.try_into().ok()?),
    };
    Some((index.parse().ok()?, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_again_and_a_torn_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = Blocks::open(folder.path(), "snap-1").unwrap();
        blocks.add(7, Some([7; 32])).unwrap();
        blocks.add(3, Some([3; 32])).unwrap();
        blocks.add(5, None).unwrap();
        let linear = blocks.linear();
        let digests: Vec<u8> = [[3; 32], [7; 32]].concat();
        assert_eq!(linear, <[u8; 32]>::from(Sha256::digest(digests)));
        drop(blocks);
        let path = folder.path().join("snap-1.blocks");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"9 0909").unwrap();
        let blocks = Blocks::open(folder.path(), "snap-1").unwrap();
        assert!(blocks.has(3) && blocks.has(5) && blocks.has(7) && !blocks.has(9));
        assert_eq!((blocks.count(), blocks.linear()), (2, linear));
        blocks.add(9, Some([9; 32])).unwrap();
        drop(blocks);
        let blocks = Blocks::open(folder.path(), "snap-1").unwrap();
        assert!(blocks.has(9), "the torn line was ended before the next");
        blocks.forget();
        assert!(!path.exists());
    }
}
