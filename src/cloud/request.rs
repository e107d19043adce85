//! Sends one call, signed, again where that may help.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use tokio::time::{sleep, timeout};
use url::Url;

use super::failure::{CloudError, CloudErrorKind, Refusal, Site};
use super::service::{self, Service};
use super::signing::{Scope, Unsigned};
use super::{Account, Cloud};
use crate::events::{innermost, mentions};
use crate::retry::{Attempts, Class};

/// A page of 1,000 images with their tags has some 3 MiB.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// A call to a service.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) operation: &'a str,
    /// `look at the image ami-1`
    pub(super) purpose: &'a str,
    pub(super) method: Method,
    /// With its query; begins with a slash.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Whether it does no harm twice: it changes nothing, or carries a token. Another is repeated only where it was surely not done.
    pub(super) is_repeatable: bool,
}

/// What came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How an attempt failed.
pub(super) struct Failed {
    pub(super) error: CloudError,
    /// Whether it may have been carried out all the same.
    may_be_done: bool,
}

impl Cloud {
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, CloudError> {
        let mut attempts = Attempts::new(self.0.settings.retry);
        loop {
            let failed = match self.0.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let Failed { error, may_be_done } = failed;
            let is_worth =
                error.class() == Class::Transient && (call.is_repeatable || !may_be_done);
            let Some(pause) = is_worth.then(|| attempts.failed()).flatten() else {
                return Err(error);
            };
            tracing::info!("again: {error}");
            sleep(pause).await;
        }
    }

    /// Why an answer is not what it should be.
    pub(super) fn nonsense(
        &self,
        service: &Service,
        operation: &str,
        purpose: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> CloudError {
        let who = self.0.settings.who();
        let site = Site {
            service,
            operation,
            purpose,
            region: self.region(),
            who: &who,
        };
        let why = format!("{} {operation}: the answer can't be read", service.name);
        CloudError::at(site, CloudErrorKind::Corrupt, why).caused_by(source)
    }
}

impl Account {
    async fn once(&self, call: &Call<'_>) -> Result<Answer, Failed> {
        let who = self.settings.who();
        let site = Site {
            service: call.service,
            operation: call.operation,
            purpose: call.purpose,
            region: &self.settings.region,
            who: &who,
        };
        let not_sent = |error| Failed {
            error,
            may_be_done: false,
        };
        let request = self.signed(call, site).await.map_err(not_sent)?;
        let asking = async {
            let answer = self.client.execute(request).await;
            let answer = answer.map_err(|error| unanswered(site, error))?;
            read(site, answer).await
        };
        let patience = self.settings.answer_timeout;
        timeout(patience, asking).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", patience.as_secs());
            let error = CloudError::at(site, CloudErrorKind::Transient, why);
            Err(Failed {
                error,
                may_be_done: true,
            })
        })
    }

    async fn signed(
        &self,
        call: &Call<'_>,
        site: Site<'_>,
    ) -> Result<reqwest::Request, CloudError> {
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| {
            CloudError::at(
                site,
                CloudErrorKind::Permanent,
                "the request can't be signed",
            )
            .caused_by(error)
        };
        let base = service::endpoint(&self.settings, &self.found, call.service)?;
        let url = at(&base, &call.path).map_err(|error| unsigned(error.into()))?;
        let headers: Vec<_> = call
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = Unsigned {
            method: call.method.as_str(),
            url: &url,
            headers: &headers,
            body: &call.body,
        };
        let scope = Scope {
            region: &self.settings.region,
            service: call.service.signing,
            at: SystemTime::now(),
        };
        let signed = request
            .signed(self.credentials(site).await?, scope)
            .map_err(unsigned)?;
        let mut request = self.client.request(call.method.clone(), url.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let request = request.body(call.body.clone()).build();
        request.map_err(|error| unsigned(error.without_url().into()))
    }

    async fn credentials(&self, site: Site<'_>) -> Result<Credentials, CloudError> {
        let found = self.credentials.provide_credentials().await;
        found.map_err(|error| {
            let what_to_do = match &self.settings.profile {
                Some(profile) => format!(
                    "the profile {profile} has no credentials: look into ~/.aws/config and ~/.aws/credentials, or log in \
                     (aws sso login --profile {profile})"
                ),
                None => "there are no AWS credentials: name a profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where \
                         an instance role is"
                    .to_owned(),
            };
            CloudError::at(site, CloudErrorKind::Credentials, what_to_do).caused_by(error)
        })
    }
}

/// A path below an endpoint, which may have one of its own.
fn at(base: &Url, path: &str) -> Result<Url, url::ParseError> {
    Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/')))
}

pub(super) fn unanswered(site: Site<'_>, error: reqwest::Error) -> Failed {
    let may_be_done = !error.is_connect();
    let error = error.without_url();
    let cause = innermost(&error);
    let error = if mentions(&error, "certificate") {
        let why = "the certificate is not good for the endpoint; it is never ignored: check the endpoint, the clock and the trusted roots";
        CloudError::at(site, CloudErrorKind::Permanent, why)
    } else if may_be_done {
        CloudError::at(site, CloudErrorKind::Transient, "the connection broke")
    } else {
        let why = format!("{} can't be reached", site.service.name);
        CloudError::at(site, CloudErrorKind::Transient, why)
    };
    Failed {
        error: error.caused_by(cause),
        may_be_done,
    }
}

async fn read(site: Site<'_>, mut answer: Response) -> Result<Answer, Failed> {
    let status = answer.status();
    let Site {
        service,
        operation,
        region,
        ..
    } = site;
    tracing::debug!(
        status = status.as_u16(),
        region,
        "{} {operation}",
        service.name
    );
    let broken = |kind, why| Failed {
        error: CloudError::at(site, kind, why),
        may_be_done: true,
    };
    let mut body = BytesMut::new();
    loop {
        let piece = answer.chunk().await;
        let piece = piece.map_err(|_| broken(CloudErrorKind::Transient, "the answer broke off"))?;
        let Some(piece) = piece else { break };
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_MAX_BYTES {
            return Err(broken(
                CloudErrorKind::Corrupt,
                "the answer is longer than any should be",
            ));
        }
    }
    let headers = answer.headers().clone();
    if status.is_success() {
        return Ok(Answer {
            headers,
            body: body.freeze(),
        });
    }
    let error_type = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok());
    let refusal = Refusal::read(status.as_u16(), error_type, &body);
    let may_be_done = status.is_server_error() && refusal.kind() != CloudErrorKind::Throttled;
    Err(Failed {
        error: CloudError::refused(site, refusal),
        may_be_done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_below_the_endpoint() {
        let check = |base: &str, path: &str, expected: &str| {
            assert_eq!(
                at(&Url::parse(base).unwrap(), path).unwrap().as_str(),
                expected
            );
        };
        check("http://127.0.0.1:5000", "/", "http://127.0.0.1:5000/");
        check(
            "http://127.0.0.1:5000/a/",
            "/b?c=d",
            "http://127.0.0.1:5000/a/b?c=d",
        );
    }
}
