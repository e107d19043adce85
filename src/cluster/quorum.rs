//! Where the members of the control plane stand, and what the loss of a zone costs.
//!
//! etcd goes on while more than half of its members do. With two zones one has the majority, so that losing that one ends the
//! cluster: two zones look like safety and are a coin's toss.

use std::collections::BTreeMap;

/// The members of a control plane, by zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The zone of each member, in order.
    pub members: Vec<String>,
    zones: Vec<String>,
}

impl Spread {
    /// Members go round the zones, as kops deals them; None: one for each zone, and one more where that is an even number.
    pub fn new(zones: &[String], count: Option<u32>) -> Self {
        let count = match count {
            Some(count) => count as usize,
            None if zones.len().is_multiple_of(2) => zones.len() + 1,
            None => zones.len(),
        };
        let members = zones.iter().cycle().take(count).cloned().collect();
        Self {
            members,
            zones: zones.to_vec(),
        }
    }

    /// How many members must be there for the cluster to work.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The zones whose loss leaves too few.
    pub fn fatal_zones(&self) -> Vec<&str> {
        let mut by_zone: BTreeMap<&str, usize> = BTreeMap::new();
        for zone in &self.members {
            *by_zone.entry(zone).or_default() += 1;
        }
        let all = self.members.len();
        let is_fatal = |(_, lost): &(&str, usize)| all - lost < self.quorum();
        by_zone
            .into_iter()
            .filter(is_fatal)
            .map(|(zone, _)| zone)
            .collect()
    }

    /// How likely the loss of one zone ends the cluster, in percent.
    pub fn loss_percent(&self) -> usize {
        match self.zones.len() {
            0 => 100,
            zones => self.fatal_zones().len() * 100 / zones,
        }
    }

    /// That for people; None where any zone may be lost.
    pub fn warning(&self) -> Option<String> {
        let fatal = self.fatal_zones();
        let (members, quorum) = (self.members.len(), self.quorum());
        match (self.zones.len(), fatal.as_slice()) {
            (_, []) => None,
            (1, _) => Some(format!(
                "all {members} members of the control plane are in {}: losing that zone ends the cluster",
                self.zones[0]
            )),
            (2, _) => Some(format!(
                "two zones: one of them going down has a {} % chance to take the cluster: {} holds so many of the {members} members \
                 that fewer than {quorum} would be left",
                self.loss_percent(),
                fatal.join(" and ")
            )),
            (zones, _) => Some(format!(
                "losing {} of {zones} zones ends the cluster ({} %): fewer than {quorum} of {members} members would be left",
                fatal.join(" or "),
                self.loss_percent()
            )),
        }
    }

    /// What each member's instance group is called by kops: by its zone, with a number where several are in one.
    pub fn names(&self, word: &str) -> Vec<String> {
        let is_crowded = self.members.len() > self.zones.len();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut names = Vec::new();
        for zone in &self.members {
            let number = seen.entry(zone).or_default();
            *number += 1;
            names.push(match is_crowded {
                true => format!("{word}-{zone}-{number}"),
                false => format!("{word}-{zone}"),
            });
        }
        names
    }

    /// What etcd calls its members: what is left of their groups' names without their common beginning, as kops shortens them
    /// (`trimCommonPrefix` in upup/pkg/fi/cloudup/new_cluster.go).
    pub fn etcd_members(&self) -> Vec<String> {
        let names = self.names("");
        let common = common_beginning(&names);
        let short = |name: &String| match &name[common..] {
            number if number.starts_with(|c: char| c.is_ascii_digit()) => format!("etcd-{number}"),
            letter => letter.to_owned(),
        };
        names.iter().map(short).collect()
    }
}

/// How many bytes the names have in common at their beginnings, with one left of the first.
fn common_beginning(names: &[String]) -> usize {
    let Some((first, rest)) = names.split_first() else {
        return 0;
    };
    let is_common = |length: &usize| {
        rest.iter()
            .all(|other| other.get(..*length) == first.get(..*length))
    };
    (0..first.len()).rev().find(is_common).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(zones: &str, count: Option<u32>) -> Spread {
        let zones: Vec<_> = zones
            .chars()
            .map(|letter| format!("cn-north-1{letter}"))
            .collect();
        Spread::new(&zones, count)
    }

    #[test]
    fn the_loss_of_a_zone_is_computed_not_printed() {
        let cases = [
            ("a", Some(1), 100),
            ("a", Some(3), 100),
            ("ab", Some(3), 50),
            ("ab", Some(5), 50),
            ("ab", None, 50),
            ("abc", Some(3), 0),
            ("abc", Some(5), 0),
            ("abc", None, 0),
            ("abc", Some(1), 33),
        ];
        for (zones, count, percent) in cases {
            let spread = spread(zones, count);
            assert_eq!(spread.loss_percent(), percent, "{zones} {count:?}");
            assert_eq!(spread.warning().is_some(), percent > 0, "{zones} {count:?}");
        }
    }

    #[test]
    fn members_are_named_as_kops_names_them() {
        let two = spread("ab", Some(3));
        let names = [
            "master-cn-north-1a-1",
            "master-cn-north-1b-1",
            "master-cn-north-1a-2",
        ];
        assert_eq!(two.names("master"), names);
        assert_eq!(two.etcd_members(), ["a-1", "b-1", "a-2"]);
        assert_eq!(two.fatal_zones(), ["cn-north-1a"]);
        assert!(two.warning().unwrap().contains("50 % chance"));
        let three = spread("abc", None);
        assert_eq!(three.names("control-plane")[2], "control-plane-cn-north-1c");
        assert_eq!(three.etcd_members(), ["a", "b", "c"]);
        assert_eq!(spread("a", Some(1)).etcd_members(), ["a"]);
        assert_eq!(
            spread("a", Some(3)).etcd_members(),
            ["etcd-1", "etcd-2", "etcd-3"]
        );
    }
}
