//! A bucket for what is only under way: objects that somebody else made in parts, and that come to be the same elsewhere.
//!
//! No part of a mirror: nothing here is a [`Store`](crate::store::Store), and what is put is not single-part. An object that is put in
//! the parts that it has elsewhere gets the `ETag` that it has there, which proves all of it, whoever put which part when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::date_time::DateTime;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;

use super::errors::{Refusal, Site, misnamed};
use super::listing::length;
use super::{S3Options, client, is_absent};
use crate::digest::Digest;
use crate::store::{ETag, StoreError, StoreErrorKind};

/// A body that brings nothing for so long will not go on.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// The least that a line carries: a part that takes longer than this makes of it is given up.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;

/// A bucket.
pub struct Depot {
    requests: Client,
    transfers: Client,
    site: Site,
    bucket: String,
}

/// A list of parts that the SDK could not read; all of them, since servers that answer so have no pages.
#[derive(Debug, Deserialize)]
struct Misnamed {
    #[serde(rename = "Part", default)]
    parts: Vec<ListedPart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPart {
    part_number: i32,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
}

impl ListedPart {
    fn put(self) -> (i32, PutPart) {
        let etag = ETag::new(&self.etag);
        let length = self.size;
        (self.part_number, PutPart { length, etag })
    }
}

/// An object as it is in a depot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// In bytes.
    pub length: u64,
    pub etag: ETag,
    /// How long its parts are, all but the last, where it came in parts.
    pub part_bytes: Option<u64>,
    /// Whether its `ETag` is made of MD5: not with keys of KMS.
    pub has_md5: bool,
    pub metadata: BTreeMap<String, String>,
    pub content_type: Option<String>,
}

/// A part that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPart {
    /// In bytes.
    pub length: u64,
    pub etag: ETag,
}

/// An object on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub key: String,
    id: String,
}

impl fmt::Debug for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Depot {
    /// Finds region, credentials and endpoint; talks to no bucket yet.
    pub async fn connect(options: &S3Options) -> Result<Self, StoreError> {
        let clients = client::connect(options).await?;
        Ok(Self {
            requests: clients.requests,
            transfers: clients.transfers,
            site: clients.site,
            bucket: options.bucket.clone(),
        })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// Looks at an object; None where there is none.
    pub async fn look(&self, key: &str) -> Result<Option<Parcel>, StoreError> {
        let head = || self.requests.head_object().bucket(&self.bucket).key(key);
        let whole = match head().send().await {
            Ok(whole) => whole,
            Err(error) if is_absent(Refusal::of(&error)) => return Ok(None),
            Err(error) => return Err(self.site.explain("look at", &self.place(key), &error)),
        };
        let etag = ETag::new(whole.e_tag().unwrap_or_default());
        let in_parts = etag.as_str().contains('-');
        let part_bytes = match in_parts {
            true => {
                let first = head().part_number(1).send().await;
                let first = first
                    .map_err(|error| self.site.explain("look at", &self.place(key), &error))?;
                Some(length(first.content_length()))
            }
            false => None,
        };
        let encryption = whole
            .server_side_encryption()
            .map_or("", |kind| kind.as_str());
        let metadata = whole.metadata().into_iter().flatten();
        Ok(Some(Parcel {
            length: length(whole.content_length()),
            etag,
            part_bytes,
            has_md5: !encryption.starts_with("aws:kms"),
            metadata: metadata
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            content_type: whole.content_type().map(str::to_owned),
        }))
    }

    /// The tags of an object.
    pub async fn tags(&self, key: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let told = self
            .requests
            .get_object_tagging()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        let told = told.map_err(|error| {
            self.site
                .explain("read the tags of", &self.place(key), &error)
        })?;
        let tags = told.tag_set().iter();
        Ok(tags
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect())
    }

    /// The bytes from `start` to before `end` of the object that has this `ETag`, in pieces. `took` hears of each; what came of them
    /// before a failure stays in `into`.
    pub async fn read(
        &self,
        key: &str,
        etag: &ETag,
        (start, end): (u64, u64),
        into: &mut Vec<u8>,
        took: &(dyn Fn(u64) + Sync),
    ) -> Result<(), StoreError> {
        let at = start + into.len() as u64;
        let asking = self
            .transfers
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .if_match(format!("\"{etag}\""))
            .range(format!("bytes={at}-{}", end - 1))
            .send();
        let silent = || {
            let what = format!(
                "can't read {}: nothing came for {} s",
                self.place(key),
                STALL_TIMEOUT.as_secs()
            );
            StoreError::new(StoreErrorKind::Transient, what)
        };
        let answer = timeout(STALL_TIMEOUT, asking).await.map_err(|_| silent())?;
        let mut body = answer
            .map_err(|error| self.site.explain("read", &self.place(key), &error))?
            .body;
        loop {
            let piece = timeout(STALL_TIMEOUT, body.next())
                .await
                .map_err(|_| silent())?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| {
                let what = format!("can't read {}: the connection broke", self.place(key));
                StoreError::new(StoreErrorKind::Transient, what).caused_by(error)
            })?;
            into.extend_from_slice(&piece);
            took(piece.len() as u64);
        }
        if start + into.len() as u64 == end {
            return Ok(());
        }
        let what = format!(
            "can't read {}: the answer was of another length",
            self.place(key)
        );
        Err(StoreError::new(StoreErrorKind::Transient, what))
    }

