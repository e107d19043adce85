//! Sends requests to ECR's API: AWS JSON 1.1, signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::{Region, StalledStreamProtectionConfig};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::proxy::ProxyConfig;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{EcrAddress, EcrOptions};
use crate::retry::{Attempts, Class, Policy};
use crate::store::registry::answers::{limited, retry_after, silent, unanswered};
use crate::store::s3::client::of_credentials;
use crate::store::{StoreError, StoreErrorKind};

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921";

const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// A page of 1,000 repositories has some 500 KiB.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// The APIs of several regions, with one set of credentials.
pub(super) struct Apis {
    pub(super) options: EcrOptions,
    client: Client,
    by_region: Mutex<BTreeMap<String, Arc<Api>>>,
}

/// The API of one region.
pub(super) struct Api {
    pub(super) region: String,
    endpoint: Url,
    client: Client,
    options: EcrOptions,
    credentials: OnceCell<SharedCredentialsProvider>,
}

/// What the API answered instead of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// `RepositoryAlreadyExistsException`.
    pub(super) code: String,
    message: String,
    retry_after: Option<Duration>,
}

impl fmt::Debug for Apis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apis").finish_non_exhaustive()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Apis {
    pub(super) fn new(options: EcrOptions, client: Client) -> Self {
        Self {
            options,
            client,
            by_region: Mutex::default(),
        }
    }

    /// The API that gives passwords for a registry; None where it is not ECR.
    pub(super) fn of_host(&self, host: &str) -> Result<Option<Arc<Api>>, StoreError> {
        let address = EcrAddress::of_host(host);
        let region = match (&self.options.endpoint, &address) {
            (Some(_), _) => self.options.region.clone(),
            (None, Some(address)) => Some(address.region.clone()),
            (None, None) => return Ok(None),
        };
        let region = region.or(address.as_ref().map(|address| address.region.clone()));
        let Some(region) = region else {
            let what =
                format!("can't tell which region {host} is in: give the region with the endpoint");
            return Err(StoreError::new(StoreErrorKind::Permanent, what));
        };
        let endpoint = match (&self.options.endpoint, address) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(address)) => address.endpoint(),
            (None, None) => return Ok(None),
        };
        let mut by_region = self
            .by_region
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let api = by_region.entry(region.clone()).or_insert_with(|| {
            Arc::new(Api {
                region,
                endpoint,
                client: self.client.clone(),
                options: self.options.clone(),
                credentials: OnceCell::new(),
            })
        });
        Ok(Some(Arc::clone(api)))
    }
}

impl Api {
    /// Calls an operation, again where that may help.
    pub(super) async fn call(
        &self,
        operation: &str,
        told: &Value,
        action: &str,
        what: &str,
    ) -> Result<Value, StoreError> {
        let answered = self.try_call(operation, told, action, what).await?;
        answered.map_err(|refusal| explain(&refusal, action, what))
    }

    /// As [`Api::call`], with refusals that will stay the same for who can do something about them.
    pub(super) async fn try_call(
        &self,
        operation: &str,
        told: &Value,
        action: &str,
        what: &str,
    ) -> Result<Result<Value, Refused>, StoreError> {
        let mut attempts = Attempts::new(Policy::default());
        loop {
            let (error, patience) = match self.once(operation, told, action, what).await {
                Err(error) => (error, None),
                Ok(Err(refusal)) if refusal.class() == Class::Transient => {
                    let patience = refusal.retry_after;
                    (explain(&refusal, action, what), patience)
                }
                Ok(ended) => return Ok(ended),
            };
            let pause = match error.class() {
                Class::Transient => attempts.failed(),
                _ => None,
            };
            let Some(pause) = pause else {
                return Err(error);
            };
            tracing::info!("again: {error}");
            sleep(pause.max(patience.unwrap_or_default())).await;
        }
    }

    async fn once(
        &self,
        operation: &str,
        told: &Value,
        action: &str,
        what: &str,
    ) -> Result<Result<Value, Refused>, StoreError> {
        let request = self.signed(operation, told.to_string()).await?;
        let asking = async {
            let answer = self.client.execute(request).await;
            let answer = answer.map_err(|error| unanswered(action, what, None, error))?;
            tracing::debug!(
                status = answer.status().as_u16(),
                region = self.region,
                "{operation}"
            );
            read(answer, action, what).await
        };
        match timeout(ANSWER_TIMEOUT, asking).await {
            Ok(ended) => ended,
            Err(_) => Err(silent(action, what, ANSWER_TIMEOUT)),
        }
    }

