//! Where hosts are to stand: P03, P04 and P12.

use std::collections::BTreeSet;

use super::Finding;
use super::facts::Facts;
use super::findings::Findings;
use crate::cluster::ClusterFile;

/// P03: the region is known and has the zones.
pub(super) fn zones(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(3);
    let Some(zones) = found.known(&facts.zones) else {
        return found.or_fine("");
    };
    let names: Vec<&str> = zones.iter().map(|zone| zone.zone_name.as_str()).collect();
    let wanted = file.zones();
    for name in &wanted {
        match zones.iter().find(|zone| zone.zone_name == *name) {
            None => found.error(
                format!("{name} is no zone that the account has in {}", file.region),
                format!("take others of {}", names.join(", ")),
            ),
            Some(zone) if zone.zone_state != "available" => found.error(
                format!("{name} is {}", zone.zone_state),
                "wait, or take another zone",
            ),
            Some(_) => {}
        }
    }
    found.or_fine(format!("{} has {}", file.region, wanted.join(", ")))
}

/// P04: the control plane survives the loss of a zone.
pub(super) fn quorum(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(4);
    let spread = file.spread();
    let more = facts.zones.as_ref().is_ok_and(|zones| zones.len() >= 3);
    if let Some(warning) = spread.warning() {
        let remedy = match more {
            true => "spread it over three zones, which the region has",
            false => "take three zones where the region has them, and acknowledge it otherwise",
        };
        match file.control_plane.zones.len() {
            // One zone looks like what it is; two look like safety.
            1 => found.warning(warning, remedy),
            _ => found.error(warning, remedy),
        }
    }
    found.or_fine(format!(
        "any zone may be lost: {} of {} members are enough",
        spread.quorum(),
        spread.members.len()
    ))
}

/// P12: the types of machines are offered in every zone.
pub(super) fn offerings(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(12);
    let Some(offerings) = found.known(&facts.offerings) else {
        return found.or_fine("");
    };
    let offered: BTreeSet<(&str, &str)> = offerings
        .iter()
        .map(|one| (one.instance_type.as_str(), one.location.as_str()))
        .collect();
    for (whose, machine_type, zones) in wanted(file) {
        let lacking: Vec<&str> = zones
            .iter()
            .map(String::as_str)
            .filter(|zone| !offered.contains(&(machine_type, *zone)))
            .collect();
        if !lacking.is_empty() {
            let mut elsewhere: Vec<&str> = offered
                .iter()
                .filter(|(kind, _)| *kind == machine_type)
                .map(|(_, zone)| *zone)
                .collect();
            elsewhere.sort_unstable();
            let remedy = match elsewhere.as_slice() {
                [] => "take another type: families come to China later".to_owned(),
                zones => format!("take another type, or only {}", zones.join(", ")),
            };
            found.error(
                format!(
                    "{machine_type}, for {whose}, is not offered in {}",
                    lacking.join(", ")
                ),
                remedy,
            );
        }
    }
    found.or_fine("every type of machine is offered in each of its zones")
}

/// Which type is wanted in which zones, and for whom.
fn wanted(file: &ClusterFile) -> Vec<(String, &str, &[String])> {
    let control_plane = (
        "the control plane".to_owned(),
        file.control_plane.machine_type.as_str(),
        file.control_plane.zones.as_slice(),
    );
    let nodes = file.nodes.iter().map(|group| {
        let zones = match group.zones.as_slice() {
            [] => file.control_plane.zones.as_slice(),
            zones => zones,
        };
        (group.name.clone(), group.machine_type.as_str(), zones)
    });
    let bastion = file.bastion.iter().map(|bastion| {
        let zones = file.control_plane.zones.as_slice();
        (
            "the bastion".to_owned(),
            bastion.machine_type.as_str(),
            zones,
        )
    });
    std::iter::once(control_plane)
        .chain(nodes)
        .chain(bastion)
        .collect()
}

/// The types of machines that the file names, each once.
pub(super) fn machine_types(file: &ClusterFile) -> Vec<&str> {
    let types: BTreeSet<&str> = wanted(file).into_iter().map(|(_, kind, _)| kind).collect();
    types.into_iter().collect()
}
