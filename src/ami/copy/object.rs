//! Carries one object from a bucket in one partition to a bucket in another, in the parts that it has.
//!
//! EC2 writes the object in parts, so its ETag is a digest of their MD5s. Put in the same parts it gets the same ETag, whichever run
//! put which part: that is the proof that all of it arrived. S3 has the record of what is there, so a run that was killed goes on
//! after the last part, and no file is kept here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;

use crate::ami::failure::AmiError;
use crate::asset::Key;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::events::{Event, Observer};
use crate::retry::{Attempts, Class, Policy};
use crate::store::s3::{Arrival, Depot, Parcel, PutPart};
use crate::store::{ETag, StoreError};

/// Where the source has no parts, or none that are all of a length.
const PART_BYTES: u64 = 64 << 20;

/// What parts in memory may take, on both sides of the border together.
const MEMORY_BYTES: u64 = 512 << 20;

/// Parts on their way at a time, at most.
const ABREAST_MAX: u64 = 8;

/// The largest part that is held whole, since its MD5 goes before it.
const PART_MAX_BYTES: u64 = 256 << 20;

/// What crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) bytes: u64,
    /// What was there before.
    pub(super) resumed: u64,
    /// Where all of it passed here.
    pub(super) sha256: Option<Digest>,
}

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    number: i32,
    /// From, and to before.
    range: (u64, u64),
}

/// An object on its way between two buckets.
pub(super) struct Carriage<'a> {
    pub(super) from: &'a Depot,
    pub(super) to: &'a Depot,
    pub(super) key: &'a str,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) observer: &'a dyn Observer,
}

impl Carriage<'_> {
    pub(super) async fn carry(&self) -> Result<Carried, AmiError> {
        let source = self.from.look(self.key).await?;
        let source = source.ok_or_else(|| {
            AmiError::Refused(format!(
                "s3://{}/{} is not there any more: begin again",
                self.from.bucket(),
                self.key
            ))
        })?;
        let there = self.to.look(self.key).await?;
        if there.is_some_and(|there| there.etag == source.etag && there.length == source.length) {
            return Ok(Carried {
                bytes: 0,
                resumed: source.length,
                sha256: None,
            });
        }
        let parts = parts(&source);
        let (arrival, there) = self.arrival(&source, &parts).await?;
        let resumed: u64 = there.values().map(|part| part.length).sum();
        self.tell(|key| Event::Started {
            key,
            length: Some(source.length),
            resumed_bytes: resumed,
        });
        let (all, digests) = self.missing(&source, &arrival, parts, there).await?;
        self.to.complete(&arrival, &all).await?;
        self.prove(&source, digests.as_ref().map(|(_, md5)| md5))
            .await?;
        self.tell(|key| Event::Verified { key });
        Ok(Carried {
            bytes: source.length - resumed,
            resumed,
            sha256: digests.map(|(sha256, _)| sha256),
        })
    }

    fn tell(&self, event: impl FnOnce(Key) -> Event) {
        if let Ok(key) = self.key.parse() {
            self.observer.event(&event(key));
        }
    }

    /// What is on its way from an earlier run, with the parts that are there and fit; else it is begun.
    async fn arrival(
        &self,
        source: &Parcel,
        parts: &[Part],
    ) -> Result<(Arrival, BTreeMap<i32, PutPart>), AmiError> {
        let Some(arrival) = self.to.arrival(self.key).await? else {
            let arrival = self.to.begin(self.key, source, &self.tags).await?;
            return Ok((arrival, BTreeMap::new()));
        };
        let fits = |number: i32, put: &PutPart| {
            let part = parts.iter().find(|part| part.number == number);
            part.is_some_and(|part| part.length() == put.length)
        };
        let mut there = self.to.parts(&arrival).await?;
        there.retain(|number, put| fits(*number, put));
        Ok((arrival, there))
    }

    /// Brings the parts that are not there. Where all passed here, their digests as a whole.
    async fn missing(
        &self,
        source: &Parcel,
        arrival: &Arrival,
        parts: Vec<Part>,
        mut there: BTreeMap<i32, PutPart>,
    ) -> Result<(BTreeMap<i32, PutPart>, Option<(Digest, Digest)>), AmiError> {
        let longest = parts.iter().map(Part::length).max().unwrap_or(1);
        let abreast = (MEMORY_BYTES / (2 * longest.max(1))).clamp(1, ABREAST_MAX) as usize;
        let mut whole = there.is_empty().then(|| Hasher::new(&[Algorithm::Md5]));
        let missing: Vec<_> = parts
            .into_iter()
            .filter(|part| !there.contains_key(&part.number))
            .collect();
        let fetching: Vec<_> = missing
            .into_iter()
            .map(|part| self.fetch(source, part))
            .collect();
        // Parts come in their order, so that the whole is hashed in passing, and go as they may.
        let put: Vec<(i32, PutPart)> = stream::iter(fetching)
            .buffered(abreast)
            .map_ok(|(part, content)| {
                if let Some(whole) = &mut whole {
                    whole.update(&content);
                }
                self.put(arrival, part, content)
            })
            .try_buffer_unordered(abreast)
            .try_collect()
            .await?;
        there.extend(put);
        let digests = whole.map(Hasher::finish).and_then(|digests| {
            Some((
                digests.get(Algorithm::Sha256)?,
                digests.get(Algorithm::Md5)?,
            ))
        });
        Ok((there, digests))
    }

    /// Fetches a part. What has come of it stays when the connection breaks.
    async fn fetch(&self, source: &Parcel, part: Part) -> Result<(Part, Bytes), AmiError> {
        let mut attempts = Attempts::new(Policy::default());
        let mut content = Vec::with_capacity(usize::try_from(part.length()).unwrap_or(0));
        let seen = AtomicU64::new(0);
        loop {
            let took = |bytes| {
                seen.fetch_add(bytes, Ordering::Relaxed);
                self.tell(|key| Event::Received { key, bytes });
            };
            let had = content.len();
            let read = self
                .from
                .read(self.key, &source.etag, part.range, &mut content, &took)
                .await;
            let Err(error) = read else {
                return Ok((part, Bytes::from(content)));
            };
            if content.len() > had {
                attempts.progressed();
            }
            pause(error, &mut attempts).await?;
        }
    }

    async fn put(
        &self,
        arrival: &Arrival,
        part: Part,
        content: Bytes,
    ) -> Result<(i32, PutPart), AmiError> {
        let mut attempts = Attempts::new(Policy::default());
        let md5 = Digest::of(Algorithm::Md5, &content);
        loop {
            match self
                .to
                .put_part(arrival, part.number, content.clone(), &md5)
                .await
            {
                Ok(put) => return Ok((part.number, put)),
                Err(error) => pause(error, &mut attempts).await?,
            }
        }
    }

    /// Compares what arrived with what was sent, and removes it where it is something else.
    async fn prove(&self, source: &Parcel, whole_md5: Option<&Digest>) -> Result<(), AmiError> {
        let place = format!("s3://{}/{}", self.to.bucket(), self.key);
        let arrived = self.to.look(self.key).await?;
        let is_right = match &arrived {
            None => false,
            Some(arrived) if arrived.length != source.length => false,
            // With keys of KMS an ETag says nothing: the MD5 of each part went with it.
            Some(arrived) if !(arrived.has_md5 && source.has_md5) => true,
            Some(arrived) if is_in_parts(source) => arrived.etag == source.etag,
            // In other parts than it has; where some came in an earlier run, nothing but their own MD5 can be compared.
            Some(_) => match (whole_md5, source.etag.md5()) {
                (Some(ours), Some(theirs)) => *ours == theirs,
                _ => true,
            },
        };
        if is_right {
            return Ok(());
        }
        self.to.remove(self.key).await?;
        Err(AmiError::Corrupt(format!(
            "{place} did not become what s3://{}/{} is ({} bytes, ETag {}), and was removed: parts of another object were there from \
             an earlier run; begin again",
            self.from.bucket(),
            self.key,
            source.length,
            source.etag
        )))
    }
}

