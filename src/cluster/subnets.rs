//! Which subnets a cluster has, and what addresses they get where nobody gave them any.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::file::{ApiKind, ClusterFile, SubnetRole, Topology};

/// The VPC's addresses where kops makes it, as kops has them.
const NETWORK: Cidr = Cidr {
    address: Ipv4Addr::new(172, 20, 0, 0),
    length: 16,
};

/// How much smaller than the network a zone's subnet is, and its utility subnet, in bits: kops' own way up to 1.27.
const ZONE_BITS: u8 = 3;
const UTILITY_BITS: u8 = 6;

/// A range of IPv4 addresses: `10.0.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: Ipv4Addr,
    length: u8,
}

/// A text that is no such range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a range of addresses such as 10.0.0.0/16", text.escape_debug())]
pub struct BadCidr {
    text: String,
}

/// A subnet as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub name: String,
    pub zone: String,
    pub role: SubnetRole,
    pub id: Option<String>,
    /// None: an existing one whose addresses nobody has looked up.
    pub cidr: Option<String>,
    pub egress: Option<String>,
}

impl Cidr {
    fn bits(self) -> u32 {
        self.address.to_bits()
    }

    /// Whether all of the other's addresses are in this.
    pub fn contains(self, other: Self) -> bool {
        self.length <= other.length && mask(self.length) & other.bits() == self.bits()
    }

    /// The `number`th part of those that are `bits` smaller; None where there is none.
    fn part(self, bits: u8, number: u32) -> Option<Self> {
        let length = self.length + bits;
        if length > 28 || number >= 1 << bits {
            return None;
        }
        let address = self.bits() + (number << (32 - length));
        Some(Self {
            address: address.into(),
            length,
        })
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr {
            text: text.to_owned(),
        };
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let cidr = Self {
            address: address.parse().map_err(|_| bad())?,
            length: length.parse().map_err(|_| bad())?,
        };
        let is_range = cidr.length <= 32 && cidr.bits() & !mask(cidr.length) == 0;
        is_range.then_some(cidr).ok_or_else(bad)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What the utility subnet of a zone is called.
pub(super) fn utility(zone: &str) -> String {
    format!("utility-{zone}")
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl ClusterFile {
    /// Every zone that has hosts, in order.
    pub fn zones(&self) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .flat_map(|group| self.zones_of(&group.zones));
        let mut zones: Vec<String> = self
            .control_plane
            .zones
            .iter()
            .chain(nodes)
            .cloned()
            .collect();
        zones.sort();
        zones.dedup();
        zones
    }

    /// The zones of a group: those of the control plane where it names none.
    pub(super) fn zones_of<'a>(&'a self, zones: &'a [String]) -> &'a [String] {
        match zones {
            [] => &self.control_plane.zones,
            zones => zones,
        }
    }

    /// The role of the subnets that hosts are in.
    pub(super) fn host_role(&self) -> SubnetRole {
        match self.topology {
            Topology::Private => SubnetRole::Private,
            Topology::Public => SubnetRole::Public,
        }
    }

    /// The addresses of the VPC, as far as the file tells.
    pub(super) fn network_cidr(&self, of_vpc: Option<&str>) -> Option<String> {
        let made = || self.network.vpc.is_none().then(|| NETWORK.to_string());
        let given = self.network.cidr.clone();
        given.or_else(|| of_vpc.map(str::to_owned)).or_else(made)
    }

    /// Whether a zone needs a subnet for gateways and public load balancers besides.
    fn needs_utility(&self, zone: &str) -> bool {
        let is_private = self.topology == Topology::Private;
        let own_way_out = |one: &super::file::Subnet| one.id.is_some() || one.egress.is_some();
        let hosts = self.network.subnets.iter();
        let mut hosts =
            hosts.filter(|one| one.zone == zone && self.role_of(one) != SubnetRole::Utility);
        let has_way_out = hosts.next().is_some_and(own_way_out);
        // Its load balancer is a public one too.
        let has_bastion =
            self.bastion.is_some() && self.control_plane.zones.iter().any(|one| one == zone);
        is_private && (!has_way_out || has_bastion || self.api.kind == ApiKind::Public)
    }

    pub(super) fn role_of(&self, subnet: &super::file::Subnet) -> SubnetRole {
        subnet.role.unwrap_or(self.host_role())
    }

    /// The subnets of the cluster, those of the file and those that follow from it; `looked_up` has the addresses of existing
    /// ones by their ids.
    pub fn placed(
        &self,
        of_vpc: Option<&str>,
        looked_up: &BTreeMap<String, String>,
    ) -> Vec<Placed> {
        let network: Option<Cidr> = self.network_cidr(of_vpc).and_then(|cidr| cidr.parse().ok());
        let mut placed = Vec::new();
        for (role, bits) in [
            (self.host_role(), ZONE_BITS),
            (SubnetRole::Utility, UTILITY_BITS),
        ] {
            for (number, zone) in (0..).zip(self.zones()) {
                // The first eighth of the network is for the small ones.
                let number = if role == SubnetRole::Utility {
                    number
                } else {
                    number + 1
                };
                let free = || network?.part(bits, number).map(|cidr| cidr.to_string());
                let given = self.network.subnets.iter();
                let given = given
                    .clone()
                    .find(|one| one.zone == zone && self.role_of(one) == role);
                if given.is_none() && role == SubnetRole::Utility && !self.needs_utility(&zone) {
                    continue;
                }
                let id = given.and_then(|one| one.id.clone());
                let cidr = given.and_then(|one| one.cidr.clone());
                let known = id.as_ref().and_then(|id| looked_up.get(id).cloned());
                let cidr = cidr.or(known);
                placed.push(Placed {
                    name: match role {
                        SubnetRole::Utility => utility(&zone),
                        _ => zone.clone(),
                    },
                    zone,
                    role,
                    cidr: if id.is_some() {
                        cidr
                    } else {
                        cidr.or_else(free)
                    },
                    id,
                    egress: given.and_then(|one| one.egress.clone()),
                });
            }
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_cut_into_parts() {
        let network: Cidr = "172.20.0.0/16".parse().unwrap();
        assert_eq!(network.part(3, 1).unwrap().to_string(), "172.20.32.0/19");
        assert_eq!(network.part(3, 7).unwrap().to_string(), "172.20.224.0/19");
        assert_eq!(network.part(3, 8), None);
        assert_eq!(network.part(6, 2).unwrap().to_string(), "172.20.8.0/22");
        assert!(network.contains("172.20.8.0/22".parse().unwrap()));
        assert!(!network.contains("172.21.0.0/24".parse().unwrap()));
        for bad in ["10.0.0.1/16", "10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
