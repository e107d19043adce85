//! Reads which congestion controls the kernel has, and which one its connections get.

use std::fs;

/// The kernel's congestion controls; the sender's counts, so these are about uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What connections get by themselves.
    pub system: String,
    /// What the kernel has at hand.
    pub available: Vec<String>,
    /// What a program without privileges may choose.
    pub allowed: Vec<String>,
}

impl Kernel {
    /// Asks it (Linux, Documentation/networking/ip-sysctl.rst); None where it does not tell.
    pub fn ask() -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
        Self::parse(
            &read("tcp_congestion_control")?,
            &read("tcp_available_congestion_control")?,
            &read("tcp_allowed_congestion_control").unwrap_or_default(),
        )
    }

    fn parse(system: &str, available: &str, allowed: &str) -> Option<Self> {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let system = system.trim();
        (!system.is_empty()).then(|| Self {
            system: system.to_owned(),
            available: names(available),
            allowed: names(allowed),
        })
    }

    /// Those that connections can be tried with, the system's own first. Reno is in every kernel and does no better than cubic, so
    /// it is left out unless it is the system's.
    pub fn choices(&self) -> Vec<String> {
        let others = self.available.iter();
        let others = others.filter(|name| **name != self.system && *name != "reno");
        let system = std::iter::once(&self.system);
        system.chain(others).cloned().collect()
    }

    /// How to come by BBR, which takes a loss for no sign of a full link, where it is not to be had as it is.
    pub(super) fn way_to_bbr(&self) -> Option<&'static str> {
        let has = |names: &[String]| names.iter().any(|name| name == "bbr");
        if !has(&self.available) {
            return Some("load it with 'modprobe tcp_bbr'");
        }
        (!has(&self.allowed)).then_some(
            "add it to net.ipv4.tcp_allowed_congestion_control with 'sysctl -w', or run as root",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(system: &str, available: &str, allowed: &str) -> Kernel {
        Kernel::parse(system, available, allowed).unwrap()
    }

    #[test]
    fn the_systems_own_comes_first_and_reno_only_as_that() {
        let choices = |system, available| kernel(system, available, "").choices();
        assert_eq!(choices("cubic\n", "reno bbr cubic\n"), ["cubic", "bbr"]);
        assert_eq!(choices("reno\n", "reno bbr\n"), ["reno", "bbr"]);
        assert_eq!(Kernel::parse("\n", "reno", ""), None);
    }

    #[test]
    fn whoever_has_bbr_is_not_told_how_to_come_by_it() {
        let way = |available, allowed| kernel("cubic", available, allowed).way_to_bbr();
        assert_eq!(way("reno bbr cubic", "reno bbr"), None);
        assert!(
            way("reno bbr cubic", "reno cubic")
                .unwrap()
                .contains("sysctl")
        );
        assert!(
            way("reno cubic", "reno cubic")
                .unwrap()
                .contains("modprobe")
        );
    }
}
