//! How much the account may have: P13.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::facts::{Allowance, Facts, Quota};
use super::findings::Findings;
use crate::cloud::InstanceType;
use crate::cluster::{ClusterFile, SubnetRole};

/// P13: the account may have so many.
pub(super) fn quotas(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(13);
    for (quota, allowance) in &facts.quotas {
        let Some(allowance) = found.known(allowance) else {
            continue;
        };
        match need(*quota, file, facts) {
            Some(need) => judge(&mut found, *quota, allowance, need),
            None => found.unknown(
                format!(
                    "how many {} are needed is not known, since nobody tells what the types of machines have",
                    quota.words()
                ),
                "",
            ),
        }
    }
    let others: BTreeSet<&str> = machines(file)
        .map(|(machine_type, _)| machine_type)
        .filter(|machine_type| !is_standard(machine_type))
        .collect();
    if !others.is_empty() && !facts.quotas.is_empty() {
        found.unknown(
            format!(
                "{} count against a quota of their own family, which is not looked at",
                others.into_iter().collect::<Vec<_>>().join(", ")
            ),
            "look in the console whether it suffices",
        );
    }
    found.or_fine("the account's quotas suffice")
}

fn judge(found: &mut Findings, quota: Quota, allowance: &Allowance, need: f64) {
    let (words, (_, code)) = (quota.words(), quota.codes());
    let Some(limit) = allowance.limit else {
        let remedy = "look in the console whether they suffice";
        return found.unknown(
            format!("the region tells no quota for {words} ({code}); {need} are needed"),
            remedy,
        );
    };
    let used = allowance.used;
    if used + need > limit {
        let place = allowance.place.as_ref();
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        found.warning(
            format!(
                "{need} more {words}{place} are needed, and the account may have {limit}, of which others use {used}"
            ),
            format!("have the quota {code} raised, or free some"),
        );
    }
}

/// The quotas that making the cluster counts against: nothing that the file names as existing does.
pub(super) fn concerned(file: &ClusterFile) -> Vec<Quota> {
    let makes_gateways = !zones_with_gateways(file).is_empty();
    let needs = |quota: &Quota| match quota {
        Quota::Vcpus => true,
        Quota::ElasticIps | Quota::NatGatewaysPerZone => makes_gateways,
        Quota::NetworkLoadBalancers => file.era().needs_network_load_balancer(),
        Quota::Vpcs => file.network.vpc.is_none(),
    };
    Quota::all().into_iter().filter(needs).collect()
}

/// How many of it the whole cluster has; None where that is not known.
fn need(quota: Quota, file: &ClusterFile, facts: &Facts) -> Option<f64> {
    let gateways = || u32::try_from(zones_with_gateways(file).len()).ok();
    match quota {
        Quota::Vcpus => vcpus(file, facts),
        Quota::ElasticIps => gateways().map(f64::from),
        Quota::NatGatewaysPerZone | Quota::NetworkLoadBalancers | Quota::Vpcs => Some(1.0),
    }
}

/// Where kops makes a NAT gateway: in each zone whose hosts have no other way out.
pub(super) fn zones_with_gateways(file: &ClusterFile) -> Vec<String> {
    let placed = file.placed(None, &BTreeMap::new());
    let is_served = |zone: &String| {
        let mut hosts = placed
            .iter()
            .filter(|one| one.zone == *zone && one.role == SubnetRole::Private);
        hosts.any(|one| one.id.is_none() && one.egress.is_none())
    };
    file.zones().into_iter().filter(is_served).collect()
}

fn vcpus(file: &ClusterFile, facts: &Facts) -> Option<f64> {
    let types = facts.types.as_ref().ok()?;
    let of = |machine_type: &str| {
        let found = types.iter().find(|one| one.instance_type == machine_type);
        found.and_then(InstanceType::vcpus)
    };
    let mut all = 0;
    for (machine_type, count) in machines(file).filter(|(kind, _)| is_standard(kind)) {
        all += count * of(machine_type)?;
    }
    Some(f64::from(all))
}

/// The machines on demand: their type, and how many there are at least.
fn machines(file: &ClusterFile) -> impl Iterator<Item = (&str, u32)> {
    let members = u32::try_from(file.spread().members.len()).unwrap_or(u32::MAX);
    let members = std::iter::once((file.control_plane.machine_type.as_str(), members));
    let on_demand = file.nodes.iter().filter(|group| group.max_price.is_none());
    let bastion = file.bastion.iter();
    let bastion = bastion.map(|bastion| (bastion.machine_type.as_str(), bastion.count));
    members
        .chain(on_demand.map(|group| (group.machine_type.as_str(), group.min)))
        .chain(bastion)
}

/// Whether a type counts against L-1216C47A, "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"; families such as
/// G, P, Inf and DL have quotas of their own (EC2 user guide, "Amazon EC2 instance type quotas").
pub(super) fn is_standard(machine_type: &str) -> bool {
    let letters = machine_type.find(|c: char| !c.is_ascii_alphabetic());
    let family = &machine_type[..letters.unwrap_or(machine_type.len())];
    matches!(
        family,
        "a" | "c" | "d" | "h" | "i" | "im" | "is" | "m" | "r" | "t" | "z"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_letters() {
        for standard in [
            "t3.medium",
            "m6i.large",
            "c7gd.xlarge",
            "im4gn.large",
            "i3.metal",
            "a1.large",
        ] {
            assert!(is_standard(standard), "{standard}");
        }
        for other in [
            "g4dn.xlarge",
            "p3.2xlarge",
            "inf1.xlarge",
            "dl1.24xlarge",
            "hpc7g.4xlarge",
            "mac1.metal",
            "x2idn.metal",
            "u-6tb1.metal",
            "",
        ] {
            assert!(!is_standard(other), "{other}");
        }
    }
}
