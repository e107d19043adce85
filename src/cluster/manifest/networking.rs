//! `spec.networking`, by the names of `kops create cluster --networking` (`setupNetworking` in upup/pkg/fi/cloudup/new_cluster.go).

use serde_json::{Value, json};

use super::super::file::ClusterFile;
use super::RenderError;

/// AWS' frames have 9,001 bytes and weave takes 87 of them; the largest that can be divided by four (cmd/kops/create_cluster.go of 1.8).
const WEAVE_MTU: u32 = 8912;

/// What the cluster's networking is called; kops' own choice where the file has none.
pub(crate) fn named(file: &ClusterFile) -> &str {
    let own = if file.kops_version.minor >= 26 {
        "cilium"
    } else {
        "kubenet"
    };
    file.networking.as_deref().unwrap_or(own)
}

pub(super) fn networking(file: &ClusterFile) -> Result<Value, RenderError> {
    let cilium = |fields: Value| {
        let mut cilium = json!({});
        if file.era().cilium_replaces_kube_proxy() {
            cilium["enableNodePort"] = json!(true);
        }
        for (name, value) in fields.as_object().into_iter().flatten() {
            cilium[name] = value.clone();
        }
        json!({ "cilium": cilium })
    };
    Ok(match named(file) {
        "classic" => json!({ "classic": {} }),
        "kubenet" => json!({ "kubenet": {} }),
        "external" => json!({ "external": {} }),
        "cni" | "none" => json!({ "cni": {} }),
        "kopeio" | "kopeio-vxlan" => json!({ "kopeio": {} }),
        "weave" => json!({ "weave": { "mtu": WEAVE_MTU } }),
        "flannel" | "flannel-vxlan" => json!({ "flannel": { "backend": "vxlan" } }),
        "flannel-udp" => json!({ "flannel": { "backend": "udp" } }),
        "calico" => json!({ "calico": {} }),
        "canal" => json!({ "canal": {} }),
        "kube-router" | "kuberouter" => json!({ "kuberouter": {} }),
        "romana" => json!({ "romana": {} }),
        "amazonvpc" | "amazon-vpc-routed-eni" | "amazon-vpc" => json!({ "amazonvpc": {} }),
        "cilium" => cilium(json!({})),
        "cilium-etcd" => cilium(json!({ "etcdManaged": true })),
        "cilium-eni" => cilium(json!({ "ipam": "eni" })),
        "lyftvpc" => json!({ "lyftvpc": {} }),
        "kindnet" => json!({ "kindnet": {} }),
        other => {
            return Err(RenderError::Networking {
                networking: other.to_owned(),
                kops: file.kops_version.clone(),
            });
        }
    })
}

/// Whether hosts go without kube-proxy.
pub(super) fn has_no_kube_proxy(file: &ClusterFile) -> bool {
    match named(file) {
        "cilium" | "cilium-etcd" | "cilium-eni" => file.era().cilium_replaces_kube_proxy(),
        "kube-router" | "kuberouter" => file.kops_version.minor >= 18,
        _ => false,
    }
}
