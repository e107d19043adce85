//! The Cluster and its `spec`.

use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;

use super::super::file::{ApiKind, ClusterFile, SubnetRole, Topology};
use super::{Found, RenderError, join, networking, options, yaml};
use crate::cluster::era::{Dns, Mirrors};
use crate::cluster::subnets::Placed;
use crate::consumer::Settings;

/// Addresses of pods and services, as kops has them.
const NON_MASQUERADE: &str = "100.64.0.0/10";

/// How long etcd's backups are kept, in days, as kops has it.
const BACKUP_DAYS: u32 = 90;

pub(super) fn cluster(
    file: &ClusterFile,
    settings: &Settings,
    found: &Found,
) -> Result<Yaml, RenderError> {
    let mut spec = yaml(Value::Object(spec(file, settings, found)?));
    for option in &file.options {
        join(&mut spec, &yaml(options::fields(file, *option)));
    }
    let mut document = yaml(json!({
        "apiVersion": file.era().api_version(),
        "kind": "Cluster",
        "metadata": { "name": file.name },
    }));
    document["spec"] = spec;
    Ok(document)
}

fn spec(
    file: &ClusterFile,
    settings: &Settings,
    found: &Found,
) -> Result<Map<String, Value>, RenderError> {
    let era = file.era();
    let mut spec = Map::new();
    let mut set = |name: &str, value: Value| spec.insert(name.to_owned(), value);
    set("api", api(file));
    if let Some(assets) = assets(settings) {
        set("assets", assets);
    }
    set("authorization", json!({ "rbac": {} }));
    set("channel", json!(channel(file, settings)));
    if !file.tags.is_empty() {
        set("cloudLabels", json!(file.tags));
    }
    set("cloudProvider", json!("aws"));
    set(
        "configBase",
        json!(format!("s3://{}/{}", file.state_store.bucket, file.name)),
    );
    for (name, value) in registry_mirrors(file, settings) {
        set(name, value);
    }
    set("etcdClusters", Value::Array(etcd_clusters(file)));
    set(
        "iam",
        json!({ "allowContainerRegistry": true, "legacy": false }),
    );
    if networking::has_no_kube_proxy(file) {
        set("kubeProxy", json!({ "enabled": false }));
    }
    if era.has_anonymous_auth() {
        set("kubelet", json!({ "anonymousAuth": false }));
    }
    set("kubernetesApiAccess", json!(file.api.access));
    set(
        "kubernetesVersion",
        json!(kubernetes_version(file, settings)),
    );
    if era.has_master_public_name() {
        set("masterPublicName", json!(format!("api.{}", file.name)));
    }
    if let Some(cidr) = file.network_cidr(found.vpc_cidr.as_deref()) {
        set("networkCIDR", json!(cidr));
    }
    if let Some(vpc) = &file.network.vpc {
        set("networkID", json!(vpc));
    }
    set("networking", networking::networking(file)?);
    set("nonMasqueradeCIDR", json!(NON_MASQUERADE));
    set("sshAccess", json!(file.ssh.access));
    set("subnets", subnets(file, found)?);
    set("topology", topology(file));
    Ok(spec)
}

fn api(file: &ClusterFile) -> Value {
    let kind = match file.api.kind {
        ApiKind::Internal => "Internal",
        ApiKind::Public => "Public",
    };
    match file.era().load_balancer_class() {
        Some(class) => json!({ "loadBalancer": { "class": class, "type": kind } }),
        None => json!({ "loadBalancer": { "type": kind } }),
    }
}

fn assets(settings: &Settings) -> Option<Value> {
    let mut assets = Map::new();
    let fields = [
        ("containerProxy", &settings.container_proxy),
        ("containerRegistry", &settings.container_registry),
        ("fileRepository", &settings.file_repository),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            assets.insert(name.to_owned(), json!(value));
        }
    }
    (!assets.is_empty()).then_some(Value::Object(assets))
}

fn flag(settings: &Settings, name: &str) -> Option<String> {
    let flag = settings.flags.iter().find(|flag| flag.name == name);
    flag.map(|flag| flag.value.clone())
}

/// From the mirror, since kops reads it from a host that is blocked otherwise.
pub fn channel(file: &ClusterFile, settings: &Settings) -> String {
    let given = file.mirror.channel.clone();
    given
        .or_else(|| flag(settings, "--channel"))
        .unwrap_or_else(|| "stable".to_owned())
}

