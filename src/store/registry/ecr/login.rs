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

use super::EcrOptions;
use super::api::{Api, Apis};
use crate::challenge::{ChallengeError, Login, Logins};
use crate::events::told;
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

/// Logins for the registries of ECR, of any region that the credentials are good for; none for others.
#[derive(Clone)]
pub struct EcrLogins(Arc<Held>);

struct Held {
    apis: Arc<Apis>,
    /// By region: one password opens all registries there that the credentials may use.
    passwords: Mutex<BTreeMap<String, Password>>,
}

impl fmt::Debug for EcrLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcrLogins").finish_non_exhaustive()
    }
}

impl EcrLogins {
    /// `client` must follow no redirect.
    pub fn new(options: EcrOptions, client: Client) -> Self {
        Self::of(Arc::new(Apis::new(options, client)))
    }

    pub(super) fn of(apis: Arc<Apis>) -> Self {
        Self(Arc::new(Held {
            apis,
            passwords: Mutex::default(),
        }))
    }

    /// What goes into `Authorization`. Who comes while it is being asked for waits for the same answer.
    pub(super) async fn authorization(&self, api: &Api) -> Result<HeaderValue, StoreError> {
        let encoded = self.encoded(api).await?;
        header(&encoded).ok_or_else(|| nonsense(api))
    }

    async fn encoded(&self, api: &Api) -> Result<String, StoreError> {
        let mut passwords = self.0.passwords.lock().await;
        if let Some(known) = passwords.get(&api.region)
            && known.until > Timestamp::now()
        {
            return Ok(known.encoded.clone());
        }
        let password = ask(api).await?;
        let encoded = password.encoded.clone();
        passwords.insert(api.region.clone(), password);
        Ok(encoded)
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
        // Nothing of a secret is in an error of the API.
        let unread = |error: StoreError| ChallengeError::Unread {
            registry: registry.to_owned(),
            from: "ECR".to_owned(),
            what: told(&error),
        };
        let Some(api) = self.0.apis.of_host(registry).map_err(unread)? else {
            return Ok(None);
        };
        let encoded = self.encoded(&api).await.map_err(unread)?;
        let decoded = BASE64_STANDARD.decode(encoded).ok();
        let pair = decoded.and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        let Some((user, password)) = pair else {
            return Err(unread(nonsense(&api)));
        };
        Ok(Some(Login::password(user, password)))
    }
}
