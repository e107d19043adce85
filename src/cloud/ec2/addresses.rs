//! Elastic addresses.

use serde::Deserialize;

use super::Tag;
use crate::cloud::query::{Fields, items};
use crate::cloud::{Cloud, CloudError};

/// An address that the account holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub public_ip: String,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

impl Cloud {
    /// The account's elastic addresses, used or not.
    pub async fn addresses(&self) -> Result<Vec<Address>, CloudError> {
        let purpose = "list elastic addresses";
        self.described("DescribeAddresses", purpose, Fields::default())
            .await
    }
}
