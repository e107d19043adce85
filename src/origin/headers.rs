//! Reads what the headers of an answer tell of a file: which part came, when to come again, what it hashes to.

use std::ops::Range;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{self, HeaderMap, HeaderValue};
use url::Url;

use crate::digest::{Algorithm, Digest};

/// What asks for a part, up to its end where that is `u64::MAX`; nothing asks for the whole.
pub(super) fn asking_for(part: Option<&Range<u64>>) -> HeaderMap {
    let range = part.map(|part| match part.end {
        u64::MAX => format!("bytes={}-", part.start),
        end => format!("bytes={}-{}", part.start, end - 1),
    });
    let value = range.map(|range| {
        HeaderValue::from_str(&range).expect("digits and dashes are a header's value")
    });
    value
        .map(|value| (header::RANGE, value))
        .into_iter()
        .collect()
}

/// `bytes 0-99/1000` → (Some(0..100), Some(1000)); `bytes */1000` → (None, Some(1000)). RFC 9110, 14.4.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Option<Range<u64>>, Option<u64>)> {
    let text = headers
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((Some(first..last.checked_add(1)?), total))
}

/// The part that a 206 holds: it starts where asked, ends no later, and lies within the file.
pub(super) fn part_answered(
    asked: &Range<u64>,
    headers: &HeaderMap,
) -> Result<(Range<u64>, Option<u64>), String> {
    let Some((Some(part), total)) = content_range(headers) else {
        return Err("a part without a Content-Range".to_owned());
    };
    let within = total.is_none_or(|total| part.end <= total);
    if part.start != asked.start || part.end > asked.end || part.is_empty() || !within {
        return Err(format!(
            "bytes {}-{} where {}-{} were asked for",
            part.start,
            part.end.saturating_sub(1),
            asked.start,
            asked.end - 1
        ));
    }
    Ok((part, total))
}

/// Seconds, or an HTTP date (RFC 9110, 10.2.3); at most an hour is believed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const BELIEVED_MAX: Duration = Duration::from_hours(1);
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let pause = if let Ok(seconds) = text.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let until = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
        Duration::try_from(until.duration_since(jiff::Timestamp::now())).ok()?
    };
    Some(pause.min(BELIEVED_MAX))
}

pub(super) fn is_web_page(url: &Url, headers: &HeaderMap) -> bool {
    let html = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/html")
        });
    let wanted = [".html", ".htm", "/"]
        .iter()
        .any(|end| url.path().ends_with(end));
    html && !wanted
}

/// GCS tells `x-goog-hash: md5=<base64>` for objects that are not composed; S3 tells a single-part object's MD5 as its ETag.
pub(super) fn md5_of_transport(headers: &HeaderMap) -> Option<Digest> {
    let from_goog = headers
        .get_all("x-goog-hash")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|hash| hash.trim().strip_prefix("md5="))
        .and_then(|text| BASE64.decode(text).ok())
        .and_then(|hash| hex::encode(hash).parse().ok())
        .filter(|digest: &Digest| digest.algorithm() == Algorithm::Md5);
    let is_s3 = headers
        .get(header::SERVER)
        .is_some_and(|server| server == "AmazonS3");
    let encrypted_otherwise = headers
        .get("x-amz-server-side-encryption")
        .is_some_and(|kind| kind != "AES256");
    from_goog.or_else(|| {
        let etag = headers.get(header::ETAG)?.to_str().ok()?;
        let digest: Digest = etag.trim().trim_matches('"').parse().ok()?;
        (is_s3 && !encrypted_otherwise && digest.algorithm() == Algorithm::Md5).then_some(digest)
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_the_range_that_was_asked_for_is_taken() {
        let check = |range: &str| part_answered(&(100..200), &headers(&[("content-range", range)]));
        assert_eq!(check("bytes 100-199/1000"), Ok((100..200, Some(1000))));
        assert_eq!(check("bytes 100-149/150"), Ok((100..150, Some(150))));
        for wrong in [
            "bytes 0-99/1000",
            "bytes 100-299/1000",
            "bytes 100-199/150",
            "bytes */1000",
            "rubbish",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(part_answered(&(0..1), &HeaderMap::new()).is_err());
    }

    #[test]
    fn the_md5_of_gcs_and_of_s3_is_found() {
        let goog = headers(&[(
            "x-goog-hash",
            "crc32c=AAAAAA==,md5=kAFQmDzST7DWlj99KOF/cg==",
        )]);
        assert_eq!(
            md5_of_transport(&goog),
            Some(Digest::of(Algorithm::Md5, b"abc"))
        );
        let s3 = headers(&[
            ("server", "AmazonS3"),
            ("etag", "\"900150983cd24fb0d6963f7d28e17f72\""),
        ]);
        assert_eq!(
            md5_of_transport(&s3),
            Some(Digest::of(Algorithm::Md5, b"abc"))
        );
        let multipart = headers(&[
            ("server", "AmazonS3"),
            ("etag", "\"900150983cd24fb0d6963f7d28e17f72-2\""),
        ]);
        assert_eq!(md5_of_transport(&multipart), None);
    }

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        assert_eq!(
            retry_after(&headers(&[("retry-after", "7")])),
            Some(Duration::from_secs(7))
        );
        let past = headers(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]);
        assert_eq!(retry_after(&past), None);
        assert_eq!(
            retry_after(&headers(&[("retry-after", "99999999")])),
            Some(Duration::from_hours(1))
        );
    }
}
