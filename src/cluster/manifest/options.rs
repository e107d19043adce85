//! What the options of a cluster are in its spec. Where each stands is told with [`ClusterOption`].

use serde_json::{Value, json};
use serde_yaml_ng::Value as Yaml;

use super::super::file::ClusterFile;
use crate::catalogue::ClusterOption;
use crate::cluster::era::Mirrors;

/// The fields that an option sets, below `spec`.
pub(super) fn fields(file: &ClusterFile, option: ClusterOption) -> Value {
    let enabled = json!({ "enabled": true });
    match option {
        ClusterOption::InstallNerdctl => json!({ "containerd": { "installNerdCtl": true } }),
        ClusterOption::InstallCrictl => json!({ "containerd": { "installCriCtl": true } }),
        ClusterOption::SkipRuntime => match file.era().mirrors(&file.kubernetes_version) {
            Mirrors::Containerd => json!({ "containerd": { "skipInstall": true } }),
            Mirrors::Docker => json!({ "docker": { "skipInstall": true } }),
        },
        ClusterOption::CiliumPortmap => {
            json!({ "networking": { "cilium": { "chainingMode": "portmap" } } })
        }
        // What decides it is the way that names are looked up, which is rendered by itself.
        ClusterOption::DnsController | ClusterOption::DnsNone => json!({}),
        ClusterOption::ExternalDns => json!({ "externalDns": { "provider": "external-dns" } }),
        ClusterOption::AwsLoadBalancerController => json!({ "awsLoadBalancerController": enabled }),
        ClusterOption::AwsIamAuthenticator => json!({ "authentication": { "aws": {} } }),
        ClusterOption::CalicoCrossSubnet => {
            json!({ "networking": { "calico": { "crossSubnet": true } } })
        }
        ClusterOption::CalicoTypha => json!({ "networking": { "calico": { "typhaReplicas": 3 } } }),
        ClusterOption::CertManager => json!({ "certManager": enabled }),
        ClusterOption::ClusterAutoscaler => json!({ "clusterAutoscaler": enabled }),
        ClusterOption::Hubble => json!({ "networking": { "cilium": { "hubble": enabled } } }),
        ClusterOption::Karpenter => json!({ "karpenter": enabled }),
        ClusterOption::MetricsServer => match is_insecure(file) {
            true => json!({ "metricsServer": { "enabled": true, "insecure": true } }),
            false => json!({ "metricsServer": enabled }),
        },
        ClusterOption::NodeLocalDns => {
            json!({ "kubeDNS": { "provider": "CoreDNS", "nodeLocalDNS": enabled } })
        }
        ClusterOption::NodeProblemDetector => json!({ "nodeProblemDetector": enabled }),
        ClusterOption::NvidiaGpu => json!({ "containerd": { "nvidiaGPU": enabled } }),
        ClusterOption::PodIdentityWebhook => json!({ "podIdentityWebhook": enabled }),
        ClusterOption::SnapshotController => json!({ "snapshotController": enabled }),
    }
}

/// Whether metrics-server is to go without a certificate that is looked at.
fn is_insecure(file: &ClusterFile) -> bool {
    file.era().has_secure_metrics_server() && !file.has_cert_manager()
}

impl ClusterFile {
    /// Whether kops will find cert-manager in the spec, managed by kops or not.
    pub(in crate::cluster) fn has_cert_manager(&self) -> bool {
        let is_option = self.options.contains(&ClusterOption::CertManager);
        match self.overrides.cluster_field("certManager") {
            None => is_option,
            Some(Yaml::Null) => false,
            Some(fields) => match fields.get("enabled") {
                None => is_option,
                Some(is_enabled) => is_enabled.as_bool() == Some(true),
            },
        }
    }
}
