//! Holds the objects of a bucket, and decides at the moment of writing whether a condition holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::content::Content;
use super::multipart::Upload;

/// What goes with the bytes of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) metadata: dto::Metadata,
    pub(super) public: bool,
    pub(super) kms: bool,
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) content: Content,
    pub(super) etag: String,
    pub(super) attributes: Attributes,
    pub(super) checksum: dto::Checksum,
    pub(super) modified: SystemTime,
}

impl Object {
    /// An object whose `ETag` is its MD5, unless KMS encrypts it.
    pub(super) fn single_part(content: Content, md5: [u8; 16], attributes: Attributes) -> Self {
        let etag = if attributes.kms {
            // S3 says only that it is no MD5 of the data; it looks like one all the same.
            hex::encode(Md5::digest([b"kms".as_slice(), &md5].concat()))
        } else {
            hex::encode(md5)
        };
        Self::with_etag(content, etag, attributes)
    }

    pub(super) fn with_etag(content: Content, etag: String, attributes: Attributes) -> Self {
        Self {
            content,
            etag,
            attributes,
            checksum: dto::Checksum::default(),
            modified: SystemTime::now(),
        }
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.etag.contains('-')
    }
}

/// What a write asks of what is at its key, and what was there when the request began.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<dto::ETagCondition>,
    if_none_match: Option<dto::ETagCondition>,
    existed: bool,
}

impl Conditions {
    fn hold(&self, present: Option<&Arc<Object>>) -> S3Result<()> {
        let conditional = self.if_match.is_some() || self.if_none_match.is_some();
        if conditional && self.existed && present.is_none() {
            // Somebody deleted it while this request ran.
            return Err(s3_error!(
                ConditionalRequestConflict,
                "The conditional request cannot succeed due to a conflicting operation against this resource."
            ));
        }
        if self.if_none_match.is_some() && present.is_some() {
            return Err(precondition_failed("If-None-Match"));
        }
        match (&self.if_match, present) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
            (Some(wanted), Some(object)) if names(wanted, &object.etag) => Ok(()),
            (Some(_), Some(_)) => Err(precondition_failed("If-Match")),
        }
    }
}

/// Whether a condition names this `ETag`.
pub(super) fn names(condition: &dto::ETagCondition, etag: &str) -> bool {
    condition
        .as_etag()
        .is_none_or(|wanted| wanted.value() == etag)
}

pub(super) fn precondition_failed(which: &'static str) -> s3s::S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold: {which}"
    )
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Arc<Object>>,
    uploads: BTreeMap<String, Upload>,
    uploads_begun: u64,
    commits: Vec<String>,
    accepts_acls: bool,
    public_read: bool,
    kms: bool,
}

/// A bucket, and the way to look and reach into it behind the server's back.
#[derive(Clone)]
pub struct Bucket {
    name: Arc<str>,
    region: Arc<str>,
    created: SystemTime,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub length: u64,
    /// None when contents are kept nowhere.
    pub bytes: Option<Bytes>,
    pub etag: String,
    pub content_type: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Its ACL lets everybody read it.
    pub public: bool,
}

