//! Elastic addresses.

use serde::Deserialize;

use crate::cloud::query::Fields;
use crate::cloud::{Cloud, CloudError};

/// An address that the account holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub public_ip: String,
}

impl Cloud {
    /// The account's elastic addresses, used or not.
    pub async fn addresses(&self) -> Result<Vec<Address>, CloudError> {
        let purpose = "list elastic addresses";
        self.described("DescribeAddresses", purpose, Fields::default())
            .await
    }
}
