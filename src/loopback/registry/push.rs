//! Takes blobs and manifests in, and believes nothing: neither digests nor that what a manifest names is there.

use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, Ended, Refusal, empty, told, with};
use super::asked::Asked;
use super::exchange::Exchange;
use super::faults::Trouble;
use super::pull::{digest_of, unknown_name};
use super::shelf::{Shelf, Upload};
use super::{Missing, Mounts, Registry};
use crate::digest::Digest;
use crate::image::Manifest;

/// Manifests above this are refused (distribution-spec, "Pushing manifests").
const MANIFEST_MAX_BYTES: u64 = 4 << 20;

/// A request's body, on its way.
#[derive(Debug)]
pub(super) struct Arriving<'a> {
    pub(super) body: Incoming,
    pub(super) exchange: &'a Exchange,
    pub(super) trouble: Option<&'a Trouble>,
}

impl Arriving<'_> {
    /// The whole body; one that breaks off is no body at all.
    async fn whole(mut self, limit_bytes: u64) -> Result<BytesMut, Refusal> {
        let mut all = BytesMut::new();
        let begun = Instant::now();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| Refusal::HangUp)?;
            let Some(piece) = frame.data_ref() else {
                continue;
            };
            let received = self.exchange.received(piece.len());
            match self.trouble {
                Some(Trouble::Cut { after_bytes }) if received >= *after_bytes => {
                    return Err(Refusal::HangUp);
                }
                Some(Trouble::Slow { bytes_per_second }) => {
                    let due = Duration::from_secs_f64(received as f64 / *bytes_per_second as f64);
                    sleep_until(begun + due).await;
                }
                _ => {}
            }
            if received > limit_bytes {
                return Err(Refusal::new(413, "SIZE_INVALID", "it is too large"));
            }
            all.extend_from_slice(piece);
        }
        Ok(all)
    }
}

impl Registry {
    pub(super) fn start_upload(&self, asked: &Asked) -> Ended {
        self.find_for_push(&asked.repository)?;
        let mut shelf = self.shelf();
        let (id, upload) = shelf.begin(&asked.repository);
        Ok(self.goes_on(empty(202), id, upload))
    }

    pub(super) fn mount(&self, asked: &Asked, head: &Parts) -> Ended {
        self.find_for_push(&asked.repository)?;
        let digest = digest_of(asked.parameter("mount").unwrap_or_default())?;
        let from = asked.parameter("from").unwrap_or_default();
        let mut shelf = self.shelf();
        let there = shelf.repository(from).and_then(|from| {
            let may = match self.options.imitation.mounts {
                Mounts::Done => true,
                Mounts::Never => false,
                Mounts::OfReferenced => from.refers_to(&digest),
            };
            from.blob(&digest).filter(|_| may)
        });
        if let Some(content) = there.filter(|_| self.may_pull(&head.headers, from)) {
            shelf.create(&asked.repository).add_blob(digest, content);
            return Ok(self.is_there(asked, "blobs", &digest));
        }
        let (id, upload) = shelf.begin(&asked.repository);
        Ok(self.goes_on(empty(202), id, upload))
    }

    /// Takes a chunk.
    pub(super) async fn patch(&self, asked: &Asked, head: &Parts, body: Arriving<'_>) -> Ended {
        let id = self.find_upload(asked)?;
        let chunk = body.whole(u64::MAX).await?;
        let mut shelf = self.shelf();
        let upload = shelf.upload(id).ok_or_else(unknown_upload)?;
        self.append(upload, head, &chunk)?;
        let status = match self.options.imitation.patch_answers_created {
            true => 201,
            false => 202,
        };
        Ok(self.goes_on(empty(status), id, upload))
    }

