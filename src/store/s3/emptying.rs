//! A bucket that is to go, with all it has ever held: a bucket with versions keeps what is deleted, and can't be removed while it does.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::errors::{Refusal, Site};
use super::{S3Options, client};
use crate::store::{StoreError, StoreErrorKind};

/// A bucket that may be removed.
pub struct Emptying {
    requests: Client,
    site: Site,
    bucket: String,
}

impl fmt::Debug for Emptying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emptying")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Emptying {
    /// Finds region, credentials and endpoint; talks to no bucket yet.
    pub async fn connect(options: &S3Options) -> Result<Self, StoreError> {
        let clients = client::connect(options).await?;
        Ok(Self {
            requests: clients.requests,
            site: clients.site,
            bucket: options.bucket.clone(),
        })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    fn place(&self) -> String {
        format!("the bucket {}", self.bucket)
    }

    /// The bucket's tags, none where it has none; None where there is no such bucket.
    pub async fn tags(&self) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let request = self.requests.get_bucket_tagging().bucket(&self.bucket);
        let told = match request.send().await {
            Ok(told) => told,
            Err(error) => {
                return match Refusal::of(&error).unwrap_or_default().code.as_str() {
                    "NoSuchTagSet" => Ok(Some(BTreeMap::new())),
                    "NoSuchBucket" => Ok(None),
                    _ => Err(self.site.explain("read the tags of", &self.place(), &error)),
                };
            }
        };
        let tags = told.tag_set().iter();
        Ok(Some(
            tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
                .collect(),
        ))
    }

    /// What is directly below a prefix: names of objects, and those of folders with a slash at their end. Folders are not asked for as
    /// such: servers name some whose objects are all deleted.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let request = self
            .requests
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix);
        let mut pages = request.into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.site.explain("list", &self.place(), &error))?;
            let keys = page.contents().iter().filter_map(|object| object.key());
            names.extend(keys.map(|key| first_part(key.strip_prefix(prefix).unwrap_or(key))));
            names.dedup();
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes every version of every object and what says that one was deleted, uploads that were begun, and the bucket. One that is
    /// not there any more is none the worse. Gives the number of versions.
    pub async fn remove(&self) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let versions = match self.versions().await {
                Ok(versions) => versions,
                Err(error) if error.kind == StoreErrorKind::NoSuchBucket => return Ok(removed),
                Err(error) => return Err(error),
            };
            if versions.is_empty() {
                break;
            }
            removed += versions.len() as u64;
            self.delete(versions).await?;
        }
        self.abort_uploads().await?;
        let request = self.requests.delete_bucket().bucket(&self.bucket);
        match request.send().await {
            Ok(_) => Ok(removed),
            Err(error) if Refusal::of(&error).is_some_and(|told| told.code == "NoSuchBucket") => {
                Ok(removed)
            }
            Err(error) => Err(self.site.explain("remove", &self.place(), &error)),
        }
    }

    /// The first thousand.
    async fn versions(&self) -> Result<Vec<ObjectIdentifier>, StoreError> {
        let request = self.requests.list_object_versions().bucket(&self.bucket);
        let page = request.send().await;
        let page = page.map_err(|error| self.site.explain("list", &self.place(), &error))?;
        let versions = page
            .versions()
            .iter()
            .map(|version| (version.key(), version.version_id()));
        let markers = page
            .delete_markers()
            .iter()
            .map(|marker| (marker.key(), marker.version_id()));
        let identifiers = versions.chain(markers).filter_map(|(key, version)| {
            let identifier = ObjectIdentifier::builder().key(key?);
            identifier
                .set_version_id(version.map(str::to_owned))
                .build()
                .ok()
        });
        Ok(identifiers.collect())
    }

    async fn delete(&self, versions: Vec<ObjectIdentifier>) -> Result<(), StoreError> {
        let delete = Delete::builder()
            .set_objects(Some(versions))
            .quiet(true)
            .build()
            .expect("objects are given");
        let request = self.requests.delete_objects().bucket(&self.bucket);
        let told = request.delete(delete).send().await;
        let told = told.map_err(|error| self.site.explain("empty", &self.place(), &error))?;
        match told.errors().first() {
            None => Ok(()),
            Some(error) => Err(StoreError::new(
                StoreErrorKind::Denied,
                format!(
                    "can't delete {} of s3://{}: {} {}",
                    error.key().unwrap_or_default(),
                    self.bucket,
                    error.code().unwrap_or_default(),
                    error.message().unwrap_or_default()
                ),
            )),
        }
    }

    async fn abort_uploads(&self) -> Result<(), StoreError> {
        let request = self.requests.list_multipart_uploads().bucket(&self.bucket);
        let page = request.send().await;
        let page = page.map_err(|error| self.site.explain("list", &self.place(), &error))?;
        for upload in page.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else {
                continue;
            };
            let request = self.requests.abort_multipart_upload().bucket(&self.bucket);
            let aborted = request.key(key).upload_id(id).send().await;
            aborted.map_err(|error| self.site.explain("empty", &self.place(), &error))?;
        }
        Ok(())
    }
}

/// `a/` of `a/b/c`, and all of `a`.
fn first_part(key: &str) -> String {
    let end = key.find('/').map_or(key.len(), |slash| slash + 1);
    key[..end].to_owned()
}
