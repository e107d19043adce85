//! Whose account it is, and how much it may have: P01, P02 and P13.

use std::collections::BTreeMap;

use super::Finding;
use super::facts::{Allowance, Facts, Known, Quota};
use super::findings::Findings;
use crate::cloud::Identity;
use crate::cluster::{ApiKind, ClusterFile, SubnetRole};
use crate::partition::Partition;

/// P01: the credentials are of the region's partition.
pub(super) fn partition(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(1);
    let wanted = Partition::of_region(&file.region);
    let whose = whose(file.profile.as_deref());
    judge(&mut found, &facts.identity, wanted, &file.region, &whose);
    let account = facts
        .identity
        .as_ref()
        .map_or("", |identity| &identity.account);
    found.or_fine(format!(
        "{whose} belong to the account {account} of {wanted}, where {} is",
        file.region
    ))
}

fn whose(profile: Option<&str>) -> String {
    match profile {
        Some(profile) => format!("the credentials of the profile {profile}"),
        None => "the credentials of the environment".to_owned(),
    }
}

fn judge(
    found: &mut Findings,
    identity: &Known<Identity>,
    wanted: Partition,
    region: &str,
    whose: &str,
) {
    // AWS does not know keys of another partition at all, so that this is an error and nothing unknown.
    let identity = match identity {
        Ok(identity) => identity,
        Err(why) => return found.error(why.clone(), "name a profile of an account there"),
    };
    if identity.partition != Some(wanted) {
        let of = identity
            .partition
            .map_or("an unknown partition", |partition| partition.id());
        found.error(
            format!("{whose} are of {of} ({}), and {region} is in {wanted}", identity.arn),
            format!("name a profile of an account in {wanted}: accounts of one partition are not known in another"),
        );
    }
}

/// P02: both ends of a copied image are in the partitions that were named.
pub(super) fn source(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(2);
    let (Some(copy), Some(source)) = (&file.image.copy, &facts.source) else {
        return found.or_fine("no image is copied");
    };
    let wanted = Partition::of_region(&copy.from_region);
    let whose = whose(copy.from_profile.as_deref());
    judge(&mut found, source, wanted, &copy.from_region, &whose);
    let here = Partition::of_region(&file.region);
    if wanted != here && copy.from_profile == file.profile {
        found.error(
            format!(
                "{} is in {wanted} and {} in {here}, and one profile is to do for both",
                copy.from_region, file.region
            ),
            "name image.copy.fromProfile: no account is in two partitions",
        );
    }
    found.or_fine(format!(
        "{whose} are of {wanted}, where {} is",
        copy.from_region
    ))
}

/// P13: the account may have so many.
pub(super) fn quotas(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(13);
    let needs = needs(file, facts);
    for (quota, allowance) in &facts.quotas {
        let Some(allowance) = found.known(allowance) else {
            continue;
        };
        let need = match needs.get(quota) {
            Some(Some(need)) => *need,
            Some(None) => {
                found.unknown(format!("how many {} are needed is not known, since nobody tells what the types of machines have", quota.words()), "");
                continue;
            }
            None => continue,
        };
        judge_quota(&mut found, *quota, *allowance, need);
    }
    found.or_fine("the account's quotas suffice")
}

fn judge_quota(found: &mut Findings, quota: Quota, allowance: Allowance, need: f64) {
    let (words, (_, code)) = (quota.words(), quota.codes());
    let Some(limit) = allowance.limit else {
        let remedy = "look in the console whether they suffice";
        return found.unknown(
            format!("the region tells no quota for {words} ({code}); {need} are needed"),
            remedy,
        );
    };
    let used = allowance.used.unwrap_or_default();
    if used + need > limit {
        let counted = match allowance.used {
            Some(used) => format!(", of which {used} are used"),
            None => String::new(),
        };
        found.warning(
            format!("{need} more {words} are needed, and the account may have {limit}{counted}"),
            format!("have the quota {code} raised, or free some"),
        );
    }
}

/// How many of each are needed: none where kops makes none, None where that is not known.
fn needs(file: &ClusterFile, facts: &Facts) -> BTreeMap<Quota, Option<f64>> {
    let mut needs = BTreeMap::from([(Quota::Vcpus, vcpus(file, facts))]);
    let gateways = gateways(file);
    if gateways > 0 {
        let gateways = u32::try_from(gateways).unwrap_or(u32::MAX);
        needs.insert(Quota::ElasticIps, Some(f64::from(gateways)));
        needs.insert(Quota::NatGatewaysPerZone, Some(1.0));
    }
    if file.network.vpc.is_none() {
        needs.insert(Quota::Vpcs, Some(1.0));
    }
    if file.era().needs_network_load_balancer() {
        needs.insert(Quota::NetworkLoadBalancers, Some(1.0));
    }
    needs
}

/// The NAT gateways that kops makes: one in each zone whose hosts have no other way out.
fn gateways(file: &ClusterFile) -> usize {
    let placed = file.placed(None, &BTreeMap::new());
    let is_served = |zone: &str| {
        let mut hosts = placed
            .iter()
            .filter(|one| one.zone == zone && one.role == SubnetRole::Private);
        hosts.any(|one| one.id.is_none() && one.egress.is_none())
    };
    file.zones().iter().filter(|zone| is_served(zone)).count()
}

fn vcpus(file: &ClusterFile, facts: &Facts) -> Option<f64> {
    let types = facts.types.as_ref().ok()?;
    let of = |machine_type: &str| {
        let found = types.iter().find(|one| one.instance_type == machine_type);
        found.and_then(crate::cloud::InstanceType::vcpus)
    };
    let members = u32::try_from(file.spread().members.len()).ok()?;
    let mut all = members * of(&file.control_plane.machine_type)?;
    for group in file.nodes.iter().filter(|group| group.max_price.is_none()) {
        all += group.min * of(&group.machine_type)?;
    }
    Some(f64::from(all))
}

/// Whether the API's load balancer is public.
pub(super) fn is_public(file: &ClusterFile) -> bool {
    file.api.kind == ApiKind::Public
}
