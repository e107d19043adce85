//! Stages objects in a bucket: a multipart upload to a key of its own, and one copy within the bucket.
//!
//! AWS gives such a copy an `ETag` that is its MD5; Ceph's gateway, SeaweedFS and others keep the `…-N` of the upload. So where the
//! server is not AWS, the first file that is to be staged waits for a probe: two parts of a byte each, completed and copied. It
//! tells two things that nobody publishes, whether the copy is single-part and whether parts may be small.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::date_time::DateTime;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::{self, Either, try_join_all};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::body::Body;
use super::conditions::{Conditions, Guard};
use super::errors::Refusal;
use super::listing::{encoded, length};
use super::put::{Failed, Got, signed};
use super::traffic::FAST_ENOUGH;
use super::turns::Turn;
use super::{COPY_TIMEOUT, S3Store, content_type, is_absent};
use crate::asset::Key;
use crate::events::told;
use crate::store::staging::{FOLDER, Part, Staged, Staging, Upload};
use crate::store::{Attributes, Condition, ETag, StoreError, StoreErrorKind};
use crate::verify::Verified;

/// The least length of every part but the last on AWS (S3 user guide, "Amazon S3 multipart upload limits").
const PART_MIN_BYTES: u64 = 5 << 20;

/// Where servers take smaller parts: enough that the round trip between two is noise on a slow connection.
const SMALL_PART_BYTES: u64 = 1 << 20;

/// A part this large is one request for a quarter of a minute on 32 Mbit/s; larger ones only make losing one dear.
const PART_MAX_BYTES: u64 = 64 << 20;

/// What staging costs besides its parts: the requests that begin, complete, copy and remove, over a long way.
const OVERHEAD: Duration = Duration::from_secs(2);

/// What nobody came back for after this long belongs to no run that lives.
const ABANDONED_AFTER: Duration = Duration::from_hours(7 * 24);

/// How objects get to a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// One PUT each.
    SinglePart,
    /// In parts out of sight, then a copy within the bucket.
    Staged,
    /// Large ones staged where one connection carries little.
    #[default]
    Auto,
}

/// What is known about staging at one bucket.
#[derive(Debug)]
pub(super) struct Stage {
    way: Way,
    connections: u64,
    conditions: Conditions,
    /// The least length of a part.
    part_min: OnceCell<u64>,
    impossible: AtomicBool,
    complaint: Mutex<Option<String>>,
    /// In the keys of all that this process stages, and of nothing else.
    mark: String,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(super) fn new(way: Way, connections: usize) -> Self {
        Self {
            way,
            connections: connections.max(1) as u64,
            conditions: Conditions::default(),
            part_min: OnceCell::new(),
            impossible: AtomicBool::new(false),
            complaint: Mutex::default(),
            mark: format!("{:016x}", RandomState::new().build_hasher().finish()),
        }
    }

    fn give_up(&self, place: &str, why: &str) {
        if self.impossible.swap(true, Ordering::Relaxed) {
            return;
        }
        let what =
            format!("nothing can be staged at {place}, so files go there in one PUT each: {why}");
        *locked(&self.complaint) = Some(what);
    }

    /// Whether this process has staged it, and nobody who died.
    fn is_own(&self, key: &str) -> bool {
        key.contains(&self.mark)
    }

    /// How large parts of an object are, so that every connection has work.
    fn part_bytes(&self, length: u64, part_min: u64) -> u64 {
        let parts = 4 * self.connections;
        length.div_ceil(parts).clamp(part_min, PART_MAX_BYTES)
    }

    /// Whether parts of a length make a difference, as far as one connection's goodput is known, in bytes a second.
    fn pays(&self, length: u64, part_min: u64, goodput: Option<f64>) -> bool {
        let part = self.part_bytes(length, part_min);
        if length < part + part / 2 {
            return false;
        }
        match (self.way, goodput) {
            (Way::Staged, _) => true,
            (Way::Auto, Some(goodput)) if goodput < FAST_ENOUGH => {
                let staged = part as f64 / goodput + OVERHEAD.as_secs_f64();
                length as f64 / goodput > 2.0 * staged
            }
            (Way::Auto | Way::SinglePart, _) => false,
        }
    }
}

impl S3Store {
    fn staging_folder(&self, run: &str) -> String {
        format!("{}{FOLDER}{run}/", self.prefix)
    }

    fn staged_key(&self, run: &str, name: &str) -> String {
        format!("{}{name}-{}", self.staging_folder(run), self.stage.mark)
    }

    fn staged_address(&self, upload: &Upload) -> String {
        format!("s3://{}/{}", self.bucket, upload.key)
    }

