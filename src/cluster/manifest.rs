//! The manifest that kops is given: one Cluster and its instance groups, whole, so that nothing is left for an editor.
//!
//! Pure: the same file and the same facts give the same bytes. Fields stand in the order that kops itself writes them, and are those that
//! `kops create cluster` of the release would write (see [`super::era`]), with the traps of a mirror in China avoided.

mod groups;
mod networking;
mod options;
mod spec;

use std::collections::BTreeMap;
use std::fmt;

use serde_yaml_ng::Value;

use super::file::ClusterFile;
use crate::asset::Arch;
use crate::consumer::Settings;

pub(super) use self::groups::BASTIONS;
pub(super) use self::networking::named as networking_name;
pub use self::spec::channel;

/// Whether this release has networking of that name.
pub(super) fn is_known_networking(file: &ClusterFile) -> bool {
    networking::networking(file).is_ok()
}

/// What the file does not say and has been found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The addresses of an existing VPC.
    pub vpc_cidr: Option<String>,
    /// Those of existing subnets, by their ids.
    pub subnet_cidrs: BTreeMap<String, String>,
    /// The cluster's image for each kind of processor: `ami-…`, or `OWNER/NAME`.
    pub images: BTreeMap<Arch, String>,
}

/// A cluster as kops takes it with `create -f` and `replace -f`.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub cluster: Value,
    pub groups: Vec<Group>,
}

/// One of its instance groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: String,
    pub document: Value,
}

/// What is not known yet of a cluster that is to be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error(
        "no image is known for the {} hosts of {group}: kops' own default does not exist in China; name one under image, or let it be looked up",
        arch.name()
    )]
    NoImage { group: String, arch: Arch },
    #[error(
        "the addresses of the subnet {id} are not known: give its cidr, or let them be looked up"
    )]
    NoCidr { id: String },
    #[error(
        "there are no free addresses for a subnet in {zone}: give its cidr under network.subnets"
    )]
    NoRoom { zone: String },
    #[error("'{networking}' is no networking that kops {kops} has")]
    Networking {
        networking: String,
        kops: semver::Version,
    },
    #[error(
        "there is no instance group '{name}' that overrides could be put over: the groups are {groups}"
    )]
    NoGroup { name: String, groups: String },
    #[error("overrides for {what} must be a map of fields")]
    NotFields { what: String },
}

/// The manifest of a cluster; `settings` say how this release of kops uses the mirror.
pub fn manifest(
    file: &ClusterFile,
    settings: &Settings,
    found: &Found,
) -> Result<Manifest, RenderError> {
    let mut cluster = spec::cluster(file, settings, found)?;
    let mut groups = groups::groups(file, found)?;
    if let Some(over) = &file.overrides.cluster {
        put_over(&mut cluster["spec"], over, "the cluster")?;
    }
    for (name, over) in &file.overrides.instance_groups {
        let mut is_there = false;
        for group in groups
            .iter_mut()
            .filter(|group| name == "*" || group.name == *name)
        {
            put_over(&mut group.document["spec"], over, name)?;
            is_there = true;
        }
        if !is_there {
            let groups: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
            return Err(RenderError::NoGroup {
                name: name.clone(),
                groups: groups.join(", "),
            });
        }
    }
    sort(&mut cluster);
    for group in &mut groups {
        sort(&mut group.document);
    }
    Ok(Manifest { cluster, groups })
}

/// Puts fields over others: maps are joined, anything else is replaced, and null takes a field away.
fn put_over(under: &mut Value, over: &Value, what: &str) -> Result<(), RenderError> {
    if !over.is_mapping() {
        return Err(RenderError::NotFields {
            what: what.to_owned(),
        });
    }
    join(under, over);
    Ok(())
}

fn join(under: &mut Value, over: &Value) {
    let (Some(fields), Some(new)) = (under.as_mapping_mut(), over.as_mapping()) else {
        *under = over.clone();
        return;
    };
    for (name, value) in new {
        match fields.get_mut(name) {
            _ if value.is_null() => {
                fields.remove(name);
            }
            Some(old) => join(old, value),
            None => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let documents =
            std::iter::once(&self.cluster).chain(self.groups.iter().map(|group| &group.document));
        for (number, document) in documents.enumerate() {
            if number > 0 {
                f.write_str("---\n")?;
            }
            f.write_str(&serde_yaml_ng::to_string(document).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// Fields in the order of their names, as kops writes them.
fn sort(value: &mut Value) {
    match value {
        Value::Mapping(fields) => {
            let mut sorted: Vec<_> = std::mem::take(fields).into_iter().collect();
            sorted.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
            for (_, value) in &mut sorted {
                sort(value);
            }
            *fields = sorted.into_iter().collect();
        }
        Value::Sequence(values) => values.iter_mut().for_each(sort),
        _ => {}
    }
}

/// A value as YAML has it, from one that is written as JSON.
fn yaml(value: serde_json::Value) -> Value {
    serde_yaml_ng::to_value(value).expect("JSON is always YAML")
}
