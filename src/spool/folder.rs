//! The folder where spools live, held by one process at a time, and the limits on them all.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Spool;
use super::memory::Memory;
use crate::digest::Digest;

/// Spools that nobody came back for are removed after this long: a release is retried for days, not for weeks.
const ABANDONED_AFTER: Duration = Duration::from_hours(14 * 24);

/// The folder where spools live, held by one process at a time.
#[derive(Debug)]
pub struct SpoolFolder {
    folder: PathBuf,
    /// In MiB, so that any sensible limit fits a semaphore.
    budget: Arc<Semaphore>,
    budget_mebibytes: u32,
    memory: Memory,
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    name: String,
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
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
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
        let name = name(&mut lock).map_err(unusable)?;
        remove_abandoned(path).map_err(unusable)?;
        let budget_mebibytes = u32::try_from(limit_bytes >> 20)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28);
        let budget = Arc::new(Semaphore::new(budget_mebibytes as usize));
        Ok(Self {
            folder: path.to_owned(),
            budget,
            budget_mebibytes,
            memory: Memory::of_bytes(0),
            turns: Mutex::default(),
            name,
            _lock: lock,
        })
    }

    /// Keeps small files in memory while all of them together take no more than `bytes` of it; none without this.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Memory::of_bytes(bytes);
        self
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
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        Spool::open(&self.folder.join(name), &self.memory)
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

    /// A name that no other folder has. Whatever bears it elsewhere is of this run, or of an earlier one that is over.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The name of the folder that this lock is for, which its first run has made up.
fn name(lock: &mut File) -> io::Result<String> {
    let mut name = String::new();
    lock.take(64).read_to_string(&mut name)?;
    if name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(name);
    }
    let name = format!("{:016x}", RandomState::new().build_hasher().finish());
    lock.set_len(0)?;
    lock.write_all_at(name.as_bytes(), 0)?;
    Ok(name)
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
