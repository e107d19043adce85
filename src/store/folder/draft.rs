//! Writes a file beside its final place and moves it there when it is whole, so that a reader sees all of it or none.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use md5::{Digest as _, Md5};

/// What the names of unfinished files start with.
pub(super) const PREFIX: &str = ".kops-mirror-";

/// Between making a draft and locking it passes a moment.
const YOUNG: Duration = Duration::from_mins(1);

/// Where files cannot be locked, a draft that nobody wrote to for this long is nobody's.
const OLD: Duration = Duration::from_hours(24);

/// An unfinished file, removed when it is dropped. Its lock tells other runs that somebody writes it.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    path: PathBuf,
    md5: Md5,
}

impl Draft {
    /// Begins a file in `folder`, which is made when it is missing.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        make_folder(folder)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{PREFIX}{}-{number}", process::id()));
        let file = match File::create_new(&path) {
            // A run with the same number, in another container or long ago, has left it: it is not locked, or it is in use.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && remove_abandoned(&path)? =>
            {
                File::create_new(&path)?
            }
            other => other?,
        };
        // A file system without locks only loses the quick cleaning up.
        let _unlocked = file.try_lock();
        Ok(Self {
            file,
            path,
            md5: Md5::new(),
        })
    }

    pub(super) fn append(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        for chunk in chunks {
            self.file.write_all(chunk)?;
            self.md5.update(chunk);
        }
        Ok(())
    }

    /// Waits until the disk has it; the MD5 of what was written.
    pub(super) fn finish(&mut self) -> io::Result<[u8; 16]> {
        self.file.sync_all()?;
        Ok(self.md5.clone().finalize().into())
    }

    /// Moves the file to `place`, over what is there.
    pub(super) fn replace(self, place: &Path) -> io::Result<Metadata> {
        fs::rename(&self.path, place)?;
        self.moved(place)
    }

    /// Moves the file to `place`; `AlreadyExists` when something is there.
    pub(super) fn place(self, place: &Path) -> io::Result<Metadata> {
        match fs::hard_link(&self.path, place) {
            Ok(()) => {
                fs::remove_file(&self.path)?;
                self.moved(place)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // Not every file system has links. Then there is a moment between looking and moving.
            Err(_) if fs::symlink_metadata(place).is_ok() => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Err(_) => self.replace(place),
        }
    }

    /// What is at the place now, of this very file: another may have replaced it already.
    fn moved(self, place: &Path) -> io::Result<Metadata> {
        if let Some(folder) = place.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.file.metadata()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was moved.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Makes a folder and those it is in, and waits until the disk has their names.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(parent)?.sync_all(),
    }
}

/// Removes a draft that no run is writing any more; says whether it did.
pub(super) fn remove_abandoned(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let age = SystemTime::now()
        .duration_since(file.metadata()?.modified()?)
        .unwrap_or_default();
    let nobodys = match file.try_lock() {
        Ok(()) => age > YOUNG,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => age > OLD,
    };
    if nobodys {
        fs::remove_file(path)?;
    }
    Ok(nobodys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts_in(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_dropped_draft_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut draft = Draft::begin(dir.path()).unwrap();
        draft.append(&[Bytes::from_static(b"half")]).unwrap();
        assert_eq!(drafts_in(dir.path()), 1);
        drop(draft);
        assert_eq!(drafts_in(dir.path()), 0);
    }

    #[test]
    fn only_drafts_of_the_dead_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * YOUNG;
        let alive = Draft::begin(dir.path()).unwrap();
        alive.file.set_modified(long_ago).unwrap();
        assert!(!remove_abandoned(&alive.path).unwrap());

        let dead = dir.path().join(".kops-mirror-1-1");
        let file = File::create_new(&dead).unwrap();
        assert!(!remove_abandoned(&dead).unwrap(), "it may just be begun");
        file.set_modified(long_ago).unwrap();
        assert!(remove_abandoned(&dead).unwrap());
        assert_eq!(drafts_in(dir.path()), 1);
    }

    #[test]
    fn placing_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("file");
        fs::write(&place, b"old").unwrap();
        let error = Draft::begin(dir.path()).unwrap().place(&place).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&place).unwrap(), b"old");
        assert_eq!(drafts_in(dir.path()), 1);
    }
}
