//! Answers for multipart uploads.

use std::collections::BTreeMap;
use std::time::SystemTime;

use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::objects::checked_metadata;
use super::{Answer, Operations, answered_etag, before_commit, encryption, exchange, wants_kms};
use crate::loopback::s3::Storage;
use crate::loopback::s3::bucket::{Attributes, Bucket, Object};
use crate::loopback::s3::content::{Content, Sink};
use crate::loopback::s3::multipart::{PART_NUMBER_MAX, Part, Upload, etag};
use crate::loopback::s3::receive::{Promise, check_whole, receive};

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

/// The upload of this name, for this key.
fn upload(bucket: &Bucket, id: &str, key: &str) -> S3Result<Upload> {
    bucket
        .with_uploads(|uploads| uploads.get(id).filter(|upload| upload.key == key).cloned())
        .ok_or_else(no_such_upload)
}

impl Operations {
    pub(super) fn answer_create_multipart_upload(
        &self,
        request: S3Request<dto::CreateMultipartUploadInput>,
    ) -> Answer<dto::CreateMultipartUploadOutput> {
        let create = request.input;
        let bucket = self.bucket(&create.bucket)?;
        let attributes = Attributes {
            content_type: create.content_type,
            cache_control: create.cache_control,
            content_disposition: create.content_disposition,
            content_encoding: create.content_encoding,
            metadata: checked_metadata(create.metadata)?,
            public: self.opens_to_all(&bucket, create.acl.as_ref())?,
            kms: wants_kms(&bucket, create.server_side_encryption.as_ref()),
        };
        let (server_side_encryption, ssekms_key_id) = encryption(&attributes);
        let id = bucket.next_upload_id();
        let upload = Upload {
            key: create.key.clone(),
            attributes,
            parts: BTreeMap::new(),
            begun: SystemTime::now(),
        };
        bucket.with_uploads(|uploads| uploads.insert(id.clone(), upload));
        Ok(S3Response::new(dto::CreateMultipartUploadOutput {
            bucket: Some(create.bucket),
            key: Some(create.key),
            upload_id: Some(id),
            server_side_encryption,
            ssekms_key_id,
            checksum_algorithm: create.checksum_algorithm,
            checksum_type: create.checksum_type,
            ..dto::CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn answer_upload_part(
        &self,
        request: S3Request<dto::UploadPartInput>,
    ) -> Answer<dto::UploadPartOutput> {
        let exchange = exchange(&request)?;
        let promise = Promise::new(
            request.input.content_md5.clone(),
            &request.headers,
            request.trailing_headers.clone(),
        )?;
        let put = request.input;
        if !(1..=PART_NUMBER_MAX).contains(&put.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"
            ));
        }
        let bucket = self.bucket(&put.bucket)?;
        upload(&bucket, &put.upload_id, &put.key)?;
        let sink = Sink::open_for_part(&self.0.options.storage).map_err(S3Error::internal_error)?;
        let received = receive(put.body, promise, sink).await?;
        before_commit(&exchange)?;
        let part = Part {
            content: received.content,
            md5: received.md5,
            modified: SystemTime::now(),
        };
        let etag = hex::encode(part.md5);
        // It may have been aborted while the part arrived.
        bucket.with_uploads(|uploads| {
            let upload = uploads.get_mut(&put.upload_id).ok_or_else(no_such_upload)?;
            upload.parts.insert(put.part_number, part);
            Ok::<_, S3Error>(())
        })?;
        Ok(S3Response::new(dto::UploadPartOutput {
            e_tag: Some(answered_etag(&exchange, &etag)),
            checksum_crc32: received.checksum.checksum_crc32,
            checksum_crc32c: received.checksum.checksum_crc32c,
            checksum_crc64nvme: received.checksum.checksum_crc64nvme,
            checksum_sha1: received.checksum.checksum_sha1,
            checksum_sha256: received.checksum.checksum_sha256,
            ..dto::UploadPartOutput::default()
        }))
    }

    pub(super) async fn answer_complete_multipart_upload(
        &self,
        request: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> Answer<dto::CompleteMultipartUploadOutput> {
        let exchange = exchange(&request)?;
        let complete = request.input;
        let bucket = self.bucket(&complete.bucket)?;
        let conditions = bucket.conditions(
            &complete.key,
            self.condition(complete.if_match),
            self.condition(complete.if_none_match),
        )?;
        let upload = upload(&bucket, &complete.upload_id, &complete.key)?;
        let list = complete.multipart_upload.and_then(|list| list.parts);
        let parts = upload.listed(&list.unwrap_or_default(), self.0.options.part_bytes_min)?;
        let etag = etag(parts.iter().map(|part| part.md5.as_slice()));
        let content = Content::join(parts.iter().map(|part| &part.content));
        if complete
            .mpu_object_size
            .is_some_and(|n| u64::try_from(n) != Ok(content.length()))
        {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed"
            ));
        }
        let given = dto::Checksum {
            checksum_crc32: complete.checksum_crc32,
            checksum_crc32c: complete.checksum_crc32c,
            checksum_crc64nvme: complete.checksum_crc64nvme,
            checksum_sha1: complete.checksum_sha1,
            checksum_sha256: complete.checksum_sha256,
            checksum_type: complete.checksum_type,
        };
        let (content, checksum) = self.assembled(content, given).await?;
        before_commit(&exchange)?;
        let mut object = Object::with_etag(content, etag.clone(), upload.attributes.clone());
        object.checksum = checksum.clone();
        bucket.commit(&complete.key, object, &conditions)?;
        bucket.with_uploads(|uploads| uploads.remove(&complete.upload_id));
        let (server_side_encryption, ssekms_key_id) = encryption(&upload.attributes);
        Ok(S3Response::new(dto::CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", complete.bucket, complete.key)),
            bucket: Some(complete.bucket),
            key: Some(complete.key),
            e_tag: Some(answered_etag(&exchange, &etag)),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            server_side_encryption,
            ssekms_key_id,
            ..dto::CompleteMultipartUploadOutput::default()
        }))
    }

