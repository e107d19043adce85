//! Asks a token service for a token.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::Url;
use url::form_urlencoded::Serializer;

use super::login::{Login, Secret};
use super::{ChallengeError, Token};
use crate::events::innermost;

/// A small question; a connection, its encryption and the answer may each wait for lost packets.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The largest tokens that are known have some 10 KiB.
const ANSWER_MAX_BYTES: usize = 256 << 10;

/// Where a service tells no time (its specification's word).
const EXPIRES_IN_SECONDS: u64 = 60;

/// A token that ends on its way is no use: it is left so long before its end.
const MARGIN_MAX: Duration = Duration::from_secs(10);

const CLIENT_ID: &str = "kops-mirror";

/// The token service of a registry, and what it is to be asked for.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) registry: String,
    pub(super) realm: Url,
    pub(super) name: Option<String>,
    pub(super) scope: String,
    /// Whether it may see a login.
    pub(super) is_trusted: bool,
}

/// What a service answers; `token` is the older name of the same.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Service {
    pub(super) fn at(self, moved: &Url) -> Self {
        let realm = moved.clone();
        Self { realm, ..self }
    }

    /// A token for the login, or for everybody where there is none.
    pub(super) async fn token(
        &self,
        client: &Client,
        login: Option<&Login>,
    ) -> Result<Token, ChallengeError> {
        if login.is_some() && !self.is_trusted {
            return Err(ChallengeError::Unsafe {
                registry: self.registry.clone(),
                realm: self.shown(),
            });
        }
        let asked = Instant::now();
        let answered = timeout(ANSWER_TIMEOUT, self.ask(client, login)).await;
        let content = answered.map_err(|_| self.unreachable("no answer in time"))??;
        self.read(&content, asked)
    }

    async fn ask(&self, client: &Client, login: Option<&Login>) -> Result<Bytes, ChallengeError> {
        let request = match login.map(|login| (login, login.secret())) {
            Some((_, Secret::Identity(token))) => {
                let mut form = Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", CLIENT_ID)
                    .append_pair("refresh_token", token);
                let form = self.question(form);
                let kind = "application/x-www-form-urlencoded";
                let request = client.post(self.realm.clone());
                request.header(header::CONTENT_TYPE, kind).body(form)
            }
            with_password => {
                let mut url = self.realm.clone();
                let asked_already = Serializer::new(url.query().unwrap_or_default().to_owned());
                url.set_query(Some(&self.question(asked_already)));
                let request = client.get(url);
                match with_password {
                    Some((login, _)) => request.header(header::AUTHORIZATION, login.basic()),
                    None => request,
                }
            }
        };
        let answer = request.send().await;
        let answer = answer.map_err(|error| self.unreachable(innermost(&error.without_url())))?;
        let status = answer.status().as_u16();
        tracing::debug!(
            registry = self.registry,
            scope = self.scope,
            status,
            "asked {} for a token",
            self.shown()
        );
        match status {
            200 => self.body(answer).await,
            // What redirects asks for the login to be sent elsewhere.
            300..=399 => Err(self.nonsense("it redirects")),
            408 | 425 | 429 | 500.. => Err(ChallengeError::Failing {
                registry: self.registry.clone(),
                realm: self.shown(),
                status,
                retry_after: seconds(answer.headers()),
            }),
            _ => Err(ChallengeError::Refused {
                registry: self.registry.clone(),
                realm: self.shown(),
                scope: self.scope.clone(),
                status,
                with_login: login.is_some(),
            }),
        }
    }

    fn question(&self, mut pairs: Serializer<'_, String>) -> String {
        if let Some(name) = &self.name {
            pairs.append_pair("service", name);
        }
        pairs.append_pair("scope", &self.scope).finish()
    }

    async fn body(&self, mut answer: Response) -> Result<Bytes, ChallengeError> {
        let mut content = Vec::new();
        loop {
            let piece = answer.chunk().await;
            let piece = piece.map_err(|error| self.unreachable(innermost(&error.without_url())))?;
            let Some(piece) = piece else {
                return Ok(content.into());
            };
            content.extend_from_slice(&piece);
            if content.len() > ANSWER_MAX_BYTES {
                return Err(self.nonsense("it is too long"));
            }
        }
    }

    fn read(&self, content: &[u8], asked: Instant) -> Result<Token, ChallengeError> {
        // What the parser would say of it may have the token in it.
        let given: Given = serde_json::from_slice(content)
            .map_err(|_| self.nonsense("it is not what it should be"))?;
        let token = given.token.filter(|token| !token.is_empty());
        let token = token
            .or(given.access_token)
            .filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.nonsense("there is none in it"))?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| self.nonsense("it can't be sent in a header"))?;
        authorization.set_sensitive(true);
        let lives = Duration::from_secs(given.expires_in.unwrap_or(EXPIRES_IN_SECONDS));
        let margin = (lives / 4).min(MARGIN_MAX);
        Ok(Token {
            authorization,
            until: asked.checked_add(lives.saturating_sub(margin)),
        })
    }

    /// Scheme, host and port alone: paths and queries are the registry's word.
    fn shown(&self) -> String {
        self.realm.origin().ascii_serialization()
    }

    fn unreachable(&self, why: impl Into<String>) -> ChallengeError {
        ChallengeError::Unreachable {
            registry: self.registry.clone(),
            realm: self.shown(),
            source: Arc::from(Box::<dyn Error + Send + Sync>::from(why.into())),
        }
    }

    fn nonsense(&self, what: &str) -> ChallengeError {
        ChallengeError::Nonsense {
            registry: self.registry.clone(),
            realm: self.shown(),
            what: what.to_owned(),
        }
    }
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}
