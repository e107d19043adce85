//! Answers for single objects: put, get, head and delete.

use std::ops::Range;
use std::sync::Arc;

use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{Answer, Operations, answered_etag, before_commit, encryption, exchange, wants_kms};
use crate::loopback::s3::bucket::{Attributes, Object, names, precondition_failed};
use crate::loopback::s3::content::Sink;
use crate::loopback::s3::receive::{Promise, receive};

/// User metadata as S3 counts it: the bytes of all names and values.
const METADATA_BYTES_MAX: usize = 2048;

impl Operations {
    pub(super) async fn answer_put_object(
        &self,
        request: S3Request<dto::PutObjectInput>,
    ) -> Answer<dto::PutObjectOutput> {
        let exchange = exchange(&request)?;
        let promise = Promise::new(
            request.input.content_md5.clone(),
            &request.headers,
            request.trailing_headers.clone(),
        )?;
        let put = request.input;
        let bucket = self.bucket(&put.bucket)?;
        let attributes = Attributes {
            content_type: put.content_type,
            cache_control: put.cache_control,
            content_disposition: put.content_disposition,
            content_encoding: put.content_encoding,
            metadata: checked_metadata(put.metadata)?,
            public: self.opens_to_all(&bucket, put.acl.as_ref())?,
            kms: wants_kms(&bucket, put.server_side_encryption.as_ref()),
        };
        let conditions = bucket.conditions(
            &put.key,
            self.condition(put.if_match),
            self.condition(put.if_none_match),
        )?;
        let sink = Sink::open(&self.0.options.storage).map_err(S3Error::internal_error)?;
        let received = receive(put.body, promise, sink).await?;
        before_commit(&exchange)?;
        let mut object = Object::single_part(received.content, received.md5, attributes);
        object.checksum = received.checksum.clone();
        let (server_side_encryption, ssekms_key_id) = encryption(&object.attributes);
        let etag = object.etag.clone();
        bucket.commit(&put.key, object, &conditions)?;
        Ok(S3Response::new(dto::PutObjectOutput {
            e_tag: Some(answered_etag(&exchange, &etag)),
            checksum_crc32: received.checksum.checksum_crc32,
            checksum_crc32c: received.checksum.checksum_crc32c,
            checksum_crc64nvme: received.checksum.checksum_crc64nvme,
            checksum_sha1: received.checksum.checksum_sha1,
            checksum_sha256: received.checksum.checksum_sha256,
            server_side_encryption,
            ssekms_key_id,
            ..dto::PutObjectOutput::default()
        }))
    }

    pub(super) fn answer_get_object(
        &self,
        request: S3Request<dto::GetObjectInput>,
    ) -> Answer<dto::GetObjectOutput> {
        let get = request.input;
        let object = self.readable(&get.bucket, &get.key)?;
        check_read(&object, get.if_match.as_ref(), get.if_none_match.as_ref())?;
        let range = part_asked(&object, get.range.as_ref())?;
        let length = range.end - range.start;
        let content_range = get.range.is_some().then(|| content_range(&object, &range));
        let frames = object.content.frames(range).ok_or_else(|| {
            s3_error!(
                NotImplemented,
                "This server keeps digests of contents only."
            )
        })?;
        let checksum = shown(
            &object,
            get.checksum_mode.is_some() && content_range.is_none(),
        );
        let (server_side_encryption, ssekms_key_id) = encryption(&object.attributes);
        let attributes = object.attributes.clone();
        Ok(S3Response::new(dto::GetObjectOutput {
            body: Some(dto::StreamingBlob::wrap(futures::stream::iter(frames))),
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(length).ok(),
            content_range,
            content_type: attributes.content_type,
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            content_encoding: attributes.content_encoding,
            metadata: Some(attributes.metadata),
            e_tag: Some(dto::ETag::Strong(object.etag.clone())),
            last_modified: Some(object.modified.into()),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            server_side_encryption,
            ssekms_key_id,
            ..dto::GetObjectOutput::default()
        }))
    }

    pub(super) fn answer_head_object(
        &self,
        request: S3Request<dto::HeadObjectInput>,
    ) -> Answer<dto::HeadObjectOutput> {
        let head = request.input;
        let object = self.readable(&head.bucket, &head.key)?;
        check_read(&object, head.if_match.as_ref(), head.if_none_match.as_ref())?;
        let range = part_asked(&object, head.range.as_ref())?;
        let checksum = shown(&object, head.checksum_mode.is_some());
        let (server_side_encryption, ssekms_key_id) = encryption(&object.attributes);
        let attributes = object.attributes.clone();
        Ok(S3Response::new(dto::HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(range.end - range.start).ok(),
            content_range: head.range.is_some().then(|| content_range(&object, &range)),
            content_type: attributes.content_type,
            cache_control: attributes.cache_control,
            content_disposition: attributes.content_disposition,
            content_encoding: attributes.content_encoding,
            metadata: Some(attributes.metadata),
            e_tag: Some(dto::ETag::Strong(object.etag.clone())),
            last_modified: Some(object.modified.into()),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            server_side_encryption,
            ssekms_key_id,
            ..dto::HeadObjectOutput::default()
        }))
    }

    pub(super) fn answer_delete_object(
        &self,
        request: S3Request<dto::DeleteObjectInput>,
    ) -> Answer<dto::DeleteObjectOutput> {
        let exchange = exchange(&request)?;
        let delete = request.input;
        let bucket = self.bucket(&delete.bucket)?;
        before_commit(&exchange)?;
        bucket.delete_if(&delete.key, self.condition(delete.if_match).as_ref())?;
        Ok(S3Response::with_status(
            dto::DeleteObjectOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }

    pub(super) fn answer_delete_objects(
        &self,
        request: S3Request<dto::DeleteObjectsInput>,
    ) -> Answer<dto::DeleteObjectsOutput> {
        let exchange = exchange(&request)?;
        let delete = request.input.delete;
        let bucket = self.bucket(&request.input.bucket)?;
        if delete.objects.is_empty() || delete.objects.len() > 1000 {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        before_commit(&exchange)?;
        let quiet = delete.quiet.unwrap_or(false);
        let mut deleted = Vec::new();
        for object in delete.objects {
            bucket.delete(&object.key);
            deleted.push(dto::DeletedObject {
                key: Some(object.key),
                ..dto::DeletedObject::default()
            });
        }
        Ok(S3Response::new(dto::DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..dto::DeleteObjectsOutput::default()
        }))
    }

    pub(super) fn readable(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.bucket(bucket)?
            .get(key)
            .ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }
}

pub(super) fn checked_metadata(metadata: Option<dto::Metadata>) -> S3Result<dto::Metadata> {
    let metadata = metadata.unwrap_or_default();
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(metadata)
}

fn check_read(
    object: &Object,
    if_match: Option<&dto::ETagCondition>,
    if_none_match: Option<&dto::ETagCondition>,
) -> S3Result<()> {
    if if_match.is_some_and(|wanted| !names(wanted, &object.etag)) {
        return Err(precondition_failed("If-Match"));
    }
    if if_none_match.is_some_and(|known| names(known, &object.etag)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

fn part_asked(object: &Object, range: Option<&dto::Range>) -> S3Result<Range<u64>> {
    let length = object.content.length();
    match range {
        Some(range) => Ok(range.check(length)?),
        None => Ok(0..length),
    }
}

fn content_range(object: &Object, range: &Range<u64>) -> String {
    let length = object.content.length();
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

fn shown(object: &Object, asked: bool) -> dto::Checksum {
    if asked {
        object.checksum.clone()
    } else {
        dto::Checksum::default()
    }
}
