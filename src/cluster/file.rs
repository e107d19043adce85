//! The file that says what cluster is wanted. Every field is documented in `config/cluster.example.yaml`.
//!
//! Read strictly: a field that nobody knows is an error, since kops would drop it without a word.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml_ng::Value;

use super::checks::CheckId;
use crate::asset::Arch;
use crate::catalogue::{ClusterOption, version};

/// The one version of the schema there is.
pub const API_VERSION: &str = "kops-mirror/v1";

/// What cluster is wanted, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterFile {
    pub api_version: String,
    /// The cluster's name: a DNS name; `.k8s.local` at its end where no zone is meant.
    pub name: String,
    pub region: String,
    /// The profile of AWS's own configuration that has the account's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(deserialize_with = "kops_version", serialize_with = "shown")]
    pub kops_version: Version,
    #[serde(deserialize_with = "kubernetes_version", serialize_with = "shown")]
    pub kubernetes_version: Version,
    pub mirror: Mirror,
    pub state_store: StateStore,
    pub network: Network,
    pub image: Image,
    pub control_plane: ControlPlane,
    pub nodes: Vec<NodeGroup>,
    /// Where one logs in from outside; None: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bastion: Option<Bastion>,
    /// A name of `kops create cluster --networking`; None: weave up to 1.8's days is not assumed, kops' own choice is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networking: Option<String>,
    #[serde(default)]
    pub topology: Topology,
    #[serde(default)]
    pub api: Api,
    #[serde(default)]
    pub ssh: Ssh,
    #[serde(default)]
    pub registry: Registry,
    /// Add-ons and settings that bring images or files: names as `kops-mirror assets --cluster-option` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<ClusterOption>,
    /// On every resource that kops makes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub target: Target,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// Checks whose finding is known and accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledge: Vec<CheckId>,
}

/// Where the mirrored release is, and how nodes get to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// `s3://BUCKET[/PREFIX]` or a folder, as `sync --to` was told.
    pub at: String,
    /// The region of its bucket; None: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another server that speaks S3; None: AWS's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<url::Url>,
    /// The mirror's address as nodes reach it; None: the bucket's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<url::Url>,
    #[serde(default)]
    pub mode: Mode,
    /// Where kops reads its channel; None: the one in the mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// How kops is pointed at the mirror.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The assets API from kops 1.22 on, the variables before.
    #[default]
    Auto,
    /// `spec.assets`, mode A.
    Assets,
    /// `KOPS_BASE_URL`, mode B.
    BaseUrl,
}

/// Where kops keeps what it knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateStore {
    pub bucket: String,
    /// Whether it is made where it is not there.
    #[serde(default = "yes")]
    pub create: bool,
    /// The key that it is encrypted with; None: S3's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
}

/// What the cluster's hosts are connected by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// An existing VPC; None: kops makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<String>,
    /// The VPC's addresses; None: as the existing VPC has them, or `172.20.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// None for a zone: kops makes one there, with addresses that are free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
}

/// A subnet, existing or to be made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subnet {
    pub zone: String,
    /// None: `private` or `public`, as the topology has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<SubnetRole>,
    /// An existing one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Whom traffic to elsewhere goes to: `nat-…`, `tgw-…`, an instance, or `External` where something else sees to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
}

/// What a subnet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubnetRole {
    Private,
    Utility,
    Public,
}

/// Which image instances start from: exactly one of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// `ami-…`, or `OWNER/NAME`, which is the same text in both regions of China.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<ImageQuery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<ImageCopy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<ImageBuild>,
}

/// Which image is looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ImageQuery {
    /// A known one: `ubuntu-24.04`, `ubuntu-22.04`, `ubuntu-20.04`, `amazon-linux-2023`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// An account, or `self` or `amazon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A pattern with `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A parameter of SSM that has the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssm: Option<String>,
}

/// An image that is copied from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageCopy {
    pub from_region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_profile: Option<String>,
    /// `ami-…` there.
    pub source: String,
    /// What it is called here; None: as there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub engine: CopyEngine,
    /// Private buckets for what is under way, in the source's region and in the cluster's; only for `store-restore` between partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_bucket: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_bucket: Option<String>,
}

/// How an image is carried from one partition to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CopyEngine {
    /// As one object of S3, by the tasks that EC2 has for it
    #[default]
    StoreRestore,
    /// As blocks of its snapshot, each with its SHA-256
    EbsDirect,
}

/// An image that is built on an instance of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageBuild {
    #[serde(default)]
    pub engine: BuildEngine,
    /// What the instance starts from: `ami-…`, or `OWNER/NAME`.
    pub base: String,
    /// What the image will be called.
    pub name: String,
    /// A private subnet: the instance has no public address.
    pub subnet: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group: Option<String>,
    #[serde(default = "builder_type")]
    pub machine_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Whose key it is, to log in with; None: the script runs as user data, and nobody logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    #[serde(default = "builder_user")]
    pub user: String,
    /// What is run on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<PathBuf>,
    /// The external program, for `engine: imagebuilder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imagebuilder: Option<PathBuf>,
    /// Its template, for `engine: imagebuilder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
}

/// What builds an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BuildEngine {
    /// An instance, a script, CreateImage
    #[default]
    Launch,
    /// The external program imagebuilder
    Imagebuilder,
}

