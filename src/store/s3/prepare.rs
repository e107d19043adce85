//! Finds out, before any byte moves, whether a bucket can hold a mirror.

use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, ObjectCannedAcl, ObjectOwnership,
};

use super::S3Store;
use super::errors::{ACL_REFUSED, Refusal, SET_SSE_S3};
use super::put::breaks_etags;
use crate::store::{StoreError, StoreErrorKind};

impl S3Store {
    pub(super) async fn find_bucket(&self, create: bool) -> Result<(), StoreError> {
        match self.look_at_bucket().await {
            Err(error) if error.kind == StoreErrorKind::NoSuchBucket && create => {
                self.create_bucket().await?;
            }
            other => other?,
        }
        self.check_encryption().await?;
        self.check_ownership().await
    }

    async fn look_at_bucket(&self) -> Result<(), StoreError> {
        let answer = self
            .requests
            .head_bucket()
            .bucket(&self.bucket)
            .send()
            .await;
        let error = match answer {
            Ok(there) => return self.check_region(there.bucket_region()),
            Err(error) => error,
        };
        let Some(mut refusal) = Refusal::of(&error) else {
            return Err(self.site.explain("reach", &self.bucket_address(), error));
        };
        match refusal.status {
            404 => refusal.code = "NoSuchBucket".to_owned(),
            301 => refusal.code = "PermanentRedirect".to_owned(),
            _ if self.is_elsewhere(refusal.region.as_deref()) => {
                refusal.code = "PermanentRedirect".to_owned();
            }
            // The answer to a HEAD has no body to say why. A listing is what will be needed anyway.
            _ => return self.list_one().await,
        }
        Err(self
            .site
            .explain_refusal("use", &self.bucket_address(), &refusal))
    }

    fn is_elsewhere(&self, region: Option<&str>) -> bool {
        self.site.endpoint.is_none()
            && region.is_some_and(|region| !region.is_empty() && region != self.site.region)
    }

    /// A global endpoint may answer for a bucket that is elsewhere; its writes would be redirected one by one.
    fn check_region(&self, region: Option<&str>) -> Result<(), StoreError> {
        match region {
            Some(region) if self.is_elsewhere(Some(region)) => Err(StoreError::new(
                StoreErrorKind::ElsewhereRegion,
                format!(
                    "can't use {}: it is in {region}, not in {}; use --region {region}",
                    self.bucket_address(),
                    self.site.region
                ),
            )),
            _ => Ok(()),
        }
    }

    async fn list_one(&self) -> Result<(), StoreError> {
        let listed = self
            .requests
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&self.prefix)
            .max_keys(1)
            .send()
            .await;
        match listed {
            Ok(_) => Ok(()),
            Err(error) => Err(self.site.explain("use", &self.bucket_address(), error)),
        }
    }

    async fn create_bucket(&self) -> Result<(), StoreError> {
        let mut request = self.requests.create_bucket().bucket(&self.bucket);
        // us-east-1 is where a bucket is without a constraint, and may not be named. Other servers know no AWS regions.
        if self.site.endpoint.is_none() && self.site.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.site.region.as_str());
            request = request.create_bucket_configuration(
                CreateBucketConfiguration::builder()
                    .location_constraint(place)
                    .build(),
            );
        }
        let Err(error) = request.send().await else {
            tracing::info!(bucket = self.bucket, "made the bucket");
            return Ok(());
        };
        match Refusal::of(&error).map(|refusal| refusal.code).as_deref() {
            Some("BucketAlreadyOwnedByYou") => Ok(()),
            Some("BucketAlreadyExists") => Err(StoreError::new(
                StoreErrorKind::Denied,
                format!(
                    "can't make the bucket {}: somebody else has one of that name, and names are unique in a partition; take \
                     another name",
                    self.bucket
                ),
            )),
            _ => Err(self.site.explain("make", &self.bucket_address(), error)),
        }
    }

    /// Refuses a bucket that encrypts with KMS by default. Servers and policies that do not tell are taken at their `ETag`s.
    async fn check_encryption(&self) -> Result<(), StoreError> {
        let answer = self
            .requests
            .get_bucket_encryption()
            .bucket(&self.bucket)
            .send()
            .await;
        let told = match answer {
            Ok(told) => told,
            Err(error) => return self.unless_refused(error),
        };
        let kms = told
            .server_side_encryption_configuration()
            .map(|configuration| configuration.rules())
            .unwrap_or_default()
            .iter()
            .filter_map(|rule| rule.apply_server_side_encryption_by_default())
            .find(|default| breaks_etags(default.sse_algorithm()));
        match kms {
            None => Ok(()),
            Some(default) => Err(StoreError::new(
                StoreErrorKind::Encryption,
                format!(
                    "can't use {}: it encrypts with {} by default; {SET_SSE_S3}",
                    self.bucket_address(),
                    default.sse_algorithm()
                ),
            )),
        }
    }

    /// Finds out about refused ACLs when one is asked for.
    async fn check_ownership(&self) -> Result<(), StoreError> {
        if matches!(
            self.acl,
            None | Some(ObjectCannedAcl::BucketOwnerFullControl)
        ) {
            return Ok(());
        }
        let answer = self
            .requests
            .get_bucket_ownership_controls()
            .bucket(&self.bucket)
            .send()
            .await;
        let told = match answer {
            Ok(told) => told,
            Err(error) => return self.unless_refused(error),
        };
        let enforced = told.ownership_controls().is_some_and(|controls| {
            controls
                .rules()
                .iter()
                .any(|rule| *rule.object_ownership() == ObjectOwnership::BucketOwnerEnforced)
        });
        if enforced {
            return Err(StoreError::new(
                StoreErrorKind::AclRefused,
                format!("can't use {}: {ACL_REFUSED}", self.bucket_address()),
            ));
        }
        Ok(())
    }

    /// A server that answers anything at all but what was asked does not tell, or may not: that is no reason to stop.
    fn unless_refused<E>(
        &self,
        error: aws_sdk_s3::error::SdkError<
            E,
            aws_smithy_runtime_api::client::orchestrator::HttpResponse,
        >,
    ) -> Result<(), StoreError>
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match Refusal::of(&error) {
            Some(refusal) => {
                tracing::debug!(
                    bucket = self.bucket,
                    code = refusal.code,
                    "the bucket does not tell its settings"
                );
                Ok(())
            }
            None => Err(self.site.explain("reach", &self.bucket_address(), error)),
        }
    }
}
