//! What differs between kops' releases, from 1.8 to 1.37, each with where it is from.
//!
//! The manifests that `kops create cluster` of each minor writes are in its own tests
//! (github.com/kubernetes/kops `tests/integration/create_cluster/*/expected-v1alpha2.yaml`); the differences between them are these.

use semver::Version;

use super::file::{ClusterFile, Mode};
use crate::catalogue::ClusterOption;
use crate::layout::Layout;

/// How a cluster's names are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dns {
    /// The hosts tell each other; only for names that end in `.k8s.local`. The only choice without a zone up to 1.25, gone in 1.37.
    Gossip,
    /// A zone of Route 53: the only choice up to 1.25 for other names.
    Zone,
    /// Nothing at all: hosts go by the load balancer's name (`topology.dns.type: None`).
    None,
}

/// What hosts run containers with, which decides where mirrors of registries are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrors {
    /// `spec.docker.registryMirrors`: Docker Hub's alone.
    Docker,
    /// `spec.containerd.registryMirrors`, by host.
    Containerd,
}

/// A release of kops, asked for its ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Era(u64);

impl Era {
    /// Pre-releases count as the release that they lead to.
    pub fn of(kops: &Version) -> Self {
        Self(kops.minor)
    }

    /// Whether manifests of it can be rendered.
    pub fn is_known(self) -> bool {
        (8..=37).contains(&self.0)
    }

    fn since(self, minor: u64) -> bool {
        self.0 >= minor
    }

    /// `topology.dns.type: None` is known since 1.26 (docs/releases/1.26-NOTES.md); gossip can't be created any more since 1.35 and was
    /// removed in 1.37 (docs/releases/1.37-NOTES.md).
    pub fn dns(self, name: &str) -> Dns {
        match (self.since(26), name.ends_with(".k8s.local")) {
            (true, _) => Dns::None,
            (false, true) => Dns::Gossip,
            (false, false) => Dns::Zone,
        }
    }

    /// The group of kops' API.
    pub(super) fn api_version(self) -> &'static str {
        if self.since(15) {
            "kops.k8s.io/v1alpha2"
        } else {
            "kops/v1alpha2"
        }
    }

    /// What the hosts of the control plane are called.
    pub fn control_plane(self) -> &'static str {
        if self.since(26) {
            "control-plane"
        } else {
            "master"
        }
    }

    /// Network load balancers are needed without DNS, classic ones went in 1.37; before 1.19 there was no choice.
    pub(super) fn load_balancer_class(self) -> Option<&'static str> {
        match self.0 {
            ..19 => None,
            19..26 => Some("Classic"),
            _ => Some("Network"),
        }
    }

    /// Whether kops makes a network load balancer for the API.
    pub fn needs_network_load_balancer(self) -> bool {
        self.load_balancer_class() == Some("Network")
    }

    /// `topology.masters` and `topology.nodes`.
    pub(super) fn has_topology_of_roles(self) -> bool {
        !self.since(28)
    }

    pub(super) fn has_master_public_name(self) -> bool {
        !self.since(29)
    }

    pub(super) fn has_etcd_requests(self) -> bool {
        self.since(15)
    }

    pub(super) fn has_etcd_backup_days(self) -> bool {
        self.since(27)
    }

    pub(super) fn encrypts_etcd(self) -> bool {
        self.since(20)
    }

    pub(super) fn has_anonymous_auth(self) -> bool {
        self.since(18)
    }

    /// Bastions stand in the utility subnets up to 1.17, and behind them since (kubernetes/kops commit ec4fe1e7e8).
    pub(super) fn bastions_are_public(self) -> bool {
        !self.since(18)
    }

    /// Metadata of instances only for who asks with a token (IMDSv2).
    pub(super) fn has_instance_metadata(self) -> bool {
        self.since(22)
    }

    /// cilium does without kube-proxy, and listens on node ports (`addCiliumNetwork`).
    pub(super) fn cilium_replaces_kube_proxy(self) -> bool {
        self.since(19)
    }

    /// Whether kops refuses the option without cert-manager, from which its webhooks and relays have their certificates
    /// (pkg/apis/kops/validation/validation.go). Of hubble 1.20.0 did not ask it yet.
    pub(super) fn needs_cert_manager(self, option: ClusterOption) -> bool {
        match option {
            ClusterOption::AwsLoadBalancerController | ClusterOption::Hubble => self.since(20),
            ClusterOption::SnapshotController => self.since(21),
            ClusterOption::PodIdentityWebhook => self.since(23),
            _ => false,
        }
    }

    /// Since 1.20 kops refuses metrics-server without cert-manager unless `insecure` says in so many words what is the default all the
    /// same: that the API server does not look at its certificate (`validateMetricsServer`).
    pub(super) fn has_secure_metrics_server(self) -> bool {
        self.since(20)
    }

    /// containerd is the default from Kubernetes 1.20 on (docs/releases/1.20-NOTES.md), and its mirrors are known since kops 1.19.
    pub fn mirrors(self, kubernetes: &Version) -> Mirrors {
        if self.since(20) && (kubernetes.major, kubernetes.minor) >= (1, 20) {
            Mirrors::Containerd
        } else {
            Mirrors::Docker
        }
    }

    /// Digests of nodeup and the rest by SHA-1, or by SHA-256.
    pub fn hashes_with_sha1(self) -> bool {
        !self.since(17)
    }

    /// Whether a folder can be a state store for a dry run: since 1.17 (cmd/kops/util/factory.go); 1.8 refuses one.
    pub fn takes_folder_for_state(self) -> bool {
        self.since(17)
    }

    /// `kops get assets` came with 1.22, and mode A with it.
    pub fn uses_assets_api(self) -> bool {
        self.since(22)
    }

    /// `kops reconcile cluster` came with 1.31; before, an update and a rolling update.
    pub fn reconciles(self) -> bool {
        self.since(31)
    }

    /// `kops delete cluster --count` came with 1.29 (cmd/kops/delete_cluster.go).
    pub fn counts_deletions(self) -> bool {
        self.since(29)
    }

    /// AWS hosts need no key to log in with since 1.22 (docs/releases/1.22-NOTES.md).
    pub fn needs_ssh_key(self) -> bool {
        !self.since(22)
    }

    /// `kops create secret sshpublickey admin` became `kops create sshpublickey` in 1.22.
    pub fn has_create_sshpublickey(self) -> bool {
        self.since(22)
    }

    /// Credentials for a while in `export kubeconfig --admin`, since 1.19.
    pub fn has_export_admin(self) -> bool {
        self.since(19)
    }

    /// `validate cluster --wait`, since 1.15.
    pub fn validates_with_wait(self) -> bool {
        self.since(15)
    }

    /// How kops is pointed at the mirror: facts on both modes are in the kops documentation, docs/operations/asset-repository.md.
    pub fn layout(self, mode: Mode) -> Layout {
        match mode {
            Mode::Assets => Layout::FileRepository,
            Mode::Auto if self.uses_assets_api() => Layout::FileRepository,
            Mode::Auto | Mode::BaseUrl => Layout::Offline,
        }
    }
}

impl ClusterFile {
    /// The release of kops, asked for its ways.
    pub fn era(&self) -> Era {
        Era::of(&self.kops_version)
    }

    /// The layout of the mirror that this cluster uses.
    pub fn layout(&self) -> Layout {
        self.era().layout(self.mirror.mode)
    }
}
