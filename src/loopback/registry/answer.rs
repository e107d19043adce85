//! Makes answers: what was asked for, refusals as the protocol writes them, connections that end without one.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// A whole answer, before troubles befall it.
pub(super) type Answer = Response<Bytes>;

/// Why there is none of the kind that was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    Answer(Box<Answer>),
    /// The connection ends.
    HangUp,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: &str) -> Self {
        let errors = json!({"errors": [{"code": code, "message": message}]});
        Self::Answer(Box::new(document(status, &errors)))
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Self::Answer(answer) = &mut self {
            **answer = with(std::mem::take(&mut **answer), name, value);
        }
        self
    }
}

/// What an operation comes to.
pub(super) type Ended = Result<Answer, Refusal>;

pub(super) fn empty(status: u16) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    answer
}

pub(super) fn document(status: u16, document: &Value) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = document.to_string().into();
    with(answer, CONTENT_TYPE, "application/json")
}

/// Content, or only its length where that was asked for.
pub(super) fn content(content: Bytes, only_length: bool) -> Answer {
    let mut answer = with(empty(200), CONTENT_LENGTH, &content.len().to_string());
    if !only_length {
        *answer.body_mut() = content;
    }
    answer
}

pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// A header of registries: `docker-content-digest`.
pub(super) fn told(answer: Answer, name: &'static str, value: &str) -> Answer {
    with(answer, HeaderName::from_static(name), value)
}
