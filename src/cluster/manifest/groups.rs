//! The instance groups: one for each member of the control plane, one for each group of nodes.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::super::file::{Bastion, ClusterFile, ControlPlane, NodeGroup};
use super::{Found, Group, RenderError, yaml};
use crate::asset::Arch;
use crate::cluster::quorum::Spread;
use crate::cluster::subnets::utility;

/// The name of their group, as kops has it.
pub(crate) const BASTIONS: &str = "bastions";

pub(super) fn groups(file: &ClusterFile, found: &Found) -> Result<Vec<Group>, RenderError> {
    let spread = file.spread();
    let names = spread.names(file.era().control_plane());
    let control_plane = names.into_iter().zip(&spread.members);
    let control_plane =
        control_plane.map(|(name, zone)| member(file, found, &file.control_plane, name, zone));
    let nodes = file.nodes.iter().map(|group| nodes(file, found, group));
    let bastion = file.bastion.iter();
    let bastion = bastion.map(|bastion| bastions(file, found, bastion));
    control_plane.chain(nodes).chain(bastion).collect()
}

impl ClusterFile {
    /// Where the members of the control plane stand.
    pub fn spread(&self) -> Spread {
        Spread::new(&self.control_plane.zones, self.control_plane.count)
    }
}

fn member(
    file: &ClusterFile,
    found: &Found,
    control_plane: &ControlPlane,
    name: String,
    zone: &str,
) -> Result<Group, RenderError> {
    let hosts = Hosts {
        role: "Master",
        image: control_plane.image.as_deref(),
        machine_type: &control_plane.machine_type,
        arch: control_plane.arch(),
        min: 1,
        max: 1,
        root_volume_size: control_plane.root_volume_size,
        subnets: vec![zone.to_owned()],
        max_price: None,
        labels: &BTreeMap::new(),
        taints: &[],
    };
    hosts.group(file, found, name)
}

fn nodes(file: &ClusterFile, found: &Found, group: &NodeGroup) -> Result<Group, RenderError> {
    let hosts = Hosts {
        role: "Node",
        image: group.image.as_deref(),
        machine_type: &group.machine_type,
        arch: group.arch(),
        min: group.min,
        max: group.max.unwrap_or(group.min),
        root_volume_size: group.root_volume_size,
        subnets: file.zones_of(&group.zones).to_vec(),
        max_price: group.max_price.as_deref(),
        labels: &group.labels,
        taints: &group.taints,
    };
    hosts.group(file, found, group.name.clone())
}

/// As `kops create cluster --bastion` has them, but for their name in a zone: that is only for clusters that have one.
fn bastions(file: &ClusterFile, found: &Found, bastion: &Bastion) -> Result<Group, RenderError> {
    let zones = file.control_plane.zones.iter();
    let subnets = zones.map(|zone| match file.era().bastions_are_public() {
        true => utility(zone),
        false => zone.clone(),
    });
    let hosts = Hosts {
        role: "Bastion",
        image: bastion.image.as_deref(),
        machine_type: &bastion.machine_type,
        arch: bastion.arch(),
        min: bastion.count,
        max: bastion.count,
        root_volume_size: None,
        subnets: subnets.collect(),
        max_price: None,
        labels: &BTreeMap::new(),
        taints: &[],
    };
    hosts.group(file, found, BASTIONS.to_owned())
}

/// Hosts that are alike.
struct Hosts<'a> {
    role: &'a str,
    image: Option<&'a str>,
    machine_type: &'a str,
    arch: Arch,
    min: u32,
    max: u32,
    root_volume_size: Option<u32>,
    subnets: Vec<String>,
    max_price: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    taints: &'a [String],
}

impl Hosts<'_> {
    fn group(&self, file: &ClusterFile, found: &Found, name: String) -> Result<Group, RenderError> {
        let image = self
            .image
            .or(found.images.get(&self.arch).map(String::as_str));
        let image = image.ok_or_else(|| RenderError::NoImage {
            group: name.clone(),
            arch: self.arch,
        })?;
        let mut labels = self.labels.clone();
        labels.insert("kops.k8s.io/instancegroup".to_owned(), name.clone());
        let mut spec = Map::new();
        spec.insert("image".to_owned(), json!(image));
        if file.era().has_instance_metadata() {
            spec.insert(
                "instanceMetadata".to_owned(),
                json!({ "httpTokens": "required" }),
            );
        }
        spec.insert("machineType".to_owned(), json!(self.machine_type));
        if let Some(price) = self.max_price {
            spec.insert("maxPrice".to_owned(), json!(price));
        }
        spec.insert("maxSize".to_owned(), json!(self.max));
        spec.insert("minSize".to_owned(), json!(self.min));
        spec.insert("nodeLabels".to_owned(), json!(labels));
        spec.insert("role".to_owned(), json!(self.role));
        if let Some(size) = self.root_volume_size {
            spec.insert("rootVolumeSize".to_owned(), json!(size));
        }
        spec.insert("subnets".to_owned(), json!(self.subnets));
        if !self.taints.is_empty() {
            spec.insert("taints".to_owned(), json!(self.taints));
        }
        let document = json!({
            "apiVersion": file.era().api_version(),
            "kind": "InstanceGroup",
            "metadata": { "labels": { "kops.k8s.io/cluster": file.name }, "name": name },
            "spec": spec,
        });
        Ok(Group {
            name,
            document: yaml(document),
        })
    }
}
