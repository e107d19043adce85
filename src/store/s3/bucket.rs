//! A bucket itself, not what is in it: whether it is there, where it is, and how it is set.
//!
//! No part of a mirror. Each property is looked at for itself, so that only what is lacking is set, and whoever may not look at one
//! still hears of the others.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging,
    VersioningConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::errors::{Refusal, Site, misnamed};
use super::{S3Options, client};
use crate::partition::Partition;
use crate::store::bucket_policy::{PolicyError, with_tls_only};
use crate::store::{StoreError, StoreErrorKind};

/// A bucket, there or not.
pub struct Bucket {
    requests: Client,
    site: Site,
    name: String,
}

/// How a bucket is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketSettings {
    pub is_versioned: bool,
    /// What new objects are encrypted with unless they say otherwise; None where the bucket says nothing, which is S3's own keys.
    pub encryption: Option<Encryption>,
    /// Whether all four of S3's blocks of public access are on.
    pub is_private: bool,
    /// JSON.
    pub policy: Option<String>,
}

/// What objects are encrypted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms`
    pub algorithm: String,
    /// A key of KMS; None: the account's own for S3.
    pub key: Option<String>,
}

/// What a bucket that holds secrets must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// What is overwritten can be had back.
    Versioned,
    Encrypted,
    /// Nothing in it can be made public.
    Private,
    /// Who does not come over TLS is refused.
    TlsOnly,
}

impl Property {
    pub fn all() -> [Self; 4] {
        [
            Self::Versioned,
            Self::Encrypted,
            Self::Private,
            Self::TlsOnly,
        ]
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Versioned => "versioned",
            Self::Encrypted => "encrypted as wanted",
            Self::Private => "closed to the public",
            Self::TlsOnly => "for TLS only",
        })
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl BucketSettings {
    /// What is lacking, where `kms_key` is the key that is wanted, or S3's own where there is none.
    pub fn lacks(
        &self,
        partition: Partition,
        bucket: &str,
        kms_key: Option<&str>,
    ) -> Vec<Property> {
        let is_encrypted = match (kms_key, &self.encryption) {
            (None, encryption) => encryption
                .as_ref()
                .is_some_and(|one| one.algorithm == "AES256"),
            (Some(key), Some(encryption)) => encryption.key.as_deref() == Some(key),
            (Some(_), None) => false,
        };
        // A policy that nobody can read is not known to refuse anything.
        let is_tls_only = with_tls_only(partition, bucket, self.policy.as_deref())
            .is_ok_and(|more| more.is_none());
        let has = |property: Property| match property {
            Property::Versioned => self.is_versioned,
            Property::Encrypted => is_encrypted,
            Property::Private => self.is_private,
            Property::TlsOnly => is_tls_only,
        };
        Property::all()
            .into_iter()
            .filter(|property| !has(*property))
            .collect()
    }
}

impl Bucket {
    /// Finds region, credentials and endpoint; asks nobody yet.
    pub async fn connect(options: &S3Options) -> Result<Self, StoreError> {
        let clients = client::connect(options).await?;
        Ok(Self {
            requests: clients.requests,
            site: clients.site,
            name: options.bucket.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn region(&self) -> &str {
        &self.site.region
    }

    fn partition(&self) -> Partition {
        Partition::of_region(&self.site.region)
    }

    fn address(&self) -> String {
        format!("s3://{}", self.name)
    }

    /// Whether it is there, by the call that kops makes first. An error where it is somebody else's, in another region, or where
    /// the credentials may not ask.
    pub async fn is_there(&self) -> Result<bool, StoreError> {
        let asked = self
            .requests
            .get_bucket_location()
            .bucket(&self.name)
            .send()
            .await;
        let place = match asked {
            Ok(told) => told
                .location_constraint()
                .map_or(String::new(), |place| place.as_str().to_owned()),
            Err(error) => match Refusal::of(&error) {
                Some(refusal) if refusal.code == "NoSuchBucket" => return Ok(false),
                Some(refusal) if refusal.kind() == StoreErrorKind::Denied => {
                    return Err(self.theirs_or_denied(&error));
                }
                _ => return Err(self.site.explain("use", &self.address(), &error)),
            },
        };
        // The names of the two regions that S3 began with.
        let region = match place.as_str() {
            "" => "us-east-1",
            "EU" => "eu-west-1",
            place => place,
        };
        match region == self.site.region {
            true => Ok(true),
            false => Err(StoreError::new(
                StoreErrorKind::ElsewhereRegion,
                format!(
                    "can't use {}: it is in {region}, not in {}; name another bucket",
                    self.address(),
                    self.site.region
                ),
            )),
        }
    }

    fn theirs_or_denied<E>(&self, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let told = self.site.explain("use", &self.address(), error);
        let what = format!(
            "{told}; either it is somebody else's, since names are unique in a partition, or the right s3:GetBucketLocation is missing, \
             which kops needs too"
        );
        StoreError::new(StoreErrorKind::Denied, what)
    }

    /// Makes it in its region. Whether it was made: one of ours that is there already is left as it is.
    pub async fn create(&self) -> Result<bool, StoreError> {
        // us-east-1 is where a bucket is without a constraint, and may not be named.
        let place = (self.site.region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.site.region.as_str()))
                .build()
        });
        let request = self.requests.create_bucket().bucket(&self.name);
        let Err(error) = request.set_create_bucket_configuration(place).send().await else {
            return Ok(true);
        };
        match Refusal::of(&error).map(|refusal| refusal.code).as_deref() {
            Some("BucketAlreadyOwnedByYou") => Ok(false),
            Some("BucketAlreadyExists") => Err(StoreError::new(
                StoreErrorKind::Denied,
                format!(
                    "can't make {}: somebody else has a bucket of that name, and names are unique in a partition; take another name",
                    self.address()
                ),
            )),
            _ => Err(self.site.explain("make", &self.address(), &error)),
        }
    }

