//! Gives out manifests and blobs, whole or in part, and lists of tags and referrers.

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, LOCATION, RANGE};
use http::request::Parts;
use serde_json::{Value, json};

use super::Registry;
use super::answer::{Answer, Ended, Refusal, content, document, empty, told, with};
use super::asked::{Asked, Operation};
use crate::digest::Digest;
use crate::image::media;

impl Registry {
    pub(super) fn blob(&self, asked: &Asked, head: &Parts) -> Ended {
        let digest = digest_of(&asked.reference)?;
        let mut shelf = self.shelf();
        let repository = shelf
            .repository(&asked.repository)
            .ok_or_else(unknown_name)?;
        let there = repository.blob(&digest).ok_or_else(|| {
            let message = format!("blob unknown to registry: {digest}");
            Refusal::new(404, "BLOB_UNKNOWN", &message)
        })?;
        drop(shelf);
        let redirects = match asked.operation {
            Operation::HeadBlob => self.options.imitation.redirects_heads,
            _ => self.options.redirects_blobs,
        };
        if redirects {
            let target = format!("http://{}/{digest}?X-Amz-Signature=secret", self.storage);
            return Ok(with(empty(307), LOCATION, &target));
        }
        let only_length = asked.operation == Operation::HeadBlob;
        Ok(told(
            part(there, head, only_length)?,
            "docker-content-digest",
            &digest.to_string(),
        ))
    }

    /// A blob at the second port, to who comes by a redirect.
    pub(super) fn stored(&self, asked: &Asked, head: &Parts) -> Ended {
        let digest = digest_of(&asked.reference)?;
        // Signed for GET alone.
        if asked.parameter("X-Amz-Signature").is_none() || head.method != Method::GET {
            return Err(Refusal::new(403, "SignatureDoesNotMatch", "Access Denied"));
        }
        let there = self.shelf().blob_anywhere(&digest);
        let there = there.ok_or_else(|| Refusal::new(404, "NoSuchKey", "no such key"))?;
        part(there, head, false)
    }

    pub(super) fn manifest(&self, asked: &Asked) -> Ended {
        let mut shelf = self.shelf();
        let repository = shelf
            .repository(&asked.repository)
            .ok_or_else(unknown_name)?;
        let (digest, kept) = repository.manifest(&asked.reference).ok_or_else(|| {
            let message = format!("manifest unknown: {}", asked.reference);
            Refusal::new(404, "MANIFEST_UNKNOWN", &message)
        })?;
        let only_length = asked.operation == Operation::HeadManifest;
        let answer = content(kept.content, only_length);
        let answer = with(answer, CONTENT_TYPE, &kept.media_type);
        let answer = with(answer, ETAG, &format!("\"{digest}\""));
        Ok(told(answer, "docker-content-digest", &digest.to_string()))
    }

    pub(super) fn tags(&self, asked: &Asked) -> Ended {
        let mut shelf = self.shelf();
        let repository = shelf
            .repository(&asked.repository)
            .ok_or_else(unknown_name)?;
        let tags = repository.tags();
        Ok(document(
            200,
            &json!({"name": asked.repository, "tags": tags}),
        ))
    }

    /// The manifests whose subject this is.
    pub(super) fn referrers(&self, asked: &Asked) -> Ended {
        if !self.options.referrers {
            return Err(Refusal::new(404, "UNSUPPORTED", "404 page not found"));
        }
        let digest = digest_of(&asked.reference)?;
        let mut shelf = self.shelf();
        let manifests = match shelf.repository(&asked.repository) {
            Some(repository) => repository
                .manifests()
                .filter_map(|(of, kept)| {
                    let document: Value = serde_json::from_slice(&kept.content).ok()?;
                    let is_meant = document["subject"]["digest"] == digest.to_string();
                    is_meant.then(|| {
                        let kind = &document["artifactType"];
                        let of_config = &document["config"]["mediaType"];
                        json!({"mediaType": kept.media_type, "digest": of.to_string(), "size": kept.content.len(),
                            "artifactType": if kind.is_null() { of_config } else { kind }})
                    })
                })
                .collect(),
            None => Vec::new(),
        };
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests});
        Ok(with(document(200, &index), CONTENT_TYPE, media::INDEX))
    }
}

pub(super) fn unknown_name() -> Refusal {
    Refusal::new(404, "NAME_UNKNOWN", "repository name not known to registry")
}

pub(super) fn digest_of(text: &str) -> Result<Digest, Refusal> {
    let named = text.contains(':').then(|| text.parse().ok()).flatten();
    named.ok_or_else(|| {
        let message = "provided digest did not match uploaded content";
        Refusal::new(400, "DIGEST_INVALID", message)
    })
}

/// The content, or the range of it that was asked for.
fn part(there: Bytes, head: &Parts, only_length: bool) -> Result<Answer, Refusal> {
    let range = head
        .headers
        .get(RANGE)
        .and_then(|range| range.to_str().ok());
    let Some((start, end)) = range.and_then(|range| parsed(range, there.len())) else {
        let answer = content(there, only_length);
        let answer = with(answer, CONTENT_TYPE, "application/octet-stream");
        return Ok(with(answer, ACCEPT_RANGES, "bytes"));
    };
    if start >= end {
        let total = format!("bytes */{}", there.len());
        let refusal = Refusal::new(416, "RANGE_INVALID", "the range lies outside");
        return Err(refusal.with(CONTENT_RANGE, &total));
    }
    let told = format!("bytes {start}-{}/{}", end - 1, there.len());
    let mut answer = content(there.slice(start..end), only_length);
    *answer.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    Ok(with(answer, CONTENT_RANGE, &told))
}

/// The first byte of a range and the one after its last; none where it is no single range.
fn parsed(range: &str, length: usize) -> Option<(usize, usize)> {
    let (start, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if start.is_empty() {
        let suffix: usize = last.parse().ok()?;
        return Some((length.saturating_sub(suffix), length));
    }
    let start = start.parse().ok()?;
    let end = match last {
        "" => length,
        _ => last.parse::<usize>().ok()?.saturating_add(1).min(length),
    };
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        assert_eq!(parsed("bytes=0-3", 10), Some((0, 4)));
        assert_eq!(parsed("bytes=4-", 10), Some((4, 10)));
        assert_eq!(parsed("bytes=4-99", 10), Some((4, 10)));
        assert_eq!(parsed("bytes=-3", 10), Some((7, 10)));
        assert_eq!(parsed("bytes=0-1,3-4", 10), None);
        assert_eq!(parsed("lines=0-1", 10), None);
    }
}
