//! Who we are at a registry.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::ChallengeError;

/// Who we are at a registry. Its secret is in no `Debug`, no error and no page.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    secret: Secret,
    /// None: for as long as nobody says otherwise.
    until: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Password(String),
    /// What a token service takes for a refresh token.
    Identity(String),
}

impl Login {
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            secret: Secret::Password(password.into()),
            until: None,
        }
    }

    /// What `docker login` gets where no password is to be kept: an OAuth 2 refresh token.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self {
            user: IDENTITY_USER.to_owned(),
            secret: Secret::Identity(token.into()),
            until: None,
        }
    }

    /// The same, which is to be asked for again from then on.
    #[must_use]
    pub fn that_ends(self, until: Instant) -> Self {
        Self {
            until: Some(until),
            ..self
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn basic(&self) -> HeaderValue {
        let (Secret::Password(secret) | Secret::Identity(secret)) = &self.secret;
        let pair = BASE64.encode(format!("{}:{secret}", self.user));
        let mut value = HeaderValue::try_from(format!("Basic {pair}"))
            .expect("base64 has nothing that a header's value may not have");
        value.set_sensitive(true);
        value
    }
}

/// The user that says of a secret that it is an identity token (docker's credential programs).
pub(super) const IDENTITY_USER: &str = "<token>";

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Who knows logins.
#[async_trait]
pub trait Logins: Send + Sync + fmt::Debug {
    /// The login for a registry, by the host that its API is at, with its port where it has one; None where there is none, and then
    /// it is asked for what everybody may have.
    async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError>;
}

/// The first that knows one.
#[async_trait]
impl Logins for Vec<Arc<dyn Logins>> {
    async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError> {
        for logins in self {
            if let Some(login) = logins.login(registry).await? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}
