//! Snapshots of disks.

use serde::Deserialize;

use super::asking::Done;
use super::{Filter, Tag};
use crate::cloud::query::{Fields, items, text};
use crate::cloud::{Cloud, CloudError};

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub snapshot_id: String,
    #[serde(rename = "status")]
    pub state: SnapshotState,
    #[serde(default, deserialize_with = "text")]
    pub status_message: Option<String>,
    /// In GiB.
    #[serde(default)]
    pub volume_size: u64,
    #[serde(default)]
    pub start_time: String,
    #[serde(default, deserialize_with = "text")]
    pub description: Option<String>,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    Pending,
    Completed,
    Error,
    Recoverable,
    Recovering,
}

impl Snapshot {
    pub fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }
}

impl Cloud {
    /// The account's own snapshots, by their ids, or by filters where none is given.
    pub async fn snapshots(
        &self,
        ids: &[&str],
        filters: &[Filter],
    ) -> Result<Vec<Snapshot>, CloudError> {
        let fields = Fields::default()
            .list("SnapshotId", ids)
            .list("Owner", ids.is_empty().then_some("self"))
            .filters(filters);
        let purpose = match ids {
            [] => "list snapshots".to_owned(),
            ids => format!("look at {}", ids.join(", ")),
        };
        self.described("DescribeSnapshots", &purpose, fields).await
    }

    /// Deletes a snapshot; one that is not there any more is none the worse.
    pub async fn delete_snapshot(&self, id: &str) -> Result<(), CloudError> {
        let fields = Fields::default().with("SnapshotId", id);
        match self
            .repeatable("DeleteSnapshot", &format!("delete {id}"), &fields)
            .await
        {
            Ok(Done {}) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
