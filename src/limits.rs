//! How much at once: connections to each host, pauses that a host asked for, and the rate of everything together.

mod climb;
mod host;
mod pace;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::host::{Admission, Host, Numbers, Presence, Rank};
use self::pace::Pace;
use crate::origin::Source;

/// The limits of one run, shared by all its fetches.
#[derive(Debug)]
pub struct Limits {
    connections: usize,
    remembered: BTreeMap<String, usize>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    rate: Option<Pace>,
}

impl Limits {
    /// At most `connections` to a host at a time; `rate` in bytes a second for all hosts together, None: as fast as it goes.
    pub fn new(connections: usize, rate: Option<u64>) -> Self {
        Self {
            connections: connections.max(1),
            remembered: BTreeMap::new(),
            hosts: Mutex::default(),
            rate: rate.map(Pace::new),
        }
    }

    /// Begins at each host with the connections that an earlier run came to.
    #[must_use]
    pub fn remembering(mut self, connections: BTreeMap<String, usize>) -> Self {
        self.remembered = connections;
        self
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host that a source's connections go to.
    pub fn host(&self, source: &Source) -> Arc<Host> {
        let name = source.host();
        let cap = source.connections().unwrap_or(self.connections);
        let remembered = self.remembered.get(&name).copied();
        let mut hosts = self.hosts();
        let host = hosts
            .entry(name)
            .or_insert_with(|| Arc::new(Host::new(cap, remembered, None)));
        Arc::clone(host)
    }

    /// Waits until the rate allows bytes that have come. The connection is not read meanwhile, so TCP slows its sender down.
    pub async fn pass(&self, host: &Host, bytes: usize) {
        if let Some(pace) = &host.pace {
            pace.pass(bytes).await;
        }
        if let Some(pace) = &self.rate {
            pace.pass(bytes).await;
        }
    }

    /// Whether a rate has just held bytes back: the line could bring more.
    pub fn hold_back(&self) -> bool {
        let of_hosts = self.hosts().values().any(|host| host.is_held_back());
        of_hosts || self.rate.as_ref().is_some_and(Pace::holds_back)
    }

    /// What each host that was asked for anything has brought so far.
    pub fn numbers(&self) -> BTreeMap<String, Numbers> {
        let hosts = self.hosts();
        let numbers = hosts
            .iter()
            .map(|(name, host)| (name.clone(), host.numbers()));
        numbers.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn pass(limits: &Limits, bytes: usize) {
        limits.pass(&Host::new(1, None, None), bytes).await;
    }

    #[tokio::test]
    async fn a_fast_rate_is_used_up_in_spite_of_coarse_timers() {
        let limits = Limits::new(1, Some(256 << 20));
        let started = std::time::Instant::now();
        for _ in 0..4 {
            pass(&limits, 32 << 20).await;
        }
        let took = started.elapsed();
        let (least, most) = (Duration::from_millis(390), Duration::from_millis(900));
        assert!((least..most).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_rate_holds_bytes_back() {
        let limits = Limits::new(1, Some(1 << 20));
        let started = std::time::Instant::now();
        pass(&limits, 256 << 10).await;
        assert!(
            started.elapsed() >= Duration::from_millis(90),
            "{:?}",
            started.elapsed()
        );
    }
}