    /// Takes the last chunk, or all, and closes the upload: what came is kept if it has the digest, and gone if it has not.
    pub(super) async fn put_upload(
        &self,
        asked: &Asked,
        head: &Parts,
        body: Arriving<'_>,
    ) -> Ended {
        let id = self.find_upload(asked)?;
        let digest = digest_of(asked.parameter("digest").unwrap_or_default())?;
        let last = body.whole(u64::MAX).await?;
        let mut shelf = self.shelf();
        let upload = shelf.upload(id).ok_or_else(unknown_upload)?;
        if !last.is_empty() {
            self.append(upload, head, &last)?;
        }
        let upload = shelf.end(id).ok_or_else(unknown_upload)?;
        let content = upload.content.freeze();
        drop(shelf);
        if Digest::of(digest.algorithm(), &content) != digest {
            let message = "provided digest did not match uploaded content";
            return Err(Refusal::new(400, "DIGEST_INVALID", message));
        }
        let mut shelf = self.shelf();
        shelf.create(&asked.repository).add_blob(digest, content);
        Ok(self.is_there(asked, "blobs", &digest))
    }

    pub(super) fn upload_status(&self, asked: &Asked) -> Ended {
        let id = self.find_upload(asked)?;
        let mut shelf = self.shelf();
        let upload = shelf.upload(id).ok_or_else(unknown_upload)?;
        Ok(self.goes_on(empty(204), id, upload))
    }

    pub(super) fn cancel_upload(&self, asked: &Asked) -> Ended {
        let id = self.find_upload(asked)?;
        self.shelf().end(id).ok_or_else(unknown_upload)?;
        Ok(empty(204))
    }

    pub(super) async fn put_manifest(
        &self,
        asked: &Asked,
        head: &Parts,
        body: Arriving<'_>,
    ) -> Ended {
        self.find_for_push(&asked.repository)?;
        let content = body.whole(MANIFEST_MAX_BYTES).await?.freeze();
        let media_type = head.headers.get(CONTENT_TYPE);
        let media_type = media_type.and_then(|told| told.to_str().ok());
        let invalid = |why: &str| Refusal::new(400, "MANIFEST_INVALID", why);
        let media_type = media_type.ok_or_else(|| invalid("it has no Content-Type"))?;
        let by_digest = asked.reference.contains(':');
        let wanted = match by_digest {
            true => Some(digest_of(&asked.reference)?),
            false => None,
        };
        let manifest = Manifest::parse(content, Some(media_type), wanted)
            .map_err(|error| invalid(&error.to_string()))?;
        if manifest.media_type != media_type {
            return Err(invalid("its media type is not the one that came with it"));
        }
        let mut shelf = self.shelf();
        check_parts(&mut shelf, &asked.repository, &manifest)?;
        let repository = shelf.create(&asked.repository);
        let digest = manifest.digest;
        if !by_digest {
            let before = repository.tagged(&asked.reference);
            if self.options.imitation.immutable_tags && before.is_some() {
                return Err(immutable(asked));
            }
            repository.tag(&asked.reference, digest);
        }
        repository.add_manifest(digest, media_type, manifest.bytes.clone());
        drop(shelf);
        let answer = self.is_there(asked, "manifests", &digest);
        let document: serde_json::Value =
            serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        match document["subject"]["digest"].as_str() {
            Some(subject) if self.options.referrers => Ok(told(answer, "oci-subject", subject)),
            _ => Ok(answer),
        }
    }

    /// Looks whether a repository is there, or may be made.
    fn find_for_push(&self, name: &str) -> Result<(), Refusal> {
        let mut shelf = self.shelf();
        if shelf.repository(name).is_some() {
            return Ok(());
        }
        match self.options.imitation.missing {
            Missing::Created => {
                shelf.create(name);
                Ok(())
            }
            Missing::Dropped => Err(Refusal::HangUp),
            Missing::Unknown => {
                let message =
                    format!("The repository with name '{name}' does not exist in the registry");
                Err(Refusal::new(404, "NAME_UNKNOWN", &message))
            }
        }
    }