/// The version, or in mode B the address of its files.
fn kubernetes_version(file: &ClusterFile, settings: &Settings) -> String {
    flag(settings, "--kubernetes-version").unwrap_or_else(|| file.kubernetes_version.to_string())
}

/// Mirrors of registries: those of the file, and those that stand in for names that kops can't compute.
fn registry_mirrors(file: &ClusterFile, settings: &Settings) -> Vec<(&'static str, Value)> {
    let mut mirrors = settings.registry_mirrors.clone();
    mirrors.extend(file.registry.mirrors.clone());
    if mirrors.is_empty() {
        return Vec::new();
    }
    match file.era().mirrors(&file.kubernetes_version) {
        Mirrors::Containerd => {
            let credentials = mirrors
                .values()
                .flatten()
                .any(|url| url.contains(".dkr.ecr."));
            let mut containerd = json!({ "registryMirrors": mirrors });
            if credentials && file.kops_version.minor >= 33 {
                containerd["useECRCredentialsForMirrors"] = json!(true);
            }
            vec![("containerd", containerd)]
        }
        Mirrors::Docker => {
            let of_hub: Vec<_> = mirrors.remove("docker.io").unwrap_or_default();
            vec![("docker", json!({ "registryMirrors": of_hub }))]
        }
    }
}

/// Kubernetes' own two, and cilium's where it keeps its state in one.
fn etcd_clusters(file: &ClusterFile) -> Vec<Value> {
    let mut clusters = vec![etcd(file, "main", "200m"), etcd(file, "events", "100m")];
    if networking::named(file) == "cilium-etcd" {
        clusters.push(etcd(file, "cilium", "100m"));
    }
    clusters
}

fn etcd(file: &ClusterFile, name: &str, processor: &str) -> Value {
    let era = file.era();
    let spread = file.spread();
    let groups = spread.names(era.control_plane());
    let is_encrypted = file.control_plane.encrypt_etcd;
    let is_encrypted = is_encrypted.unwrap_or(era.encrypts_etcd());
    let members = groups.into_iter().zip(spread.etcd_members());
    let members: Vec<_> = members
        .map(|(group, member)| match is_encrypted {
            true => json!({ "encryptedVolume": true, "instanceGroup": group, "name": member }),
            false => json!({ "instanceGroup": group, "name": member }),
        })
        .collect();
    let mut cluster = json!({ "etcdMembers": members, "name": name });
    if era.has_etcd_requests() {
        cluster["cpuRequest"] = json!(processor);
        cluster["memoryRequest"] = json!("100Mi");
    }
    if era.has_etcd_backup_days() {
        cluster["manager"] = json!({ "backupRetentionDays": BACKUP_DAYS });
    }
    cluster
}

fn subnets(file: &ClusterFile, found: &Found) -> Result<Value, RenderError> {
    let placed = file.placed(found.vpc_cidr.as_deref(), &found.subnet_cidrs);
    let subnets: Result<Vec<_>, _> = placed.iter().map(subnet).collect();
    Ok(Value::Array(subnets?))
}

fn subnet(placed: &Placed) -> Result<Value, RenderError> {
    let cidr = placed.cidr.clone().ok_or_else(|| match &placed.id {
        Some(id) => RenderError::NoCidr { id: id.clone() },
        None => RenderError::NoRoom {
            zone: placed.zone.clone(),
        },
    })?;
    let mut subnet = json!({
        "cidr": cidr,
        "name": placed.name,
        "type": match placed.role {
            SubnetRole::Private => "Private",
            SubnetRole::Utility => "Utility",
            SubnetRole::Public => "Public",
        },
        "zone": placed.zone,
    });
    if let Some(egress) = &placed.egress {
        subnet["egress"] = json!(egress);
    }
    if let Some(id) = &placed.id {
        subnet["id"] = json!(id);
    }
    Ok(subnet)
}

fn topology(file: &ClusterFile) -> Value {
    let dns = match file.era().dns(&file.name) {
        Dns::None => "None",
        // What kops makes of a name that ends in .k8s.local: the type says public all the same.
        Dns::Gossip | Dns::Zone => "Public",
    };
    let mut topology = json!({ "dns": { "type": dns } });
    if file.era().has_topology_of_roles() {
        let role = match file.topology {
            Topology::Private => "private",
            Topology::Public => "public",
        };
        topology["masters"] = json!(role);
        topology["nodes"] = json!(role);
    }
    topology
}
