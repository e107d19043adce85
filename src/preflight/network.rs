//! The VPC and its subnets: P10.

use super::facts::{Facts, Network};
use super::findings::Findings;
use super::{Finding, Told};
use crate::cloud::Subnet;
use crate::cluster::{ApiKind, Cidr, ClusterFile, Placed, SubnetRole, Topology};

/// What a network load balancer may take of a subnet's addresses (Elastic Load Balancing user guide, "Subnet mappings").
const OF_LOAD_BALANCER: u64 = 8;

/// P10: the VPC and its subnets fit.
pub(super) fn network(file: &ClusterFile, facts: &Facts, told: &Told) -> Vec<Finding> {
    let mut found = Findings::of(10);
    let (network, vpc) = match (found.known(&facts.network), &file.network.vpc) {
        (None, _) => return found.or_fine(""),
        (Some(Some(network)), Some(vpc)) => (network, vpc),
        _ => return found.or_fine("kops makes the VPC and its subnets"),
    };
    let Some(there) = &network.vpc else {
        found.error(
            format!("there is no {vpc} in {}", file.region),
            "correct network.vpc",
        );
        return found.or_fine("");
    };
    judge_dns(&mut found, network, vpc);
    let ranges: Vec<Cidr> = std::iter::once(there.cidr_block.as_str())
        .chain(there.cidrs.iter().map(|range| range.cidr_block.as_str()))
        .filter_map(|range| range.parse().ok())
        .collect();
    if let Some(cidr) = &file.network.cidr {
        let is_within = cidr
            .parse()
            .is_ok_and(|cidr| ranges.iter().any(|range| range.contains(cidr)));
        if !is_within {
            found.error(
                format!("network.cidr is {cidr}, and {vpc} has {}", there.cidr_block),
                "leave it out: it is looked up",
            );
        }
    }
    for subnet in &told.placed {
        match &subnet.id {
            Some(id) => judge_existing(&mut found, file, network, subnet, id, vpc),
            None => judge_new(&mut found, network, subnet, &ranges, vpc),
        }
    }
    judge_utility(&mut found, file, told);
    found.or_fine(format!(
        "{vpc} has {} and resolves names; its subnets are in their zones and have room",
        there.cidr_block
    ))
}

fn judge_dns(found: &mut Findings, network: &Network, vpc: &str) {
    let (resolves, names) = network.dns;
    for (is_on, attribute) in [
        (resolves, "enableDnsSupport"),
        (names, "enableDnsHostnames"),
    ] {
        if !is_on {
            found.error(
                format!(
                    "{vpc} has {attribute} off, and kops does not change a VPC that is not its own"
                ),
                format!(
                    "turn it on: aws ec2 modify-vpc-attribute --vpc-id {vpc} {}",
                    match attribute {
                        "enableDnsSupport" => "--enable-dns-support",
                        _ => "--enable-dns-hostnames",
                    }
                ),
            );
        }
    }
}

fn judge_existing(
    found: &mut Findings,
    file: &ClusterFile,
    network: &Network,
    subnet: &Placed,
    id: &str,
    vpc: &str,
) {
    let Some(there) = network.subnets.iter().find(|there| there.subnet_id == id) else {
        found.error(
            format!("{vpc} has no subnet {id}"),
            "correct network.subnets",
        );
        return;
    };
    if there.availability_zone != subnet.zone {
        found.error(
            format!(
                "{id} is in {}, and the file says {}",
                there.availability_zone, subnet.zone
            ),
            "correct network.subnets: hosts would be in another zone than they are counted for",
        );
    }
    let given = file
        .network
        .subnets
        .iter()
        .find(|one| one.id.as_deref() == Some(id));
    if let Some(cidr) = given.and_then(|one| one.cidr.as_ref())
        && *cidr != there.cidr_block
    {
        found.error(
            format!("{id} has {}, and the file says {cidr}", there.cidr_block),
            "leave the cidr out: it is looked up",
        );
    }
    judge_room(found, file, there, subnet);
}

fn judge_room(found: &mut Findings, file: &ClusterFile, there: &Subnet, subnet: &Placed) {
    let hosts = match subnet.role {
        SubnetRole::Utility => 0,
        _ => hosts_in(file, &subnet.zone),
    };
    let (free, needed) = (there.available_ip_address_count, hosts + OF_LOAD_BALANCER);
    if free < needed {
        found.error(
            format!(
                "{} has {free} free addresses, and {hosts} hosts and a load balancer need {needed}",
                there.subnet_id
            ),
            "take a larger subnet, or free some",
        );
    }
}

/// How many hosts may stand in a zone, where each group is dealt out evenly.
fn hosts_in(file: &ClusterFile, zone: &str) -> u64 {
    let members = file
        .spread()
        .members
        .iter()
        .filter(|member| *member == zone)
        .count() as u64;
    let nodes = file.nodes.iter().map(|group| {
        let zones = match group.zones.as_slice() {
            [] => &file.control_plane.zones,
            _ => &group.zones,
        };
        let is_here = zones.iter().any(|one| one == zone);
        let most = u64::from(group.max.unwrap_or(group.min));
        if is_here {
            most.div_ceil(zones.len().max(1) as u64)
        } else {
            0
        }
    });
    // Up to 1.17 they stand in the utility subnets; a few more are no matter there.
    let bastion = file.bastion.iter().map(|bastion| {
        let zones = &file.control_plane.zones;
        let is_here = zones.iter().any(|one| one == zone);
        let count = u64::from(bastion.count).div_ceil(zones.len().max(1) as u64);
        if is_here { count } else { 0 }
    });
    members + nodes.sum::<u64>() + bastion.sum::<u64>()
}

fn judge_new(found: &mut Findings, network: &Network, subnet: &Placed, ranges: &[Cidr], vpc: &str) {
    let name = &subnet.name;
    let Some(text) = &subnet.cidr else {
        found.error(
            format!("there are no addresses for the new subnet {name}"),
            "give its cidr under network.subnets",
        );
        return;
    };
    let Ok(cidr) = text.parse::<Cidr>() else {
        return;
    };
    if !ranges.iter().any(|range| range.contains(cidr)) {
        found.error(
            format!("the new subnet {name} with {text} is not within {vpc}"),
            "give a cidr of the VPC's",
        );
    }
    let taken = network.subnets.iter().find(|there| {
        let there = there.cidr_block.parse::<Cidr>();
        there.is_ok_and(|there| there.contains(cidr) || cidr.contains(there))
    });
    if let Some(taken) = taken {
        found.error(
            format!(
                "{text}, for the new subnet {name}, is taken: {} has {}",
                taken.subnet_id, taken.cidr_block
            ),
            "give the id of an existing subnet, or another cidr, under network.subnets",
        );
    }
}

/// A public load balancer needs subnets that lead to the Internet, which kops would make where none is named.
fn judge_utility(found: &mut Findings, file: &ClusterFile, told: &Told) {
    let who = match (file.api.kind, &file.bastion) {
        (ApiKind::Public, _) => "a public API",
        (ApiKind::Internal, Some(_)) => "a bastion",
        (ApiKind::Internal, None) => return,
    };
    let is_needed = file.topology == Topology::Private;
    let made: Vec<&str> = told
        .placed
        .iter()
        .filter(|one| one.role == SubnetRole::Utility && one.id.is_none())
        .map(|one| one.zone.as_str())
        .collect();
    if is_needed && !made.is_empty() {
        found.warning(
            format!(
                "{who} needs utility subnets, and none is named in {}: kops makes them in your VPC",
                made.join(", ")
            ),
            "name existing ones with role: utility, unless that is what you want",
        );
    }
}
