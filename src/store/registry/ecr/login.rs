//! Keeps ECR's passwords until shortly before they end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use reqwest::Client;
use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::api::{Api, Apis};
use super::{EcrAddress, EcrOptions};
use crate::challenge::{ChallengeError, Login, Logins};
use crate::events::told;
use crate::store::registry::address::is_local;
use crate::store::registry::calls::client;
use crate::store::{StoreError, StoreErrorKind};

/// A blob that is begun with a password may take long to end.
const MARGIN: Duration = Duration::from_mins(30);

/// A password that lives shorter than two margins is kept for half its life.
#[derive(Clone)]
struct Password {
    /// `AWS:…` in base64, as the API gives it and as Basic sends it.
    encoded: String,
    until: Timestamp,
}

impl Password {
    /// None where it is none.
    fn login(&self) -> Option<Login> {
        let decoded = BASE64_STANDARD.decode(&self.encoded).ok()?;
        let pair = String::from_utf8(decoded).ok()?;
        let (user, password) = pair.split_once(':')?;
        let life = self.until.duration_since(Timestamp::now());
        // What has ended meanwhile is asked for again at once.
        let life = Duration::try_from(life).unwrap_or_default();
        Some(Login::password(user, password).that_ends(Instant::now() + life))
    }
}

/// Logins for the registries of ECR, of any region that the credentials are good for; none for others.
#[derive(Clone)]
pub struct EcrLogins(Arc<Held>);

struct Held {
    apis: Arc<Apis>,
    /// Whose credentials they are, in a user's words.
    whose: String,
    /// Of a server that is no AWS, whose registries are ECR too.
    host: Option<String>,
    /// By region: one password opens all registries there that the credentials may use.
    passwords: Mutex<BTreeMap<String, Password>>,
}

impl fmt::Debug for EcrLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcrLogins").finish_non_exhaustive()
    }
}

impl EcrLogins {
    /// For who reads from registries.
    pub fn connect(options: EcrOptions, connect_timeout: Duration) -> Result<Self, StoreError> {
        let is_local = options.endpoint.as_ref().is_some_and(is_local);
        let client = client(None, is_local, connect_timeout)?;
        Ok(Self::new(options, client))
    }

    /// `client` must follow no redirect.
    pub fn new(options: EcrOptions, client: Client) -> Self {
        Self::of(Arc::new(Apis::new(options, client)))
    }

    pub(super) fn of(apis: Arc<Apis>) -> Self {
        let endpoint = apis.options.endpoint.as_ref();
        let host = endpoint.and_then(|endpoint| Some(endpoint.host_str()?.to_owned()));
        let whose = match &apis.options.profile {
            Some(profile) => format!("those of the profile '{profile}'"),
            None => "those that AWS's tools find".to_owned(),
        };
        Self(Arc::new(Held {
            apis,
            whose,
            host,
            passwords: Mutex::default(),
        }))
    }

    /// Whether a registry's host is one that a password of ECR may be sent to.
    fn is_ecr(&self, registry: &str) -> bool {
        let host = registry
            .rsplit_once(':')
            .map_or(registry, |(host, _port)| host);
        EcrAddress::of_host(registry).is_some() || self.0.host.as_deref() == Some(host)
    }

    /// What goes into `Authorization`. Who comes while it is being asked for waits for the same answer.
    pub(super) async fn authorization(&self, api: &Api) -> Result<HeaderValue, StoreError> {
        let password = self.password(api).await?;
        header(&password.encoded).ok_or_else(|| nonsense(api))
    }

    async fn password(&self, api: &Api) -> Result<Password, StoreError> {
        let mut passwords = self.0.passwords.lock().await;
        if let Some(known) = passwords.get(&api.region)
            && known.until > Timestamp::now()
        {
            return Ok(known.clone());
        }
        let password = ask(api).await?;
        passwords.insert(api.region.clone(), password.clone());
        Ok(password)
    }

    /// What was sent is no longer good: the next asks anew, unless somebody has already.
    pub(super) async fn refused(&self, api: &Api, sent: &HeaderValue) {
        let mut passwords = self.0.passwords.lock().await;
        let known = passwords.get(&api.region);
        if known.is_some_and(|known| header(&known.encoded).as_ref() == Some(sent)) {
            passwords.remove(&api.region);
        }
    }
}

async fn ask(api: &Api) -> Result<Password, StoreError> {
    let what = format!("a password of ECR in {}", api.region);
    let told = api
        .call("GetAuthorizationToken", &json!({}), "get", &what)
        .await?;
    let given = &told["authorizationData"][0];
    let encoded = given["authorizationToken"].as_str();
    let encoded = encoded.ok_or_else(|| nonsense(api))?.to_owned();
    let now = Timestamp::now();
    let expires = given["expiresAt"].as_f64();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds of this age fit"
    )]
    let expires = expires.and_then(|at| Timestamp::from_millisecond((at * 1000.0) as i64).ok());
    let life = expires.map_or(Duration::ZERO, |expires| {
        Duration::try_from(expires.duration_since(now)).unwrap_or_default()
    });
    // One that says no end is asked for again by who is refused.
    let kept = match expires {
        Some(_) => life.saturating_sub(MARGIN).max(life / 2),
        None => MARGIN,
    };
    Ok(Password {
        encoded,
        until: now + kept,
    })
}

fn header(encoded: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn nonsense(api: &Api) -> StoreError {
    StoreError::new(
        StoreErrorKind::Transient,
        format!("ECR in {} gave something else than a password", api.region),
    )
}

#[async_trait]
impl Logins for EcrLogins {
    async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError> {
        if !self.is_ecr(registry) {
            return Ok(None);
        }
        // Nothing of a secret is in an error of the API.
        let unread = |error: StoreError| ChallengeError::Unread {
            registry: registry.to_owned(),
            from: format!(
                "ECR with AWS credentials, {} (registry.ecr_source.profile names them)",
                self.0.whose
            ),
            what: told(&error),
        };
        let Some(api) = self.0.apis.of_host(registry).map_err(unread)? else {
            return Ok(None);
        };
        let password = self.password(&api).await.map_err(unread)?;
        let login = password.login().ok_or_else(|| unread(nonsense(&api)))?;
        Ok(Some(login))
    }
}