    /// The least length of a part here, found out once; None where nothing can be staged.
    async fn part_min(&self, run: &str) -> Option<u64> {
        if self.stage.impossible.load(Ordering::Relaxed) {
            return None;
        }
        let found = self.stage.part_min.get_or_try_init(|| async {
            if self.site.endpoint.is_none() {
                return Ok(PART_MIN_BYTES);
            }
            self.probe(run).await
        });
        match found.await {
            Ok(part_min) => Some(*part_min),
            Err(error) => {
                self.stage.give_up(&self.place, &told(&error));
                None
            }
        }
    }

    /// Tries staging out on a few bytes.
    async fn probe(&self, run: &str) -> Result<u64, StoreError> {
        let mut upload = self.create(self.staged_key(run, "probe"), 2).await?;
        let two = self.probe_parts(&upload, &["a", "b"]).await;
        let probed = if let Ok(etag) = two {
            Ok((etag, SMALL_PART_BYTES))
        } else {
            // Too small, say those that are as strict as AWS. One part is its own last one, in another upload: Ceph's gateway
            // completes none of which it has more parts than it is told.
            self.abandon(&upload).await;
            upload = self.create(upload.key, 1).await?;
            let one = self.probe_parts(&upload, &["a"]).await;
            one.map(|etag| (etag, PART_MIN_BYTES))
        };
        let copy = format!("{}-copy", upload.key);
        let probed = match probed {
            Ok((staged, part_min)) => {
                let copied = self.probe_copy(&upload, &copy, &staged).await;
                copied.map(|()| part_min)
            }
            Err(error) => Err(error),
        };
        tokio::join!(self.abandon(&upload), self.remove_key(&copy));
        probed
    }

    async fn probe_parts(
        &self,
        upload: &Upload,
        parts: &[&'static str],
    ) -> Result<ETag, StoreError> {
        let puts = (1..).zip(parts).map(|(number, part)| {
            self.requests
                .upload_part()
                .bucket(&self.bucket)
                .key(&upload.key)
                .upload_id(&upload.id)
                .part_number(number)
                .body(ByteStream::from_static(part.as_bytes()))
                .send()
        });
        let puts = try_join_all(puts)
            .await
            .map_err(|error| self.cannot_stage(upload, &error))?;
        let etag = |put: &UploadPartOutput| ETag::new(put.e_tag().unwrap_or_default());
        let etags: Vec<ETag> = puts.iter().map(etag).collect();
        let upload = Upload {
            length: parts.len() as u64,
            ..upload.clone()
        };
        self.assemble(&self.requests, &upload, &etags).await
    }

    async fn probe_copy(
        &self,
        upload: &Upload,
        copy: &str,
        staged: &ETag,
    ) -> Result<(), StoreError> {
        let copied = self
            .requests
            .copy_object()
            .bucket(&self.bucket)
            .key(copy)
            .copy_source(format!("{}/{}", self.bucket, encoded(&upload.key)))
            .send()
            .await
            .map_err(|error| self.cannot_stage(upload, &error))?;
        let answered = copied
            .copy_object_result()
            .and_then(|copied| copied.e_tag());
        let etag = match answered {
            Some(etag) if !etag.is_empty() => Some(ETag::new(etag)),
            _ => self.look_at(copy).await?.map(|(etag, _)| etag),
        };
        match etag {
            Some(etag) if etag.md5().is_some() && etag != *staged => Ok(()),
            _ => Err(multipart(&self.place)),
        }
    }

    async fn send_part(
        &self,
        upload: &Upload,
        part: &Part,
        turn: Option<Turn>,
    ) -> Result<ETag, StoreError> {
        let (body, progress) = Body::new(part.length(), part.chunks());
        let (of_body, of_answer) = self.traffic.until_body_or_answer(turn);
        let body = body.with_turn(of_body);
        let request = self
            .transfers
            .upload_part()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .part_number(part.number)
            .content_length(signed(part.length()))
            .content_md5(BASE64_STANDARD.encode(part.md5))
            .body(ByteStream::from_body_1_x(body));
        let sending = self.traffic.begin(progress, of_answer);
        let address = format!("part {} of {}", part.number, self.staged_address(upload));
        let put = self.watched(&address, sending, request.send()).await;
        let put = put.map_err(Failed::into_error)?;
        let (etag, expected) = (
            ETag::new(put.e_tag().unwrap_or_default()),
            ETag::new(&hex::encode(part.md5)),
        );
        if etag == expected {
            return Ok(etag);
        }
        let what = format!("the server gave {address} the ETag {etag} where its MD5 is {expected}");
        Err(StoreError::new(StoreErrorKind::EtagMismatch, what))
    }

    async fn create(&self, key: String, length: u64) -> Result<Upload, StoreError> {
        let mut upload = Upload {
            key,
            id: String::new(),
            length,
        };
        let created = self
            .requests
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&upload.key)
            .send()
            .await
            .map_err(|error| self.cannot_stage(&upload, &error))?;
        created
            .upload_id()
            .unwrap_or_default()
            .clone_into(&mut upload.id);
        Ok(upload)
    }

