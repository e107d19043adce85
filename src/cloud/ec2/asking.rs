//! How EC2 is asked: filters, pages, tags of what is made.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Tag;
use crate::cloud::query::{Fields, Query, Set};
use crate::cloud::{Cloud, CloudError, service};

const VERSION: &str = "2016-11-15";

/// A list that never ends is none of EC2's.
const PAGES_MAX: usize = 1000;

/// What a list is narrowed by. Any of the values will do; all filters must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `vpc-id`, `tag:NAME`
    pub name: String,
    pub values: Vec<String>,
}

impl Filter {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: vec![value.into()],
        }
    }

    /// What carries a tag.
    pub fn tag(key: &str, value: impl Into<String>) -> Self {
        Self::new(format!("tag:{key}"), value)
    }
}

/// A page of any list, whatever EC2 calls it.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Page<T> {
    #[serde(
        alias = "addressesSet",
        alias = "dhcpOptionsSet",
        alias = "egressOnlyInternetGatewaySet",
        alias = "securityGroupRuleSet",
        alias = "internetGatewaySet",
        alias = "keySet",
        alias = "launchTemplates",
        alias = "networkInterfaceSet",
        alias = "securityGroupInfo",
        alias = "volumeSet",
        alias = "availabilityZoneInfo",
        alias = "vpcSet",
        alias = "subnetSet",
        alias = "routeTableSet",
        alias = "vpcEndpointSet",
        alias = "natGatewaySet",
        alias = "imagesSet",
        alias = "instanceTypeOfferingSet",
        alias = "instanceTypeSet",
        alias = "reservationSet",
        alias = "snapshotSet",
        alias = "tagSet",
        alias = "storeImageTaskResultSet",
        default
    )]
    items: Set<T>,
    #[serde(rename = "nextToken", default)]
    next: Option<String>,
}

/// An answer that says no more than that it was done.
#[derive(Deserialize)]
pub(super) struct Done {}

impl Fields {
    #[must_use]
    pub(super) fn filters(self, filters: &[Filter]) -> Self {
        (1..).zip(filters).fold(self, |fields, (number, filter)| {
            fields
                .with(format!("Filter.{number}.Name"), &filter.name)
                .list(&format!("Filter.{number}.Value"), &filter.values)
        })
    }

    /// What is made carries these tags from its first moment, so that it is found whatever happens to who made it.
    #[must_use]
    pub(super) fn tagged(self, resources: &[&str], tags: &[Tag]) -> Self {
        if tags.is_empty() {
            return self;
        }
        (1..)
            .zip(resources)
            .fold(self, |fields, (number, resource)| {
                let head = format!("TagSpecification.{number}");
                let fields = fields.with(format!("{head}.ResourceType"), resource);
                (1..).zip(tags).fold(fields, |fields, (number, tag)| {
                    fields
                        .with(format!("{head}.Tag.{number}.Key"), &tag.key)
                        .with(format!("{head}.Tag.{number}.Value"), &tag.value)
                })
            })
    }
}

impl Cloud {
    /// Every item of a list.
    pub(super) async fn described<T: DeserializeOwned>(
        &self,
        operation: &str,
        purpose: &str,
        mut fields: Fields,
    ) -> Result<Vec<T>, CloudError> {
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let page: Page<T> = self.query(query(operation, purpose, true), &fields).await?;
            found.extend(page.items.item);
            match page.next.filter(|next| !next.is_empty()) {
                Some(next) => fields.set("NextToken", &next),
                None => return Ok(found),
            }
        }
        let why = format!("it has more than {PAGES_MAX} pages");
        Err(self.nonsense(&service::EC2, operation, purpose, why))
    }

    /// Does something that does no harm twice.
    pub(super) async fn repeatable<T: DeserializeOwned>(
        &self,
        operation: &str,
        purpose: &str,
        fields: &Fields,
    ) -> Result<T, CloudError> {
        self.query(query(operation, purpose, true), fields).await
    }

    /// Does something that would be done twice.
    pub(super) async fn once<T: DeserializeOwned>(
        &self,
        operation: &str,
        purpose: &str,
        fields: &Fields,
    ) -> Result<T, CloudError> {
        self.query(query(operation, purpose, false), fields).await
    }
}

fn query<'a>(operation: &'a str, purpose: &'a str, is_repeatable: bool) -> Query<'a> {
    Query {
        service: &service::EC2,
        version: VERSION,
        operation,
        purpose,
        is_repeatable,
    }
}

#[cfg(test)]
pub(super) fn read<T: DeserializeOwned>(xml: &str) -> (Vec<T>, Option<String>) {
    let page: Page<T> = quick_xml::de::from_str(xml).unwrap();
    (page.items.item, page.next)
}
