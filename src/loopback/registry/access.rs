//! Lets in who may come: checks what a request brings, and gives out tokens for scopes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde_json::json;
use tokio::time::Instant;

use super::answer::{Ended, Refusal, document};
use super::asked::{Asked, Operation};
use super::{Auth, Options, Registry};

const SERVICE: &str = "loopback-registry";

/// Actions by repository.
type Scopes = BTreeMap<String, BTreeSet<String>>;

/// The tokens and passwords that were given out.
#[derive(Debug, Default)]
pub(super) struct Issued(BTreeMap<String, Grant>);

#[derive(Debug)]
struct Grant {
    /// None: all.
    scopes: Option<Scopes>,
    until: Instant,
    requests_left: Option<u32>,
}

impl Issued {
    /// Makes a new secret that opens these scopes.
    fn give(&mut self, scopes: Option<Scopes>, options: &Options) -> String {
        let secret = format!("{:032x}", fastrand::u128(..));
        let grant = Grant {
            scopes,
            until: Instant::now() + options.token_life,
            requests_left: options.token_requests,
        };
        self.0.insert(secret.clone(), grant);
        secret
    }

    /// Makes a new password of ECR.
    pub(super) fn give_password(&mut self, options: &Options) -> String {
        self.give(None, options)
    }

    pub(super) fn revoke(&mut self) {
        self.0.clear();
    }

    /// Whether a secret is good for this, which counts as a use of it.
    fn admits(&mut self, secret: &str, repository: &str, action: &str) -> Result<(), &'static str> {
        let grant = self.0.get_mut(secret).ok_or("invalid_token")?;
        if grant.until <= Instant::now() || grant.requests_left == Some(0) {
            return Err("invalid_token");
        }
        if !grant.opens(repository, action) {
            return Err("insufficient_scope");
        }
        if let Some(left) = &mut grant.requests_left {
            *left -= 1;
        }
        Ok(())
    }

    /// Whether a secret that is good opens this too.
    fn also_opens(&self, secret: &str, repository: &str, action: &str) -> bool {
        let grant = self.0.get(secret);
        grant.is_some_and(|grant| grant.opens(repository, action))
    }
}

impl Grant {
    fn opens(&self, repository: &str, action: &str) -> bool {
        let Some(scopes) = &self.scopes else {
            return true;
        };
        let actions = scopes.get(repository);
        repository.is_empty() || actions.is_some_and(|actions| actions.contains(action))
    }
}

impl Registry {
    /// Refuses who may not do what is asked.
    pub(super) fn admit(&self, asked: &Asked, headers: &HeaderMap) -> Result<(), Refusal> {
        match asked.operation {
            Operation::GetStored if headers.contains_key(AUTHORIZATION) => {
                let message = "Only one auth mechanism allowed";
                return Err(Refusal::new(400, "InvalidArgument", message));
            }
            // The others look themselves.
            Operation::Token | Operation::Ecr | Operation::Other | Operation::GetStored => {
                return Ok(());
            }
            _ => {}
        }
        let action = if asked.pushes() { "push" } else { "pull" };
        let admitted = |secret: &str| self.issued().admits(secret, &asked.repository, action);
        let why = match self.options.auth {
            Auth::Open => return Ok(()),
            Auth::Basic if basic(headers) == Some(self.login()) => return Ok(()),
            Auth::Basic => "",
            Auth::Token { .. } => match bearer(headers).map(|token| admitted(&token)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => why,
                None => "",
            },
            Auth::Ecr => match basic(headers) {
                Some((user, secret)) if user == "AWS" => {
                    return admitted(&secret).map_err(|_| self.expired());
                }
                _ => "",
            },
        };
        Err(self.challenge(asked, why))
    }

    /// Whether who asks to mount may read where the blob is.
    pub(super) fn may_pull(&self, headers: &HeaderMap, repository: &str) -> bool {
        match self.options.auth {
            Auth::Token { .. } => {
                let token = bearer(headers).unwrap_or_default();
                self.issued().also_opens(&token, repository, "pull")
            }
            _ => true,
        }
    }

    fn login(&self) -> (String, String) {
        (self.options.user.clone(), self.options.password.clone())
    }

    /// As ECR says it: to who sends a password that was good, 403.
    fn expired(&self) -> Refusal {
        let message = "Your authorization token has expired. Reauthenticate and try again.";
        Refusal::new(403, "DENIED", message).with(WWW_AUTHENTICATE, &self.basic_challenge())
    }

    fn basic_challenge(&self) -> String {
        let service = match self.options.auth {
            Auth::Ecr => ",service=\"ecr.amazonaws.com\"",
            _ => "",
        };
        format!("Basic realm=\"http://{}/\"{service}", self.address)
    }

    fn challenge(&self, asked: &Asked, why: &str) -> Refusal {
        let challenge = match self.options.auth {
            Auth::Token { .. } => {
                let actions = if asked.pushes() { "pull,push" } else { "pull" };
                let mut challenge = format!(
                    "Bearer realm=\"http://{}/token\",service=\"{SERVICE}\"",
                    self.address
                );
                if !asked.repository.is_empty() {
                    let scope = format!(",scope=\"repository:{}:{actions}\"", asked.repository);
                    challenge.push_str(&scope);
                }
                if !why.is_empty() {
                    challenge.push_str(&format!(",error=\"{why}\""));
                }
                challenge
            }
            _ => self.basic_challenge(),
        };
        Refusal::new(401, "UNAUTHORIZED", "authentication required")
            .with(WWW_AUTHENTICATE, &challenge)
    }

    /// Gives a token for the scopes that are asked for, to who may have them.
    pub(super) fn give_token(&self, query: Option<&str>, headers: &HeaderMap) -> Ended {
        let Auth::Token { anonymous_pull } = self.options.auth else {
            return Err(Refusal::new(404, "NOT_FOUND", "there is no realm here"));
        };
        let parameters: Vec<(String, String)> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let is_for_us = |(name, value): &(String, String)| name == "service" && value == SERVICE;
        if !parameters.iter().any(is_for_us) {
            let message = "the service is another";
            return Err(Refusal::new(400, "UNSUPPORTED", message));
        }
        let is_known = basic(headers) == Some(self.login());
        if !is_known && (basic(headers).is_some() || !anonymous_pull) {
            let message = "incorrect username or password";
            return Err(Refusal::new(401, "UNAUTHORIZED", message));
        }
        let asked = parameters.iter().filter(|(name, _)| name == "scope");
        let asked = asked.flat_map(|(_, scope)| scope.split(' '));
        let scopes = asked.filter_map(|scope| granted(scope, is_known)).collect();
        let token = self.issued().give(Some(scopes), &self.options);
        // Whole seconds, so a shorter life is told as the shortest.
        let life = self
            .options
            .token_life
            .max(Duration::from_secs(1))
            .as_secs();
        let told = json!({"token": token, "access_token": token, "expires_in": life});
        Ok(document(200, &told))
    }
}

/// What of a scope is given: `repository:NAME:pull,push`. Who is not known only pulls.
fn granted(scope: &str, is_known: bool) -> Option<(String, BTreeSet<String>)> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let actions = actions.split(',').map(str::to_owned);
    let actions = actions.filter(|action| is_known || action == "pull");
    Some((name.to_owned(), actions.collect()))
}

fn of_scheme<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (name, rest) = value.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    of_scheme(headers, "Bearer").map(str::to_owned)
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD.decode(of_scheme(headers, "Basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
