//! Answers the S3 operations that a mirror, the AWS CLI and kops use; the others answer 501.

mod buckets;
mod copy;
mod listing;
mod objects;
mod uploads;

use std::sync::Arc;

use async_trait::async_trait;
use s3s::dto;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::bucket::Attributes;
use super::exchange::Exchange;
use super::faults::Trouble;
use super::{Account, Bucket};

/// The S3 service of an account.
#[derive(Debug)]
pub(super) struct Operations(pub(super) Arc<Account>);

impl Operations {
    fn bucket(&self, name: &str) -> S3Result<Bucket> {
        self.0
            .bucket(name)
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// What a write condition comes to here: nothing when the server imitates one that ignores them.
    fn condition(&self, given: Option<dto::ETagCondition>) -> Option<dto::ETagCondition> {
        given.filter(|_| !self.0.options.imitation.ignores_conditions)
    }

    /// Whether an ACL opens the object to all; an error where the bucket takes none.
    fn opens_to_all(&self, bucket: &Bucket, acl: Option<&dto::ObjectCannedACL>) -> S3Result<bool> {
        let Some(acl) = acl.map(dto::ObjectCannedACL::as_str) else {
            return Ok(false);
        };
        if self.0.options.imitation.ignores_acls {
            return Ok(false);
        }
        match acl {
            dto::ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL => Ok(false),
            _ if !bucket.accepts_acls() => Err(s3_error!(
                AccessControlListNotSupported,
                "The bucket does not allow ACLs"
            )),
            dto::ObjectCannedACL::PUBLIC_READ | dto::ObjectCannedACL::PUBLIC_READ_WRITE => Ok(true),
            dto::ObjectCannedACL::PRIVATE
            | dto::ObjectCannedACL::AUTHENTICATED_READ
            | dto::ObjectCannedACL::AWS_EXEC_READ
            | dto::ObjectCannedACL::BUCKET_OWNER_READ => Ok(false),
            unknown => Err(s3_error!(InvalidArgument, "'{unknown}' is no canned ACL")),
        }
    }
}

/// Fails where a request is to fail with nothing stored.
fn before_commit(exchange: &Exchange) -> S3Result<()> {
    match exchange.trouble() {
        Some(Trouble::Failed { stored: false }) => Err(s3_error!(
            InternalError,
            "We encountered an internal error. Please try again."
        )),
        _ => Ok(()),
    }
}

/// The `ETag` to answer with: the object's, unless a wrong one was ordered.
fn answered_etag(exchange: &Exchange, etag: &str) -> dto::ETag {
    match exchange.trouble() {
        Some(Trouble::WrongEtag) => dto::ETag::Strong("0".repeat(32)),
        _ => dto::ETag::Strong(etag.to_owned()),
    }
}

fn exchange<T>(request: &S3Request<T>) -> S3Result<Arc<Exchange>> {
    let exchange = request.extensions.get::<Arc<Exchange>>();
    exchange
        .cloned()
        .ok_or_else(|| s3_error!(InternalError, "the request came in by another door"))
}

/// The encryption that an answer names, and its key.
fn encryption(attributes: &Attributes) -> (Option<dto::ServerSideEncryption>, Option<String>) {
    if attributes.kms {
        let algorithm = dto::ServerSideEncryption::from_static(dto::ServerSideEncryption::AWS_KMS);
        return (Some(algorithm), Some("arn:aws:kms:loopback:key".to_owned()));
    }
    let algorithm = dto::ServerSideEncryption::from_static(dto::ServerSideEncryption::AES256);
    (Some(algorithm), None)
}

/// Whether KMS is to encrypt: as the request says, else as the bucket does by default.
fn wants_kms(bucket: &Bucket, asked: Option<&dto::ServerSideEncryption>) -> bool {
    match asked {
        Some(asked) => asked.as_str() != dto::ServerSideEncryption::AES256,
        None => bucket.uses_kms(),
    }
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait]
impl S3 for Operations {
    async fn list_buckets(
        &self,
        _request: S3Request<dto::ListBucketsInput>,
    ) -> Answer<dto::ListBucketsOutput> {
        Ok(S3Response::new(self.answer_list_buckets()))
    }

    async fn create_bucket(
        &self,
        request: S3Request<dto::CreateBucketInput>,
    ) -> Answer<dto::CreateBucketOutput> {
        self.answer_create_bucket(request)
    }

    async fn head_bucket(
        &self,
        request: S3Request<dto::HeadBucketInput>,
    ) -> Answer<dto::HeadBucketOutput> {
        self.answer_head_bucket(&request.input.bucket)
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<dto::GetBucketLocationInput>,
    ) -> Answer<dto::GetBucketLocationOutput> {
        self.answer_get_bucket_location(&request.input.bucket)
    }

    async fn get_bucket_encryption(
        &self,
        request: S3Request<dto::GetBucketEncryptionInput>,
    ) -> Answer<dto::GetBucketEncryptionOutput> {
        self.answer_get_bucket_encryption(&request.input.bucket)
    }

    async fn put_object(
        &self,
        request: S3Request<dto::PutObjectInput>,
    ) -> Answer<dto::PutObjectOutput> {
        self.answer_put_object(request).await
    }

    async fn get_object(
        &self,
        request: S3Request<dto::GetObjectInput>,
    ) -> Answer<dto::GetObjectOutput> {
        self.answer_get_object(request)
    }

    async fn head_object(
        &self,
        request: S3Request<dto::HeadObjectInput>,
    ) -> Answer<dto::HeadObjectOutput> {
        self.answer_head_object(request)
    }

    async fn delete_object(
        &self,
        request: S3Request<dto::DeleteObjectInput>,
    ) -> Answer<dto::DeleteObjectOutput> {
        self.answer_delete_object(request)
    }

    async fn delete_objects(
        &self,
        request: S3Request<dto::DeleteObjectsInput>,
    ) -> Answer<dto::DeleteObjectsOutput> {
        self.answer_delete_objects(request)
    }

    async fn copy_object(
        &self,
        request: S3Request<dto::CopyObjectInput>,
    ) -> Answer<dto::CopyObjectOutput> {
        self.answer_copy_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<dto::ListObjectsV2Input>,
    ) -> Answer<dto::ListObjectsV2Output> {
        self.answer_list_objects_v2(request)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<dto::CreateMultipartUploadInput>,
    ) -> Answer<dto::CreateMultipartUploadOutput> {
        self.answer_create_multipart_upload(request)
    }

    async fn upload_part(
        &self,
        request: S3Request<dto::UploadPartInput>,
    ) -> Answer<dto::UploadPartOutput> {
        self.answer_upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> Answer<dto::CompleteMultipartUploadOutput> {
        self.answer_complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<dto::AbortMultipartUploadInput>,
    ) -> Answer<dto::AbortMultipartUploadOutput> {
        self.answer_abort_multipart_upload(request)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<dto::ListMultipartUploadsInput>,
    ) -> Answer<dto::ListMultipartUploadsOutput> {
        self.answer_list_multipart_uploads(request)
    }

    async fn list_parts(
        &self,
        request: S3Request<dto::ListPartsInput>,
    ) -> Answer<dto::ListPartsOutput> {
        self.answer_list_parts(request)
    }
}
