//! What a registry asks of who comes, and the token that answers it.
//!
//! A registry answers 401 and names, in `WWW-Authenticate`, a token service (`Bearer`) or asks for user and password itself
//! (`Basic`). A token is for one scope at one registry and lives for minutes; it is got once, sent along until it ends, and got anew
//! when it is refused (github.com/distribution/distribution, `docs/content/spec/auth`; RFC 7235). Who we are is a [`Login`], and that
//! goes to nobody but the registry, or to the token service that it names over https.

pub mod credentials;
mod demand;
mod login;
mod service;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use url::Url;

pub use self::demand::token_service;
use self::demand::{Demand, registry};
pub use self::login::{Login, Logins};
use crate::retry::Class;

/// So long a login is believed before it is asked for again: programs that keep them take a moment, and some logins end.
const LOGIN_KEPT: Duration = Duration::from_mins(5);

/// Why a registry's question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChallengeError {
    #[error(
        "{registry} lets nobody in without credentials, and asks for none that are known here (no Bearer, no Basic)"
    )]
    Silent { registry: String },
    #[error("{registry} wants a user and a password, and there are none: docker login {registry}")]
    NoLogin { registry: String },
    #[error(
        "{registry} names {realm} as its token service, where what is sent could be read by others: nothing was sent there"
    )]
    Unsafe { registry: String, realm: String },
    #[error("{realm} gives no token for {registry} ({scope}): it answered {status}{}", hint(*with_login))]
    Refused {
        registry: String,
        realm: String,
        scope: String,
        status: u16,
        with_login: bool,
    },
    #[error("{realm} gave no token for {registry}: it answered {status}")]
    Failing {
        registry: String,
        realm: String,
        status: u16,
        retry_after: Option<Duration>,
    },
    #[error("the token service {realm} of {registry} can't be reached")]
    Unreachable {
        registry: String,
        realm: String,
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("the token service {realm} of {registry} answered something else than a token: {what}")]
    Nonsense {
        registry: String,
        realm: String,
        what: String,
    },
    /// Nothing of what the file holds, or the program said, is in `what`.
    #[error("the login for {registry} can't be had from {from}: {what}")]
    Unread {
        registry: String,
        from: String,
        what: String,
    },
}

fn hint(with_login: bool) -> &'static str {
    if with_login {
        ": check the login, and whether it may read this"
    } else {
        ": it may want a login, and there is none for it (docker login); or there is no such repository"
    }
}

impl ChallengeError {
    pub fn class(&self) -> Class {
        match self {
            Self::Failing { .. } | Self::Unreachable { .. } | Self::Nonsense { .. } => {
                Class::Transient
            }
            Self::Silent { .. }
            | Self::NoLogin { .. }
            | Self::Unsafe { .. }
            | Self::Refused { .. }
            | Self::Unread { .. } => Class::Permanent,
        }
    }

    /// How long the token service asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failing { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What answers a registry's question, until it ends.
#[derive(Debug, Clone)]
struct Token {
    authorization: HeaderValue,
    /// None: until it is refused.
    until: Option<Instant>,
}

impl Token {
    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

/// The registry, as scheme, host and port, and the scope.
type Place = (String, String);

/// Who asks for the token of a place does so alone; the others wait for what comes of it, a failure too: where a service can't be
/// reached, each of them would wait as long again.
#[derive(Debug, Default)]
struct Slot {
    token: Mutex<Option<Token>>,
    asking: tokio::sync::Mutex<Option<(Instant, ChallengeError)>>,
}

impl Slot {
    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        locked(&self.token)
    }
}

/// What is known of the login for a registry.
#[derive(Debug, Default)]
struct KnownLogin {
    /// If there is one, and until when that is believed.
    found: Option<(Option<Login>, Instant)>,
    /// When it could not be had last. Who waited meanwhile is told the same: each would wait as long again.
    failed: Option<(Instant, ChallengeError)>,
}

#[derive(Debug)]
struct Held {
    logins: Arc<dyn Logins>,
    slots: Mutex<HashMap<Place, Arc<Slot>>>,
    /// By registry.
    known_logins: Mutex<HashMap<String, Arc<tokio::sync::Mutex<KnownLogin>>>>,
}

/// The tokens of one run, by registry and scope, each until shortly before it ends. A clone holds the same ones.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Held>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(url: &Url, scope: &str) -> Place {
    (url.origin().ascii_serialization(), scope.to_owned())
}

impl Default for Tokens {
    /// As who has no login anywhere.
    fn default() -> Self {
        Self::new(Arc::new(Vec::new()))
    }
}

