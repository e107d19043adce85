//! Tags: by them, what was made is found again.

use serde::{Deserialize, Serialize};

use super::Filter;
use super::asking::Done;
use crate::cloud::query::Fields;
use crate::cloud::{Cloud, CloudError};

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

impl Tag {
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A tag at what carries it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tagged {
    pub resource_id: String,
    /// `image`, `snapshot`, `instance` …
    pub resource_type: String,
    pub key: String,
    #[serde(default)]
    pub value: String,
}

impl Cloud {
    /// Tags by what carries them.
    pub async fn tags(&self, filters: &[Filter]) -> Result<Vec<Tagged>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeTags", "look for tags", fields)
            .await
    }

    /// Gives tags to what is there; those of the same name are replaced.
    pub async fn tag(&self, ids: &[&str], tags: &[Tag]) -> Result<(), CloudError> {
        let fields = Fields::default().list("ResourceId", ids);
        let fields = (1..).zip(tags).fold(fields, |fields, (number, tag)| {
            fields
                .with(format!("Tag.{number}.Key"), &tag.key)
                .with(format!("Tag.{number}.Value"), &tag.value)
        });
        let purpose = format!("tag {}", ids.join(", "));
        let _: Done = self.repeatable("CreateTags", &purpose, &fields).await?;
        Ok(())
    }
}
