//! Finds out, before any byte moves, whether a bucket can hold a mirror.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, ObjectCannedAcl, ObjectOwnership,
    ServerSideEncryptionConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures::future::join;
use tokio::time::Instant;

use super::S3Store;
use super::errors::{ACL_REFUSED, Refusal, SET_SSE_S3};
use super::put::breaks_etags;
use crate::store::{StoreError, StoreErrorKind};

/// Refusals that only a new bucket can meet.
const CODES_OF_CREATION: [&str; 3] = [
    "BucketAlreadyExists",
    "InvalidLocationConstraint",
    "InvalidBucketName",
];

/// A connection with TLS, and the request on it.
const FIRST_REQUEST_ROUND_TRIPS: u32 = 3;

impl S3Store {
    pub(super) async fn find_bucket(&self, create: bool) -> Result<(), StoreError> {
        let asked = Instant::now();
        let encryption = async { (self.check_encryption().await, asked.elapsed()) };
        let (there, (unencrypted, took)) = join(self.look_at_bucket(), encryption).await;
        match there {
            Err(error) if error.kind == StoreErrorKind::NoSuchBucket && create => {
                self.create_bucket().await?;
                self.check_encryption().await?;
            }
            Err(error) => return Err(error),
            Ok(()) => unencrypted?,
        }
        self.traffic.round_trip(self.round_trip(took));
        if let Some(few) = self.few {
            self.traffic.need_few(few);
        }
        self.check_ownership().await
    }

    /// A round trip by the time that the first request took, which had to make a connection: that takes as many again, or twice
    /// that with TLS. Making the connection alone may take less than the way to the bucket, where something between answers for it.
    fn round_trip(&self, first_request: Duration) -> Duration {
        let connected = self.lines.round_trip().unwrap_or_default();
        connected.max(first_request / FIRST_REQUEST_ROUND_TRIPS)
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
            return Err(self.site.explain("reach", &self.bucket_address(), &error));
        };
        // The answer to a HEAD has no body to say why.
        let code = match refusal.status {
            404 => "NoSuchBucket",
            301 => "PermanentRedirect",
            _ if self.is_elsewhere(refusal.region.as_deref()) => "PermanentRedirect",
            // A listing says more, and is what will be needed anyway.
            _ => return self.list_one().await,
        };
        code.clone_into(&mut refusal.code);
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
            Err(error) => Err(self.site.explain("use", &self.bucket_address(), &error)),
        }
    }

    async fn create_bucket(&self) -> Result<(), StoreError> {
        // us-east-1 is where a bucket is without a constraint, and may not be named.
        let named = self.site.region != "us-east-1";
        let mut refused = self.try_to_create(named).await?;
        if named && refused == "InvalidLocationConstraint" && self.site.endpoint.is_some() {
            // Another server that knows no AWS regions.
            refused = self.try_to_create(false).await?;
        }
        match refused.as_str() {
            "" => Ok(()),
            "BucketAlreadyExists" => Err(StoreError::new(
                StoreErrorKind::Denied,
                format!(
                    "can't make the bucket {}: somebody else has one of that name, and names are unique in a partition; take \
                     another name",
                    self.bucket
                ),
            )),
            code => Err(StoreError::new(
                StoreErrorKind::Permanent,
                format!(
                    "can't make the bucket {} in {}: {code}",
                    self.bucket, self.site.region
                ),
            )),
        }
    }

    /// The code with which the server refused; empty when the bucket is there now.
    async fn try_to_create(&self, in_region: bool) -> Result<String, StoreError> {
        let place = in_region.then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.site.region.as_str()))
                .build()
        });
        let request = self.requests.create_bucket().bucket(&self.bucket);
        let Err(error) = request.set_create_bucket_configuration(place).send().await else {
            tracing::info!(bucket = self.bucket, "made the bucket");
            return Ok(String::new());
        };
        match Refusal::of(&error).map(|refusal| refusal.code) {
            Some(code) if code == "BucketAlreadyOwnedByYou" => Ok(String::new()),
            Some(code) if CODES_OF_CREATION.contains(&code.as_str()) => Ok(code),
            _ => Err(self.site.explain("make", &self.bucket_address(), &error)),
        }
    }

    /// Refuses a bucket that encrypts with KMS by default. Servers and policies that do not tell are taken at their `ETag`s.
    async fn check_encryption(&self) -> Result<(), StoreError> {
        if self.asks_for_sse_s3 {
            return Ok(());
        }
        let answer = self
            .requests
            .get_bucket_encryption()
            .bucket(&self.bucket)
            .send()
            .await;
        let told = match answer {
            Ok(told) => told,
            Err(error) => return self.unless_refused(&error),
        };
        let kms = told
            .server_side_encryption_configuration()
            .map(ServerSideEncryptionConfiguration::rules)
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
            Err(error) => return self.unless_refused(&error),
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
    fn unless_refused<E>(&self, error: &SdkError<E, HttpResponse>) -> Result<(), StoreError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match Refusal::of(error) {
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
