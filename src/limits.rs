//! How much at once: connections to each host, pauses that a host asked for, and the rate of everything together.

mod climb;
mod host;
mod night;
mod pace;
mod remembered;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::host::{Admission, Host, Presence, Rank};
pub use self::night::{Night, NotASpan};
use self::pace::Pace;
pub use self::pace::Rates;
use crate::origin::Source;
use crate::report::Link;

/// The limits of one run, shared by all its fetches.
#[derive(Debug)]
pub struct Limits {
    connections: usize,
    remembered: BTreeMap<String, usize>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    rate: Option<Pace>,
}

impl Limits {
    /// At most `connections` to a host at a time; `rates` for all hosts together.
    pub fn new(connections: usize, rates: impl Into<Rates>) -> Self {
        Self {
            connections: connections.max(1),
            remembered: BTreeMap::new(),
            hosts: Mutex::default(),
            rate: paced(&rates.into()),
        }
    }

    /// Begins at each host with the connections that an earlier run came to, as that run wrote them into a folder. What can't
    /// be read there is not remembered.
    #[must_use]
    pub fn remembering(mut self, folder: &Path) -> Self {
        self.remembered = remembered::read(folder);
        self
    }

    /// Writes the connections that were worth having at each host into a folder. What can't be written is forgotten.
    pub fn remember(&self, folder: &Path) {
        let hosts = self.hosts();
        let learnt = hosts
            .iter()
            .filter_map(|(name, host)| Some((name.clone(), host.learnt()?)));
        let learnt: BTreeMap<String, usize> = learnt.collect();
        drop(hosts);
        if !learnt.is_empty() {
            let mut connections = self.remembered.clone();
            connections.extend(learnt);
            remembered::write(folder, &connections);
        }
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
            .or_insert_with(|| Arc::new(Host::new(cap, remembered, paced(&source.limit().into()))));
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

    /// As [`Limits::hold_back`], at one host: a rate of another one's says nothing of it.
    pub fn hold_back_at(&self, host: &Host) -> bool {
        host.is_held_back() || self.rate.as_ref().is_some_and(Pace::holds_back)
    }

    /// What part of the rate of all together was used; None without a rate.
    pub fn share_used(&self) -> Option<f64> {
        self.rate.as_ref()?.share_used()
    }

    /// What each host that was asked for anything has brought so far.
    pub fn links(&self) -> BTreeMap<String, Link> {
        let hosts = self.hosts();
        let links = hosts.iter().map(|(name, host)| (name.clone(), host.link()));
        links.collect()
    }
}

fn paced(rates: &Rates) -> Option<Pace> {
    rates.is_limited().then(|| Pace::new(rates))
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