/// Pauses where another attempt may help, else fails.
async fn pause(error: StoreError, attempts: &mut Attempts) -> Result<(), AmiError> {
    let pause: Option<Duration> = match error.class() {
        Class::Transient => attempts.failed(),
        _ => None,
    };
    let Some(pause) = pause else {
        return Err(error.into());
    };
    tracing::info!("again: {error}");
    sleep(pause).await;
    Ok(())
}

impl Part {
    fn length(&self) -> u64 {
        self.range.1 - self.range.0
    }
}

/// Whether its parts are all of a length but the last, so that they can be had again.
fn is_in_parts(source: &Parcel) -> bool {
    let Some(bytes) = source
        .part_bytes
        .filter(|bytes| (1..=PART_MAX_BYTES).contains(bytes))
    else {
        return false;
    };
    part_count(&source.etag) == Some(source.length.div_ceil(bytes))
}

/// `…-17`
fn part_count(etag: &ETag) -> Option<u64> {
    etag.as_str().rsplit_once('-')?.1.parse().ok()
}

fn parts(source: &Parcel) -> Vec<Part> {
    let bytes = match source.part_bytes {
        Some(bytes) if is_in_parts(source) => bytes,
        _ => PART_BYTES,
    };
    let count = source.length.div_ceil(bytes).max(1);
    let range = |at: u64| (at * bytes, ((at + 1) * bytes).min(source.length));
    (1..)
        .zip(0..count)
        .map(|(number, at)| Part {
            number,
            range: range(at),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(length: u64, etag: &str, part_bytes: Option<u64>) -> Parcel {
        Parcel {
            length,
            etag: ETag::new(etag),
            part_bytes,
            has_md5: true,
            metadata: BTreeMap::new(),
            content_type: None,
        }
    }

    #[test]
    fn parts_are_those_that_the_source_has() {
        let ranges = |parcel: &Parcel| {
            parts(parcel)
                .iter()
                .map(|part| part.range)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ranges(&parcel(25, "a-3", Some(10))),
            [(0, 10), (10, 20), (20, 25)]
        );
        assert_eq!(ranges(&parcel(20, "a-2", Some(10))), [(0, 10), (10, 20)]);
    }

    #[test]
    fn parts_of_different_lengths_are_not_taken_for_equal_ones() {
        let uneven = parcel(25, "a-4", Some(10));
        assert!(!is_in_parts(&uneven));
        assert_eq!(parts(&uneven).len(), 1);
        assert!(!is_in_parts(&parcel(
            25,
            "0123456789abcdef0123456789abcdef",
            None
        )));
        let huge = parcel(PART_MAX_BYTES * 4, "a-2", Some(PART_MAX_BYTES * 2));
        assert!(!is_in_parts(&huge), "it would have to be held whole");
    }
}
