//! Asks for a small text on conditions, and shows the answer whatever it is: refusals have headers that somebody must heed.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::headers::retry_after;
use super::{OriginError, Origins, REDIRECTS_MAX, Source, redirect_target};

/// What a source answered.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Of a 200 alone.
    pub content: Bytes,
    refusal: OriginError,
}

impl Reply {
    /// How long the origin asked to be left alone, an hour at most.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The status as an error, for who can't do anything with it.
    pub fn into_error(self) -> OriginError {
        self.refusal
    }
}

impl Origins {
    /// Asks a source for a small text, `asking` for it by headers such as If-None-Match; these go to whom the source redirects,
    /// too. An error is that there was no answer, or no text; a status that tells of none is none. One attempt.
    pub async fn inquire(
        &self,
        source: &Source,
        asking: &HeaderMap,
        limit_bytes: u64,
    ) -> Result<Reply, OriginError> {
        let mut url = source.url.clone();
        for hop in 0..REDIRECTS_MAX {
            let response = self.ask(Method::GET, source, &url, asking).await?;
            if let Some(target) = redirect_target(&url, &response) {
                if url.scheme() == "https" && target.scheme() != "https" {
                    break;
                }
                url = target;
                continue;
            }
            let (status, headers) = (response.status(), response.headers().clone());
            let refusal = OriginError::Status {
                url: source.to_string(),
                status,
                retry_after: retry_after(&headers),
                redirected: hop > 0,
            };
            let content = if status == StatusCode::OK {
                let answer = self.answer(source, &url, None, response, hop > 0)?;
                answer.whole(limit_bytes).await?
            } else {
                Bytes::new()
            };
            return Ok(Reply {
                status,
                headers,
                content,
                refusal,
            });
        }
        Err(OriginError::Redirect {
            url: source.to_string(),
        })
    }
}