    async fn signed(&self, operation: &str, body: String) -> Result<reqwest::Request, StoreError> {
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| {
            let what = format!("can't sign a request to {}", self.host());
            StoreError::new(StoreErrorKind::Permanent, what).caused_by(error)
        };
        let target = format!("{TARGET}.{operation}");
        let kind = "application/x-amz-json-1.1";
        let host = self.host();
        let headers = [
            ("host", host.as_str()),
            ("content-type", kind),
            ("x-amz-target", target.as_str()),
        ];
        let identity = self.credentials().await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ecr")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.into()))?
            .into();
        let signable = SignableRequest::new(
            "POST",
            self.endpoint.as_str(),
            headers.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| unsigned(error.into()))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| unsigned(error.into()))?
            .into_parts();
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(CONTENT_TYPE, kind)
            .header("x-amz-target", &target);
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        let request = request.body(body).build();
        request.map_err(|error| unsigned(error.without_url().into()))
    }

    /// As the Host header will have it.
    fn host(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        match self.endpoint.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Good for a while; found as every AWS tool finds them.
    async fn credentials(&self) -> Result<Credentials, StoreError> {
        let missing = |error: Box<dyn std::error::Error + Send + Sync>| {
            let what = format!(
                "no AWS credentials for ECR in {}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run \
                 where an instance role is; those of another partition are no good",
                self.region
            );
            StoreError::new(StoreErrorKind::Credentials, what).caused_by(error)
        };
        let found = self.credentials.get_or_init(|| self.find()).await;
        let credentials = found.provide_credentials().await;
        credentials.map_err(|error| missing(error.into()))
    }

    async fn find(&self) -> SharedCredentialsProvider {
        if let Some(keys) = &self.options.keys {
            let keys = Credentials::new(
                &keys.access_key,
                &keys.secret_key,
                None,
                None,
                "kops-mirror",
            );
            return SharedCredentialsProvider::new(keys);
        }
        let http = of_credentials(ProxyConfig::from_env());
        let region = Region::new(self.region.clone());
        if let Some(profile) = &self.options.profile {
            // The keys of the environment may be those of the other partition, for all else of the run.
            let reading = ProviderConfig::without_region()
                .with_behavior_version(Some(BehaviorVersion::latest()))
                .with_http_client(http)
                .with_region(Some(region));
            let of_profile = ProfileFileCredentialsProvider::builder()
                .configure(&reading)
                .profile_name(profile)
                .build();
            return SharedCredentialsProvider::new(of_profile);
        }
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .region(region);
        let found = loader.load().await.credentials_provider();
        let none = Credentials::new("", "", None, None, "none");
        found.unwrap_or_else(|| SharedCredentialsProvider::new(none))
    }
}

async fn read(
    answer: Response,
    action: &str,
    what: &str,
) -> Result<Result<Value, Refused>, StoreError> {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    let content = limited(answer, ANSWER_MAX_BYTES).await.ok_or_else(|| {
        let told = format!("can't {action} {what}: the answer broke off");
        StoreError::new(StoreErrorKind::Transient, told)
    })?;
    let told: Value = serde_json::from_slice(&content).unwrap_or_default();
    if status.is_success() {
        return Ok(Ok(told));
    }
    let code = told["__type"].as_str().unwrap_or_default();
    let message = told["message"].as_str().or(told["Message"].as_str());
    Ok(Err(Refused {
        status: status.as_u16(),
        code: code.rsplit('#').next().unwrap_or_default().to_owned(),
        message: message.unwrap_or_default().to_owned(),
        retry_after,
    }))
}

impl Refused {
    fn kind(&self) -> StoreErrorKind {
        match (self.status, self.code.as_str()) {
            (429, _) | (_, "ThrottlingException" | "TooManyRequestsException") => {
                StoreErrorKind::Busy
            }
            (500.., _) => StoreErrorKind::Transient,
            (_, "AccessDeniedException") => StoreErrorKind::Denied,
            (
                _,
                "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "MissingAuthenticationTokenException"
                | "ExpiredTokenException"
                | "InvalidClientTokenId",
            ) => StoreErrorKind::Credentials,
            _ => StoreErrorKind::Permanent,
        }
    }

    fn class(&self) -> Class {
        match self.kind() {
            StoreErrorKind::Busy | StoreErrorKind::Transient => Class::Transient,
            _ => Class::Permanent,
        }
    }
}

/// `can't make the repository a of HOST: LimitExceededException: … (400)`
pub(super) fn explain(refusal: &Refused, action: &str, what: &str) -> StoreError {
    let advice = match refusal.kind() {
        StoreErrorKind::Credentials => {
            "; check the AWS credentials: those of AWS and of AWS China are no good for each other; and the clock"
        }
        StoreErrorKind::Denied => "; the role lacks this right (ecr:…)",
        _ => "",
    };
    let Refused {
        status,
        code,
        message,
        ..
    } = refusal;
    let told = format!("can't {action} {what}: {code}: {message} ({status}){advice}");
    StoreError::new(refusal.kind(), told)
}