    fn cannot_stage<E>(&self, upload: &Upload, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.site
            .explain("stage", &self.staged_address(upload), error)
    }

    async fn assemble(
        &self,
        client: &Client,
        upload: &Upload,
        parts: &[ETag],
    ) -> Result<ETag, StoreError> {
        let parts = (1..).zip(parts).map(|(number, etag)| {
            CompletedPart::builder()
                .part_number(number)
                .e_tag(format!("\"{etag}\""))
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect()));
        let completing = client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .multipart_upload(parts.build())
            .send();
        let failed = match timeout(COPY_TIMEOUT, completing).await {
            Ok(Ok(done)) => match done.e_tag() {
                Some(etag) if !etag.is_empty() => return Ok(ETag::new(etag)),
                _ => self.no_answer(upload),
            },
            Ok(Err(error)) => self.cannot_stage(upload, &error),
            Err(_) => self.no_answer(upload),
        };
        // An answer may be lost, or in words of the server's own: what counts is whether the object is there.
        match self.look_at(&upload.key).await? {
            Some((etag, length)) if length == upload.length => Ok(etag),
            _ => Err(failed),
        }
    }

    fn no_answer(&self, upload: &Upload) -> StoreError {
        let what = format!("can't stage {}: no answer", self.staged_address(upload));
        StoreError::new(StoreErrorKind::Transient, what)
    }

    async fn copy_to(
        &self,
        upload: &Upload,
        staged: &ETag,
        key: &Key,
        attributes: &Attributes,
        guard: &Guard,
    ) -> Result<CopyObjectOutput, Failed> {
        let address = self.address(key);
        let copying = self
            .transfers
            .copy_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .copy_source(format!("{}/{}", self.bucket, encoded(&upload.key)))
            .copy_source_if_match(format!("\"{staged}\""))
            .metadata_directive(MetadataDirective::Replace)
            .set_content_type(content_type(attributes))
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .set_acl(self.acl.clone())
            .set_if_none_match(guard.if_none_match().map(ToOwned::to_owned))
            .set_if_match(guard.if_match())
            .send();
        match timeout(COPY_TIMEOUT, copying).await {
            Ok(Ok(copied)) => Ok(copied),
            Ok(Err(error)) => {
                let told = self.site.explain("put", &address, &error);
                Err(Failed::of(&error, told))
            }
            Err(_) => {
                let what = format!("can't put {address}: no answer within 15 minutes");
                Err(StoreError::new(StoreErrorKind::Transient, what).into())
            }
        }
    }

    /// The `ETag` and length of an object that is no part of the mirror.
    async fn look_at(&self, key: &str) -> Result<Option<(ETag, u64)>, StoreError> {
        let looked = self.requests.head_object().bucket(&self.bucket).key(key);
        match looked.send().await {
            Ok(there) => Ok(Some((
                ETag::new(there.e_tag().unwrap_or_default()),
                length(there.content_length()),
            ))),
            Err(error) if is_absent(Refusal::of(&error)) => Ok(None),
            Err(error) => {
                let address = format!("s3://{}/{key}", self.bucket);
                Err(self.site.explain("look at", &address, &error))
            }
        }
    }

    /// Removes what is no part of the mirror; what stays is only room.
    async fn remove_key(&self, key: &str) {
        let removed = self.requests.delete_object().bucket(&self.bucket).key(key);
        if let Err(error) = removed.send().await {
            tracing::debug!("{key} stays: {}", told(&error));
        }
    }

    async fn abort(&self, key: &str, id: &str) {
        let aborting = self
            .requests
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(id);
        // Gone already where it was completed.
        if let Err(error) = aborting.send().await {
            tracing::debug!("the upload to {key} stays: {}", told(&error));
        }
    }

    /// Unfinished uploads below the staging folder: key, id, when they were begun.
    async fn unfinished(&self) -> Vec<(String, String, Option<DateTime>)> {
        let folder = format!("{}{FOLDER}", self.prefix);
        let mut found = Vec::new();
        let mut from: (Option<String>, Option<String>) = (None, None);
        loop {
            let page = self
                .requests
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&folder)
                .set_key_marker(from.0)
                .set_upload_id_marker(from.1)
                .send()
                .await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!("unfinished uploads can't be listed: {}", told(&error));
                    return found;
                }
            };
            found.extend(page.uploads().iter().filter_map(|upload| {
                let key = upload.key().filter(|key| key.starts_with(&folder))?;
                let id = upload.upload_id()?;
                Some((key.to_owned(), id.to_owned(), upload.initiated().copied()))
            }));
            from = (
                page.next_key_marker().map(ToOwned::to_owned),
                page.next_upload_id_marker().map(ToOwned::to_owned),
            );
            if page.is_truncated() != Some(true) || from.0.is_none() {
                return found;
            }
        }
    }

    /// Objects below the staging folder: key, when they were made.
    async fn left_over(&self) -> Vec<(String, Option<DateTime>)> {
        let mut pages = self
            .requests
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{FOLDER}", self.prefix))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(Ok(page)) = pages.next().await {
            found.extend(page.contents().iter().filter_map(|object| {
                Some((object.key()?.to_owned(), object.last_modified().copied()))
            }));
        }
        found
    }
}

