//! What is so, as far as it could be found out, for the checks to judge.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use semver::Version;

use crate::asset::{Arch, Key};
use crate::audit::Audit;
use crate::cloud::{
    Identity, Image, InstanceType, Offering, RouteTable, Subnet, Tagged, Vpc, VpcEndpoint, Zone,
};
use crate::images;
use crate::store::bucket_policy::Audience;
use crate::store::s3::{BucketSettings, Property};

/// Something that is so, or why that is not known.
pub type Known<T> = Result<T, String>;

/// Everything that the checks go by.
#[derive(Debug)]
pub struct Facts {
    pub identity: Known<Identity>,
    /// Of the profile that an image is copied with; None where none is copied.
    pub source: Option<Known<Identity>>,
    /// How far the clock here is ahead of AWS's.
    pub clock: Known<SignedDuration>,
    pub zones: Known<Vec<Zone>>,
    /// None where there is no such bucket.
    pub state_bucket: Known<Option<StateBucket>>,
    pub mirror: Known<Arc<Audit>>,
    /// What kops and nodes read first, read without credentials.
    pub reads: Known<Vec<Read>>,
    /// None where the mirror is no bucket, or is reached by another address.
    pub audience: Known<Option<Audience>>,
    /// None where kops makes the network.
    pub network: Known<Option<Network>>,
    pub images: Vec<HostImage>,
    pub offerings: Known<Vec<Offering>>,
    pub types: Known<Vec<InstanceType>>,
    pub quotas: Vec<(Quota, Known<Allowance>)>,
    /// None where images come from their own registries.
    pub registry: Option<Known<Registry>>,
    /// Whether each mirror of a registry answers as a registry does.
    pub registry_mirrors: BTreeMap<String, Known<u16>>,
    /// Of the program that is to be used; None where none is named.
    pub kops: Known<Option<Version>>,
    /// What kops has of the cluster; None where it has none of that name.
    pub kept: Known<Option<Kept>>,
    /// Who is at work on it, in words.
    pub holder: Known<Option<String>>,
    /// What bears the cluster's name.
    pub tagged: Known<Vec<Tagged>>,
}

/// The bucket of the state store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBucket {
    pub settings: BucketSettings,
    pub lacks: Vec<Property>,
}

/// Something of the mirror, read as nodes read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub what: String,
    pub url: String,
    pub key: Option<Key>,
    pub answer: Known<Answered>,
    pub expected: Option<Expected>,
}

/// What a server said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    /// In bytes.
    pub length: Option<u64>,
    pub etag: Option<String>,
    /// Of what is small.
    pub text: Option<String>,
}

/// What it should have said, by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The file itself: bytes, and the MD5 that its `ETag` is.
    File { length: u64, md5: String },
    /// A text that begins with this digest.
    Digest(String),
}

/// The registry that has the cluster's images, as far as the mirror's indexes tell which those are.
#[derive(Debug)]
pub struct Registry {
    pub audit: images::audit::Audit,
    /// What the cluster asks for and no index has.
    pub unnamed: Vec<String>,
}

/// An existing VPC and all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// None where there is no such VPC.
    pub vpc: Option<Vpc>,
    /// Whether names are resolved in it, and given to its hosts.
    pub dns: (bool, bool),
    pub subnets: Vec<Subnet>,
    pub route_tables: Vec<RouteTable>,
    pub endpoints: Vec<VpcEndpoint>,
}

/// The image of some hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostImage {
    /// `the control plane`
    pub whose: String,
    pub arch: Arch,
    /// What is asked for: `ami-…`, `ubuntu-24.04`.
    pub asked: String,
    /// Whether one is copied or built first, which is looked at where it comes from.
    pub is_to_be_made: bool,
    /// Where it was looked for.
    pub region: String,
    /// Or why there is no such image.
    pub image: Known<Result<Image, String>>,
}

/// Something that an account may have so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    Vcpus,
    ElasticIps,
    NatGatewaysPerZone,
    NetworkLoadBalancers,
    Vpcs,
}

/// How many an account may have, and has.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowance {
    /// None where the region tells none.
    pub limit: Option<f64>,
    /// Without what is the cluster's own.
    pub used: f64,
    /// The zone that this is about; None: the region.
    pub place: Option<String>,
}

/// What kops keeps of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the kops that last updated it.
    pub kops: Option<Version>,
    pub kubernetes: Option<Version>,
    /// Whether a journal says that it was made here.
    pub is_ours: bool,
}

impl Facts {
    /// Nothing is known yet.
    pub fn unasked() -> Self {
        fn unasked<T>() -> Known<T> {
            Err("it was not asked for".to_owned())
        }
        Self {
            identity: unasked(),
            source: None,
            clock: unasked(),
            zones: unasked(),
            state_bucket: unasked(),
            mirror: unasked(),
            reads: unasked(),
            audience: unasked(),
            network: unasked(),
            images: Vec::new(),
            offerings: unasked(),
            types: unasked(),
            quotas: Vec::new(),
            registry: None,
            registry_mirrors: BTreeMap::new(),
            kops: unasked(),
            kept: unasked(),
            holder: unasked(),
            tagged: unasked(),
        }
    }
}

impl Quota {
    pub(super) fn all() -> [Self; 5] {
        [
            Self::Vcpus,
            Self::ElasticIps,
            Self::NatGatewaysPerZone,
            Self::NetworkLoadBalancers,
            Self::Vpcs,
        ]
    }

    /// The service's code and the quota's, as Service Quotas has them.
    pub(super) fn codes(self) -> (&'static str, &'static str) {
        match self {
            Self::Vcpus => ("ec2", "L-1216C47A"),
            Self::ElasticIps => ("ec2", "L-0263D0A3"),
            Self::NatGatewaysPerZone => ("vpc", "L-FE5A380F"),
            Self::NetworkLoadBalancers => ("elasticloadbalancing", "L-69A177A2"),
            Self::Vpcs => ("vpc", "L-F678F1CE"),
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Vcpus => "vCPUs of standard instances on demand",
            Self::ElasticIps => "elastic addresses",
            Self::NatGatewaysPerZone => "NAT gateways in a zone",
            Self::NetworkLoadBalancers => "network load balancers",
            Self::Vpcs => "VPCs",
        }
    }
}
