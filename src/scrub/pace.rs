//! Holds reading to a rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What a timer's coarseness misses may be made up for within this time.
const SLACK: Duration = Duration::from_millis(100);

/// Bytes a second of all readers together. Who passes waits for as long as what it has read takes, after all who came before.
#[derive(Debug)]
pub(super) struct Pace {
    /// None: as fast as it goes.
    bytes_per_second: Option<u64>,
    /// When all that has passed until now was due.
    due: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
            due: Mutex::new(Instant::now()),
        }
    }

    pub(super) async fn pass(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let took = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            *due = (*due).max(earliest) + took;
            *due
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_takes_as_long_as_the_rate_says() {
        let pace = Pace::new(Some(1000));
        let began = Instant::now();
        for bytes in [250, 500, 250] {
            pace.pass(bytes).await;
        }
        assert!(began.elapsed().abs_diff(Duration::from_secs(1)) < SLACK / 10);
        // All who read share it.
        join_all((0..4).map(|_| pace.pass(500))).await;
        assert!(began.elapsed().abs_diff(Duration::from_secs(3)) < SLACK / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for() {
        let pace = Pace::new(Some(1000));
        tokio::time::sleep(Duration::from_hours(1)).await;
        let began = Instant::now();
        pace.pass(10_000).await;
        assert!(began.elapsed() > Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let began = Instant::now();
        Pace::new(None).pass(usize::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
