//! What is looked at before a cluster is made: the checks P01 to P20, each with what to do.
//!
//! First everything is found out that they go by, at once; what can't be is a finding itself, with the right that is missing. Then each
//! check judges, and asks nobody.

mod account;
mod egress;
pub mod facts;
mod findings;
mod gather;
mod image;
mod leftovers;
mod mirror;
mod network;
mod quotas;
mod reading;
mod registry;
mod state_store;
#[cfg(test)]
mod tests;
mod usage;
mod versions;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use self::facts::Facts;
pub use self::gather::{MIRROR_CHECKS, Surroundings, is_of_bucket};
use crate::cluster::{CheckId, ClusterFile, Placed};
use crate::consumer::Settings;

/// Which checks are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked(BTreeSet<CheckId>);

impl Asked {
    /// Those of `only`, or all where it is empty, without those of `skip`.
    pub fn of(only: &[CheckId], skip: &[CheckId]) -> Self {
        let is_wanted = |id: &CheckId| only.is_empty() || only.contains(id);
        let all = CheckId::all().filter(is_wanted);
        Self(all.filter(|id| !skip.contains(id)).collect())
    }

    /// Whether one of these checks is asked for, by its number.
    pub fn any(&self, numbers: &[u8]) -> bool {
        numbers
            .iter()
            .any(|number| self.0.contains(&CheckId::new(*number)))
    }
}

/// What follows from the cluster's file, and is judged with it.
#[derive(Debug, Clone)]
pub struct Told {
    pub settings: Settings,
    /// The mirror's address as nodes reach it.
    pub base_url: Url,
    /// Where kops reads its channel.
    pub channel: String,
    /// Of the VPC that the file names, as it is found out.
    pub placed: Vec<Placed>,
    /// The URLs of all mirrors of registries.
    pub registry_mirrors: Vec<String>,
}

impl Told {
    pub fn new(file: &ClusterFile, settings: Settings, base_url: Url) -> Self {
        let channel = crate::cluster::channel(file, &settings);
        let mirrors = settings
            .registry_mirrors
            .values()
            .chain(file.registry.mirrors.values());
        let mirrors: BTreeSet<String> = mirrors.flatten().cloned().collect();
        Self {
            channel,
            placed: file.placed(None, &BTreeMap::new()),
            registry_mirrors: mirrors.into_iter().collect(),
            settings,
            base_url,
        }
    }

    /// With the subnets as they are in the VPC that was found.
    fn placed_in(&mut self, file: &ClusterFile, facts: &Facts) {
        let Ok(Some(network)) = &facts.network else {
            return;
        };
        let cidrs = network.subnets.iter();
        let cidrs = cidrs.map(|subnet| (subnet.subnet_id.clone(), subnet.cidr_block.clone()));
        let vpc = network.vpc.as_ref().map(|vpc| vpc.cidr_block.as_str());
        self.placed = file.placed(vpc, &cidrs.collect());
    }
}

/// Finds out what the checks go by, and lets them judge. Those in `accepted` stop nothing, whatever they find.
pub async fn look(
    file: &ClusterFile,
    mut told: Told,
    at: &Surroundings,
    asked: &Asked,
    accepted: &[CheckId],
) -> Vec<Finding> {
    let facts = gather::facts(file, &told, at, asked).await;
    told.placed_in(file, &facts);
    let mut findings: Vec<_> = asked
        .0
        .iter()
        .flat_map(|id| judge(*id, file, &told, &facts))
        .collect();
    let accepts = |id: &CheckId| accepted.contains(id) || file.acknowledge.contains(id);
    for finding in findings
        .iter_mut()
        .filter(|finding| accepts(&finding.check))
    {
        finding.is_acknowledged = finding.weight >= Weight::Warning;
    }
    findings
}

fn judge(id: CheckId, file: &ClusterFile, told: &Told, facts: &Facts) -> Vec<Finding> {
    match id.number() {
        1 => account::partition(file, facts),
        2 => account::source(file, facts),
        3 => zones::zones(file, facts),
        4 => zones::quorum(file, facts),
        5 => state_store::state_store(file, facts),
        6 => mirror::reads(facts),
        7 => mirror::readers(file, facts),
        8 => versions::api(file),
        9 => egress::egress(file, facts, told),
        10 => network::network(file, facts, told),
        11 => image::images(facts),
        12 => zones::offerings(file, facts),
        13 => quotas::quotas(file, facts),
        14 => registry::images(file, facts),
        15 => registry::name(file),
        16 => registry::mirrors(facts, told),
        17 => mirror::addresses(file, told),
        18 => versions::names(file),
        19 => versions::versions(file, facts),
        20 => leftovers::leftovers(file, facts),
        number => unreachable!("there is no check {number}"),
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// All is well.
    Fine,
    /// It could not be looked at, and why.
    Unknown,
    Warning,
    /// Nothing is done while it is so, unless it is acknowledged and may be.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub check: CheckId,
    pub weight: Weight,
    /// What is so.
    pub what: String,
    /// What to do about it; empty where nothing is to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// The file says that it is known and accepted.
    #[serde(default)]
    pub is_acknowledged: bool,
}

impl Finding {
    /// Whether nothing can be done while it is so.
    pub fn stops(&self) -> bool {
        self.weight == Weight::Error && !self.is_acknowledged
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.weight {
            Weight::Fine => "fine",
            Weight::Unknown => "unknown",
            Weight::Warning | Weight::Error if self.is_acknowledged => "accepted",
            Weight::Warning => "warning",
            Weight::Error => "error",
        };
        write!(f, "{}  {word:<9} {}", self.check, self.what)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.remedy),
        }
    }
}
