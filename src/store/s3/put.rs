//! Puts one object in one part, and believes only an answer that is its MD5.

use std::error::Error;
use std::sync::Arc;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::body::{Body, Stall};
use super::conditions::Guard;
use super::errors::{Refusal, SET_SSE_S3};
use super::listing::length;
use super::traffic::Sending;
use super::{S3Store, content_type};
use crate::asset::Key;
use crate::store::{
    Attributes, Condition, ETag, SINGLE_PART_MAX_BYTES, StoreError, StoreErrorKind,
};
use crate::verify::Publishable;

/// A write that failed, with the server's own words where there were some.
pub(super) struct Failed {
    refusal: Option<Refusal>,
    error: StoreError,
}

/// What a server says that it has stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Got<'a> {
    pub(super) etag: Option<&'a str>,
    /// In bytes.
    pub(super) length: Option<i64>,
    pub(super) encryption: Option<&'a ServerSideEncryption>,
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
        let answer = loop {
            match self.send(key, content, attributes, &guard).await {
                Ok(answer) => break answer,
                Err(failed) => guard = self.other_guard(key, condition, &guard, failed).await?,
            }
        };
        self.conditions.worked(condition, &guard);
        let got = Got {
            etag: answer.e_tag(),
            length: answer.size(),
            encryption: answer.server_side_encryption(),
        };
        self.checked(key, content, got).await
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

    /// The form in which to try again a condition that the server only did not understand; else why it failed.
    pub(super) async fn other_guard(
        &self,
        key: &Key,
        condition: &Condition,
        guard: &Guard,
        failed: Failed,
    ) -> Result<Guard, StoreError> {
        let Failed { refusal, error } = failed;
        let is_of_a_header = refusal.is_some_and(|refusal| refusal.is_of_a_header());
        if is_of_a_header && *guard != Guard::None {
            return Ok(Guard::None);
        }
        let other = guard.misunderstood();
        let other = other.filter(|_| error.kind == StoreErrorKind::ConditionFailed);
        let Some(other) = other else {
            return Err(error);
        };
        let there = self.look(key).await?.map(|there| there.object.etag);
        let holds = match condition {
            Condition::Absent => there.is_none(),
            Condition::Unchanged(etag) => there.as_ref() == Some(etag),
            Condition::Any => true,
        };
        if holds { Ok(other) } else { Err(error) }
    }

    /// One PUT, cut when it makes no progress.
    async fn send(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        guard: &Guard,
    ) -> Result<PutObjectOutput, Failed> {
        let length = content.length();
        let turn = self.traffic.turn_of_object(length).await;
        let (body, progress) = Body::new(length, content.chunks());
        let (of_body, of_answer) = self.traffic.until_body_or_answer(turn);
        let body = body.with_turn(of_body);
        let body = body.abreast_of(self.traffic.abreast(length));
        let request = self
            .transfers
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .content_length(signed(length))
            .content_md5(BASE64_STANDARD.encode(content.md5().bytes()))
            .set_content_type(content_type(attributes))
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .set_acl(self.acl.clone())
            .set_server_side_encryption(
                self.asks_for_sse_s3.then_some(ServerSideEncryption::Aes256),
            )
            .set_if_none_match(guard.if_none_match().map(ToOwned::to_owned))
            .set_if_match(guard.if_match())
            .body(ByteStream::from_body_1_x(body));
        let sending = self.traffic.begin(progress, of_answer);
        self.watched(&self.address(key), sending, request.send())
            .await
    }

    /// Waits for the answer to a request with a body, and gives it up when that makes no progress.
    pub(super) async fn watched<T, E>(
        &self,
        address: &str,
        sending: Sending<'_>,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failed>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let progress = Arc::clone(sending.progress());
        let answer = tokio::select! {
            answer = request => answer,
            stall = progress.stalled(self.stall_timeout, self.answer_timeout) => {
                sending.stalled();
                return Err(self.stalled(address, progress.length(), stall).into());
            }
        };
        match answer {
            Ok(answer) => {
                sending.arrived();
                Ok(answer)
            }
            Err(error) => Err(match progress.take_failure() {
                Some(failure) => spool_failed(address, failure).into(),
                None => Failed {
                    refusal: Refusal::of(&error),
                    error: self.site.explain("put", address, &error),
                },
            }),
        }
    }

    fn stalled(&self, address: &str, length: u64, stall: Stall) -> StoreError {
        let why = match stall {
            Stall::Body { remaining } => format!(
                "nothing was taken for {} s, after {} of {length} bytes",
                self.stall_timeout.as_secs(),
                length - remaining,
            ),
            Stall::Answer => format!(
                "it was sent whole, but no answer came within {} s",
                self.answer_timeout.as_secs()
            ),
        };
        let what = format!("can't put {address}: {why}");
        StoreError::new(StoreErrorKind::Transient, what)
    }

    /// Checks that what the server says it stored is the content; what is not is removed again.
    ///
    /// An `ETag` that is the MD5 of what was sent says all of it: these bytes, this many, not encrypted with KMS. So there is no
    /// second request where the answer has one.
    pub(super) async fn checked(
        &self,
        key: &Key,
        content: &dyn Publishable,
        got: Got<'_>,
    ) -> Result<ETag, StoreError> {
        let expected = ETag::from(content.md5());
        let (etag, stored) = match got.etag {
            Some(etag) if !etag.is_empty() => {
                (ETag::new(etag), got.length.map(|size| length(Some(size))))
            }
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
        Err(self.mismatch(key, &expected, &etag, got.encryption, removed))
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

impl Failed {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, told: StoreError) -> Self
    where
        E: ProvideErrorMetadata,
    {
        Self {
            refusal: Refusal::of(error),
            error: told,
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        self.error
    }
}

/// S3 has lengths as signed numbers.
pub(super) fn signed(length: u64) -> i64 {
    i64::try_from(length).expect("at most 5 GiB")
}

pub(super) fn spool_failed(address: &str, failure: std::io::Error) -> StoreError {
    let what = format!("can't put {address}: the spool can't be read");
    StoreError::new(StoreErrorKind::Spool, what).caused_by(failure)
}

/// Whether objects with this encryption have ETags that are not MD5.
pub(super) fn breaks_etags(encryption: &ServerSideEncryption) -> bool {
    !matches!(encryption, ServerSideEncryption::Aes256)
}
