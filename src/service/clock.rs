//! What time it is, and waiting until it is some other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

/// The wall clock is set, and machines sleep: it is looked at this often while something is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where the time comes from.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    Wall,
    /// So much later than `from` as the runtime's own time has gone on since `since`: a month passes in a second where that is
    /// paused.
    Simulated { from: Timestamp, since: Instant },
}

impl Clock {
    /// One that begins at `from`, now.
    pub fn simulated(from: Timestamp) -> Self {
        Self::Simulated {
            from,
            since: Instant::now(),
        }
    }

    pub fn now(self) -> Timestamp {
        match self {
            Self::Wall => Timestamp::now(),
            Self::Simulated { from, since } => SignedDuration::try_from(since.elapsed())
                .ok()
                .and_then(|passed| from.checked_add(passed).ok())
                .unwrap_or(Timestamp::MAX),
        }
    }

    /// Ends when the time has come, also when the clock was set meanwhile.
    pub async fn until(self, moment: Timestamp) {
        loop {
            let left = moment.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else {
                return;
            };
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK_AGAIN)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_month_passes_at_once() {
        let from: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let clock = Clock::simulated(from);
        let end: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        clock.until(end).await;
        assert_eq!(clock.now(), end);
        clock.until(from).await;
        assert_eq!(clock.now(), end);
    }
}