    /// Checks the whole, and forgets its bytes where none are kept.
    async fn assembled(
        &self,
        content: Content,
        given: dto::Checksum,
    ) -> S3Result<(Content, dto::Checksum)> {
        let forget = self.0.options.storage == Storage::Nowhere;
        let checked = tokio::task::spawn_blocking(move || {
            let checksum = check_whole(&content, given)?;
            if !forget {
                return Ok((content, checksum));
            }
            let forgotten = content.forgotten().map_err(S3Error::internal_error)?;
            Ok((forgotten, checksum))
        });
        checked.await.map_err(S3Error::internal_error)?
    }

    pub(super) fn answer_abort_multipart_upload(
        &self,
        request: S3Request<dto::AbortMultipartUploadInput>,
    ) -> Answer<dto::AbortMultipartUploadOutput> {
        let exchange = exchange(&request)?;
        let abort = request.input;
        let bucket = self.bucket(&abort.bucket)?;
        upload(&bucket, &abort.upload_id, &abort.key)?;
        before_commit(&exchange)?;
        bucket.with_uploads(|uploads| uploads.remove(&abort.upload_id));
        Ok(S3Response::with_status(
            dto::AbortMultipartUploadOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }

    pub(super) fn answer_list_multipart_uploads(
        &self,
        request: S3Request<dto::ListMultipartUploadsInput>,
    ) -> Answer<dto::ListMultipartUploadsOutput> {
        let list = request.input;
        let bucket = self.bucket(&list.bucket)?;
        let prefix = list.prefix.clone().unwrap_or_default();
        let marker = (
            list.key_marker.clone().unwrap_or_default(),
            list.upload_id_marker.clone(),
        );
        let mut found: Vec<_> = bucket.with_uploads(|uploads| {
            let ours = uploads
                .iter()
                .filter(|(_, upload)| upload.key.starts_with(&prefix));
            ours.map(|(id, upload)| (upload.key.clone(), id.clone(), upload.begun))
                .collect()
        });
        found.sort();
        found.retain(|(key, id, _)| match &marker.1 {
            Some(id_marker) => (key, id) > (&marker.0, id_marker),
            None => *key > marker.0 || list.key_marker.is_none(),
        });
        let most = page_size(list.max_uploads)?;
        let truncated = found.len() > most;
        found.truncate(most);
        let final_entry = found.last().filter(|_| truncated).cloned();
        let uploads = found
            .into_iter()
            .map(|(key, id, begun)| dto::MultipartUpload {
                key: Some(key),
                upload_id: Some(id),
                initiated: Some(begun.into()),
                ..dto::MultipartUpload::default()
            });
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            bucket: Some(list.bucket),
            prefix: list.prefix,
            key_marker: list.key_marker,
            upload_id_marker: list.upload_id_marker,
            uploads: Some(uploads.collect()),
            is_truncated: Some(truncated),
            next_key_marker: final_entry.as_ref().map(|(key, _, _)| key.clone()),
            next_upload_id_marker: final_entry.map(|(_, id, _)| id),
            max_uploads: i32::try_from(most).ok(),
            ..dto::ListMultipartUploadsOutput::default()
        }))
    }

    pub(super) fn answer_list_parts(
        &self,
        request: S3Request<dto::ListPartsInput>,
    ) -> Answer<dto::ListPartsOutput> {
        let list = request.input;
        let bucket = self.bucket(&list.bucket)?;
        let upload = upload(&bucket, &list.upload_id, &list.key)?;
        let most = page_size(list.max_parts)?;
        let after = list.part_number_marker.unwrap_or(0);
        let mut parts: Vec<_> = upload.parts.range(after.saturating_add(1)..).collect();
        let truncated = parts.len() > most;
        parts.truncate(most);
        let final_number = parts.last().map(|(number, _)| **number);
        let shown = parts.into_iter().map(|(number, part)| dto::Part {
            part_number: Some(*number),
            e_tag: Some(dto::ETag::Strong(hex::encode(part.md5))),
            size: i64::try_from(part.content.length()).ok(),
            last_modified: Some(part.modified.into()),
            ..dto::Part::default()
        });
        Ok(S3Response::new(dto::ListPartsOutput {
            bucket: Some(list.bucket),
            key: Some(list.key),
            upload_id: Some(list.upload_id),
            parts: Some(shown.collect()),
            part_number_marker: Some(after),
            next_part_number_marker: final_number.filter(|_| truncated),
            is_truncated: Some(truncated),
            max_parts: i32::try_from(most).ok(),
            ..dto::ListPartsOutput::default()
        }))
    }
}

/// Entries in one page of uploads or parts: at most 1,000.
fn page_size(asked: Option<i32>) -> S3Result<usize> {
    usize::try_from(asked.unwrap_or(1000))
        .map(|asked| asked.min(1000))
        .map_err(|_| s3_error!(InvalidArgument, "a page can't have a negative size"))
}
