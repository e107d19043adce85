//! Sends blobs to the repositories that need them, and reads them back.

use std::collections::VecDeque;
use std::io;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use url::Url;

use super::answers::{Refusal, unanswered};
use super::calls::{Call, location};
use super::{ASKED_AT_A_TIME, RegistryStore};
use crate::asset::Key;
use crate::digest::Digest;
use crate::store::s3::body::Stall;
use crate::store::{Content, ETag, Object, Stat, StoreError, StoreErrorKind};
use crate::verify::Publishable;

/// Where registries tell the digest of what they have.
const DIGEST_HEADER: &str = "docker-content-digest";

/// A blob that a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobThere {
    /// In bytes; None where that is not told.
    pub length: Option<u64>,
}

impl RegistryStore {
    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob_there(repository, digest).await?.is_some())
    }

    /// What is told of a blob without reading it; None where the repository has it not.
    pub async fn blob_there(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<BlobThere>, StoreError> {
        let what = self.told(repository, digest);
        let call = self.blob_call(Method::HEAD, "look at", repository, digest, &what);
        let answer = self.calls.patiently(&call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let length = answer.headers().get(CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                Ok(Some(BlobThere { length }))
            }
            // Where blobs lie a HEAD may not be allowed, since what was signed is a GET.
            status if status.is_redirection() => {
                let answer = self.read_blob(repository, digest, &what).await?;
                Ok(answer.map(|answer| BlobThere {
                    length: answer.content_length(),
                }))
            }
            _ => Err(Refusal::read(answer).await.explain(call.action, &what)),
        }
    }

    /// The answer whose body is a blob; None where the repository has it not.
    async fn read_blob(
        &self,
        repository: &str,
        digest: &Digest,
        what: &str,
    ) -> Result<Option<Response>, StoreError> {
        let call = self.blob_call(Method::GET, "read", repository, digest, what);
        let answer = self.calls.patiently(&call).await?;
        let answer = self.calls.followed(&call, answer).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(answer)),
            _ => Err(self.calls.refused("read", what, answer).await),
        }
    }

    pub(super) async fn stat_blob(
        &self,
        key: &Key,
        digest: &Digest,
    ) -> Result<Option<Stat>, StoreError> {
        let repositories = self.needed_by(digest);
        let mut length = None;
        let mut lengths = stream::iter(repositories)
            .map(|repository| async move { self.blob_there(&repository, digest).await })
            .buffer_unordered(ASKED_AT_A_TIME);
        while let Some(there) = lengths.try_next().await? {
            let Some(there) = there else { return Ok(None) };
            length = Some(there.length.unwrap_or_default());
        }
        let object = length.map(|length| Object {
            key: key.clone(),
            length,
            etag: ETag::new(&digest.to_string()),
        });
        let metadata = [("sha256".to_owned(), digest.hex())];
        Ok(object.map(|object| Stat {
            object,
            metadata: metadata.into(),
        }))
    }

    /// Reads a blob from the first repository that has it.
    pub(super) async fn open_blob(&self, digest: &Digest) -> Result<Option<Content>, StoreError> {
        for repository in self.needed_by(digest) {
            if let Some(content) = self.open_blob_of(&repository, digest).await? {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// Reads a blob from this repository; None where it has it not. The last chunk is an error where all of them are not what the digest
    /// says.
    pub async fn open_blob_of(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Content>, StoreError> {
        let what = self.told(repository, digest);
        let answer = self.read_blob(repository, digest, &what).await?;
        Ok(answer.map(|answer| Content {
            length: answer.content_length().unwrap_or_default(),
            etag: ETag::new(&digest.to_string()),
            chunks: self.checked(answer, *digest, what),
        }))
    }

    /// The chunks of a body, whose end is an error where all of it is not what the digest says.
    fn checked(
        &self,
        answer: Response,
        digest: Digest,
        what: String,
    ) -> BoxStream<'static, Result<bytes::Bytes, StoreError>> {
        let patience = self.stall_timeout;
        let reading = (answer, Sha256::new(), what);
        stream::unfold(Some(reading), move |reading| async move {
            let (mut answer, mut hasher, what) = reading?;
            let failed = match timeout(patience, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    hasher.update(&chunk);
                    return Some((Ok(chunk), Some((answer, hasher, what))));
                }
                Ok(Ok(None)) if hasher.finalize()[..] == *digest.bytes() => return None,
                Ok(Ok(None)) => StoreError::new(
                    StoreErrorKind::Permanent,
                    format!("can't read {what}: what came is not what its digest says"),
                ),
                Ok(Err(error)) => unanswered("read", &what, None, error),
                Err(_) => {
                    let seconds = patience.as_secs();
                    let told = format!("can't read {what}: nothing came for {seconds} s");
                    StoreError::new(StoreErrorKind::Transient, told)
                }
            };
            Some((Err(failed), None))
        })
        .boxed()
    }

    /// Sends a blob to one repository that needs it and has it not, and mounts it into the others.
    pub(super) async fn put_blob(
        &self,
        digest: &Digest,
        content: &dyn Publishable,
    ) -> Result<(), StoreError> {
        let repositories = self.needed_by(digest);
        if repositories.is_empty() {
            let what = format!(
                "can't put {digest} at {}: no repository was named that needs it",
                self.place
            );
            return Err(StoreError::new(StoreErrorKind::Permanent, what));
        }
        let mut asked = stream::iter(repositories)
            .map(|repository| async move {
                let has = self.has_blob(&repository, digest).await?;
                Ok::<_, StoreError>((repository, has))
            })
            .buffered(ASKED_AT_A_TIME);
        let (mut from, mut lack) = (None, VecDeque::new());
        while let Some((repository, has)) = asked.try_next().await? {
            if has {
                from = Some(repository);
            } else {
                lack.push_back(repository);
            }
        }
        drop(asked);
        let from = match (from, lack.pop_front()) {
            (_, None) => return Ok(()),
            (None, Some(first)) => {
                self.upload(&first, digest, content).await?;
                first
            }
            (Some(from), Some(first)) => {
                lack.push_front(first);
                from
            }
        };
        let from = from.as_str();
        let mut mounted = stream::iter(lack)
            .map(|to| async move { self.mount(from, &to, digest, content).await })
            .buffer_unordered(ASKED_AT_A_TIME);
        while mounted.next().await.transpose()?.is_some() {}
        Ok(())
    }

    /// Lets a repository have a blob that another one has; false where the registry would rather have it sent. One request.
    pub async fn mount_blob(
        &self,
        from: &str,
        repository: &str,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let what = self.told(repository, digest);
        let call = self.mount_call(from, repository, digest, &what);
        let answer = self.calls.patiently(&call).await?;
        let is_there = answer.status() == StatusCode::CREATED;
        if is_there {
            check_told(&answer, digest, &what)?;
        }
        // What it has begun instead it forgets by itself.
        Ok(is_there)
    }

    /// As [`RegistryStore::mount_blob`], and sends it where the registry would rather have it sent.
    async fn mount(
        &self,
        from: &str,
        repository: &str,
        digest: &Digest,
        content: &dyn Publishable,
    ) -> Result<(), StoreError> {
        let what = self.told(repository, digest);
        let call = self.mount_call(from, repository, digest, &what);
        let answer = self.calls.patiently(&call).await?;
        match answer.status() {
            StatusCode::CREATED => check_told(&answer, digest, &what),
            // An upload is begun: the registry does not mount, or not this one.
            StatusCode::ACCEPTED => {
                tracing::debug!("{what} is sent: it can't be mounted from {from}");
                let begun = begun(&call, &answer)?;
                self.send(repository, begun, digest, content, &what).await
            }
            // Some know no mounting, or do not allow it.
            _ => {
                tracing::debug!("{what} can't be mounted: {}", answer.status());
                self.upload(repository, digest, content).await
            }
        }
    }

    async fn upload(
        &self,
        repository: &str,
        digest: &Digest,
        content: &dyn Publishable,
    ) -> Result<(), StoreError> {
        let what = self.told(repository, digest);
        let call = self.upload_call(repository, &what);
        let answer = self.calls.patiently(&call).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.calls.refused("put", &what, answer).await);
        }
        let begun = begun(&call, &answer)?;
        self.send(repository, begun, digest, content, &what).await
    }

    /// Sends all of a blob in one PUT, and gives it up when it makes no progress.
    async fn send(
        &self,
        repository: &str,
        mut to: Url,
        digest: &Digest,
        content: &dyn Publishable,
        what: &str,
    ) -> Result<(), StoreError> {
        // Nobody closes it.
        let _turn = self.sending.acquire().await.ok();
        to.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let mut call = self.upload_call(repository, what);
        call.method = Method::PUT;
        call.url = to;
        let length = content.length();
        call.headers.insert(CONTENT_LENGTH, length.into());
        let octets = HeaderValue::from_static("application/octet-stream");
        call.headers.insert(CONTENT_TYPE, octets);
        self.calls.quiet().await;
        let sending = self.traffic.begin();
        let answered = tokio::select! {
            answered = self.calls.let_in(&call, || Some(sending.body(content))) => answered,
            stall = sending.stalled(self.stall_timeout, self.answer_timeout) => {
                Err(self.told_stall(what, content.length(), stall))
            }
        };
        let answer = match answered {
            Ok(answer) if answer.status() == StatusCode::CREATED => {
                sending.arrived();
                answer
            }
            Ok(answer) => return Err(self.calls.refused("put", what, answer).await),
            Err(error) => {
                return Err(match sending.take_failure() {
                    Some(failure) => spool_failed(what, failure),
                    None => error,
                });
            }
        };
        check_told(&answer, digest, what)
    }

    fn told_stall(&self, what: &str, length: u64, stall: Stall) -> StoreError {
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
        StoreError::new(
            StoreErrorKind::Transient,
            format!("can't put {what}: {why}"),
        )
    }
}

