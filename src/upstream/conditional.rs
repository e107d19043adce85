//! Asks whether a text has changed since it was last read, so that what has not need not cross the border again.

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use url::Url;

use super::ANSWER_MAX_BYTES;
use crate::limits::{Limits, Rank};
use crate::origin::{OriginError, Origins, Reply, Source};
use crate::retry::{Attempts, Class, Policy};

/// How the upstreams are asked.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    pub origins: &'a Origins,
    pub limits: &'a Limits,
    pub policy: Policy,
}

/// What tells one state of a text from another, at the source that it came from: another source has other names for the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validator {
    source: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// What was answered.
#[derive(Debug)]
pub(super) enum Heard {
    /// As before.
    Same(Reply),
    Other(Reply, Validator),
    /// Asked too much, or forbidden.
    Refused(Reply),
}

impl Validator {
    fn of(source: &Source, headers: &HeaderMap) -> Self {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        Self {
            source: source.to_string(),
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
        }
    }

    /// RFC 9110, 13.1.2 and 13.1.3: a date is for who has no tag.
    fn asking(&self, source: &Source) -> HeaderMap {
        let condition: Option<(HeaderName, &String)> = match (&self.etag, &self.last_modified) {
            _ if self.source != source.to_string() => None,
            (Some(etag), _) => Some((header::IF_NONE_MATCH, etag)),
            (None, Some(date)) => Some((header::IF_MODIFIED_SINCE, date)),
            (None, None) => None,
        };
        let header = condition.and_then(|(name, value)| Some((name, value.parse().ok()?)));
        header.into_iter().collect()
    }
}

impl Wire<'_> {
    /// Asks the sources of a URL in order, each with the retries of the policy, until one answers; `before` is what was told with
    /// the text that is at hand.
    pub(super) async fn hear(
        &self,
        url: &Url,
        before: Option<&Validator>,
    ) -> Result<Heard, OriginError> {
        let mut last = None;
        for source in self.origins.sources(url) {
            match self.hear_from(&source, before).await {
                Ok(heard) => return Ok(heard),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is at least one source"))
    }

    async fn hear_from(
        &self,
        source: &Source,
        before: Option<&Validator>,
    ) -> Result<Heard, OriginError> {
        let asking = before.map(|before| before.asking(source));
        let asking = asking.unwrap_or_default();
        let mut attempts = Attempts::new(self.policy);
        loop {
            let error = match self.ask(source, &asking).await {
                Ok(heard) => return Ok(heard),
                Err(error) => error,
            };
            let pause = (error.class() == Class::Transient)
                .then(|| attempts.failed())
                .flatten();
            let Some(pause) = pause else {
                return Err(error);
            };
            sleep(pause).await;
        }
    }

    async fn ask(&self, source: &Source, asking: &HeaderMap) -> Result<Heard, OriginError> {
        let host = self.limits.host(source);
        let admission = host.admit(Rank::FIRST).await;
        let reply = self.origins.inquire(source, asking, ANSWER_MAX_BYTES).await;
        admission.give_back().await;
        let heard = reply.and_then(|reply| match reply.status {
            StatusCode::OK => {
                let validator = Validator::of(source, &reply.headers);
                Ok(Heard::Other(reply, validator))
            }
            StatusCode::NOT_MODIFIED if !asking.is_empty() => Ok(Heard::Same(reply)),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Ok(Heard::Refused(reply)),
            _ => Err(reply.into_error()),
        });
        heard.inspect_err(|error| host.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use crate::origin::OriginSettings;

    use super::*;

    fn source(url: &str) -> Source {
        let origins = Origins::new(OriginSettings::default()).unwrap();
        origins.sources(&url.parse().unwrap()).remove(0)
    }

    fn asked(told: &[(HeaderName, &'static str)], at: &Source) -> Vec<(String, String)> {
        let headers = told
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let here = source("https://here.test/stable.txt");
        let asking = Validator::of(&here, &headers.collect()).asking(at);
        let text = |(name, value): (&HeaderName, &header::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        asking.iter().map(text).collect()
    }

    #[test]
    fn the_condition_is_made_of_what_the_source_told() {
        let here = source("https://here.test/stable.txt");
        let tag = (header::ETAG, "W/\"a\"");
        let date = (header::LAST_MODIFIED, "Tue, 24 Nov 2026 20:00:00 GMT");
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(
            asked(&[date.clone(), tag.clone()], &here),
            pair("if-none-match", tag.1)
        );
        assert_eq!(
            asked(&[date.clone()], &here),
            pair("if-modified-since", date.1)
        );
        assert_eq!(asked(&[], &here), []);
        // Another source may call another state by the same tag.
        assert_eq!(asked(&[tag], &source("https://there.test/stable.txt")), []);
    }
}
