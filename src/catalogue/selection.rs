//! Which versions to mirror, and for what kind of cluster: what a catalogue is asked.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::table::Part;
use crate::asset::Arch;
use crate::layout::Layout;

/// What kops has its nodes run containers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    Containerd,
    Docker,
}

/// Settings of a cluster that change which files or images it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterOption {
    /// `spec.containerd.installNerdCtl`
    InstallNerdctl,
    /// `spec.containerd.installCriCtl`
    InstallCrictl,
    /// `spec.containerd.skipInstall`, or `spec.docker.skipInstall`
    SkipRuntime,
    /// `spec.networking.cilium.chainingMode: portmap`
    CiliumPortmap,
    /// DNS in Route 53 or by gossip, which brings dns-controller's image; from 1.29 on it is not the default.
    DnsController,
    /// `--dns none`: neither of them; from 1.29 on it is the default.
    DnsNone,
    /// `spec.externalDNS.provider: external-dns`, in place of dns-controller
    ExternalDns,
    /// `spec.awsLoadBalancerController`
    AwsLoadBalancerController,
    /// `spec.authentication.aws`
    AwsIamAuthenticator,
    /// `spec.networking.calico.crossSubnet`, up to kops 1.10
    CalicoCrossSubnet,
    /// `spec.networking.calico.typhaReplicas`, or canal's
    CalicoTypha,
    /// `spec.certManager`, managed by kops
    CertManager,
    /// `spec.clusterAutoscaler`
    ClusterAutoscaler,
    /// `spec.networking.cilium.hubble`
    Hubble,
    /// `spec.karpenter`
    Karpenter,
    /// `spec.metricsServer`
    MetricsServer,
    /// `spec.kubeDNS.nodeLocalDNS`
    NodeLocalDns,
    /// `spec.nodeProblemDetector`
    NodeProblemDetector,
    /// `spec.containerd.nvidiaGPU`
    NvidiaGpu,
    /// `spec.podIdentityWebhook`
    PodIdentityWebhook,
    /// `spec.snapshotController`
    SnapshotController,
}

/// The options by their names on the command line, in files and in catalogues.
const OPTIONS: [(&str, ClusterOption); 21] = [
    ("install-nerdctl", ClusterOption::InstallNerdctl),
    ("install-crictl", ClusterOption::InstallCrictl),
    ("skip-runtime", ClusterOption::SkipRuntime),
    ("cilium-portmap", ClusterOption::CiliumPortmap),
    ("dns-controller", ClusterOption::DnsController),
    ("dns-none", ClusterOption::DnsNone),
    ("external-dns", ClusterOption::ExternalDns),
    (
        "aws-load-balancer-controller",
        ClusterOption::AwsLoadBalancerController,
    ),
    ("aws-iam-authenticator", ClusterOption::AwsIamAuthenticator),
    ("calico-cross-subnet", ClusterOption::CalicoCrossSubnet),
    ("calico-typha", ClusterOption::CalicoTypha),
    ("cert-manager", ClusterOption::CertManager),
    ("cluster-autoscaler", ClusterOption::ClusterAutoscaler),
    ("hubble", ClusterOption::Hubble),
    ("karpenter", ClusterOption::Karpenter),
    ("metrics-server", ClusterOption::MetricsServer),
    ("node-local-dns", ClusterOption::NodeLocalDns),
    ("node-problem-detector", ClusterOption::NodeProblemDetector),
    ("nvidia-gpu", ClusterOption::NvidiaGpu),
    ("pod-identity-webhook", ClusterOption::PodIdentityWebhook),
    ("snapshot-controller", ClusterOption::SnapshotController),
];

/// A way in which kops is told to use a mirror, where that changes what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `--kubernetes-version URL`
    KubernetesUrl,
    /// `KOPS_BASE_URL`
    BaseUrl,
    /// `spec.assets.fileRepository`
    FileRepository,
}

/// Which versions to mirror, and for what kind of cluster.
#[derive(Debug, Clone)]
pub struct Selection {
    pub kops: Version,
    pub kubernetes: Vec<Version>,
    pub archs: Vec<Arch>,
    /// A name of `kops create cluster --networking`; None is what that kops takes by itself.
    pub networking: Option<String>,
    /// None is what that kops takes by itself.
    pub runtime: Option<Runtime>,
    pub options: Vec<ClusterOption>,
    /// Client programs for the operator, besides what kops asks for.
    pub clients: bool,
    /// `stable.txt` and `channels/stable`.
    pub pointers: bool,
    /// The ways of use to provide for, besides those of the layout: a file repository is one, the offline layout has the others.
    pub forms: Vec<Form>,
    /// None is the layout that works with that kops.
    pub layout: Option<Layout>,
}

impl Selection {
    /// Both architectures and everything that kops takes by itself.
    pub fn new(kops: Version, kubernetes: Vec<Version>) -> Self {
        Self {
            kops,
            kubernetes,
            archs: vec![Arch::Amd64, Arch::Arm64],
            networking: None,
            runtime: None,
            options: Vec::new(),
            clients: true,
            pointers: true,
            forms: Vec::new(),
            layout: None,
        }
    }

    /// The ways of using a mirror that this selection provides for.
    pub(super) fn forms(&self, layout: Layout) -> Vec<Form> {
        let mut forms = self.forms.clone();
        forms.extend_from_slice(match layout {
            Layout::FileRepository => &[Form::FileRepository],
            Layout::Offline => &[Form::KubernetesUrl, Form::BaseUrl],
        });
        forms
    }

    pub(super) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Release];
        if self.clients {
            parts.push(Part::Clients);
        }
        if self.pointers {
            parts.push(Part::Pointers);
        }
        parts
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "containerd" => Ok(Self::Containerd),
            "docker" => Ok(Self::Docker),
            other => Err(format!(
                "'{other}' is not a container runtime of kops: containerd or docker"
            )),
        }
    }
}

impl FromStr for ClusterOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = OPTIONS.iter().find(|(name, _)| *name == text);
        found.map(|(_, option)| *option).ok_or_else(|| {
            let names: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
            format!(
                "'{text}' is not a cluster option that changes what is downloaded: {}",
                names.join(", ")
            )
        })
    }
}

impl fmt::Display for ClusterOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = OPTIONS
            .iter()
            .find(|(_, option)| option == self)
            .expect("every option has a name");
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_one_name_everywhere() {
        for (name, option) in OPTIONS {
            assert_eq!(name.parse(), Ok(option));
            assert_eq!(option.to_string(), name);
            assert_eq!(serde_json::to_value(option).unwrap(), name);
        }
        let refusal = "weave".parse::<ClusterOption>().unwrap_err();
        assert!(refusal.contains("metrics-server"), "{refusal}");
    }
}