    /// How it is set.
    pub async fn settings(&self) -> Result<BucketSettings, StoreError> {
        let (is_versioned, encryption, is_private, policy) = futures::try_join!(
            self.is_versioned(),
            self.encryption(),
            self.is_private(),
            self.policy()
        )?;
        Ok(BucketSettings {
            is_versioned,
            encryption,
            is_private,
            policy,
        })
    }

    async fn is_versioned(&self) -> Result<bool, StoreError> {
        let asked = self
            .requests
            .get_bucket_versioning()
            .bucket(&self.name)
            .send()
            .await;
        match asked {
            Ok(told) => Ok(told.status() == Some(&BucketVersioningStatus::Enabled)),
            Err(error) => match misnamed(&error) {
                Some(answer) => Ok(answer.contains("<Status>Enabled</Status>")),
                None => Err(self.unseen("s3:GetBucketVersioning", &error)),
            },
        }
    }

    async fn encryption(&self) -> Result<Option<Encryption>, StoreError> {
        let asked = self
            .requests
            .get_bucket_encryption()
            .bucket(&self.name)
            .send()
            .await;
        let told = match asked {
            Ok(told) => told,
            Err(error) if has_none(&error) => return Ok(None),
            Err(error) => return Err(self.unseen("s3:GetEncryptionConfiguration", &error)),
        };
        let rules = told.server_side_encryption_configuration();
        let rules = rules
            .map(ServerSideEncryptionConfiguration::rules)
            .unwrap_or_default();
        let mut defaults = rules
            .iter()
            .filter_map(|rule| rule.apply_server_side_encryption_by_default());
        Ok(defaults.next().map(|default| Encryption {
            algorithm: default.sse_algorithm().as_str().to_owned(),
            key: default.kms_master_key_id().map(str::to_owned),
        }))
    }

    async fn is_private(&self) -> Result<bool, StoreError> {
        let asked = self
            .requests
            .get_public_access_block()
            .bucket(&self.name)
            .send()
            .await;
        let told = match asked {
            Ok(told) => told,
            Err(error) if has_none(&error) => return Ok(false),
            Err(error) => return Err(self.unseen("s3:GetBucketPublicAccessBlock", &error)),
        };
        let blocks = told.public_access_block_configuration();
        Ok(blocks.is_some_and(|blocks| {
            let all = [
                blocks.block_public_acls(),
                blocks.ignore_public_acls(),
                blocks.block_public_policy(),
                blocks.restrict_public_buckets(),
            ];
            all.into_iter().all(|is_on| is_on == Some(true))
        }))
    }

    /// Its policy as JSON; None where it has none.
    pub async fn policy(&self) -> Result<Option<String>, StoreError> {
        let asked = self
            .requests
            .get_bucket_policy()
            .bucket(&self.name)
            .send()
            .await;
        match asked {
            Ok(told) => Ok(told
                .policy()
                .filter(|policy| !policy.is_empty())
                .map(str::to_owned)),
            Err(error) if has_none(&error) => Ok(None),
            Err(error) => Err(self.unseen("s3:GetBucketPolicy", &error)),
        }
    }

