//! What is ECR's own: passwords for twelve hours, and repositories that must be there before anything is pushed.
//!
//! Five requests of its API, signed, in place of its SDK. The region and the partition stand in the registry's address
//! (docs.amazonaws.cn, "Amazon ECR private registry").

mod api;
mod login;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use reqwest::Client;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use url::Url;

use self::api::{Api, Apis};
pub use self::login::EcrLogins;
use super::RegistryOptions;
use crate::partition::Partition;
use crate::store::StoreError;
use crate::store::s3::Keys;

/// Requests about repositories at a time; the API allows some 10 a second.
const PREPARED_AT_A_TIME: usize = 4;

/// The most that the API lists at a time.
const PAGE_MAX: u32 = 1000;

/// How ECR's API is reached, and what repositories are made like.
#[derive(Clone, Default)]
pub struct EcrOptions {
    pub profile: Option<String>,
    /// Asked of the environment, the profile and the instance when None.
    pub keys: Option<Keys>,
    /// Another server that speaks ECR's API, and then the registry is ECR whatever its address; None: AWS.
    pub endpoint: Option<Url>,
    /// With an endpoint; else the address tells.
    pub region: Option<String>,
    pub settings: EcrSettings,
}

impl fmt::Debug for EcrOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcrOptions")
            .field("profile", &self.profile)
            .field("region", &self.region)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What repositories are like that are made here. Policies are put at each run, also where the repository was there before;
/// the rest is only for new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcrSettings {
    pub encryption: Encryption,
    pub scan_on_push: bool,
    /// A tag that is pushed once stays what it is.
    pub immutable_tags: bool,
    /// A JSON document: which images expire. None leaves what is there.
    pub lifecycle_policy: Option<String>,
    /// A JSON document: who may pull. None leaves what is there.
    pub repository_policy: Option<String>,
}

/// How ECR encrypts what it keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    #[default]
    Aes256,
    /// With a key of KMS; None: the account's own for ECR.
    Kms(Option<String>),
}

/// A registry of ECR, as its address has it: `ACCOUNT.dkr.ecr.REGION.amazonaws.com.cn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrAddress {
    pub account: String,
    pub region: String,
    pub partition: Partition,
}

impl EcrAddress {
    /// Reads a host; None where it is no ECR registry.
    pub fn of_host(host: &str) -> Option<Self> {
        let (account, rest) = host.split_once(".dkr.ecr")?;
        let rest = rest
            .strip_prefix("-fips")
            .unwrap_or(rest)
            .strip_prefix('.')?;
        let (region, suffix) = rest.split_once('.')?;
        let partition = Partition::of_region(region);
        let is_account = account.len() == 12 && account.chars().all(|c| c.is_ascii_digit());
        (is_account && suffix == partition.dns_suffix()).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            partition,
        })
    }

    /// Where the API of its region is.
    pub fn endpoint(&self) -> Url {
        let suffix = self.partition.dns_suffix();
        let url = format!("https://api.ecr.{}.{suffix}/", self.region);
        Url::parse(&url).expect("a region makes a good host")
    }
}

