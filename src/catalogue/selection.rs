//! Which versions to mirror, and for what kind of cluster: what a catalogue is asked.

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

/// Settings of a cluster that change which files it asks for.
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
}

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
        match text {
            "install-nerdctl" => Ok(Self::InstallNerdctl),
            "install-crictl" => Ok(Self::InstallCrictl),
            "skip-runtime" => Ok(Self::SkipRuntime),
            "cilium-portmap" => Ok(Self::CiliumPortmap),
            "dns-controller" => Ok(Self::DnsController),
            other => Err(format!(
                "'{other}' is not a cluster option that changes what is downloaded: install-nerdctl, install-crictl, skip-runtime, cilium-portmap or dns-controller"
            )),
        }
    }
}
