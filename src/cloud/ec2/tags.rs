//! Tags: by them, what was made is found again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Filter;
use super::asking::Done;
use crate::cloud::query::Fields;
use crate::cloud::{Cloud, CloudError};

/// By this tag kops and its hosts know what is a cluster's.
pub const CLUSTER_TAG: &str = "KubernetesCluster";

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

/// What a list tells of anything, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    allocation_id: Option<String>,
    dhcp_options_id: Option<String>,
    egress_only_internet_gateway_id: Option<String>,
    group_id: Option<String>,
    internet_gateway_id: Option<String>,
    key_pair_id: Option<String>,
    launch_template_id: Option<String>,
    nat_gateway_id: Option<String>,
    network_interface_id: Option<String>,
    route_table_id: Option<String>,
    security_group_rule_id: Option<String>,
    subnet_id: Option<String>,
    volume_id: Option<String>,
    vpc_id: Option<String>,
    state: Option<String>,
}

/// A kind of resource: what its ids begin with, what lists it, and which id is its own.
type Kind = (&'static str, &'static str, fn(&Listed) -> Option<&String>);

/// Those that have tags of their own. Instances are told of for an hour after their end, and are not among them.
const KINDS: [Kind; 14] = [
    ("eipalloc", "DescribeAddresses", |one| {
        one.allocation_id.as_ref()
    }),
    ("dopt", "DescribeDhcpOptions", |one| {
        one.dhcp_options_id.as_ref()
    }),
    ("eigw", "DescribeEgressOnlyInternetGateways", |one| {
        one.egress_only_internet_gateway_id.as_ref()
    }),
    ("igw", "DescribeInternetGateways", |one| {
        one.internet_gateway_id.as_ref()
    }),
    ("key", "DescribeKeyPairs", |one| one.key_pair_id.as_ref()),
    ("lt", "DescribeLaunchTemplates", |one| {
        one.launch_template_id.as_ref()
    }),
    ("nat", "DescribeNatGateways", |one| {
        one.nat_gateway_id.as_ref()
    }),
    ("eni", "DescribeNetworkInterfaces", |one| {
        one.network_interface_id.as_ref()
    }),
    ("rtb", "DescribeRouteTables", |one| {
        one.route_table_id.as_ref()
    }),
    ("sg", "DescribeSecurityGroups", |one| one.group_id.as_ref()),
    ("sgr", "DescribeSecurityGroupRules", |one| {
        one.security_group_rule_id.as_ref()
    }),
    ("subnet", "DescribeSubnets", |one| one.subnet_id.as_ref()),
    ("vol", "DescribeVolumes", |one| one.volume_id.as_ref()),
    ("vpc", "DescribeVpcs", |one| one.vpc_id.as_ref()),
];

impl Tagged {
    /// What ids of its kind begin with: `i`, `vpc`. Not every server calls a kind as EC2 does, and ids say it too.
    pub fn kind(&self) -> &str {
        self.resource_id.split('-').next().unwrap_or_default()
    }
}

impl Cloud {
    /// The ids of what carries a tag and is not being deleted, of one kind by what its ids begin with. None for kinds that are not known
    /// here.
    pub async fn carriers(
        &self,
        kind: &str,
        tag: &Filter,
    ) -> Result<Option<BTreeSet<String>>, CloudError> {
        let Some((_, operation, id)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
            return Ok(None);
        };
        let fields = Fields::default().filters(std::slice::from_ref(tag));
        let purpose = format!("see which {kind}-… there are");
        let listed: Vec<Listed> = self.described(operation, &purpose, fields).await?;
        let is_there = |one: &&Listed| {
            let state = one.state.as_deref();
            !matches!(state, Some("deleting" | "deleted"))
        };
        let there = listed.iter().filter(is_there);
        Ok(Some(there.filter_map(id).cloned().collect()))
    }

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