impl Bucket {
    pub(super) fn new(name: &str, region: &str) -> Self {
        Self {
            name: name.into(),
            region: region.into(),
            created: SystemTime::now(),
            state: Arc::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// Takes ACLs from now on; without this they are refused, as in every bucket that S3 made since April 2023.
    #[must_use]
    pub fn accept_acls(self) -> Self {
        self.state().accepts_acls = true;
        self
    }

    /// Has a policy that lets everybody get every object, but list nothing.
    #[must_use]
    pub fn public_read(self) -> Self {
        self.state().public_read = true;
        self
    }

    /// Encrypts with KMS by default: `ETag`s are no MD5 then.
    #[must_use]
    pub fn encrypt_with_kms(self) -> Self {
        self.state().kms = true;
        self
    }

    /// The keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// The keys in the order in which their objects became visible.
    pub fn commits(&self) -> Vec<String> {
        self.state().commits.clone()
    }

    /// The keys of multipart uploads that are neither completed nor aborted.
    pub fn unfinished_uploads(&self) -> Vec<String> {
        self.state()
            .uploads
            .values()
            .map(|u| u.key.clone())
            .collect()
    }

    /// An object; its files, if it has any, are read at once.
    pub fn object(&self, key: &str) -> Option<Found> {
        let object = self.get(key)?;
        let metadata = object.attributes.metadata.clone().into_iter();
        Some(Found {
            key: key.to_owned(),
            length: object.content.length(),
            bytes: object.content.bytes().expect("stored files can be read"),
            etag: object.etag.clone(),
            content_type: object.attributes.content_type.clone(),
            metadata: metadata.collect(),
            public: object.attributes.public,
        })
    }

    /// Puts an object without a request.
    pub fn insert(&self, key: &str, content: impl Into<Bytes>) {
        let content = Content::of(content.into());
        let md5 = content.md5().expect("memory can be read");
        let attributes = self.default_attributes();
        self.put_at(key, Object::single_part(content, md5, attributes));
    }

    /// Puts an object as a multipart upload with parts of this size would: with an `ETag` of `…-N`.
    pub fn insert_multipart(&self, key: &str, content: impl Into<Bytes>, part_bytes: usize) {
        let content = content.into();
        let parts = content.chunks(part_bytes);
        let parts: Vec<[u8; 16]> = parts.map(|part| Md5::digest(part).into()).collect();
        let etag = super::multipart::etag(parts.iter().map(<[u8; 16]>::as_slice));
        let attributes = self.default_attributes();
        self.put_at(
            key,
            Object::with_etag(Content::of(content), etag, attributes),
        );
    }

    /// Removes an object without a request.
    pub fn remove(&self, key: &str) -> bool {
        self.delete(key)
    }

    /// Turns a bit of the byte at `offset`, leaving `ETag` and metadata as they are. False when there is no such byte.
    pub fn corrupt(&self, key: &str, offset: u64) -> bool {
        let Some(object) = self.get(key) else {
            return false;
        };
        let Some(content) = object
            .content
            .corrupted(offset)
            .expect("stored files can be read")
        else {
            return false;
        };
        let corrupted = Object {
            content,
            etag: object.etag.clone(),
            attributes: object.attributes.clone(),
            checksum: object.checksum.clone(),
            modified: object.modified,
        };
        self.put_at(key, corrupted);
        true
    }

    pub(super) fn created(&self) -> SystemTime {
        self.created
    }

    pub(super) fn accepts_acls(&self) -> bool {
        self.state().accepts_acls
    }

    pub(super) fn uses_kms(&self) -> bool {
        self.state().kms
    }

    pub(super) fn default_attributes(&self) -> Attributes {
        Attributes {
            kms: self.uses_kms(),
            ..Attributes::default()
        }
    }

    pub(super) fn readable_by_all(&self, key: &str) -> bool {
        let state = self.state();
        let object = state.objects.get(key);
        object.is_some_and(|object| state.public_read || object.attributes.public)
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state().objects.get(key).cloned()
    }

    pub(super) fn conditions(
        &self,
        key: &str,
        if_match: Option<dto::ETagCondition>,
        if_none_match: Option<dto::ETagCondition>,
    ) -> S3Result<Conditions> {
        if if_none_match.as_ref().is_some_and(|c| !c.is_any()) {
            return Err(s3_error!(
                NotImplemented,
                "If-None-Match takes only * on a write."
            ));
        }
        Ok(Conditions {
            if_match,
            if_none_match,
            existed: self.state().objects.contains_key(key),
        })
    }

    /// Makes an object visible, if its conditions hold at this moment.
    pub(super) fn commit(
        &self,
        key: &str,
        object: Object,
        conditions: &Conditions,
    ) -> S3Result<()> {
        let mut state = self.state();
        conditions.hold(state.objects.get(key))?;
        state.objects.insert(key.to_owned(), Arc::new(object));
        state.commits.push(key.to_owned());
        Ok(())
    }

    fn put_at(&self, key: &str, object: Object) {
        self.state()
            .objects
            .insert(key.to_owned(), Arc::new(object));
    }

    pub(super) fn delete(&self, key: &str) -> bool {
        self.state().objects.remove(key).is_some()
    }

    pub(super) fn delete_if(
        &self,
        key: &str,
        if_match: Option<&dto::ETagCondition>,
    ) -> S3Result<()> {
        let mut state = self.state();
        match (if_match, state.objects.get(key)) {
            (Some(wanted), Some(object)) if !names(wanted, &object.etag) => {
                return Err(precondition_failed("If-Match"));
            }
            (Some(_), None) => {
                return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
            }
            _ => {}
        }
        state.objects.remove(key);
        Ok(())
    }

    /// Calls `see` with the objects from the key `from` on, in order, until it says stop.
    pub(super) fn walk(
        &self,
        from: &str,
        mut see: impl FnMut(&str, &Object) -> std::ops::ControlFlow<()>,
    ) {
        for (key, object) in self.state().objects.range(from.to_owned()..) {
            if see(key, object).is_break() {
                break;
            }
        }
    }

    /// The uploads of this bucket, under its lock.
    pub(super) fn with_uploads<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<String, Upload>) -> T,
    ) -> T {
        act(&mut self.state().uploads)
    }

    /// A name for a new upload; they sort in the order of their beginnings.
    pub(super) fn next_upload_id(&self) -> String {
        let mut state = self.state();
        state.uploads_begun += 1;
        format!("{}-upload-{:08}", self.name, state.uploads_begun)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
