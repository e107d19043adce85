//! Is a failure worth another attempt, and after how long?

use std::time::Duration;

/// What a caller may do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Another attempt may succeed.
    Transient,
    /// The same request will fail again.
    Permanent,
    /// The bytes are wrong: not from here, not like this.
    Corrupt,
}

/// How often and how patiently to try again. Progress starts the count anew, so a long transfer over a bad link does not
/// run out of attempts, and one that gets nowhere ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row, without progress between them, after which to give up.
    pub attempts: u32,
    pub pause_min: Duration,
    pub pause_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        // Half a second outlasts a reset; six attempts with doubling pauses outlast a server's restart (about half a minute).
        Self {
            attempts: 6,
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(20),
        }
    }
}

/// One running count of failures under a [`Policy`].
#[derive(Debug, Clone)]
pub struct Attempts {
    policy: Policy,
    failures: u32,
}

impl Attempts {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Something got through: what failed before no longer counts.
    pub fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure; the pause before the next attempt, or None when it is time to give up.
    pub fn failed(&mut self) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= self.policy.attempts {
            return None;
        }
        let doubled = self
            .policy
            .pause_min
            .saturating_mul(1 << (self.failures - 1).min(16));
        Some(jittered(doubled.min(self.policy.pause_max), self.failures))
    }
}

/// Between half and the whole of `pause`, so that many connections that broke together do not come back together.
fn jittered(pause: Duration, salt: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(salt);
    let fraction =
        f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + fraction / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_failures_in_a_row_only() {
        let policy = Policy {
            attempts: 3,
            ..Policy::default()
        };
        let mut attempts = Attempts::new(policy);
        assert!(attempts.failed().is_some());
        assert!(attempts.failed().is_some());
        attempts.progressed();
        assert!(attempts.failed().is_some());
        assert!(attempts.failed().is_some());
        assert!(attempts.failed().is_none());
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut attempts = Attempts::new(Policy {
            attempts: 40,
            ..Policy::default()
        });
        let pauses: Vec<_> = std::iter::from_fn(|| attempts.failed()).collect();
        assert!(pauses[0] >= Duration::from_millis(250) && pauses[0] <= Duration::from_millis(500));
        assert!(pauses.iter().all(|p| *p <= Duration::from_secs(20)));
        assert!(*pauses.last().unwrap() >= Duration::from_secs(10));
    }
}