/// The hosts that run the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// An odd number; None: one for each zone, and one more where that is even.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    pub zones: Vec<String>,
    pub machine_type: String,
    /// In GiB; None: as kops has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_volume_size: Option<u32>,
    /// Whether etcd's volumes are encrypted; None: as kops has it, which is so from 1.20 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt_etcd: Option<bool>,
    /// Another image than the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Hosts that run what the cluster is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeGroup {
    pub name: String,
    /// None: those of the control plane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    pub machine_type: String,
    pub min: u32,
    /// None: as many as `min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_volume_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What is paid at most for a spot instance, in the partition's currency; None: on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
}

/// Hosts that one logs in to from outside, and from there to the others: behind a load balancer of their own, in private topology.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bastion {
    #[serde(default = "one")]
    pub count: u32,
    #[serde(default = "bastion_type")]
    pub machine_type: String,
    /// Another image than the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Whether hosts have public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    #[default]
    Private,
    Public,
}

/// How the cluster's API is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Api {
    #[serde(rename = "type")]
    pub kind: ApiKind,
    /// Who may.
    pub access: Vec<String>,
}

/// Where the API's load balancer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiKind {
    /// Inside the VPC: a public one on port 443 is blocked in China without an ICP filing.
    #[default]
    Internal,
    Public,
}

/// Who may log in to hosts, and with which key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ssh {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<String>,
    /// A file with the public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PathBuf>,
}

/// Where images of containers come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Registry {
    /// A registry with the names that kops computes: `HOST[/PATH]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_registry: Option<String>,
    /// A registry with the paths as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_proxy: Option<String>,
    /// Mirrors by the host that they stand for: `docker.io: [https://…]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// Who makes the resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Target {
    #[serde(rename = "type")]
    pub kind: TargetKind,
    /// The folder that terraform's files are written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

/// Who makes the resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// kops itself
    #[default]
    Direct,
    /// Somebody with terraform, from files that kops writes
    Terraform,
}

/// How long is waited.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Timeouts {
    /// For one run of kops.
    #[serde(with = "duration")]
    pub kops: Duration,
    /// For an image to become available.
    #[serde(with = "duration")]
    pub image: Duration,
    /// For the cluster to be ready.
    #[serde(with = "duration")]
    pub ready: Duration,
}

/// What is put over the rendered manifest, for what this file has no word for. kops drops fields it does not know; they are
/// found when the manifest is read back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Overrides {
    /// Over `spec` of the Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
    /// Over `spec` of instance groups, by their names; `*` stands for all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instance_groups: BTreeMap<String, Value>,
}

impl Overrides {
    fn is_empty(&self) -> bool {
        self.cluster.is_none() && self.instance_groups.is_empty()
    }

    /// What is put over this field of the Cluster's `spec`, null included.
    pub(super) fn cluster_field(&self, name: &str) -> Option<&Value> {
        self.cluster.as_ref()?.get(name)
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            kind: ApiKind::Internal,
            access: vec!["0.0.0.0/0".to_owned()],
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            kops: Duration::from_mins(30),
            image: Duration::from_mins(60),
            ready: Duration::from_mins(30),
        }
    }
}

impl NodeGroup {
    /// The processors of its hosts.
    pub fn arch(&self) -> Arch {
        arch_of(&self.machine_type)
    }
}

impl Bastion {
    /// The processors of its hosts.
    pub fn arch(&self) -> Arch {
        arch_of(&self.machine_type)
    }
}

impl ControlPlane {
    /// The processors of its hosts.
    pub fn arch(&self) -> Arch {
        arch_of(&self.machine_type)
    }
}

/// What processors a type of machine has, by AWS's rule for names: a `g` among the letters behind the generation stands for
/// Graviton (docs.aws.amazon.com, "Amazon EC2 instance type naming conventions"); `a1` is older than the rule.
pub fn arch_of(machine_type: &str) -> Arch {
    let family = machine_type.split('.').next().unwrap_or_default();
    let behind = family
        .trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '-')
        .trim_start_matches(|c: char| c.is_ascii_digit());
    match family == "a1" || behind.contains('g') {
        true => Arch::Arm64,
        false => Arch::Amd64,
    }
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn bastion_type() -> String {
    "t3.micro".to_owned()
}

fn builder_type() -> String {
    "t3.medium".to_owned()
}

fn builder_user() -> String {
    "ubuntu".to_owned()
}

fn kops_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    let text = String::deserialize(deserializer)?;
    version::kops(&text).map_err(serde::de::Error::custom)
}

fn kubernetes_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    let text = String::deserialize(deserializer)?;
    version::kubernetes(&text).map_err(serde::de::Error::custom)
}

fn shown<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// Durations as people write them: `30m`, `1h`.
mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: jiff::SignedDuration = text.parse().map_err(|_| {
            serde::de::Error::custom(format!("'{text}' is not a duration such as 30m or 1h"))
        })?;
        span.try_into()
            .map_err(|_| serde::de::Error::custom(format!("'{text}' is below zero")))
    }

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}s", duration.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graviton_is_told_by_its_letter() {
        for arm in [
            "a1.large",
            "m6g.large",
            "c7gd.xlarge",
            "t4g.small",
            "im4gn.large",
            "g5g.xlarge",
            "hpc7g.4xlarge",
        ] {
            assert_eq!(arch_of(arm), Arch::Arm64, "{arm}");
        }
        for amd in [
            "m5.large",
            "g4dn.xlarge",
            "t3.medium",
            "p4d.24xlarge",
            "u-6tb1.metal",
            "trn1.2xlarge",
            "m7i-flex.large",
        ] {
            assert_eq!(arch_of(amd), Arch::Amd64, "{amd}");
        }
    }
}
