//! How many of each thing the account has, for the quotas. What is this cluster's already is not counted: it is in what the cluster needs.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::facts::{Allowance, Known, Quota};
use super::quotas::{concerned, is_standard, zones_with_gateways};
use crate::cloud::{CLUSTER_TAG, Cloud, CloudError, Filter, Tag};
use crate::cluster::ClusterFile;
use crate::events::told;

/// What the account may have of what the cluster needs, and has.
pub(super) async fn allowances(
    cloud: &Cloud,
    file: &ClusterFile,
) -> Vec<(Quota, Known<Allowance>)> {
    let asking = concerned(file).into_iter().map(|quota| async move {
        let allowance = allowance(cloud, file, quota).await;
        (quota, allowance.map_err(|error| told(&error)))
    });
    join_all(asking).await
}

async fn allowance(
    cloud: &Cloud,
    file: &ClusterFile,
    quota: Quota,
) -> Result<Allowance, CloudError> {
    let (service, code) = quota.codes();
    let limit = cloud.quota(service, code).await?;
    let name = &file.name;
    let (used, place) = match quota {
        Quota::Vcpus => (vcpus(cloud, name).await?, None),
        Quota::ElasticIps => {
            let addresses = cloud.addresses().await?;
            (others(addresses.iter().map(|one| &one.tags), name), None)
        }
        Quota::Vpcs => {
            let vpcs = cloud.vpcs(&[]).await?;
            (others(vpcs.iter().map(|one| &one.tags), name), None)
        }
        Quota::NetworkLoadBalancers => (load_balancers(cloud, name).await?, None),
        Quota::NatGatewaysPerZone => {
            let (zone, used) = fullest_zone(cloud, file).await?;
            (used, Some(zone))
        }
    };
    Ok(Allowance { limit, used, place })
}

fn is_own(tags: &[Tag], cluster: &str) -> bool {
    tags.iter()
        .any(|tag| tag.key == CLUSTER_TAG && tag.value == cluster)
}

/// How many are not the cluster's.
fn others<'a>(tags: impl Iterator<Item = &'a Vec<Tag>>, cluster: &str) -> f64 {
    count(tags.filter(|tags| !is_own(tags, cluster)).count())
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

async fn vcpus(cloud: &Cloud, cluster: &str) -> Result<f64, CloudError> {
    let filter = Filter {
        name: "instance-state-name".to_owned(),
        values: vec!["pending".to_owned(), "running".to_owned()],
    };
    let mut instances = cloud.instances(&[], &[filter]).await?;
    instances.retain(|one| {
        let is_counted = one.lifecycle.is_none() && is_standard(&one.instance_type);
        is_counted && !is_own(&one.tags, cluster)
    });
    let kinds: BTreeSet<&str> = instances
        .iter()
        .map(|one| one.instance_type.as_str())
        .collect();
    if kinds.is_empty() {
        return Ok(0.0);
    }
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let kinds = cloud.instance_types(&kinds).await?;
    let vcpus = |kind: &str| kinds.iter().find(|one| one.instance_type == kind)?.vcpus();
    Ok(instances
        .iter()
        .filter_map(|one| vcpus(&one.instance_type))
        .map(f64::from)
        .sum())
}

async fn load_balancers(cloud: &Cloud, cluster: &str) -> Result<f64, CloudError> {
    let mut there = cloud.load_balancers().await?;
    there.retain(|one| one.kind == "network");
    let arns: Vec<&str> = there.iter().map(|one| one.arn.as_str()).collect();
    let tags = cloud.load_balancer_tags(&arns).await?;
    let own = tags
        .iter()
        .filter(|(_, tags)| is_own(tags, cluster))
        .count();
    Ok(count(there.len().saturating_sub(own)))
}

/// Of the zones where a gateway is made the one that has most: each may have so many.
async fn fullest_zone(cloud: &Cloud, file: &ClusterFile) -> Result<(String, f64), CloudError> {
    let states = ["pending", "available", "deleting"].map(str::to_owned);
    let filter = Filter {
        name: "state".to_owned(),
        values: states.to_vec(),
    };
    let filter = [filter];
    let (gateways, subnets) = futures::try_join!(cloud.nat_gateways(&filter), cloud.subnets(&[]))?;
    let zone_of: BTreeMap<&str, &str> = subnets
        .iter()
        .map(|subnet| (subnet.subnet_id.as_str(), subnet.availability_zone.as_str()))
        .collect();
    let used = |zone: &str| {
        let there = gateways.iter().filter(|one| {
            zone_of.get(one.subnet_id.as_str()) == Some(&zone) && !is_own(&one.tags, &file.name)
        });
        there.count()
    };
    let zones = zones_with_gateways(file).into_iter();
    let zones = zones.map(|zone| (used(&zone), zone));
    // The first of those that have the same.
    let fullest = zones.rev().max_by_key(|(used, _)| *used);
    let (used, zone) = fullest.unwrap_or_default();
    Ok((zone, count(used)))
}
