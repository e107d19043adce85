//! Remembers what came when, coarsely, so that any stretch of time can be asked about later. Pure.

use std::time::Duration;

/// The fiftieth part of a second: finer than any stretch that is asked about, and an hour is 180,000 numbers.
const BIN: f64 = 0.02;

/// Bytes by time since the beginning.
#[derive(Debug, Default)]
pub(super) struct Tape {
    bins: Vec<f64>,
}

impl Tape {
    /// So many bytes came between these two moments, evenly; at one moment where they are the same.
    pub(super) fn note(&mut self, from: Duration, until: Duration, bytes: u64) {
        let (from, until) = (from.as_secs_f64(), until.as_secs_f64());
        let (first, last) = (bin(from), bin(until));
        if self.bins.len() <= last {
            self.bins.resize(last + 1, 0.0);
        }
        let bytes = bytes as f64;
        if first == last {
            self.bins[last] += bytes;
            return;
        }
        for at in first..=last {
            let share = overlap(at, from, until) / (until - from);
            self.bins[at] += bytes * share;
        }
    }

    /// The bytes that came between two moments.
    pub(super) fn between(&self, from: Duration, until: Duration) -> f64 {
        let (from, until) = (from.as_secs_f64(), until.as_secs_f64());
        let bins = self.bins.iter().enumerate();
        let parts = bins
            .skip(bin(from))
            .take(bin(until) - bin(from) + 1)
            .map(|(at, bytes)| bytes * overlap(at, from, until) / BIN);
        // The sum of nothing would be -0.
        parts.fold(0.0, |sum, part| sum + part)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since a beginning are few and not negative"
)]
fn bin(seconds: f64) -> usize {
    (seconds / BIN) as usize
}

/// The seconds of a bin that lie between two moments.
fn overlap(bin: usize, from: f64, until: f64) -> f64 {
    let begin = bin as f64 * BIN;
    ((begin + BIN).min(until) - begin.max(from)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn what_came_evenly_is_shared_out_evenly() {
        let mut tape = Tape::default();
        tape.note(at(1.0), at(3.0), 1000);
        assert!((tape.between(at(1.5), at(2.0)) - 250.0).abs() < 1.0);
        assert!((tape.between(at(0.0), at(1.0))).abs() < 1.0);
        assert!(tape.between(at(3.5), at(9.0)).abs() < 1.0);
        assert!(tape.between(at(90.0), at(99.0)).is_sign_positive());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_made(
            spans in prop::collection::vec((0.0..20.0f64, 0.0..5.0f64, 0..10_000_000u64), 0..50)
        ) {
            let mut tape = Tape::default();
            for (from, length, bytes) in &spans {
                tape.note(at(*from), at(from + length), *bytes);
            }
            let all: u64 = spans.iter().map(|(_, _, bytes)| bytes).sum();
            let told = tape.between(at(0.0), at(100.0));
            prop_assert!((told - all as f64).abs() <= 1e-6 * all as f64 + 1e-6, "{told} of {all}");
        }
    }
}
