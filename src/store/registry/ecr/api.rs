//! Sends requests to ECR's API: AWS JSON 1.1, signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{EcrAddress, EcrOptions};
use crate::cloud::credentials;
use crate::cloud::signing::{Scope, Unsigned, authority};
use crate::retry::{Attempts, Class, Policy};
use crate::store::registry::answers::{limited, retry_after, silent, unanswered};
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
            let what = format!("can't sign a request to {}", authority(&self.endpoint));
            StoreError::new(StoreErrorKind::Permanent, what).caused_by(error)
        };
        let target = format!("{TARGET}.{operation}");
        let kind = "application/x-amz-json-1.1";
        let unsigned_request = Unsigned {
            method: "POST",
            url: &self.endpoint,
            headers: &[("content-type", kind), ("x-amz-target", &target)],
            body: body.as_bytes(),
        };
        let scope = Scope {
            region: &self.region,
            service: "ecr",
            at: SystemTime::now(),
        };
        let signed = unsigned_request
            .signed(self.credentials().await?, scope)
            .map_err(unsigned)?;
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(CONTENT_TYPE, kind)
            .header("x-amz-target", &target);
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let request = request.body(body).build();
        request.map_err(|error| unsigned(error.without_url().into()))
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
        let EcrOptions { profile, keys, .. } = &self.options;
        if let (Some(profile), None) = (profile, keys) {
            let client = credentials::client(ProxyConfig::from_env());
            return credentials::of_profile(&self.region, profile, client);
        }
        credentials::provider(&credentials::find(&self.region, None, keys.as_ref()).await)
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