impl RegistryStore {
    fn blob_call<'a>(
        &self,
        method: Method,
        action: &'a str,
        repository: &str,
        digest: &Digest,
        what: &'a str,
    ) -> Call<'a> {
        let name = self.address.repository(repository);
        Call {
            method,
            url: self.calls.url(&format!("{name}/blobs/{digest}")),
            scope: format!("repository:{name}:pull,push"),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            action,
            what,
            writes_to: None,
        }
    }

    /// That a blob of another repository is wanted here too.
    fn mount_call<'a>(
        &self,
        from: &str,
        repository: &str,
        digest: &Digest,
        what: &'a str,
    ) -> Call<'a> {
        let source = self.address.repository(from);
        let mut call = self.upload_call(repository, what);
        call.url
            .query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", &source);
        call.scope = format!("{} repository:{source}:pull", call.scope);
        call
    }

    /// That an upload begins.
    fn upload_call<'a>(&self, repository: &str, what: &'a str) -> Call<'a> {
        let name = self.address.repository(repository);
        Call {
            method: Method::POST,
            url: self.calls.url(&format!("{name}/blobs/uploads/")),
            scope: format!("repository:{name}:pull,push"),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            action: "put",
            what,
            writes_to: Some(name),
        }
    }
}

/// Where an upload that is begun goes on.
fn begun(call: &Call<'_>, answer: &Response) -> Result<Url, StoreError> {
    location(&call.url, answer.headers()).ok_or_else(|| {
        let told = format!(
            "can't put {}: the registry does not say where to, or sends from https to http",
            call.what
        );
        StoreError::new(StoreErrorKind::Permanent, told)
    })
}

/// Refuses an answer that names another digest.
fn check_told(answer: &Response, digest: &Digest, what: &str) -> Result<(), StoreError> {
    match told_digest(answer.headers()) {
        Some(told) if told != *digest => {
            let why = format!("can't put {what}: the registry says that it has {told}");
            Err(StoreError::new(StoreErrorKind::EtagMismatch, why))
        }
        _ => Ok(()),
    }
}

/// The digest that an answer tells; None where it tells none that holds.
pub(super) fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DIGEST_HEADER)?.to_str().ok()?.parse().ok()
}

fn spool_failed(what: &str, failure: io::Error) -> StoreError {
    let told = format!("can't put {what}: the spool can't be read");
    StoreError::new(StoreErrorKind::Spool, told).caused_by(failure)
}