    /// Its tags.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let asked = self
            .requests
            .get_bucket_tagging()
            .bucket(&self.name)
            .send()
            .await;
        match asked {
            Ok(told) => {
                let tags = told.tag_set().iter();
                Ok(tags
                    .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
                    .collect())
            }
            Err(error) if has_none(&error) => Ok(BTreeMap::new()),
            Err(error) => Err(self.unseen("s3:GetBucketTagging", &error)),
        }
    }

    /// Gives it these tags and no others.
    pub async fn tag(&self, tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let tags = tags.iter().map(|(key, value)| {
            let tag = Tag::builder().key(key).value(value).build();
            tag.expect("it has both")
        });
        let tagging = Tagging::builder().set_tag_set(Some(tags.collect())).build();
        let tagging = tagging.expect("it has a list");
        let put = self
            .requests
            .put_bucket_tagging()
            .bucket(&self.name)
            .tagging(tagging);
        let put = put.send().await;
        put.map(drop)
            .map_err(|error| self.site.explain("tag", &self.address(), &error))
    }

    /// Sets what is lacking; `policy` is the one that it has.
    pub async fn set(
        &self,
        property: Property,
        kms_key: Option<&str>,
        policy: Option<&str>,
    ) -> Result<(), StoreError> {
        match property {
            Property::Versioned => self.set_versioning().await,
            Property::Encrypted => self.set_encryption(kms_key).await,
            Property::Private => self.set_private().await,
            Property::TlsOnly => self.set_tls_only(policy).await,
        }
    }

    async fn set_versioning(&self) -> Result<(), StoreError> {
        let versioning = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let put = self.requests.put_bucket_versioning().bucket(&self.name);
        let put = put.versioning_configuration(versioning).send().await;
        put.map(drop)
            .map_err(|error| self.unset("have versions kept in", &error))
    }

    async fn set_encryption(&self, kms_key: Option<&str>) -> Result<(), StoreError> {
        let algorithm = match kms_key {
            Some(_) => ServerSideEncryption::AwsKms,
            None => ServerSideEncryption::Aes256,
        };
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(algorithm)
            .set_kms_master_key_id(kms_key.map(str::to_owned))
            .build()
            .expect("it has an algorithm");
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            // One key of the bucket for many objects, so that KMS is not asked for each.
            .set_bucket_key_enabled(kms_key.map(|_| true))
            .build();
        let rules = ServerSideEncryptionConfiguration::builder()
            .rules(rule)
            .build();
        let put = self.requests.put_bucket_encryption().bucket(&self.name);
        let put = put.server_side_encryption_configuration(rules.expect("it has a rule"));
        let put = put.send().await;
        put.map(drop)
            .map_err(|error| self.unset("set the encryption of", &error))
    }

    async fn set_private(&self) -> Result<(), StoreError> {
        let blocks = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let put = self.requests.put_public_access_block().bucket(&self.name);
        let put = put.public_access_block_configuration(blocks).send().await;
        put.map(drop)
            .map_err(|error| self.unset("close to the public", &error))
    }

    async fn set_tls_only(&self, policy: Option<&str>) -> Result<(), StoreError> {
        let unwritten = |error: PolicyError| {
            let what = format!("can't set the policy of {}: {error}", self.address());
            StoreError::new(StoreErrorKind::Permanent, what)
        };
        let policy = with_tls_only(self.partition(), &self.name, policy).map_err(unwritten)?;
        let Some(policy) = policy else { return Ok(()) };
        let put = self
            .requests
            .put_bucket_policy()
            .bucket(&self.name)
            .policy(policy);
        let put = put.send().await;
        put.map(drop)
            .map_err(|error| self.unset("set the policy of", &error))
    }

    /// Whether it is reached without TLS, which AWS' buckets never are.
    pub fn is_without_tls(&self) -> bool {
        let endpoint = self.site.endpoint.as_deref();
        endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// Whether an object can be looked for, there or not.
    pub async fn lets_in(&self) -> bool {
        let listed = self.requests.list_objects_v2().bucket(&self.name);
        listed.max_keys(1).send().await.is_ok() && self.lets_read().await
    }

    async fn lets_read(&self) -> bool {
        let asked = self
            .requests
            .get_object()
            .bucket(&self.name)
            .key("_provision/none");
        let refused = asked.send().await.err();
        refused.is_none_or(|error| Refusal::of(&error).is_some_and(|refusal| refusal.status == 404))
    }

    /// Gives it the policy that it had.
    pub async fn restore_policy(&self, policy: Option<&str>) -> Result<(), StoreError> {
        let action = "take back the policy of";
        if let Some(policy) = policy {
            let put = self.requests.put_bucket_policy().bucket(&self.name);
            let put = put.policy(policy).send().await;
            return put.map(drop).map_err(|error| self.unset(action, &error));
        }
        let delete = self.requests.delete_bucket_policy().bucket(&self.name);
        let delete = delete.send().await;
        delete.map(drop).map_err(|error| self.unset(action, &error))
    }

    fn unset<E>(&self, action: &str, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.site.explain(action, &self.address(), error)
    }

    /// A property that could not be looked at, with the right that is missing where that is why.
    fn unseen<E>(&self, right: &str, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let told = self.site.explain("look at", &self.address(), error);
        match told.kind {
            StoreErrorKind::Denied => {
                let what = format!("{told}; the right {right} is missing");
                StoreError::new(StoreErrorKind::Denied, what)
            }
            _ => told,
        }
    }
}

/// Whether the bucket merely has nothing of what was asked for.
fn has_none<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    const CODES: [&str; 4] = [
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchBucketPolicy",
        "NoSuchTagSet",
    ];
    Refusal::of(error).is_some_and(|refusal| CODES.contains(&refusal.code.as_str()))
}
