//! Where a mirror lives: a bucket or a folder.
//!
//! The contract that every store keeps, and that one test suite runs on all of them:
//!
//! 1. An object is whole or absent. Nobody sees a part of a put, and a put that fails leaves what was there before.
//! 2. An object is single-part: its `ETag` is the MD5 of its content. `put` compares before it says so, and removes an object
//!    whose `ETag` came out wrong.
//! 3. Only what is [`Publishable`] can be put, and only `verify` says what is.
//! 4. A condition that the store cannot honour is not an error: writes are idempotent, content is verified either way.

pub mod bucket_policy;
pub mod folder;
pub mod registry;
pub mod s3;
pub mod staging;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use self::staging::Staging;
use crate::asset::Key;
use crate::digest::{Algorithm, Digest};
use crate::report::StoreLeg;
use crate::retry::Class;
use crate::verify::Publishable;

/// The largest object that can be put in one part, 5 GiB (S3 user guide, "Uploading objects"). Above it no single-part object exists.
pub const SINGLE_PART_MAX_BYTES: u64 = 5 << 30;

/// Where the service keeps what is its own, below the mirror's prefix: who has the right to run. It is no part of the mirror:
/// listings leave it out.
pub const SERVICE_FOLDER: &str = ".service/";

/// An `ETag` without its quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// Takes an `ETag` as servers write it, with or without quotes and the weak mark.
    pub fn new(text: &str) -> Self {
        Self(
            text.trim()
                .trim_start_matches("W/")
                .trim_matches('"')
                .to_ascii_lowercase(),
        )
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The MD5 that a single-part object's `ETag` is; None for `…-N` of a multipart upload and anything else.
    pub fn md5(&self) -> Option<Digest> {
        (self.0.len() == Algorithm::Md5.hex_length())
            .then(|| self.0.parse().ok())
            .flatten()
    }
}

impl From<Digest> for ETag {
    fn from(md5: Digest) -> Self {
        Self(md5.hex())
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: Key,
    /// In bytes.
    pub length: u64,
    pub etag: ETag,
}

/// An object as a look at it alone shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub object: Object,
    /// User metadata, names in lower case: `sha256`, `md5`, `canonical-url`. A folder keeps none.
    pub metadata: BTreeMap<String, String>,
}

/// Everything below the mirror's prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by key.
    pub objects: Vec<Object>,
    /// Keys there that are no good keys of a mirror; somebody else's.
    pub foreign: Vec<String>,
    /// What is in [`SERVICE_FOLDER`], by key: no part of the mirror.
    pub service: Vec<Object>,
    /// Listing requests that this took (1,000 keys each on S3).
    pub requests: u64,
}

/// What goes with an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub content_type: String,
    /// User metadata: lower-case names, ASCII values.
    pub metadata: BTreeMap<String, String>,
}

/// What must still hold at the final key when a put commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is there (If-None-Match: *).
    Absent,
    /// This object is there (If-Match).
    Unchanged(ETag),
    /// Nothing is asked.
    Any,
}

/// The content of an object, in order.
pub struct Content {
    /// In bytes; fewer may come when a chunk is an error.
    pub length: u64,
    pub etag: ETag,
    pub chunks: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("length", &self.length)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// What went wrong at a store: a kind for the program, a sentence for the reader, the cause.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// What failed, where, and what to do: `can't put s3://bucket/key: …`.
    pub what: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can do something about. See [`StoreError::class`] for what is worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The bucket or folder is not there.
    NoSuchBucket,
    /// The bucket is in another region.
    ElsewhereRegion,
    /// The credentials belong to another AWS partition, or are no good.
    Credentials,
    Denied,
    /// The bucket takes no ACLs.
    AclRefused,
    /// The bucket's default encryption makes ETags that are not MD5.
    Encryption,
    /// The condition did not hold: somebody else wrote.
    ConditionFailed,
    /// Throttled: 429, 503 `SlowDown`.
    Busy,
    /// The disk is full.
    Full,
    /// The answered `ETag` is not the content's MD5. The object was removed, unless another is in its place.
    EtagMismatch,
    /// Above 5 GiB.
    TooLarge,
    /// The spool could not be read while putting.
    Spool,
    /// A copy within the store is no single-part object: nothing can be staged there.
    Multipart,
    /// Worth another attempt: connection, time-out, 5xx.
    Transient,
    /// Not worth another attempt.
    Permanent,
}

impl StoreError {
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn class(&self) -> Class {
        match self.kind {
            StoreErrorKind::Busy | StoreErrorKind::Transient | StoreErrorKind::EtagMismatch => {
                Class::Transient
            }
            _ => Class::Permanent,
        }
    }
}

/// That an object is on its way, until it is dropped ([`Store::expect`]).
pub type Expected = Option<Box<dyn fmt::Debug + Send + Sync>>;

/// A bucket or a folder under a prefix; keys are relative to the prefix. See the module for the contract.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The place in a user's words, without a trailing slash: `s3://bucket/prefix`, `/srv/mirror`.
    fn place(&self) -> &str;

    /// Looks, before any byte moves, whether objects can be put here that keep the contract: it exists (or is created when
    /// `create`), is in the configured region, takes these credentials, has no default encryption that breaks `ETag` = MD5.
    async fn prepare(&self, create: bool) -> Result<(), StoreError>;

    /// Lists everything below the prefix, `releases/` included.
    async fn list(&self) -> Result<Listing, StoreError>;

    /// Lists only what is in [`SERVICE_FOLDER`].
    async fn list_service(&self) -> Result<Vec<Object>, StoreError>;

    /// None when there is no such object.
    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError>;

    /// None when there is no such object.
    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError>;

    /// Puts an object in one part and returns its `ETag`, which is the content's MD5. One attempt: retrying is the caller's. A
    /// content that is withheld before its end leaves what was there before.
    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError>;

    /// Rewrites an object in place, inside the store, so that it becomes single-part; returns the new `ETag`, which the caller
    /// compares: some stores keep a multipart `ETag`. Only done while the object is still the one with `etag`.
    async fn restate(
        &self,
        key: &Key,
        etag: &ETag,
        attributes: &Attributes,
    ) -> Result<ETag, StoreError>;

    /// Whether one connection carries so little to here that the largest object is what takes longest, as far as is known.
    fn is_slow(&self) -> bool {
        false
    }

    /// Says that an object of this length is on its way to here, until what is returned is dropped: where few are taken at a time,
    /// a shorter one that is there sooner may be held up for a moment. None where that makes no difference.
    fn expect(&self, _length: u64) -> Expected {
        None
    }

    /// What has gone there so far; None where it goes over no network.
    fn leg(&self) -> Option<StoreLeg> {
        None
    }

    /// Where parts of an object can wait unseen until it is verified; None where that has no sense.
    fn staging(&self) -> Option<&dyn Staging> {
        None
    }

    /// Removes an object; not an error when it is gone already.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;
}
