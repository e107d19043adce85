//! Answers `ListObjectsV2`, page by page.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Answer, Operations};
use crate::loopback::s3::Bucket;
use crate::loopback::s3::bucket::Object;

/// Where a page starts.
enum Start {
    AtPrefix,
    AfterKey(String),
    /// After every key that starts with this.
    AfterCommonPrefix(String),
}

impl Start {
    /// Continuation tokens say what the last entry of the page before was, in hexadecimal so that nobody relies on it.
    fn of(list: &dto::ListObjectsV2Input) -> S3Result<Self> {
        let Some(token) = &list.continuation_token else {
            return Ok(list
                .start_after
                .clone()
                .map_or(Self::AtPrefix, Self::AfterKey));
        };
        let entry = hex::decode(token)
            .ok()
            .and_then(|t| String::from_utf8(t).ok());
        let entry = entry.unwrap_or_default();
        match (entry.strip_prefix('k'), entry.strip_prefix('p')) {
            (Some(key), _) => Ok(Self::AfterKey(key.to_owned())),
            (_, Some(prefix)) => Ok(Self::AfterCommonPrefix(prefix.to_owned())),
            _ => Err(s3_error!(
                InvalidArgument,
                "The continuation token provided is incorrect"
            )),
        }
    }

    fn excludes(&self, key: &str) -> bool {
        match self {
            Self::AtPrefix => false,
            Self::AfterKey(after) => key <= after.as_str(),
            Self::AfterCommonPrefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }

    /// A key at or before the first that is not excluded.
    fn key<'a>(&'a self, prefix: &'a str) -> &'a str {
        match self {
            Self::AtPrefix => prefix,
            Self::AfterKey(start) | Self::AfterCommonPrefix(start) => prefix.max(start),
        }
    }
}

/// One page, as it fills.
#[derive(Default)]
struct Page {
    objects: Vec<dto::Object>,
    common_prefixes: BTreeSet<String>,
    /// The last entry, in the form of a continuation token.
    last: String,
    truncated: bool,
}

impl Page {
    fn entries(&self) -> usize {
        self.objects.len() + self.common_prefixes.len()
    }
}

impl Operations {
    pub(super) fn answer_list_objects_v2(
        &self,
        request: S3Request<dto::ListObjectsV2Input>,
    ) -> Answer<dto::ListObjectsV2Output> {
        let list = request.input;
        let bucket = self.bucket(&list.bucket)?;
        let asked = usize::try_from(list.max_keys.unwrap_or(1000))
            .map_err(|_| s3_error!(InvalidArgument, "maxKeys must not be negative"))?;
        let most = asked.min(self.0.options.page_keys_max);
        let page = read_page(&bucket, &list, most)?;
        let encoded = list.encoding_type.is_some();
        let show = |text: String| if encoded { url_encoded(&text) } else { text };
        let key_count = i32::try_from(page.entries()).ok();
        let mut objects = page.objects;
        for object in &mut objects {
            object.key = object.key.take().map(show);
        }
        let common_prefixes = page.common_prefixes.into_iter();
        Ok(S3Response::new(dto::ListObjectsV2Output {
            name: Some(list.bucket),
            prefix: Some(show(list.prefix.unwrap_or_default())),
            delimiter: list.delimiter.map(show),
            start_after: list.start_after.map(show),
            continuation_token: list.continuation_token,
            encoding_type: list.encoding_type,
            max_keys: i32::try_from(most).ok(),
            key_count,
            is_truncated: Some(page.truncated),
            next_continuation_token: page.truncated.then(|| hex::encode(page.last)),
            contents: Some(objects),
            common_prefixes: Some(
                common_prefixes
                    .map(|prefix| dto::CommonPrefix {
                        prefix: Some(show(prefix)),
                    })
                    .collect(),
            ),
            ..dto::ListObjectsV2Output::default()
        }))
    }
}

fn read_page(bucket: &Bucket, list: &dto::ListObjectsV2Input, most: usize) -> S3Result<Page> {
    let prefix = list.prefix.as_deref().unwrap_or_default();
    let delimiter = list.delimiter.as_deref().filter(|d| !d.is_empty());
    let start = Start::of(list)?;
    let mut page = Page::default();
    if most == 0 {
        return Ok(page);
    }
    bucket.walk(start.key(prefix), |key, object| {
        if start.excludes(key) {
            return ControlFlow::Continue(());
        }
        let Some(rest) = key.strip_prefix(prefix) else {
            return ControlFlow::Break(());
        };
        let common = delimiter
            .and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()))
            .map(|end| &key[..prefix.len() + end]);
        if common.is_some_and(|common| page.common_prefixes.contains(common)) {
            return ControlFlow::Continue(());
        }
        if page.entries() == most {
            page.truncated = true;
            return ControlFlow::Break(());
        }
        if let Some(common) = common {
            page.last = format!("p{common}");
            page.common_prefixes.insert(common.to_owned());
        } else {
            page.last = format!("k{key}");
            page.objects.push(listed(key, object));
        }
        ControlFlow::Continue(())
    });
    Ok(page)
}

fn listed(key: &str, object: &Object) -> dto::Object {
    dto::Object {
        key: Some(key.to_owned()),
        e_tag: Some(dto::ETag::Strong(object.etag.clone())),
        size: i64::try_from(object.content.length()).ok(),
        last_modified: Some(object.modified.into()),
        storage_class: Some(dto::ObjectStorageClass::from_static(
            dto::ObjectStorageClass::STANDARD,
        )),
        ..dto::Object::default()
    }
}

/// As S3 encodes keys for `encoding-type=url`: a form, but slashes stay.
fn url_encoded(text: &str) -> String {
    text.split('/')
        .map(|segment| url::form_urlencoded::byte_serialize(segment.as_bytes()).collect::<String>())
        .collect::<Vec<_>>()
        .join("/")
}
