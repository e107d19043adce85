//! Counts what crosses for one asset: all of it, what was new, and from where.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::locked;

/// What crossed for one asset, also when it ended in failure.
#[derive(Debug, Default)]
pub struct Tally {
    received: AtomicU64,
    fresh: AtomicU64,
    origins: Mutex<HashMap<String, u64>>,
}

impl Tally {
    /// Body bytes that came over the wire.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Those of them that had come before.
    pub fn refetched_bytes(&self) -> u64 {
        self.received_bytes()
            - self
                .fresh
                .load(Ordering::Relaxed)
                .min(self.received_bytes())
    }

    /// Bytes by the source that brought them, as it may be printed.
    pub fn origins(&self) -> HashMap<String, u64> {
        locked(&self.origins).clone()
    }

    pub(super) fn count(&self, origin: &str, received: u64, fresh: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.fresh.fetch_add(fresh, Ordering::Relaxed);
        let mut origins = locked(&self.origins);
        match origins.get_mut(origin) {
            Some(bytes) => *bytes += received,
            None => drop(origins.insert(origin.to_owned(), received)),
        }
    }

    /// What had been counted as fresh was wrong: it has to come again.
    pub fn discarded(&self, bytes: u64) {
        let fresh = self.fresh.load(Ordering::Relaxed);
        self.fresh
            .store(fresh.saturating_sub(bytes), Ordering::Relaxed);
    }
}