impl Tokens {
    pub fn new(logins: Arc<dyn Logins>) -> Self {
        Self(Arc::new(Held {
            logins,
            slots: Mutex::default(),
            known_logins: Mutex::default(),
        }))
    }

    /// The `Authorization` that is good for this scope at this URL's registry, without a request; None where none is needed so far.
    pub fn known(&self, url: &Url, scope: &str) -> Option<HeaderValue> {
        let slot = locked(&self.0.slots).get(&place(url, scope)).cloned()?;
        let token = slot.token().clone();
        token
            .filter(Token::is_good)
            .map(|token| token.authorization)
    }

    /// After a 401 with these `headers`: the `Authorization` to come again with. Many who ask at once get the same one, by one
    /// request. `scope` is `repository:NAME:pull` or `repository:NAME:pull,push`; `client` must follow no redirect.
    pub async fn answer(
        &self,
        client: &Client,
        url: &Url,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<HeaderValue, ChallengeError> {
        self.answer_by(client, url, headers, scope, None).await
    }

    /// As [`Tokens::answer`], with the token service `moved` to where the user says that it is. There no login is shown: whoever is
    /// asked instead of somebody need not be trusted as he is.
    pub async fn answer_by(
        &self,
        client: &Client,
        url: &Url,
        headers: &HeaderMap,
        scope: &str,
        moved: Option<&Url>,
    ) -> Result<HeaderValue, ChallengeError> {
        let slot = self.slot(url, scope);
        let came = Instant::now();
        let mut failed = slot.asking.lock().await;
        if let Some(token) = slot.token().clone().filter(Token::is_good) {
            return Ok(token.authorization);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(error.clone());
        }
        let token = self.token(client, url, headers, scope, moved).await;
        let token = token.inspect_err(|error| *failed = Some((Instant::now(), error.clone())))?;
        *slot.token() = Some(token.clone());
        Ok(token.authorization)
    }

    async fn token(
        &self,
        client: &Client,
        url: &Url,
        headers: &HeaderMap,
        scope: &str,
        moved: Option<&Url>,
    ) -> Result<Token, ChallengeError> {
        let registry = registry(url);
        match (Demand::read(url, headers, scope)?, moved) {
            (Demand::Bearer(service), Some(moved)) => service.at(moved).token(client, None).await,
            (Demand::Bearer(service), None) => {
                let login = self.login(&registry).await?;
                service.token(client, login.as_ref()).await
            }
            (Demand::Basic, _) => {
                let login = self.login(&registry).await?;
                let login = login.ok_or(ChallengeError::NoLogin { registry })?;
                Ok(Token {
                    authorization: login.basic(),
                    until: login.until(),
                })
            }
        }
    }

    /// It was refused: the next asks anew.
    pub fn forget(&self, url: &Url, scope: &str) {
        if let Some(slot) = locked(&self.0.slots).get(&place(url, scope)) {
            *slot.token() = None;
        }
        locked(&self.0.known_logins).remove(&registry(url));
    }

    /// As [`Tokens::forget`], unless somebody has got a newer one than what was `sent`.
    pub fn refused(&self, url: &Url, scope: &str, sent: &HeaderValue) {
        if self.known(url, scope).as_ref() == Some(sent) {
            self.forget(url, scope);
        }
    }

    fn slot(&self, url: &Url, scope: &str) -> Arc<Slot> {
        let mut slots = locked(&self.0.slots);
        // A run that lasts for months meets many repositories; what has ended is of no use.
        let is_used = |slot: &Arc<Slot>| {
            Arc::strong_count(slot) > 1 || slot.token().as_ref().is_some_and(Token::is_good)
        };
        slots.retain(|_, slot| is_used(slot));
        Arc::clone(slots.entry(place(url, scope)).or_default())
    }

    /// Asks for a login once for all who want it at the same time: it may take a program to find it.
    async fn login(&self, registry: &str) -> Result<Option<Login>, ChallengeError> {
        let cell = {
            let mut known = locked(&self.0.known_logins);
            Arc::clone(known.entry(registry.to_owned()).or_default())
        };
        let came = Instant::now();
        let mut known = cell.lock().await;
        if let Some((login, until)) = known.found.as_ref()
            && *until > Instant::now()
        {
            return Ok(login.clone());
        }
        if let Some((_, error)) = known.failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(error.clone());
        }
        let login = self.0.logins.login(registry).await;
        let login =
            login.inspect_err(|error| known.failed = Some((Instant::now(), error.clone())))?;
        let kept = Instant::now() + LOGIN_KEPT;
        let ends = login.as_ref().and_then(Login::until);
        known.found = Some((login.clone(), ends.map_or(kept, |ends| ends.min(kept))));
        Ok(login)
    }
}

#[cfg(test)]
mod tests;
