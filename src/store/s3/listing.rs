//! Lists what is below the prefix, page by page, and tells a mirror's keys from somebody else's.

use aws_sdk_s3::types::{EncodingType, Object as Listed};
use url::form_urlencoded;

use super::S3Store;
use crate::store::{ETag, Listing, Object, SERVICE_FOLDER, StoreError, staging};

/// The most that S3 gives at once, and by default; some servers have larger pages by default.
const PAGE_KEYS: i32 = 1000;

impl S3Store {
    pub(super) async fn list_all(&self) -> Result<Listing, StoreError> {
        self.list_below("").await
    }

    pub(super) async fn list_own(&self) -> Result<Vec<Object>, StoreError> {
        Ok(self.list_below(SERVICE_FOLDER).await?.service)
    }

    async fn list_below(&self, folder: &str) -> Result<Listing, StoreError> {
        let prefix = format!("{}{folder}", self.prefix);
        let mut pages = self
            .requests
            .list_objects_v2()
            .bucket(&self.bucket)
            .set_prefix((!prefix.is_empty()).then_some(prefix))
            // Keys with control characters would make XML that no parser takes.
            .encoding_type(EncodingType::Url)
            .into_paginator()
            .page_size(PAGE_KEYS)
            .send();
        let mut listing = Listing::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| self.site.explain("list", &self.place, &e))?;
            listing.requests += 1;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            for listed in page.contents() {
                self.sort_in(listed, encoded, &mut listing);
            }
        }
        for objects in [&mut listing.objects, &mut listing.service] {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(listing)
    }

    fn sort_in(&self, listed: &Listed, encoded: bool, listing: &mut Listing) {
        let key = listed.key().unwrap_or_default();
        let key = if encoded {
            decoded(key)
        } else {
            key.to_owned()
        };
        let below = key.strip_prefix(&self.prefix).unwrap_or(&key);
        if below.starts_with(staging::FOLDER) {
            return;
        }
        let object = |key| Object {
            key,
            length: length(listed.size()),
            etag: ETag::new(listed.e_tag().unwrap_or_default()),
        };
        match below.parse() {
            Ok(key) if below.starts_with(SERVICE_FOLDER) => listing.service.push(object(key)),
            Ok(key) => listing.objects.push(object(key)),
            Err(_) => listing.foreign.push(below.to_owned()),
        }
    }
}

/// S3 has sizes as signed numbers.
pub(super) fn length(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

/// Undoes `encoding-type=url`, where a space is a plus.
fn decoded(key: &str) -> String {
    // A key has no '=' or '&' of its own once it is encoded, except from servers that leave them: put them out of the way.
    let key = key.replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(key.as_bytes())
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

/// Encodes a key for `x-amz-copy-source`: all but the unreserved characters and the slashes.
pub(super) fn encoded(key: &str) -> String {
    use std::fmt::Write;
    key.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("a String takes all"),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        for key in ["a b", "a+b", "a%20b", "a=b&c", "ümlaut/~x", "日本"] {
            let by_form: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
            assert_eq!(decoded(&by_form), key);
            assert_eq!(decoded(&encoded(key)), key);
        }
        assert_eq!(decoded("left=as/it&was"), "left=as/it&was");
        assert_eq!(encoded("a b/~ü"), "a%20b/~%C3%BC");
    }
}
