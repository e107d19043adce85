//! What goes wrong at an origin, in a user's words, and whether it is worth another attempt.

use std::error::Error;
use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use super::Shown;
use crate::challenge::ChallengeError;
use crate::events::mentions;
use crate::retry::Class;

/// What went wrong at an origin, and at which URL.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error("{url} answered {status}{}", hint(*status))]
    Status {
        url: String,
        status: StatusCode,
        retry_after: Option<Duration>,
        redirected: bool,
    },
    #[error("{url} can't be reached")]
    Unreachable {
        url: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "the certificate of {url} is not good for it; it is never ignored: check the URL, the clock and the trusted roots"
    )]
    Certificate {
        url: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the connection to {url} broke")]
    Cut {
        url: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{url} brought fewer than {floor_bytes} bytes a second for {} s", window.as_secs_f32())]
    Stalled {
        url: String,
        floor_bytes: u64,
        window: Duration,
    },
    #[error("{url} answered with a web page instead of the file")]
    WebPage { url: String },
    #[error("{url} answered something else than was asked for: {what}")]
    Nonsense { url: String, what: String },
    #[error("{url} ignores ranges")]
    IgnoresRange { url: String },
    #[error("the file at {url} changed while it was fetched: {what}")]
    Changed { url: String, what: String },
    #[error("{url} is another file: {what}")]
    Another { url: String, what: String },
    #[error("{url} is larger than the {limit_bytes} bytes that it may have")]
    TooLarge { url: String, limit_bytes: u64 },
    #[error("{url} redirects too often, or to nowhere")]
    Redirect { url: String },
    #[error("{url} asks who comes, and that can't be answered")]
    Challenge { url: String, source: ChallengeError },
    #[error("can't make an HTTP client: check the proxies and the trusted roots")]
    Client {
        source: Box<dyn Error + Send + Sync>,
    },
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        404 | 410 => ": it is not there; check the version",
        401 | 403 => ": it refuses; check proxies, headers and logins for this host",
        407 => ": the proxy wants credentials",
        429 => ": too many requests",
        _ => "",
    }
}

impl OriginError {
    pub fn class(&self) -> Class {
        match self {
            Self::Status {
                status, redirected, ..
            } => match status.as_u16() {
                408 | 425 | 429 | 500.. => Class::Transient,
                // The target of a redirect is signed for minutes: asking again from the start gets a fresh one.
                401 | 403 if *redirected => Class::Transient,
                _ => Class::Permanent,
            },
            Self::Challenge { source, .. } => source.class(),
            Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Stalled { .. }
            | Self::Nonsense { .. }
            | Self::IgnoresRange { .. }
            | Self::Changed { .. } => Class::Transient,
            Self::Certificate { .. }
            | Self::WebPage { .. }
            | Self::Another { .. }
            | Self::TooLarge { .. }
            | Self::Redirect { .. }
            | Self::Client { .. } => Class::Permanent,
        }
    }

    /// Whether the file is not at this URL, by the origin's own word.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Status { status, .. } if matches!(status.as_u16(), 404 | 410))
    }

    /// How long the origin asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Challenge { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}

pub(super) fn unanswered(url: &Url, error: reqwest::Error) -> OriginError {
    let url = Shown(url).to_string();
    let connecting = error.is_connect();
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let is_of_certificate = mentions(&error, "certificate");
    let source: Box<dyn Error + Send + Sync> = if timed_out {
        "no answer in time".into()
    } else {
        innermost(&error).into()
    };
    if is_of_certificate {
        return OriginError::Certificate { url, source };
    }
    if connecting {
        OriginError::Unreachable { url, source }
    } else {
        OriginError::Cut { url, source }
    }
}

/// What the innermost cause says: the layers of the client around it say no more than that something failed, and some of them
/// say the same again. Only that a proxy stands between is told besides.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let through_proxy = ["tunnel", "proxy", "socks"];
    let mut cause = error;
    let mut at_proxy = false;
    while let Some(inner) = cause.source() {
        cause = inner;
        let text = cause.to_string().to_lowercase();
        at_proxy |= through_proxy.iter().any(|word| text.contains(word));
    }
    if at_proxy {
        format!("the proxy: {cause}")
    } else {
        cause.to_string()
    }
}
