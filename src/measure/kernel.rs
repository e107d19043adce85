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

    /// Whether BBR, which takes a loss for no sign of a full link, is to be had and not in use.
    pub(super) fn offers_bbr(&self) -> bool {
        self.system != "bbr" && self.available.iter().any(|name| name == "bbr")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bbr_is_offered_where_it_is_there_and_not_in_use() {
        let read = |system, available| Kernel::parse(system, available, "reno cubic\n");
        assert!(read("cubic\n", "reno bbr cubic\n").unwrap().offers_bbr());
        assert!(!read("bbr\n", "reno bbr cubic\n").unwrap().offers_bbr());
        assert!(!read("cubic\n", "reno cubic\n").unwrap().offers_bbr());
        assert_eq!(read("\n", "reno"), None);
    }
}
