//! What is answered when something is not done: `{"error": {"code", "message"}}`, with a status.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

use crate::board::Refused;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    /// One word for programs.
    code: &'static str,
    /// For people: what is wrong and what to do.
    message: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn no_such_page() -> Self {
        let message = "nothing is here; /api/v1/openapi.json tells what there is";
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn no_such_method() -> Self {
        let message = "this can't be done here; the header Allow tells what can";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            message,
        )
    }

    /// What a request asks for is not there.
    pub(super) fn absent(what: &str, name: &str) -> Self {
        let message = format!("there is no {what} named '{name}'");
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// Something in a path, query or body can't be understood.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn not_ready(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", message)
    }

    pub(super) fn too_many_listeners(most: usize) -> Self {
        let message = format!("{most} others listen to events already; ask again later");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn too_slow(limit: Duration) -> Self {
        let message = format!("not done within {} s; ask again later", limit.as_secs());
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", message)
    }

    pub(super) fn failed(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }

    /// A token is needed, and there is none that could be right.
    pub(super) fn no_token_set() -> Self {
        let message = "this needs a token, and the service has none: set service.token_file in its settings, reload it, and \
                       send 'Authorization: Bearer TOKEN'";
        Self::new(StatusCode::FORBIDDEN, "no-token-set", message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// A page of another place asks, through somebody's browser.
    pub(super) fn foreign_origin() -> Self {
        let message = "a page of another origin may change nothing here";
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", message)
    }

    pub(super) fn misdirected() -> Self {
        let message = "this listens on loopback and answers to addresses and to 'localhost' alone; behind a proxy, have it \
                       send such a Host";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let told = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(told)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = http::HeaderValue::from_static("Bearer realm=\"kops-mirror\"");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, http::HeaderValue::from_static("10"));
        }
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, "not-found", message),
            Refused::NotNow(_) => Self::new(StatusCode::CONFLICT, "not-now", message),
            Refused::Failed(_) => Self::failed(message),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let message = rejection.body_text();
        match rejection.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", message)
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
            }
            _ => Self::malformed(message),
        }
    }
}
