//! Sends requests: with what lets us in, patient where the registry asks for patience, again where that may help.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, Response, StatusCode};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use url::Url;

use super::RegistryOptions;
use super::answers::{Refusal, silent, unanswered, unknown_here};
use super::ecr::Ecr;
use crate::challenge::Tokens;
use crate::retry::{self, Attempts, Class};
use crate::store::{StoreError, StoreErrorKind};

/// For requests with nothing to carry: a token service and a busy registry may each take their time.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// A token may end, or somebody else use it up, between getting and using it.
const RENEWALS_MAX: u32 = 3;

/// How often it is asked whether the registry is there at all.
const LOOKS_MAX: u32 = 3;

/// Of targets of redirects.
const REDIRECTS_MAX: usize = 5;

/// One request, which can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// What a token must allow: `repository:NAME:pull`.
    pub(super) scope: String,
    pub(super) headers: HeaderMap,
    /// Short ones only.
    pub(super) body: Bytes,
    /// `put`, `look at`: for errors.
    pub(super) action: &'a str,
    /// In a user's words.
    pub(super) what: &'a str,
    /// The repository that must be there for this, by its whole name.
    pub(super) writes_to: Option<String>,
}

/// What a request came to, where an answer came.
pub(super) type Answered = Result<Response, StoreError>;

/// The client and what it has learnt.
#[derive(Debug)]
pub(super) struct Calls {
    client: Client,
    base: Url,
    tokens: Tokens,
    ecr: Option<Arc<Ecr>>,
    policy: retry::Policy,
    /// Until when the registry asked to be left alone.
    quiet_until: Mutex<Option<Instant>>,
}

/// HTTP/1.1, for the same reason as at origins: one connection is one congestion window. No redirects: a token goes no further.
pub(super) fn client(
    proxy: Option<&Url>,
    is_local: bool,
    connect_timeout: Duration,
) -> Result<Client, StoreError> {
    let mut builder = Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .user_agent(concat!("kops-mirror/", env!("CARGO_PKG_VERSION")));
    let unusable = |error: reqwest::Error| {
        let what = "can't make a client for registries: check the proxy and the trusted roots";
        StoreError::new(StoreErrorKind::Permanent, what).caused_by(error.without_url())
    };
    if let Some(proxy) = proxy {
        let proxy = reqwest::Proxy::all(proxy.clone()).map_err(unusable)?;
        builder = builder.proxy(proxy);
    } else if is_local {
        builder = builder.no_proxy();
    }
    builder.build().map_err(unusable)
}

impl Calls {
    pub(super) fn new(
        options: &RegistryOptions,
        client: Client,
        tokens: Tokens,
        ecr: Option<Arc<Ecr>>,
    ) -> Self {
        Self {
            client,
            base: options.address.base().clone(),
            tokens,
            ecr,
            policy: options.policy,
            quiet_until: Mutex::default(),
        }
    }