    /// The number of the upload that is meant, if its state is the last one that was told.
    fn find_upload(&self, asked: &Asked) -> Result<u64, Refusal> {
        let id = asked.reference.parse().map_err(|_| unknown_upload())?;
        let mut shelf = self.shelf();
        let upload = shelf.upload(id).ok_or_else(unknown_upload)?;
        if upload.repository != asked.repository {
            return Err(unknown_upload());
        }
        let state = upload.state.to_string();
        if asked.parameter("_state") != Some(&state) {
            let message = "the state is not the one that was told last";
            return Err(Refusal::new(400, "BLOB_UPLOAD_INVALID", message));
        }
        Ok(id)
    }

    fn append(&self, upload: &mut Upload, head: &Parts, chunk: &[u8]) -> Result<(), Refusal> {
        let least = self.options.imitation.chunk_bytes_min;
        if upload.last_chunk.is_some_and(|last| last < least) {
            let message = "Layer parts must be at least 5242880 bytes, but for the last";
            return Err(Refusal::new(400, "BLOB_UPLOAD_INVALID", message));
        }
        let from = upload.content.len();
        if let Some(range) = head.headers.get(CONTENT_RANGE) {
            let expected = format!("{from}-{}", (from + chunk.len()).saturating_sub(1));
            if *range != expected.as_str() {
                return Err(Refusal::new(416, "BLOB_UPLOAD_INVALID", "out of order"));
            }
        }
        upload.content.extend_from_slice(chunk);
        upload.last_chunk = Some(chunk.len() as u64);
        upload.state += 1;
        Ok(())
    }

    /// Tells where an upload goes on.
    fn goes_on(&self, answer: Answer, id: u64, upload: &Upload) -> Answer {
        let path = format!(
            "/v2/{}/blobs/uploads/{id}?_state={}",
            upload.repository, upload.state
        );
        let answer = with(answer, LOCATION, &self.location(&path));
        let last = upload.content.len().saturating_sub(1);
        let answer = with(answer, RANGE, &format!("0-{last}"));
        told(answer, "docker-upload-uuid", &id.to_string())
    }

    fn is_there(&self, asked: &Asked, kind: &str, digest: &Digest) -> Answer {
        let path = format!("/v2/{}/{kind}/{digest}", asked.repository);
        let answer = with(empty(201), LOCATION, &self.location(&path));
        let answer = with(answer, CONTENT_LENGTH, "0");
        if self.options.imitation.tells_no_digest {
            return answer;
        }
        told(answer, "docker-content-digest", &digest.to_string())
    }

    fn location(&self, path: &str) -> String {
        match self.options.imitation.absolute_locations {
            true => format!("http://{}{path}", self.address),
            false => path.to_owned(),
        }
    }
}

/// Refuses a manifest of which something is missing.
fn check_parts(shelf: &mut Shelf, name: &str, manifest: &Manifest) -> Result<(), Refusal> {
    let repository = shelf.repository(name).ok_or_else(unknown_name)?;
    let lacks = |digest: &Digest| {
        let message = format!("blob unknown to registry: {digest}");
        Refusal::new(400, "MANIFEST_BLOB_UNKNOWN", &message)
    };
    for blob in &manifest.blobs {
        repository
            .blob(&blob.digest)
            .ok_or_else(|| lacks(&blob.digest))?;
    }
    for child in &manifest.children {
        let digest = child.digest.to_string();
        repository
            .manifest(&digest)
            .ok_or_else(|| lacks(&child.digest))?;
    }
    Ok(())
}

fn immutable(asked: &Asked) -> Refusal {
    let message = format!(
        "ImageTagAlreadyExistsException: The image tag '{}' already exists in the '{}' repository and cannot be overwritten \
         because the repository is immutable.",
        asked.reference, asked.repository
    );
    Refusal::new(409, "TAG_INVALID", &message)
}

fn unknown_upload() -> Refusal {
    let message = "blob upload unknown to registry";
    Refusal::new(404, "BLOB_UPLOAD_UNKNOWN", message)
}