fn multipart(place: &str) -> StoreError {
    let what =
        format!("a copy of a multipart object within {place} keeps an ETag that is not its MD5");
    StoreError::new(StoreErrorKind::Multipart, what)
}

fn is_old(since: Option<DateTime>) -> bool {
    let since = since.and_then(|since| SystemTime::try_from(since).ok());
    since.is_some_and(|since| {
        SystemTime::now()
            .duration_since(since)
            .is_ok_and(|age| age > ABANDONED_AFTER)
    })
}

#[async_trait]
impl Staging for S3Store {
    async fn parts_for(&self, staged: &Staged) -> Option<u64> {
        let goodput = self.traffic.goodput();
        // A probe only for what may come of it.
        if !self.stage.pays(staged.length, SMALL_PART_BYTES, goodput) {
            return None;
        }
        let part_min = self.part_min(&staged.run).await?;
        self.stage
            .pays(staged.length, part_min, goodput)
            .then(|| self.stage.part_bytes(staged.length, part_min))
    }

    fn complaint(&self) -> Option<String> {
        locked(&self.stage.complaint).take()
    }

    async fn begin(&self, staged: &Staged) -> Result<Upload, StoreError> {
        let key = self.staged_key(&staged.run, &staged.digest.hex());
        self.create(key, staged.length).await
    }

    async fn put_part(&self, upload: &Upload, part: &Part) -> Result<ETag, StoreError> {
        let turn = self.traffic.turn_of_part(part.length()).await;
        let mut first = pin!(self.send_part(upload, part, turn));
        tokio::select! {
            sent = first.as_mut() => return sent,
            () = self.traffic.is_late(part.length()) => {}
        }
        // Which of the two comes to be the part is the same: they have the same bytes.
        tracing::debug!("another connection is sent after part {}", part.number);
        let turn = self.traffic.turn_of_part(part.length()).await;
        let second = pin!(self.send_part(upload, part, turn));
        match future::select(first, second).await {
            Either::Left((Ok(etag), _)) | Either::Right((Ok(etag), _)) => Ok(etag),
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }

    async fn complete(&self, upload: &Upload, parts: &[ETag]) -> Result<ETag, StoreError> {
        self.assemble(&self.transfers, upload, parts).await
    }

    async fn publish(
        &self,
        upload: &Upload,
        staged: &ETag,
        key: &Key,
        content: &Verified,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        let mut guard = self.stage.conditions.guard(condition);
        let copied = loop {
            match self.copy_to(upload, staged, key, attributes, &guard).await {
                Ok(copied) => break copied,
                Err(failed) => guard = self.other_guard(key, condition, &guard, failed).await?,
            }
        };
        self.stage.conditions.worked(condition, &guard);
        let got = Got {
            etag: copied.copy_object_result().and_then(|copy| copy.e_tag()),
            length: None,
            encryption: copied.server_side_encryption(),
        };
        let keeps_parts = got.etag.is_some_and(|etag| etag.contains('-'));
        match self.checked(key, content, got).await {
            Err(error) if error.kind == StoreErrorKind::EtagMismatch && keeps_parts => {
                let error = multipart(&self.place);
                self.stage.give_up(&self.place, &told(&error));
                Err(error)
            }
            checked => checked,
        }
    }

    async fn remove(&self, upload: &Upload) {
        self.remove_key(&upload.key).await;
    }

    async fn abandon(&self, upload: &Upload) {
        tokio::join!(
            self.abort(&upload.key, &upload.id),
            self.remove_key(&upload.key)
        );
    }

    async fn clear(&self, run: &str) {
        let folder = self.staging_folder(run);
        let is_dead = |key: &str, since| {
            !self.stage.is_own(key) && (key.starts_with(&folder) || is_old(since))
        };
        let (unfinished, left_over) = tokio::join!(self.unfinished(), self.left_over());
        for (key, id, begun) in unfinished {
            if is_dead(&key, begun) {
                self.abort(&key, &id).await;
            }
        }
        for (key, made) in left_over {
            if is_dead(&key, made) {
                self.remove_key(&key).await;
            }
        }
    }
}
