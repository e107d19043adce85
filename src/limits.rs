//! How much at once: connections to each host, pauses that a host asked for, and the rate of everything together.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use crate::origin::Source;

/// The limits of one run, shared by all its fetches.
#[derive(Debug)]
pub struct Limits {
    connections: usize,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    rate: Option<Pace>,
}

impl Limits {
    /// `connections` to a host at a time; `rate` in bytes a second for all hosts together, None: as fast as it goes.
    pub fn new(connections: usize, rate: Option<u64>) -> Self {
        Self {
            connections: connections.max(1),
            hosts: Mutex::default(),
            rate: rate.map(Pace::new),
        }
    }

    /// The host that a source's connections go to.
    pub fn host(&self, source: &Source) -> Arc<Host> {
        let connections = source.connections().unwrap_or(self.connections).max(1);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts
            .entry(source.host())
            .or_insert_with(|| Arc::new(Host::new(connections)));
        Arc::clone(host)
    }

    /// Waits until the rate allows bytes that have come. The connection is not read meanwhile, so TCP slows its sender down.
    pub async fn pass(&self, bytes: usize) {
        if let Some(pace) = &self.rate {
            pace.pass(bytes).await;
        }
    }
}

/// The least that may pass at once under a rate: equal small slices are what keeps streams fair to each other.
const SLICE_KIBIBYTES: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// A rate of bytes.
#[derive(Debug)]
struct Pace {
    /// One cell is a KiB, so that rates up to 32 Tbit/s fit.
    limiter: DefaultDirectRateLimiter,
    slice: NonZeroU32,
}

impl Pace {
    /// What a timer's coarseness or a busy machine misses may be made up for within a tenth of a second; with less, a fast line
    /// would get one slice for each tick of the timer.
    fn new(bytes: u64) -> Self {
        let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let a_second = NonZeroU32::new(kibibytes).unwrap_or(NonZeroU32::MIN);
        let at_least = |kibibytes: u32| {
            NonZeroU32::new(kibibytes).map_or(SLICE_KIBIBYTES, |n| n.max(SLICE_KIBIBYTES))
        };
        let burst = at_least(kibibytes / 10);
        Self {
            limiter: RateLimiter::direct(Quota::per_second(a_second).allow_burst(burst)),
            slice: at_least(burst.get() / 8),
        }
    }

    async fn pass(&self, bytes: usize) {
        let mut kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        while let Some(slice) = NonZeroU32::new(kibibytes.min(self.slice.get())) {
            self.limiter
                .until_n_ready(slice)
                .await
                .expect("a slice is no larger than the burst");
            kibibytes -= slice.get();
        }
    }
}

/// Long for a client on this machine, and short beside any answer that crosses a border.
const UNTIL_FREE: Duration = Duration::from_millis(2);

/// One network host.
#[derive(Debug)]
pub struct Host {
    connections: usize,
    slots: Arc<Semaphore>,
    assets: AtomicUsize,
    paused_until: Mutex<Option<Instant>>,
}

/// The right to one connection to a host, until it is dropped.
#[derive(Debug)]
pub struct Admission(OwnedSemaphorePermit);

impl Admission {
    /// Gives the right back after an answer that was read to its end. The client takes a moment to see that the connection is
    /// free again; whoever came before that would open one more.
    pub async fn give_back(self) {
        if self.0.semaphore().available_permits() == 0 {
            sleep(UNTIL_FREE).await;
        }
    }
}

/// One asset is being fetched from a host, until it is dropped.
#[derive(Debug)]
pub struct Presence(Arc<Host>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.assets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host {
    fn new(connections: usize) -> Self {
        Self {
            connections,
            slots: Arc::new(Semaphore::new(connections)),
            assets: AtomicUsize::new(0),
            paused_until: Mutex::default(),
        }
    }

    /// Counts an asset among those that share this host's connections.
    pub fn enter(self: &Arc<Self>) -> Presence {
        self.assets.fetch_add(1, Ordering::Relaxed);
        Presence(Arc::clone(self))
    }

    /// The connections that one of the assets may use now.
    pub fn share(&self) -> usize {
        self.connections
            .div_ceil(self.assets.load(Ordering::Relaxed).max(1))
    }

    /// Waits for a connection's turn, and for the end of a pause.
    pub async fn admit(&self) -> Admission {
        let permit = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("the slots are never closed");
        while let Some(until) = self.paused() {
            sleep_until(until).await;
        }
        Admission(permit)
    }

    /// Leaves the host alone for a while: it said that it is asked too much.
    pub fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut paused = self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |before| before.max(until)));
    }

    fn paused(&self) -> Option<Instant> {
        let paused = *self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        paused.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_host_admits_nobody_until_the_pause_ends() {
        let host = Host::new(2);
        host.pause(Duration::from_secs(7));
        host.pause(Duration::from_secs(3));
        let started = Instant::now();
        host.admit().await;
        assert_eq!(started.elapsed().as_secs(), 7);
    }

    #[test]
    fn assets_share_a_hosts_connections() {
        let host = Arc::new(Host::new(64));
        let _first = host.enter();
        assert_eq!(host.share(), 64);
        let second = host.enter();
        let third = host.enter();
        assert_eq!(host.share(), 22);
        drop((second, third));
        assert_eq!(host.share(), 64);
    }

    #[tokio::test]
    async fn a_fast_rate_is_used_up_in_spite_of_coarse_timers() {
        let limits = Limits::new(1, Some(256 << 20));
        let started = std::time::Instant::now();
        for _ in 0..4 {
            limits.pass(32 << 20).await;
        }
        let took = started.elapsed();
        let (least, most) = (Duration::from_millis(390), Duration::from_millis(900));
        assert!((least..most).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_rate_holds_bytes_back() {
        let limits = Limits::new(1, Some(1 << 20));
        let started = std::time::Instant::now();
        limits.pass(256 << 10).await;
        assert!(
            started.elapsed() >= Duration::from_millis(90),
            "{:?}",
            started.elapsed()
        );
    }
}
