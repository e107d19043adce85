//! The object that says what is to go and since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::asset::Key;
use crate::events::told;
use crate::index::{self, Index};
use crate::store::{Attributes, Condition, ETag, Object, Store, StoreError, StoreErrorKind};
use crate::transfer;
use crate::verify::Verified;

/// Where it is: indexes are the `.json` of the folder above, and names with a dot in front could not be put into a directory.
pub const MARK: &str = "releases/prune/mark.json";

/// The version of this format; a newer one is refused.
const FORMAT: u32 = 1;

/// A release takes some 30 KiB.
const MAX_BYTES: u64 = 256 << 20;

/// What is marked at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    /// The program that wrote it: `kops-mirror 0.1.0`.
    written_by: String,
    /// By the release's name.
    pub(super) releases: BTreeMap<String, Marked>,
}

/// One release that is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marked {
    pub(super) since: Timestamp,
    pub(super) why: String,
    /// The index as it was when it was marked: where it is another, that is another release.
    index: Named,
    /// Files and sidecars, as the index tells of them; what others share is among them.
    objects: Vec<Named>,
}

/// An object as it is stored in the mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    key: Key,
    etag: ETag,
    /// In bytes.
    length: u64,
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            format: FORMAT,
            written_by: concat!("kops-mirror ", env!("CARGO_PKG_VERSION")).to_owned(),
            releases: BTreeMap::new(),
        }
    }
}

impl Marked {
    /// Marks a release whose index is this object.
    pub(super) fn new(index: &Index, object: &Object, since: Timestamp, why: &str) -> Self {
        let is_ours = |key: &Key| {
            !key.as_str().starts_with(index::FOLDER)
                && index.pointers.iter().all(|pointer| pointer.key != *key)
        };
        let named = index::objects_of([index])
            .into_iter()
            .filter(|(key, _)| is_ours(key))
            .map(|(key, (length, md5))| Named {
                key,
                etag: ETag::from(md5),
                length,
            });
        Self {
            since,
            why: why.to_owned(),
            index: object.clone().into(),
            objects: named.collect(),
        }
    }

    pub(super) fn index(&self) -> Object {
        self.index.clone().into()
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        self.objects.iter().cloned().map(Object::from)
    }
}

impl From<Object> for Named {
    fn from(Object { key, length, etag }: Object) -> Self {
        Self { key, etag, length }
    }
}

impl From<Named> for Object {
    fn from(Named { key, etag, length }: Named) -> Self {
        Self { key, length, etag }
    }
}

/// The mark as it is in the target.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) mark: Mark,
    /// None where there is no such object.
    etag: Option<ETag>,
    /// What was wrong with it.
    pub(super) note: Option<String>,
}

impl Stored {
    /// Reads the mark of a target that has these objects.
    pub(super) async fn read(target: &dyn Store, objects: &[Object]) -> Result<Self, StoreError> {
        let key = key();
        let mut stored = Self {
            mark: Mark::default(),
            etag: None,
            note: None,
        };
        let Some(object) = objects.iter().find(|object| object.key == key) else {
            return Ok(stored);
        };
        stored.etag = Some(object.etag.clone());
        let text = transfer::read_object(target, &key, MAX_BYTES).await?;
        match serde_json::from_slice::<Mark>(&text.unwrap_or_default()) {
            Ok(mark) if mark.format > FORMAT => return Err(newer(target, mark.format)),
            Ok(mark) => stored.mark = mark,
            Err(error) => {
                let place = target.place();
                let why = told(&error);
                stored.note = Some(format!(
                    "{place}/{MARK} does not say what is marked, so the time of grace begins anew: {why}"
                ));
            }
        }
        Ok(stored)
    }

    /// Writes another mark in place of this one, as long as nobody else has.
    pub(super) async fn replace(self, target: &dyn Store, mark: &Mark) -> Result<Self, StoreError> {
        let is_same = self.mark == *mark && self.note.is_none();
        let etag = match self.etag {
            etag if is_same && etag.is_some() => etag,
            None if mark.releases.is_empty() => None,
            Some(_) if mark.releases.is_empty() => {
                target.delete(&key()).await?;
                None
            }
            etag => Some(put(target, mark, etag).await?),
        };
        Ok(Self {
            mark: mark.clone(),
            etag,
            note: None,
        })
    }
}

async fn put(target: &dyn Store, mark: &Mark, there: Option<ETag>) -> Result<ETag, StoreError> {
    let text = serde_json::to_vec(mark).expect("a mark has only strings for keys");
    let attributes = Attributes {
        content_type: "application/json".to_owned(),
        ..Attributes::default()
    };
    let condition = there.map_or(Condition::Absent, Condition::Unchanged);
    target
        .put(&key(), &Verified::composed(text), &attributes, &condition)
        .await
}

fn key() -> Key {
    MARK.parse().expect("it is a key")
}

fn newer(target: &dyn Store, format: u32) -> StoreError {
    StoreError::new(
        StoreErrorKind::Permanent,
        format!(
            "can't prune {}: {MARK} there has format {format}, which is newer than this program: update kops-mirror",
            target.place()
        ),
    )
}
