//! Computes the ETag of a file as a bucket would tell it, once for each state of the file, and judges conditions by it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::OnceCell;

use super::opened::{Opened, Stamp};

/// The ETags that have been computed: at most one for each file of the folder.
#[derive(Debug, Default)]
pub(super) struct ETags(Mutex<HashMap<PathBuf, Known>>);

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    etag: Arc<OnceCell<HeaderValue>>,
}

impl ETags {
    /// The ETag of an opened file. Those who ask while it is being computed wait for the same computation.
    pub(super) async fn of(&self, path: &Path, opened: &Opened) -> io::Result<HeaderValue> {
        let etag = self.known(path, opened.stamp()).etag;
        let etag = etag.get_or_try_init(|| async {
            let md5 = opened.md5().await?;
            Ok::<_, io::Error>(
                HeaderValue::try_from(format!("\"{}\"", md5.hex()))
                    .expect("hexadecimal digits make a header value"),
            )
        });
        etag.await.cloned()
    }

    fn known(&self, path: &Path, stamp: Stamp) -> Known {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(path)
            && known.stamp == stamp
        {
            return known.clone();
        }
        let fresh = Known {
            stamp,
            etag: Arc::default(),
        };
        known.insert(path.to_owned(), fresh.clone());
        fresh
    }
}

/// The status, where `If-Match` or `If-None-Match` forbids sending the content (RFC 9110 §13.2.2).
pub(super) fn precondition(headers: &HeaderMap, etag: &HeaderValue) -> Option<StatusCode> {
    if headers.contains_key(IF_MATCH) && !names(headers, &IF_MATCH, |tag| tag == etag) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let weakly = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag) == etag;
    names(headers, &IF_NONE_MATCH, weakly).then_some(StatusCode::NOT_MODIFIED)
}

/// Whether a list of ETags, or `*`, names this one. Our own ETags have no commas in them, so those in others don't matter.
fn names(headers: &HeaderMap, name: &HeaderName, is_it: impl Fn(&[u8]) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || is_it(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_conditions_by_the_etag() {
        let etag = HeaderValue::from_static("\"aa\"");
        let check = |name: HeaderName, list: &'static str, expected| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(list))]);
            assert_eq!(precondition(&headers, &etag), expected, "{list}");
        };
        check(IF_MATCH, "\"aa\"", None);
        check(IF_MATCH, "\"bb\", \"aa\"", None);
        check(IF_MATCH, "*", None);
        check(IF_MATCH, "W/\"aa\"", Some(StatusCode::PRECONDITION_FAILED));
        check(IF_MATCH, "\"bb\"", Some(StatusCode::PRECONDITION_FAILED));
        check(IF_NONE_MATCH, "\"bb\"", None);
        check(IF_NONE_MATCH, "W/\"aa\"", Some(StatusCode::NOT_MODIFIED));
        check(
            IF_NONE_MATCH,
            "\"bb\",\"aa\"",
            Some(StatusCode::NOT_MODIFIED),
        );
        check(IF_NONE_MATCH, "*", Some(StatusCode::NOT_MODIFIED));
    }
}
