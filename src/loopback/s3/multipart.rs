//! Keeps the parts of uploads until they are completed, and judges the list that completes them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use md5::{Digest as _, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};

use super::bucket::Attributes;
use super::content::Content;

/// The highest number that a part may have.
pub(super) const PART_NUMBER_MAX: i32 = 10_000;

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) content: Content,
    pub(super) md5: [u8; 16],
    pub(super) modified: SystemTime,
}

/// A multipart upload under way.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) attributes: Attributes,
    pub(super) parts: BTreeMap<i32, Part>,
    pub(super) begun: SystemTime,
}

impl Upload {
    /// The parts that the list names, if it is a good list.
    pub(super) fn listed(
        &self,
        list: &[CompletedPart],
        part_bytes_min: u64,
    ) -> S3Result<Vec<&Part>> {
        if list.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        if !list.is_sorted_by(|a, b| a.part_number < b.part_number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. The parts list must be specified in order by part number."
            ));
        }
        let parts: Vec<_> = list
            .iter()
            .map(|named| self.part(named))
            .collect::<S3Result<_>>()?;
        let but_last = parts.len() - 1;
        if parts[..but_last]
            .iter()
            .any(|part| part.content.length() < part_bytes_min)
        {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        Ok(parts)
    }

    fn part(&self, named: &CompletedPart) -> S3Result<&Part> {
        let part = named.part_number.and_then(|number| self.parts.get(&number));
        let wanted = named.e_tag.as_ref().map(s3s::dto::ETag::value);
        part.filter(|part| wanted == Some(hex::encode(part.md5).as_str()))
            .ok_or_else(|| {
                s3_error!(
                    InvalidPart,
                    "One or more of the specified parts could not be found. The part may not have been uploaded, \
                     or the specified entity tag may not match the part's entity tag."
                )
            })
    }
}

/// The `ETag` of an object made of parts: the MD5 of their MD5s, and their number.
pub(super) fn etag<'a>(part_md5s: impl Iterator<Item = &'a [u8]>) -> String {
    let mut md5 = Md5::new();
    let mut parts = 0;
    for part in part_md5s {
        md5.update(part);
        parts += 1;
    }
    format!("{}-{parts}", hex::encode(md5.finalize()))
}