    /// `https://HOST/v2/PATH`.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("v2/{path}"));
        url
    }

    /// Looks whether the registry is there and lets us in.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        let what = self.base.host_str().unwrap_or_default();
        let call = Call {
            method: Method::GET,
            url: self.url(""),
            scope: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            action: "use",
            what,
            writes_to: None,
        };
        // What is not there is found out soon: nothing is lost yet.
        let policy = retry::Policy {
            attempts: self.policy.attempts.min(LOOKS_MAX),
            ..self.policy
        };
        let answer = self.again_by(policy, &call).await?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(StoreError::new(
                StoreErrorKind::Permanent,
                format!("can't use {what}: there is no registry (no /v2/); check the address"),
            )),
            _ => Err(Refusal::read(answer).await.explain(call.action, what)),
        }
    }

    /// Sends a short request, again where that may help. Any answer that will stay the same is one, 404 too.
    pub(super) async fn patiently(&self, call: &Call<'_>) -> Answered {
        self.again_by(self.policy, call).await
    }

    async fn again_by(&self, policy: retry::Policy, call: &Call<'_>) -> Answered {
        let mut attempts = Attempts::new(policy);
        loop {
            self.quiet().await;
            let error = match self.once(call).await {
                Err(error) => self.looked_into(call, error).await,
                Ok(answer) if is_passing(answer.status()) => {
                    self.refused(call.action, call.what, answer).await
                }
                Ok(answer) => return Ok(answer),
            };
            let pause = match error.class() {
                Class::Transient => attempts.failed(),
                _ => None,
            };
            let Some(pause) = pause else {
                return Err(error);
            };
            tracing::info!("again in {pause:?}: {error}");
            sleep(pause).await;
        }
    }

    /// ECR hangs up on who writes to a repository that is not there, and its API says whether it is.
    async fn looked_into(&self, call: &Call<'_>, error: StoreError) -> StoreError {
        let (Some(ecr), Some(repository)) = (&self.ecr, &call.writes_to) else {
            return error;
        };
        if error.kind != StoreErrorKind::Transient || !ecr.lacks(repository).await {
            return error;
        }
        let told = format!(
            "can't {} {}: ECR has no repository {repository}; make it first",
            call.action, call.what
        );
        StoreError::new(StoreErrorKind::NoSuchBucket, told).caused_by(error)
    }

    async fn once(&self, call: &Call<'_>) -> Answered {
        let body = || (!call.body.is_empty()).then(|| Body::from(call.body.clone()));
        let sending = self.let_in(call, body);
        match timeout(ANSWER_TIMEOUT, sending).await {
            Ok(answered) => answered,
            Err(_) => Err(silent(call.action, call.what, ANSWER_TIMEOUT)),
        }
    }

    /// Sends a request with what lets us in, and with something newer where that is refused. `body` is asked for each time.
    pub(super) async fn let_in(
        &self,
        call: &Call<'_>,
        mut body: impl FnMut() -> Option<Body>,
    ) -> Answered {
        let mut renewed = 0;
        let mut authorization = self.known(call).await?;
        loop {
            let sent = authorization.clone();
            let answer = self.send(call, sent.as_ref(), body()).await?;
            let is_over = renewed == RENEWALS_MAX || !self.is_ours(&call.url);
            if is_over || !self.is_of_an_old_token(call, sent.as_ref(), &answer).await {
                return Ok(answer);
            }
            authorization = match self.renewed(call, sent.as_ref(), answer).await? {
                Renewed::New(authorization) => Some(authorization),
                Renewed::Same(refusal) => {
                    return Err(refusal.explain(call.action, call.what));
                }
            };
            renewed += 1;
        }
    }

    /// What is known to let us in, without asking; ECR's password is got beforehand, since it is the same for all repositories.
    async fn known(&self, call: &Call<'_>) -> Result<Option<HeaderValue>, StoreError> {
        if !self.is_ours(&call.url) {
            return Ok(None);
        }
        match &self.ecr {
            Some(ecr) => Ok(Some(ecr.authorization().await?)),
            None => Ok(self.tokens.known(&call.url, &call.scope)),
        }
    }

    async fn is_of_an_old_token(
        &self,
        call: &Call<'_>,
        sent: Option<&HeaderValue>,
        answer: &Response,
    ) -> bool {
        match answer.status() {
            StatusCode::UNAUTHORIZED => true,
            // ECR says in the body of a 403 that a password has ended, and answers to HEAD have none.
            StatusCode::FORBIDDEN if self.ecr.is_some() => {
                let look = Call {
                    method: Method::GET,
                    url: self.url(""),
                    body: Bytes::new(),
                    headers: HeaderMap::new(),
                    ..call.clone()
                };
                match self.send(&look, sent, None).await {
                    Ok(answer) => Refusal::read(answer).await.is_of_an_old_token(),
                    Err(_) => false,
                }
            }
            _ => false,
        }
    }

    async fn renewed(
        &self,
        call: &Call<'_>,
        sent: Option<&HeaderValue>,
        answer: Response,
    ) -> Result<Renewed, StoreError> {
        if let Some(ecr) = &self.ecr {
            if let Some(sent) = sent {
                ecr.refused(sent).await;
            }
            let newer = ecr.authorization().await?;
            return Ok(match Some(&newer) == sent {
                true => Renewed::Same(Refusal::read(answer).await),
                false => Renewed::New(newer),
            });
        }
        if let Some(sent) = sent {
            self.tokens.refused(&call.url, &call.scope, sent);
        }
        let answered = self
            .tokens
            .answer(&self.client, &call.url, answer.headers(), &call.scope);
        let newer = answered
            .await
            .map_err(|error| unknown_here(call.action, call.what, error))?;
        // A user and a password stay the same: that they were refused is the last word.
        Ok(match Some(&newer) == sent {
            true => Renewed::Same(Refusal::read(answer).await),
            false => Renewed::New(newer),
        })
    }

    async fn send(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        body: Option<Body>,
    ) -> Answered {
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        request = request.headers(call.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let asked = Instant::now();
        let answered = request.send().await;
        let seconds = asked.elapsed().as_secs_f32();
        let (method, path) = (&call.method, call.url.path());
        let host = call.url.host_str().unwrap_or_default();
        match answered {
            Ok(answer) => {
                let status = answer.status().as_u16();
                tracing::debug!(status, seconds, "{method} {host}{path}");
                Ok(answer)
            }
            Err(error) => {
                tracing::debug!(seconds, "{method} {host}{path} got no answer");
                let missing = call.writes_to.as_deref().filter(|_| self.ecr.is_some());
                Err(unanswered(call.action, call.what, missing, error))
            }
        }
    }

    /// Follows redirects to where blobs lie. What lets us in here is not sent there.
    pub(super) async fn followed(&self, call: &Call<'_>, mut answer: Response) -> Answered {
        let mut from = call.url.clone();
        for _ in 0..REDIRECTS_MAX {
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let target = location(&from, answer.headers());
            let target = target.ok_or_else(|| nowhere(call))?;
            let onward = Call {
                url: target.clone(),
                ..call.clone()
            };
            answer = match timeout(ANSWER_TIMEOUT, self.send(&onward, None, None)).await {
                Ok(answered) => answered?,
                Err(_) => return Err(silent(call.action, call.what, ANSWER_TIMEOUT)),
            };
            from = target;
        }
        Err(nowhere(call))
    }

    /// What a refusal comes to, and from when on others may come again.
    pub(super) async fn refused(&self, action: &str, what: &str, answer: Response) -> StoreError {
        let refusal = Refusal::read(answer).await;
        if let Some(after) = refusal.retry_after {
            let until = Instant::now() + after;
            let mut quiet = self
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *quiet = quiet.max(Some(until));
        }
        refusal.explain(action, what)
    }

    /// Waits until the registry may be asked again.
    pub(super) async fn quiet(&self) {
        let until = *self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    /// Whether a URL is the registry's own.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

enum Renewed {
    New(HeaderValue),
    /// There is nothing else to try.
    Same(Refusal),
}

/// Where an answer points to; None where it is nowhere, or from https to where others can read along.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = headers.get(reqwest::header::LOCATION)?.to_str().ok()?;
    let target = from.join(text).ok()?;
    let is_safe =
        target.scheme() == "https" || target.scheme() == "http" && from.scheme() == "http";
    is_safe.then_some(target)
}

fn nowhere(call: &Call<'_>) -> StoreError {
    let what = format!(
        "can't {} {}: the registry redirects to nowhere, too often, or from https to http",
        call.action, call.what
    );
    StoreError::new(StoreErrorKind::Permanent, what)
}

/// Whether the same request may be answered otherwise in a moment.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500..)
}
