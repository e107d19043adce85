//! Puts one object in one part, and believes only an answer that is its MD5.

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::body::{Body, Stall};
use super::conditions::Guard;
use super::errors::{Refusal, SET_SSE_S3};
use super::listing::length;
use super::{S3Store, content_type};
use crate::asset::Key;
use crate::store::{
    Attributes, Condition, ETag, SINGLE_PART_MAX_BYTES, StoreError, StoreErrorKind,
};
use crate::verify::Publishable;

/// A PUT that failed, with the server's own words where there were some.
struct Failed {
    refusal: Option<Refusal>,
    error: StoreError,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            refusal: None,
            error,
        }
    }
}

impl S3Store {
    pub(super) async fn put_whole(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        if content.length() > SINGLE_PART_MAX_BYTES {
            return Err(self.too_large("put", key, content.length()));
        }
        let mut guard = self.conditions.guard(condition);
        loop {
            match self.send(key, content, attributes, &guard).await {
                Ok(answer) => {
                    self.conditions.worked(condition, &guard);
                    return self.checked(key, content, &answer).await;
                }
                Err(failed) => match self.other_guard(key, condition, &guard, &failed).await? {
                    Some(other) => guard = other,
                    None => return Err(failed.error),
                },
            }
        }
    }

    pub(super) fn too_large(&self, action: &str, key: &Key, length: u64) -> StoreError {
        StoreError::new(
            StoreErrorKind::TooLarge,
            format!(
                "can't {action} {}: it has {length} bytes, and above 5 GiB no single-part object exists",
                self.address(key)
            ),
        )
    }

    /// The form in which to try again a condition that the server only did not understand.
    async fn other_guard(
        &self,
        key: &Key,
        condition: &Condition,
        guard: &Guard,
        failed: &Failed,
    ) -> Result<Option<Guard>, StoreError> {
        let Some(refusal) = &failed.refusal else {
            return Ok(None);
        };
        if refusal.is_of_a_header() && *guard != Guard::None {
            return Ok(Some(Guard::None));
        }
        match condition {
            Condition::Unchanged(etag) if failed.error.kind == StoreErrorKind::ConditionFailed => {
                let there = self.look(key).await?;
                let unchanged = there.is_some_and(|there| there.object.etag == *etag);
                Ok(guard.misunderstood().filter(|_| unchanged))
            }
            _ => Ok(None),
        }
    }

    /// One PUT, cut when it makes no progress.
    async fn send(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        guard: &Guard,
    ) -> Result<PutObjectOutput, Failed> {
        let (body, progress) = Body::new(content);
        let sending = self
            .transfers
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .content_length(i64::try_from(content.length()).expect("at most 5 GiB"))
            .content_md5(BASE64_STANDARD.encode(content.md5().bytes()))
            .set_content_type(content_type(attributes))
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .set_acl(self.acl.clone())
            .set_if_none_match(guard.if_none_match().map(ToOwned::to_owned))
            .set_if_match(guard.if_match())
            .body(ByteStream::from_body_1_x(body))
            .send();
        let answer = tokio::select! {
            answer = sending => answer,
            stall = progress.stalled(self.stall_timeout, self.answer_timeout) => {
                return Err(self.stalled(key, content, stall).into());
            }
        };
        answer.map_err(|error| match progress.take_failure() {
            Some(failure) => self.spool_failed(key, failure).into(),
            None => Failed {
                refusal: Refusal::of(&error),
                error: self.site.explain("put", &self.address(key), &error),
            },
        })
    }

    fn stalled(&self, key: &Key, content: &dyn Publishable, stall: Stall) -> StoreError {
        let why = match stall {
            Stall::Body { remaining } => format!(
                "nothing was taken for {} s, after {} of {} bytes",
                self.stall_timeout.as_secs(),
                content.length() - remaining,
                content.length()
            ),
            Stall::Answer => format!(
                "it was sent whole, but no answer came within {} s",
                self.answer_timeout.as_secs()
            ),
        };
        let what = format!("can't put {}: {why}", self.address(key));
        StoreError::new(StoreErrorKind::Transient, what)
    }

    fn spool_failed(&self, key: &Key, failure: std::io::Error) -> StoreError {
        let what = format!("can't put {}: the spool can't be read", self.address(key));
        StoreError::new(StoreErrorKind::Spool, what).caused_by(failure)
    }

    /// Checks that what the server says it stored is the content; what is not is removed again.
    ///
    /// An `ETag` that is the MD5 of what was sent says all of it: these bytes, this many, not encrypted with KMS. So there is no
    /// second request where the answer has one.
    async fn checked(
        &self,
        key: &Key,
        content: &dyn Publishable,
        answer: &PutObjectOutput,
    ) -> Result<ETag, StoreError> {
        let expected = ETag::from(content.md5());
        let (etag, stored) = match answer.e_tag() {
            Some(etag) if !etag.is_empty() => (
                ETag::new(etag),
                answer.size().map(|size| length(Some(size))),
            ),
            _ => match self.look(key).await? {
                Some(there) => (there.object.etag, Some(there.object.length)),
                None => return Err(self.lost(key)),
            },
        };
        let whole = stored.is_none_or(|stored| stored == content.length());
        if etag == expected && whole {
            return Ok(etag);
        }
        let removed = self.remove_if_still(key, &etag).await?;
        let encryption = answer.server_side_encryption();
        Err(self.mismatch(key, &expected, &etag, encryption, removed))
    }

    fn lost(&self, key: &Key) -> StoreError {
        StoreError::new(
            StoreErrorKind::Transient,
            format!(
                "{} was put, but is not there: somebody removed it, or the server lost it",
                self.address(key)
            ),
        )
    }

    /// Removes an object that came out wrong, unless another is in its place by now; says whether it did.
    async fn remove_if_still(&self, key: &Key, etag: &ETag) -> Result<bool, StoreError> {
        let still = self.look(key).await?;
        if still.is_none_or(|there| there.object.etag != *etag) {
            return Ok(false);
        }
        self.remove(key).await?;
        Ok(true)
    }

    fn mismatch(
        &self,
        key: &Key,
        expected: &ETag,
        got: &ETag,
        encryption: Option<&ServerSideEncryption>,
        removed: bool,
    ) -> StoreError {
        let address = self.address(key);
        let and = if removed {
            "it was removed"
        } else {
            "another object is there by now"
        };
        if encryption.is_some_and(breaks_etags) {
            return StoreError::new(
                StoreErrorKind::Encryption,
                format!("{address} was encrypted with KMS, and {and}; {SET_SSE_S3}"),
            );
        }
        StoreError::new(
            StoreErrorKind::EtagMismatch,
            format!("the server gave {address} the ETag {got} where its MD5 is {expected}; {and}"),
        )
    }
}

/// Whether objects with this encryption have ETags that are not MD5.
pub(super) fn breaks_etags(encryption: &ServerSideEncryption) -> bool {
    !matches!(encryption, ServerSideEncryption::Aes256)
}
