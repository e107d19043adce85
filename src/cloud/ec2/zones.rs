//! Availability zones.

use serde::Deserialize;

use crate::cloud::query::Fields;
use crate::cloud::{Cloud, CloudError};

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// `cn-north-1a`; which one that is differs between accounts.
    pub zone_name: String,
    /// `cnn1-az1`
    #[serde(default)]
    pub zone_id: String,
    /// `available`, `impaired` …
    pub zone_state: String,
    /// `availability-zone`; local ones are of no use here.
    #[serde(default)]
    pub zone_type: Option<String>,
}

impl Cloud {
    /// The zones of the region that the account has, in their order.
    pub async fn zones(&self) -> Result<Vec<Zone>, CloudError> {
        let found: Vec<Zone> = self
            .described(
                "DescribeAvailabilityZones",
                "list the zones",
                Fields::default(),
            )
            .await?;
        let is_ordinary = |zone: &Zone| {
            zone.zone_type
                .as_deref()
                .is_none_or(|kind| kind == "availability-zone")
        };
        let mut zones: Vec<_> = found.into_iter().filter(is_ordinary).collect();
        zones.sort_by(|a, b| a.zone_name.cmp(&b.zone_name));
        Ok(zones)
    }
}
