//! What a store can stage: an object in parts that nobody sees, put in any order while it arrives, then moved to its key whole.
//!
//! On a lossy link one connection carries little, however wide the link is, and one PUT is one connection. Parts go over many.
//! An object that was put in parts has no MD5 for its `ETag`, but on S3 a copy of it within the store does; that copy is the
//! object. Stores whose copies don't are found out before any byte of a file is staged.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use md5::{Digest as _, Md5};

use super::{Attributes, Condition, ETag, StoreError};
use crate::asset::Key;
use crate::digest::Digest;
use crate::spool::Spool;
use crate::verify::Verified;

/// Where staging happens, below the mirror's prefix. It is no part of the mirror: listings leave it out.
pub const FOLDER: &str = ".staging/";

const CHUNK_BYTES: u64 = 256 * 1024;

/// Which content is staged, and for whom: what a run that died has left there is known by the run's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Of the runs that use one spool, of which there is one at a time.
    pub run: String,
    /// Of the content.
    pub digest: Digest,
    /// In bytes.
    pub length: u64,
}

/// An object being put in parts, out of sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The whole key, prefix included.
    pub(super) key: String,
    pub(super) id: String,
    /// Of the object, in bytes.
    pub(super) length: u64,
}

/// A part of a spool's content, not verified, and its MD5. Good for staging alone.
#[derive(Debug, Clone)]
pub struct Part {
    spool: Arc<Spool>,
    range: Range<u64>,
    /// Counted from 1.
    pub(super) number: i32,
    pub(super) md5: [u8; 16],
}

impl Part {
    /// Hashes a range that has arrived.
    pub async fn read(spool: &Arc<Spool>, number: i32, range: Range<u64>) -> io::Result<Self> {
        let (reader, whole) = (Arc::clone(spool), range.clone());
        let hashed = tokio::task::spawn_blocking(move || hash(&reader, whole)).await;
        Ok(Self {
            spool: Arc::clone(spool),
            range,
            number,
            md5: hashed.map_err(io::Error::other)??,
        })
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Its bytes in chunks of at most 256 KiB; can be called again for another attempt.
    pub(super) fn chunks(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let reading = (Arc::clone(&self.spool), self.range.clone());
        stream::unfold(reading, |(spool, left)| async move {
            if left.is_empty() {
                return None;
            }
            let (first, rest) = split(left);
            let reader = Arc::clone(&spool);
            let chunk = tokio::task::spawn_blocking(move || read(&reader, &first)).await;
            Some((chunk.map_err(io::Error::other).flatten(), (spool, rest)))
        })
        .boxed()
    }
}

fn hash(spool: &Spool, mut left: Range<u64>) -> io::Result<[u8; 16]> {
    let mut md5 = Md5::new();
    while !left.is_empty() {
        let (first, rest) = split(left);
        md5.update(&read(spool, &first)?);
        left = rest;
    }
    Ok(md5.finalize().into())
}

fn split(range: Range<u64>) -> (Range<u64>, Range<u64>) {
    let middle = range.end.min(range.start + CHUNK_BYTES);
    (range.start..middle, middle..range.end)
}

fn read(spool: &Spool, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    spool.read_exact_at(&mut buffer, range.start)?;
    Ok(buffer.into())
}

/// A store's staging. Each function is one attempt; a request may be repeated that has an effect only once.
#[async_trait]
pub trait Staging: Send + Sync {
    /// How large parts are to be in bytes, where content of this length gets there sooner in parts than in one PUT; else None.
    /// May try out what the store can do.
    async fn parts_for(&self, staged: &Staged) -> Option<u64>;

    /// Why nothing is staged here though it should be; said once.
    fn complaint(&self) -> Option<String>;

    async fn begin(&self, staged: &Staged) -> Result<Upload, StoreError>;

    /// Puts a part and compares the `ETag` that is answered with its MD5. Waits for its turn among the store's connections.
    async fn put_part(&self, upload: &Upload, part: &Part) -> Result<ETag, StoreError>;

    /// Makes one object of the parts, still out of sight; returns its `ETag`.
    async fn complete(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError>;

    /// Copies the staged object, while it is still the one with the `ETag` `staged`, to its key. Keeps the contract of a put: the
    /// new `ETag` is the content's MD5, or the object is removed again.
    async fn publish(
        &self,
        upload: &Upload,
        staged: &ETag,
        key: &Key,
        content: &Verified,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError>;

    /// Removes a staged object that has done its work.
    async fn remove(&self, upload: &Upload);

    /// Removes all that is left of an upload. What can't be removed now is removed by the next run.
    async fn abandon(&self, upload: &Upload);

    /// Removes what runs of this name that died have left, and what nobody has come back for; nothing of this very run.
    async fn clear(&self, run: &str);
}
