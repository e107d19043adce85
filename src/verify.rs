//! Turns bytes into [`Verified`] content: hashed whole, and equal to what was vouched for.
//!
//! A store takes only what is [`Publishable`], and nothing outside this module is: content that is verified, or content that
//! still arrives and whose last chunk is only given out once all of it is. A store that was promised a length makes nothing
//! visible that is shorter. So "nothing unverified is visible" is held by the compiler, not by care.

mod arriving;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

pub use self::arriving::{Arriving, Withheld};
use crate::digest::{Algorithm, Digest, Digests, Hasher};
use crate::spool::Spool;

/// What a store may put: its length and MD5 are known before its first byte, and its last byte comes only if it is right.
/// Sealed: only this module says what is.
pub trait Publishable: sealed::Sealed + fmt::Debug + Send + Sync {
    /// In bytes.
    fn length(&self) -> u64;

    /// The MD5, which is the object's `ETag`.
    fn md5(&self) -> Digest;

    /// The content from its start, in chunks of at most 256 KiB; can be called again for another attempt.
    fn chunks(&self) -> BoxStream<'static, io::Result<Bytes>>;
}

mod sealed {
    pub trait Sealed {}
}

/// Content that may be published: its length and digests are known and right. Cheap to clone; readable again and again.
#[derive(Debug, Clone)]
pub struct Verified {
    bytes: Held,
    length: u64,
    digests: Digests,
}

#[derive(Debug, Clone)]
enum Held {
    Spooled(Arc<Spool>),
    InMemory(Bytes),
}

/// What has become of a content that was to arrive.
#[derive(Debug, Clone, Default)]
pub enum Verdict {
    #[default]
    Open,
    Right(Box<Verified>),
    /// It is another content, or won't come.
    Lost,
}

impl From<Result<Verified, Mismatch>> for Verdict {
    fn from(verified: Result<Verified, Mismatch>) -> Self {
        verified.map_or(Self::Lost, |verified| Self::Right(Box::new(verified)))
    }
}

/// The content is not what was vouched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the content has {got} where {expected} was vouched for")]
pub struct Mismatch {
    pub expected: Digest,
    pub got: Digest,
}

impl Verified {
    /// Content that was composed here, from verified facts: a sidecar, an index.
    pub fn composed(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let digests = Digests::of(&content, &[]);
        Self {
            length: content.len() as u64,
            bytes: Held::InMemory(content),
            digests,
        }
    }

    /// Content in memory that must match every digest in `expected`.
    pub fn check(content: impl Into<Bytes>, expected: &[Digest]) -> Result<Self, Mismatch> {
        let content = content.into();
        let also: Vec<Algorithm> = expected.iter().map(Digest::algorithm).collect();
        let digests = Digests::of(&content, &also);
        satisfies(&digests, expected)?;
        Ok(Self {
            length: content.len() as u64,
            bytes: Held::InMemory(content),
            digests,
        })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Whether these are the bytes of this spool.
    fn is_of(&self, spool: &Arc<Spool>) -> bool {
        matches!(&self.bytes, Held::Spooled(mine) if Arc::ptr_eq(mine, spool))
    }
}

impl sealed::Sealed for Verified {}

impl Publishable for Verified {
    fn length(&self) -> u64 {
        self.length
    }

    fn md5(&self) -> Digest {
        self.digests.md5
    }

    fn chunks(&self) -> BoxStream<'static, io::Result<Bytes>> {
        match &self.bytes {
            Held::InMemory(content) => stream::iter([Ok(content.clone())]).boxed(),
            Held::Spooled(spool) => Arc::clone(spool).chunks(self.length),
        }
    }
}

/// Hashes a spool's contiguous prefix while it grows, and ends with the verdict once it is whole.
///
/// `besides` names digests that are wanted though nobody vouches with them: sidecars are written from them.
///
/// Runs beside the fetch: it waits at the frontier, so the last byte is hashed a moment after it arrives. Reading and hashing
/// happen on the blocking pool in steps of a few MiB.
pub async fn follow(
    spool: Arc<Spool>,
    expected: &[Digest],
    besides: &[Algorithm],
) -> io::Result<Result<Verified, Mismatch>> {
    const STEP: u64 = 4 << 20;
    let also: Vec<Algorithm> = expected
        .iter()
        .map(Digest::algorithm)
        .chain(besides.iter().copied())
        .collect();
    let mut hasher = Hasher::new(&also);
    let mut hashed = 0;
    let mut generation = spool.seen().generation;
    let length = loop {
        let seen = spool.beyond(hashed, generation).await;
        if seen.generation != generation {
            (hasher, hashed, generation) = (Hasher::new(&also), 0, seen.generation);
            continue;
        }
        let until = seen.frontier.min(hashed + STEP);
        if until > hashed {
            let reader = Arc::clone(&spool);
            let step =
                tokio::task::spawn_blocking(move || hash_range(&reader, hasher, hashed, until));
            let step = step.await.map_err(io::Error::other)?;
            if spool.seen().generation != generation {
                // What was to be read has just been discarded; the next look starts anew.
                hasher = Hasher::new(&also);
                continue;
            }
            hasher = step?;
            hashed = until;
        }
        if seen.length == Some(hashed) {
            break hashed;
        }
    };
    let digests = hasher.finish();
    Ok(satisfies(&digests, expected).map(|()| Verified {
        bytes: Held::Spooled(spool),
        length,
        digests,
    }))
}

fn hash_range(spool: &Spool, mut hasher: Hasher, from: u64, until: u64) -> io::Result<Hasher> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = from;
    while at < until {
        let want = buffer
            .len()
            .min(usize::try_from(until - at).unwrap_or(usize::MAX));
        spool.read_exact_at(&mut buffer[..want], at)?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(hasher)
}

/// Whether digests match everything that is expected.
pub fn satisfies(digests: &Digests, expected: &[Digest]) -> Result<(), Mismatch> {
    for &wanted in expected {
        let got = digests
            .get(wanted.algorithm())
            .expect("every expected algorithm is computed");
        if got != wanted {
            return Err(Mismatch {
                expected: wanted,
                got,
            });
        }
    }
    Ok(())
}
