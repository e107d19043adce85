//! Answers for buckets: where they are, what they encrypt with, and who may make one.

use s3s::dto;
use s3s::{S3Request, S3Response, s3_error};

use super::{Answer, Operations};
use crate::loopback::s3::Bucket;

/// The region whose endpoint makes buckets everywhere, and which no location constraint may name.
const FIRST_REGION: &str = "us-east-1";

impl Operations {
    pub(super) fn answer_list_buckets(&self) -> dto::ListBucketsOutput {
        let buckets = self.0.buckets();
        let buckets = buckets.values().map(|bucket| dto::Bucket {
            name: Some(bucket.name().to_owned()),
            bucket_region: Some(bucket.region().to_owned()),
            creation_date: Some(bucket.created().into()),
        });
        dto::ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..dto::ListBucketsOutput::default()
        }
    }

    pub(super) fn answer_create_bucket(
        &self,
        request: S3Request<dto::CreateBucketInput>,
    ) -> Answer<dto::CreateBucketOutput> {
        let name = request.input.bucket;
        let here = self.0.options.region.as_str();
        let constraint = request
            .input
            .create_bucket_configuration
            .and_then(|configuration| configuration.location_constraint);
        let region = match constraint
            .as_ref()
            .map(dto::BucketLocationConstraint::as_str)
        {
            None | Some("") if here == FIRST_REGION => here,
            Some(FIRST_REGION) => {
                return Err(s3_error!(
                    InvalidLocationConstraint,
                    "The specified location-constraint is not valid"
                ));
            }
            Some(there) if there == here || here == FIRST_REGION => there,
            unfit => {
                return Err(s3_error!(
                    IllegalLocationConstraintException,
                    "The {} location constraint is incompatible for the region specific endpoint this request was sent to.",
                    unfit.unwrap_or("unspecified")
                ));
            }
        };
        let mut buckets = self.0.buckets();
        if buckets.contains_key(&name) && here != FIRST_REGION {
            return Err(s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            ));
        }
        buckets
            .entry(name.clone())
            .or_insert_with(|| Bucket::new(&name, region));
        Ok(S3Response::new(dto::CreateBucketOutput {
            location: Some(format!("/{name}")),
        }))
    }

    pub(super) fn answer_head_bucket(&self, name: &str) -> Answer<dto::HeadBucketOutput> {
        let bucket = self.bucket(name)?;
        Ok(S3Response::new(dto::HeadBucketOutput {
            bucket_region: Some(bucket.region().to_owned()),
            ..dto::HeadBucketOutput::default()
        }))
    }

    pub(super) fn answer_get_bucket_location(
        &self,
        name: &str,
    ) -> Answer<dto::GetBucketLocationOutput> {
        let bucket = self.bucket(name)?;
        let named = Some(bucket.region()).filter(|region| *region != FIRST_REGION);
        Ok(S3Response::new(dto::GetBucketLocationOutput {
            location_constraint: named.map(|region| region.to_owned().into()),
        }))
    }

    pub(super) fn answer_get_bucket_encryption(
        &self,
        name: &str,
    ) -> Answer<dto::GetBucketEncryptionOutput> {
        let bucket = self.bucket(name)?;
        let (algorithm, key) = super::encryption(&bucket.default_attributes());
        let by_default = algorithm.map(|sse_algorithm| dto::ServerSideEncryptionByDefault {
            kms_master_key_id: key,
            sse_algorithm,
        });
        let rule = dto::ServerSideEncryptionRule {
            apply_server_side_encryption_by_default: by_default,
            bucket_key_enabled: Some(false),
        };
        Ok(S3Response::new(dto::GetBucketEncryptionOutput {
            server_side_encryption_configuration: Some(dto::ServerSideEncryptionConfiguration {
                rules: vec![rule],
            }),
        }))
    }
}
