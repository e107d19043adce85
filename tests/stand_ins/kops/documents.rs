//! Manifests as kops takes them: fields that a release does not know are dropped without a word.

use serde::Deserialize;
use serde_yaml_ng::Value;

/// A cluster and its instance groups.
pub(crate) struct Documents {
    pub(crate) cluster: Value,
    pub(crate) groups: Vec<Value>,
}

/// Fields of `spec` that kops has, as far as manifests here have them, each since which minor and up to which.
const CLUSTER: [(&str, u64, u64); 30] = [
    ("additionalSans", 8, 99),
    ("api", 8, 99),
    ("assets", 8, 99),
    ("authentication", 8, 99),
    ("authorization", 8, 99),
    ("certManager", 20, 99),
    ("channel", 8, 99),
    ("cloudLabels", 8, 99),
    ("cloudProvider", 8, 99),
    ("clusterAutoscaler", 19, 99),
    ("configBase", 8, 99),
    ("containerd", 15, 99),
    ("docker", 8, 99),
    ("etcdClusters", 8, 99),
    ("iam", 8, 99),
    ("kubeAPIServer", 8, 99),
    ("kubeDNS", 8, 99),
    ("kubeProxy", 8, 99),
    ("kubelet", 8, 99),
    ("kubernetesApiAccess", 8, 99),
    ("kubernetesVersion", 8, 99),
    ("masterPublicName", 8, 99),
    ("metricsServer", 19, 99),
    ("networkCIDR", 8, 99),
    ("networkID", 8, 99),
    ("networking", 8, 99),
    ("nonMasqueradeCIDR", 8, 99),
    ("sshAccess", 8, 99),
    ("subnets", 8, 99),
    ("topology", 8, 99),
];

const GROUP: [(&str, u64, u64); 12] = [
    ("image", 8, 99),
    ("instanceMetadata", 19, 99),
    ("machineType", 8, 99),
    ("maxPrice", 8, 99),
    ("maxSize", 8, 99),
    ("minSize", 8, 99),
    ("nodeLabels", 8, 99),
    ("role", 8, 99),
    ("rootVolumeSize", 8, 99),
    ("rootVolumeType", 8, 99),
    ("subnets", 8, 99),
    ("taints", 8, 99),
];

impl Documents {
    pub(crate) fn parse(cluster: &str, groups: &[String]) -> Self {
        let read = |text: &str| serde_yaml_ng::from_str(text).expect("what was written is YAML");
        Self {
            cluster: read(cluster),
            groups: groups.iter().map(|group| read(group)).collect(),
        }
    }

    /// How many hosts it has at least.
    pub(crate) fn hosts(&self) -> usize {
        let counts = self
            .groups
            .iter()
            .filter_map(|group| group["spec"]["minSize"].as_u64());
        usize::try_from(counts.sum::<u64>()).expect("a few")
    }

    pub(crate) fn is_in_shared_network(&self) -> bool {
        self.cluster["spec"]["networkID"].is_string()
    }

    pub(crate) fn first_image(&self) -> &str {
        let mut images = self
            .groups
            .iter()
            .filter_map(|group| group["spec"]["image"].as_str());
        images.next().unwrap_or_default()
    }
}

/// The documents of a file.
pub(crate) fn split(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    documents
        .filter_map(Result::ok)
        .filter(|document| !document.is_null())
        .collect()
}

/// What a release makes of a document.
pub(crate) fn taken(mut document: Value, minor: u64) -> Result<Value, String> {
    let fields: &[_] = match document["kind"].as_str() {
        Some("Cluster") => &CLUSTER,
        Some("InstanceGroup") => &GROUP,
        kind => return Err(format!("unhandled kind {kind:?}")),
    };
    let is_docker = !document["spec"]["docker"].is_null();
    if is_docker && minor >= 24 && document["kind"] == "Cluster" {
        return Err(
            "spec.docker: Forbidden: Docker CRI support was removed in Kubernetes 1.24".to_owned(),
        );
    }
    if let Some(spec) = document["spec"].as_mapping_mut() {
        spec.retain(|name, _| {
            let known = fields
                .iter()
                .find(|(field, _, _)| Some(*field) == name.as_str());
            known.is_some_and(|(_, since, until)| (*since..=*until).contains(&minor))
        });
    }
    document["metadata"]["creationTimestamp"] = Value::String("2026-11-28T07:35:12Z".to_owned());
    Ok(document)
}

/// What kops refuses when it is given a manifest.
pub(crate) fn check(documents: &[Value]) -> Result<(), String> {
    for document in documents {
        let clusters = document["spec"]["etcdClusters"].as_sequence();
        for etcd in clusters.into_iter().flatten() {
            let members = etcd["etcdMembers"].as_sequence().map_or(0, Vec::len);
            if members % 2 == 0 {
                return Err("Should be an odd number of control-plane-zones for quorum. Use --zones and --control-plane-zones to declare node zones and control-plane zones separately".to_owned());
            }
        }
        let assets = &document["spec"]["assets"];
        if !assets["containerRegistry"].is_null() && !assets["containerProxy"].is_null() {
            return Err("spec.assets.containerProxy: Forbidden: containerProxy cannot be used in conjunction with containerRegistry".to_owned());
        }
    }
    Ok(())
}

/// Where a document is in the state store.
pub(crate) fn key(document: &Value) -> String {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    match document["metadata"]["labels"]["kops.k8s.io/cluster"].as_str() {
        Some(cluster) => format!("{cluster}/instancegroup/{name}"),
        None => format!("{name}/config"),
    }
}

/// Documents as kops prints them.
pub(crate) fn print(documents: &[Value]) -> String {
    let texts = documents
        .iter()
        .filter_map(|document| serde_yaml_ng::to_string(document).ok());
    texts.collect::<Vec<_>>().join("\n---\n\n")
}