    /// What is on its way to a key, the last one begun.
    pub async fn arrival(&self, key: &str) -> Result<Option<Arrival>, StoreError> {
        let told = self
            .requests
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .prefix(key)
            .send()
            .await;
        let told = told.map_err(|error| {
            self.site
                .explain("see what arrives at", &self.place(key), &error)
        })?;
        let of_key = told
            .uploads()
            .iter()
            .filter(|upload| upload.key() == Some(key));
        let last = of_key.max_by_key(|upload| upload.initiated().map(DateTime::as_nanos));
        Ok(last
            .and_then(|upload| upload.upload_id())
            .map(|id| Arrival {
                key: key.to_owned(),
                id: id.to_owned(),
            }))
    }

    /// Begins an object that is to be as another is.
    pub async fn begin(
        &self,
        key: &str,
        like: &Parcel,
        tags: &BTreeMap<String, String>,
    ) -> Result<Arrival, StoreError> {
        let metadata = like
            .metadata
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        let begun = self
            .requests
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .set_metadata(Some(metadata.collect()))
            .set_content_type(like.content_type.clone())
            .set_tagging((!tags.is_empty()).then(|| tagging(tags)))
            .send()
            .await
            .map_err(|error| self.site.explain("put", &self.place(key), &error))?;
        Ok(Arrival {
            key: key.to_owned(),
            id: begun.upload_id().unwrap_or_default().to_owned(),
        })
    }

    /// The parts that are there, by number.
    pub async fn parts(&self, arrival: &Arrival) -> Result<BTreeMap<i32, PutPart>, StoreError> {
        let mut parts = BTreeMap::new();
        let mut marker = None;
        loop {
            let told = self
                .requests
                .list_parts()
                .bucket(&self.bucket)
                .key(&arrival.key)
                .upload_id(&arrival.id)
                .set_part_number_marker(marker)
                .send()
                .await;
            let told = match told {
                Ok(told) => told,
                Err(error) => {
                    let listed =
                        misnamed(&error).and_then(|answer| quick_xml::de::from_str(answer).ok());
                    if let Some(Misnamed { parts }) = listed {
                        return Ok(parts.into_iter().map(ListedPart::put).collect());
                    }
                    let place = self.place(&arrival.key);
                    return Err(self.site.explain("list the parts of", &place, &error));
                }
            };
            for part in told.parts() {
                let etag = ETag::new(part.e_tag().unwrap_or_default());
                let put = PutPart {
                    length: length(part.size()),
                    etag,
                };
                parts.insert(part.part_number().unwrap_or_default(), put);
            }
            marker = told.next_part_number_marker().map(str::to_owned);
            if !told.is_truncated().unwrap_or_default() || marker.is_none() {
                return Ok(parts);
            }
        }
    }

    /// Puts a part; S3 compares it with its MD5.
    pub async fn put_part(
        &self,
        arrival: &Arrival,
        number: i32,
        content: Bytes,
        md5: &Digest,
    ) -> Result<PutPart, StoreError> {
        let bytes = content.len() as u64;
        let putting = self
            .transfers
            .upload_part()
            .bucket(&self.bucket)
            .key(&arrival.key)
            .upload_id(&arrival.id)
            .part_number(number)
            .content_md5(BASE64_STANDARD.encode(md5.bytes()))
            .body(ByteStream::from(content))
            .send();
        let patience = STALL_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        let put = timeout(patience, putting).await.map_err(|_| {
            let what = format!(
                "can't put part {number} of {}: no end within {} s",
                self.place(&arrival.key),
                patience.as_secs()
            );
            StoreError::new(StoreErrorKind::Transient, what)
        })?;
        let put = put.map_err(|error| {
            self.site
                .explain("put a part of", &self.place(&arrival.key), &error)
        })?;
        Ok(PutPart {
            length: bytes,
            etag: ETag::new(put.e_tag().unwrap_or_default()),
        })
    }

    /// Makes an object of its parts.
    pub async fn complete(
        &self,
        arrival: &Arrival,
        parts: &BTreeMap<i32, PutPart>,
    ) -> Result<(), StoreError> {
        let parts = parts.iter().map(|(number, part)| {
            CompletedPart::builder()
                .part_number(*number)
                .e_tag(format!("\"{}\"", part.etag))
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let completed = self
            .requests
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&arrival.key)
            .upload_id(&arrival.id)
            .multipart_upload(parts)
            .send()
            .await;
        match completed {
            Err(error) if misnamed(&error).is_some_and(|answer| answer.contains("<ETag>")) => {
                Ok(())
            }
            Err(error) => Err(self.site.explain("put", &self.place(&arrival.key), &error)),
            Ok(_) => Ok(()),
        }
    }

    /// Gives up what is on its way to a key.
    pub async fn abandon(&self, arrival: &Arrival) -> Result<(), StoreError> {
        let given_up = self
            .requests
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&arrival.key)
            .upload_id(&arrival.id)
            .send()
            .await;
        match given_up {
            Err(error)
                if error
                    .as_service_error()
                    .and_then(|error| error.meta().code())
                    == Some("NoSuchUpload") =>
            {
                Ok(())
            }
            Err(error) => Err(self
                .site
                .explain("give up", &self.place(&arrival.key), &error)),
            Ok(_) => Ok(()),
        }
    }

    /// Removes an object; one that is not there is none the worse.
    pub async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let removed = self
            .requests
            .delete_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        removed.map_err(|error| self.site.explain("remove", &self.place(key), &error))?;
        Ok(())
    }
}

/// As the header `x-amz-tagging` has them.
fn tagging(tags: &BTreeMap<String, String>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = tags
        .iter()
        .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}
