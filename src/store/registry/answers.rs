//! Turns what a registry says, or that it says nothing, into one sentence: what failed, where, why, and what to do.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use crate::challenge::ChallengeError;
use crate::events::{innermost, mentions};
use crate::retry::Class;
use crate::store::{StoreError, StoreErrorKind};

/// Refusals are short; whatever is longer is none.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// A registry that asks for more patience than this is asked again after this.
const PATIENCE_MAX: Duration = Duration::from_mins(2);

/// What a registry answered instead of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Of the first error; empty where the answer had no body (HEAD), or another one.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    pub(super) async fn read(answer: Response) -> Self {
        let status = answer.status().as_u16();
        let retry_after = retry_after(answer.headers());
        let told = first_error(&limited(answer, REFUSAL_MAX_BYTES).await.unwrap_or_default());
        let (code, message) = told.map_or_else(Default::default, |told| (told.code, told.message));
        Self {
            status,
            code,
            message,
            retry_after,
        }
    }

    /// Whether the registry says that it does not know who comes any more.
    pub(super) fn is_of_an_old_token(&self) -> bool {
        self.status == 401 || self.status == 403 && self.message.contains("token has expired")
    }

    pub(super) fn kind(&self) -> StoreErrorKind {
        match (self.status, self.code.as_str()) {
            (429, _) | (_, "TOOMANYREQUESTS") => StoreErrorKind::Busy,
            // An upload that was forgotten can be begun anew.
            (408 | 425 | 500.., _) | (_, "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID") => {
                StoreErrorKind::Transient
            }
            (_, "DIGEST_INVALID") => StoreErrorKind::EtagMismatch,
            (401, _) => StoreErrorKind::Credentials,
            (403, _) => StoreErrorKind::Denied,
            (404, "NAME_UNKNOWN") => StoreErrorKind::NoSuchBucket,
            (413, _) => StoreErrorKind::TooLarge,
            _ => StoreErrorKind::Permanent,
        }
    }

    /// `TAG_INVALID: it is immutable (400)`
    pub(super) fn sentence(&self) -> String {
        let parts = [self.code.as_str(), self.message.trim_end_matches('.')];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => format!("the registry answered {}", self.status),
            false => format!("{} ({})", parts.join(": "), self.status),
        }
    }

    fn advice(&self) -> &'static str {
        match (self.status, self.code.as_str()) {
            (401, _) => {
                "; check the login for it (docker login), or for ECR the AWS credentials and their partition"
            }
            (403, _) => {
                "; the credentials are good but may not do this: pushing needs more rights than pulling"
            }
            (404, "NAME_UNKNOWN") => "; make the repository first",
            (413, _) => "; a proxy before the registry may have a limit for bodies",
            (_, "DIGEST_INVALID") => "; what arrived is not what was sent, and nothing was kept",
            _ => "",
        }
    }

    /// `can't put sha256:… of HOST/a: NAME_UNKNOWN: … (404); make the repository first`
    pub(super) fn explain(&self, action: &str, what: &str) -> StoreError {
        let sentence = self.sentence();
        let advice = self.advice();
        StoreError::new(
            self.kind(),
            format!("can't {action} {what}: {sentence}{advice}"),
        )
    }
}

fn first_error(content: &[u8]) -> Option<Told> {
    let document: Document = serde_json::from_slice(content).ok()?;
    let mut told = document.errors.into_iter().next()?;
    // It ends up on a terminal and in logs.
    told.message.retain(|c| !c.is_control());
    told.message = told.message.chars().take(400).collect();
    Some(told)
}

/// How long a server asks to be left alone: in seconds, or until a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    Some(seconds.or_else(|| until(text))?.min(PATIENCE_MAX))
}

/// How long it is until a date; nothing where it is past.
fn until(date: &str) -> Option<Duration> {
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let left = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}

/// The whole body of an answer; None where it is longer than may be, or breaks off.
pub(super) async fn limited(mut answer: Response, most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(piece) = answer.chunk().await.ok()? {
        content.extend_from_slice(&piece);
        if content.len() > most {
            return None;
        }
    }
    Some(content)
}

/// What a request that got no answer comes to. `missing` is what may be missing where a registry hangs up on who writes to it.
pub(super) fn unanswered(
    action: &str,
    what: &str,
    missing: Option<&str>,
    error: reqwest::Error,
) -> StoreError {
    let is_connecting = error.is_connect();
    let error = error.without_url();
    let cause = innermost(&error);
    if mentions(&error, "certificate") {
        let why = "the registry's certificate is not good for it; it is never ignored: check the address, the clock and the \
                   trusted roots";
        let told = format!("can't {action} {what}: {why}");
        return StoreError::new(StoreErrorKind::Permanent, told).caused_by(cause);
    }
    let why = match (is_connecting, missing) {
        (true, _) => "the registry can't be reached".to_owned(),
        (false, None) => "the connection broke".to_owned(),
        (false, Some(repository)) => format!(
            "the registry ended the connection without an answer: the repository {repository} may not exist there, which ECR \
             does not say in another way; make it first"
        ),
    };
    let told = format!("can't {action} {what}: {why}");
    StoreError::new(StoreErrorKind::Transient, told).caused_by(cause)
}

pub(super) fn silent(action: &str, what: &str, patience: Duration) -> StoreError {
    let seconds = patience.as_secs();
    let told = format!("can't {action} {what}: no answer within {seconds} s");
    StoreError::new(StoreErrorKind::Transient, told)
}

/// Why there is no token.
pub(super) fn unknown_here(action: &str, what: &str, error: ChallengeError) -> StoreError {
    let kind = match error.class() {
        Class::Transient if error.retry_after().is_some() => StoreErrorKind::Busy,
        Class::Transient => StoreErrorKind::Transient,
        _ => StoreErrorKind::Credentials,
    };
    StoreError::new(kind, format!("can't {action} {what}")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        Refusal {
            status,
            code: code.to_owned(),
            ..Refusal::default()
        }
    }

    #[test]
    fn what_may_be_tried_again_is_told_from_what_may_not() {
        for (status, code, kind) in [
            (429, "", StoreErrorKind::Busy),
            (503, "", StoreErrorKind::Transient),
            (404, "BLOB_UPLOAD_UNKNOWN", StoreErrorKind::Transient),
            (404, "NAME_UNKNOWN", StoreErrorKind::NoSuchBucket),
            (400, "DIGEST_INVALID", StoreErrorKind::EtagMismatch),
            (400, "MANIFEST_BLOB_UNKNOWN", StoreErrorKind::Permanent),
            (401, "UNAUTHORIZED", StoreErrorKind::Credentials),
            (403, "DENIED", StoreErrorKind::Denied),
        ] {
            assert_eq!(refusal(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_is_read_and_is_no_danger_to_a_terminal() {
        let content = br#"{"errors": [{"code": "DENIED", "message": "no\u001b[2J"}, {}]}"#;
        let told = first_error(content).unwrap();
        assert_eq!(
            (told.code.as_str(), told.message.as_str()),
            ("DENIED", "no[2J")
        );
        assert!(first_error(b"<html>").is_none());
    }

    #[test]
    fn patience_is_read_in_seconds_and_as_a_date_and_has_an_end() {
        let read = |text: &str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999"), Some(PATIENCE_MAX));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
