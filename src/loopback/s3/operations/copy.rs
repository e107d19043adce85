//! Answers `CopyObject`: what comes out is single-part, whatever went in.

use std::sync::Arc;

use http::HeaderMap;
use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::objects::checked_metadata;
use super::{Answer, Operations, answered_etag, before_commit, encryption, exchange, wants_kms};
use crate::loopback::s3::bucket::{Attributes, Object, names, precondition_failed};

/// The largest object that one copy request takes.
const COPY_BYTES_MAX: u64 = 5 << 30;

impl Operations {
    pub(super) async fn answer_copy_object(
        &self,
        request: S3Request<dto::CopyObjectInput>,
    ) -> Answer<dto::CopyObjectOutput> {
        let exchange = exchange(&request)?;
        // The wire crate has no fields for these two, which CopyObject has taken since 2025.
        let if_match = condition_header(&request.headers, "if-match")?;
        let if_none_match = condition_header(&request.headers, "if-none-match")?;
        let copy = request.input;
        let bucket = self.bucket(&copy.bucket)?;
        let source = self.copy_source(&copy)?;
        let attributes = self.copied_attributes(&copy, &source)?;
        let conditions = bucket.conditions(
            &copy.key,
            self.condition(if_match),
            self.condition(if_none_match),
        )?;
        let object = self.copied(source, attributes).await?;
        before_commit(&exchange)?;
        let (server_side_encryption, ssekms_key_id) = encryption(&object.attributes);
        let result = dto::CopyObjectResult {
            e_tag: Some(answered_etag(&exchange, &object.etag)),
            last_modified: Some(object.modified.into()),
            ..dto::CopyObjectResult::default()
        };
        bucket.commit(&copy.key, object, &conditions)?;
        Ok(S3Response::new(dto::CopyObjectOutput {
            copy_object_result: Some(result),
            server_side_encryption,
            ssekms_key_id,
            ..dto::CopyObjectOutput::default()
        }))
    }

    fn copy_source(&self, copy: &dto::CopyObjectInput) -> S3Result<Arc<Object>> {
        let dto::CopySource::Bucket { bucket, key, .. } = &copy.copy_source else {
            return Err(s3_error!(
                NotImplemented,
                "There are no access points here."
            ));
        };
        let source = self.readable(bucket, key)?;
        if source.content.length() > COPY_BYTES_MAX {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {COPY_BYTES_MAX}"
            ));
        }
        let if_match = self.condition(copy.copy_source_if_match.clone());
        let if_none_match = self.condition(copy.copy_source_if_none_match.clone());
        if if_match.is_some_and(|wanted| !names(&wanted, &source.etag)) {
            return Err(precondition_failed("x-amz-copy-source-If-Match"));
        }
        if if_none_match.is_some_and(|known| names(&known, &source.etag)) {
            return Err(precondition_failed("x-amz-copy-source-If-None-Match"));
        }
        let onto_itself = **bucket == *copy.bucket && **key == *copy.key;
        if onto_itself && !replaces(copy) && copy.server_side_encryption.is_none() {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        Ok(source)
    }

    /// Metadata comes from the source or the request; the ACL never from the source.
    fn copied_attributes(
        &self,
        copy: &dto::CopyObjectInput,
        source: &Object,
    ) -> S3Result<Attributes> {
        let bucket = self.bucket(&copy.bucket)?;
        let public = self.opens_to_all(&bucket, copy.acl.as_ref())?;
        let kms = wants_kms(&bucket, copy.server_side_encryption.as_ref());
        if !replaces(copy) {
            return Ok(Attributes {
                public,
                kms,
                ..source.attributes.clone()
            });
        }
        Ok(Attributes {
            content_type: copy.content_type.clone(),
            cache_control: copy.cache_control.clone(),
            content_disposition: copy.content_disposition.clone(),
            content_encoding: copy.content_encoding.clone(),
            metadata: checked_metadata(copy.metadata.clone())?,
            public,
            kms,
        })
    }

    async fn copied(&self, source: Arc<Object>, attributes: Attributes) -> S3Result<Object> {
        let content = source.content.clone();
        if source.is_multipart() && self.0.options.imitation.copy_keeps_multipart_etag {
            return Ok(Object::with_etag(content, source.etag.clone(), attributes));
        }
        let hashed = tokio::task::spawn_blocking(move || (content.md5(), content)).await;
        let (md5, content) = hashed.map_err(S3Error::internal_error)?;
        let md5 = md5.map_err(S3Error::internal_error)?;
        let mut object = Object::single_part(content, md5, attributes);
        object.checksum = source.checksum.clone();
        Ok(object)
    }
}

fn replaces(copy: &dto::CopyObjectInput) -> bool {
    copy.metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == dto::MetadataDirective::REPLACE)
}

fn condition_header(headers: &HeaderMap, name: &str) -> S3Result<Option<dto::ETagCondition>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match dto::ETagCondition::parse_http_header(value.as_bytes()) {
        Ok(condition) => Ok(Some(condition)),
        Err(error) => Err(s3_error!(error, InvalidArgument, "{name} is no ETag")),
    }
}
