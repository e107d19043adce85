//! How patiently something is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// First pause, longest pause, all of it. AWS's own waiters give up after ten minutes, and at once where a thing is not there yet; a
/// copied image can take an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub first: Duration,
    pub longest: Duration,
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(30),
            deadline: Duration::from_mins(60),
        }
    }
}

impl Pace {
    pub(super) fn begin(self) -> Wait {
        Wait {
            pace: self,
            began: Instant::now(),
            next: self.first,
        }
    }
}

/// One wait.
#[derive(Debug)]
pub(super) struct Wait {
    pace: Pace,
    began: Instant,
    next: Duration,
}

impl Wait {
    /// Pauses, twice as long each time; false when it is time to give up.
    pub(super) async fn pause(&mut self) -> bool {
        let left = self.pace.deadline.saturating_sub(self.waited());
        if left.is_zero() {
            return false;
        }
        sleep(self.next.min(left)).await;
        self.next = (self.next * 2).min(self.pace.longest);
        true
    }

    pub(super) fn waited(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_to_a_limit_and_end_at_the_deadline() {
        let mut wait = Pace::default().begin();
        let mut pauses = Vec::new();
        loop {
            let before = Instant::now();
            if !wait.pause().await {
                break;
            }
            pauses.push(before.elapsed().as_secs());
        }
        assert_eq!(pauses[..6], [2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses.iter().sum::<u64>(), 3600);
    }
}