/// One registry of ECR.
pub(super) struct Ecr {
    api: Arc<Api>,
    logins: EcrLogins,
    host: String,
    settings: EcrSettings,
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ecr")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Ecr {
    /// None where the registry is another.
    pub(super) fn at(
        options: &RegistryOptions,
        client: &Client,
    ) -> Result<Option<Self>, StoreError> {
        let host = options.address.host();
        let apis = Arc::new(Apis::new(options.ecr.clone(), client.clone()));
        let Some(api) = apis.of_host(&host)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            api,
            logins: EcrLogins::of(apis),
            host,
            settings: options.ecr.settings.clone(),
        }))
    }

    /// What lets us in, good for a while yet.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, StoreError> {
        self.logins.authorization(&self.api).await
    }

    /// What was sent is no longer good, though it should be: the next asks anew.
    pub(super) async fn refused(&self, sent: &HeaderValue) {
        self.logins.refused(&self.api, sent).await;
    }

    /// Makes the repositories that are not there, and gives all of them the policies that are set.
    pub(super) async fn prepare(&self, names: &BTreeSet<String>) -> Result<(), StoreError> {
        // Who may not list may still create.
        let there = self.list().await.unwrap_or_else(|error| {
            tracing::info!("all repositories are made anew as far as they are not there: {error}");
            BTreeSet::new()
        });
        let preparing: Vec<_> = names
            .iter()
            .map(|name| self.prepare_one(name, there.contains(name)))
            .collect();
        stream::iter(preparing)
            .buffer_unordered(PREPARED_AT_A_TIME)
            .try_collect()
            .await
    }

    /// Whether the API says that a repository is not there.
    pub(super) async fn lacks(&self, name: &str) -> bool {
        let told = json!({"repositoryNames": [name]});
        let what = format!("the repository {name} of {}", self.host);
        let found = self
            .api
            .try_call("DescribeRepositories", &told, "look at", &what)
            .await;
        matches!(found, Ok(Err(refusal)) if refusal.code == "RepositoryNotFoundException")
    }

    async fn list(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut names = BTreeSet::new();
        let mut page = json!({"maxResults": PAGE_MAX});
        loop {
            let what = format!("the repositories of {}", self.host);
            let told = self
                .api
                .call("DescribeRepositories", &page, "list", &what)
                .await?;
            let repositories = told["repositories"].as_array().into_iter().flatten();
            let listed = repositories.filter_map(|it| it["repositoryName"].as_str());
            names.extend(listed.map(str::to_owned));
            match told["nextToken"].as_str() {
                Some(next) => page["nextToken"] = next.into(),
                None => return Ok(names),
            }
        }
    }

    async fn prepare_one(&self, name: &str, is_there: bool) -> Result<(), StoreError> {
        let what = format!("the repository {name} of {}", self.host);
        if !is_there {
            self.create(name, &what).await?;
        }
        let policies = [
            (
                "PutLifecyclePolicy",
                "lifecyclePolicyText",
                &self.settings.lifecycle_policy,
            ),
            (
                "SetRepositoryPolicy",
                "policyText",
                &self.settings.repository_policy,
            ),
        ];
        for (operation, field, policy) in policies {
            let Some(policy) = policy else { continue };
            let told = json!({"repositoryName": name, field: policy});
            self.api
                .call(operation, &told, "set a policy of", &what)
                .await?;
        }
        Ok(())
    }

    async fn create(&self, name: &str, what: &str) -> Result<(), StoreError> {
        let created = self
            .api
            .try_call("CreateRepository", &self.wanted(name), "make", what)
            .await?;
        match created {
            Ok(_) => tracing::info!("made {what}"),
            Err(refusal) if refusal.code == "RepositoryAlreadyExistsException" => {}
            Err(refusal) => return Err(api::explain(&refusal, "make", what)),
        }
        Ok(())
    }

    fn wanted(&self, name: &str) -> Value {
        let settings = &self.settings;
        let encryption = match &settings.encryption {
            Encryption::Aes256 => json!({"encryptionType": "AES256"}),
            Encryption::Kms(None) => json!({"encryptionType": "KMS"}),
            Encryption::Kms(Some(key)) => json!({"encryptionType": "KMS", "kmsKey": key}),
        };
        let mutability = match settings.immutable_tags {
            true => "IMMUTABLE",
            false => "MUTABLE",
        };
        json!({
            "repositoryName": name,
            "imageTagMutability": mutability,
            "imageScanningConfiguration": {"scanOnPush": settings.scan_on_push},
            "encryptionConfiguration": encryption,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_region_and_partition() {
        let check = |host: &str, region: &str, endpoint: &str| {
            let address = EcrAddress::of_host(host).unwrap();
            assert_eq!(address.region, region);
            assert_eq!(address.endpoint().as_str(), endpoint);
        };
        check(
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
            "https://api.ecr.cn-north-1.amazonaws.com.cn/",
        );
        check(
            "602401143452.dkr.ecr.us-west-2.amazonaws.com",
            "us-west-2",
            "https://api.ecr.us-west-2.amazonaws.com/",
        );
        for host in [
            "quay.io",
            "public.ecr.aws",
            "1.dkr.ecr.cn-north-1.amazonaws.com.cn",
            // The suffix is of another partition: a typing error, or somebody who waits for passwords.
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.us-west-2.amazonaws.com.evil.example",
        ] {
            assert_eq!(EcrAddress::of_host(host), None, "{host}");
        }
    }
}
