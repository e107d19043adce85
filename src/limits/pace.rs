//! A rate of bytes: what may pass, and how it is shared between those who wait.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as SyncMutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::night::Night;

/// The least that may pass at once under a rate: equal small slices are what keeps streams fair to each other.
const SLICE_KIBIBYTES: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

const WITHIN_BURST: &str = "a slice is no larger than the burst";

/// Bytes a second, by day and by night; None: as fast as it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    pub always: Option<u64>,
    /// In place of `always` while it is night.
    pub night: Option<(Night, Option<u64>)>,
}

impl Rates {
    pub(super) fn is_limited(&self) -> bool {
        let by_night = self.night.as_ref().and_then(|(_, rate)| *rate);
        self.always.or(by_night).is_some()
    }
}

impl From<Option<u64>> for Rates {
    fn from(always: Option<u64>) -> Self {
        Self {
            always,
            night: None,
        }
    }
}

/// What keeps a rate.
#[derive(Debug)]
pub(super) struct Pace {
    always: Option<Quarter>,
    night: Option<(Night, Option<Quarter>)>,
    /// Who waits takes turns, a slice each, in the order in which they came.
    turn: Mutex<()>,
    holds_back: AtomicBool,
    used: SyncMutex<Used>,
}

/// One rate.
#[derive(Debug)]
struct Quarter {
    /// One cell is a KiB, so that rates up to 32 Tbit/s fit.
    limiter: DefaultDirectRateLimiter,
    slice: NonZeroU32,
    rate: u64,
}

/// How much of what might have passed did.
#[derive(Debug, Default, Clone, Copy)]
struct Used {
    since: Option<Instant>,
    passed: u64,
    allowed: f64,
}

impl Quarter {
    /// What a timer's coarseness or a busy machine misses may be made up for within a tenth of a second; with less, a fast line
    /// would get one slice for each tick of the timer.
    fn new(rate: u64) -> Self {
        let kibibytes = u32::try_from(rate >> 10).unwrap_or(u32::MAX);
        let a_second = NonZeroU32::new(kibibytes).unwrap_or(NonZeroU32::MIN);
        let at_least = |kibibytes: u32| {
            NonZeroU32::new(kibibytes).map_or(SLICE_KIBIBYTES, |n| n.max(SLICE_KIBIBYTES))
        };
        let burst = at_least(kibibytes / 10);
        Self {
            limiter: RateLimiter::direct(Quota::per_second(a_second).allow_burst(burst)),
            slice: at_least(kibibytes / 512),
            rate,
        }
    }
}

impl Pace {
    pub(super) fn new(rates: &Rates) -> Self {
        Self {
            always: rates.always.map(Quarter::new),
            night: rates
                .night
                .as_ref()
                .map(|(night, rate)| (night.clone(), rate.map(Quarter::new))),
            turn: Mutex::new(()),
            holds_back: AtomicBool::new(false),
            used: SyncMutex::default(),
        }
    }

    /// The rate that holds now.
    fn quarter(&self) -> Option<&Quarter> {
        match &self.night {
            Some((night, quarter)) if night.is_at(Timestamp::now()) => quarter.as_ref(),
            _ => self.always.as_ref(),
        }
    }

    /// Waits until so many bytes may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let mut kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        while let Some(quarter) = self.quarter()
            && let Some(slice) = NonZeroU32::new(kibibytes.min(quarter.slice.get()))
        {
            let _turn = self.turn.lock().await;
            let ready = quarter.limiter.check_n(slice).expect(WITHIN_BURST).is_ok();
            self.holds_back.store(!ready, Ordering::Relaxed);
            if !ready {
                quarter
                    .limiter
                    .until_n_ready(slice)
                    .await
                    .expect(WITHIN_BURST);
            }
            self.count(u64::from(slice.get()) << 10, quarter.rate);
            kibibytes -= slice.get();
        }
    }

    fn count(&self, bytes: u64, rate: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = used.since.replace(now).unwrap_or(now);
        used.allowed += rate as f64 * now.duration_since(since).as_secs_f64();
        used.passed += bytes;
    }

    /// Whether the last bytes had to wait.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::Relaxed)
    }

    /// What part of the rate was used, from the first byte to the last; None while nothing can be said.
    pub(super) fn share_used(&self) -> Option<f64> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        (used.allowed > 0.0).then(|| (used.passed as f64 / used.allowed).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn pace(rates: &Rates) -> Arc<Pace> {
        Arc::new(Pace::new(rates))
    }

    /// Kibibytes that each of some streams got through in a second.
    async fn shares(pace: &Arc<Pace>, pieces: &[usize]) -> Vec<usize> {
        let until = std::time::Instant::now() + Duration::from_secs(1);
        let streams = pieces.iter().map(|&piece| {
            let pace = Arc::clone(pace);
            async move {
                let mut passed = 0;
                while std::time::Instant::now() < until {
                    pace.pass(piece).await;
                    passed += piece >> 10;
                }
                passed
            }
        });
        futures::future::join_all(streams).await
    }

    #[tokio::test]
    async fn streams_get_the_same_whatever_they_bring_at_a_time() {
        let shares = shares(
            &pace(&Some(8 << 20).into()),
            &[16 << 10, 64 << 10, 256 << 10, 256 << 10],
        )
        .await;
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        // What a large piece has got through counts only at its end.
        assert!(most * 2 < least * 3, "{shares:?}");
    }

    #[tokio::test]
    async fn another_rate_holds_at_night() {
        let always: Night = "00:00-23:59 UTC".parse().unwrap();
        let started = std::time::Instant::now();
        let free = pace(&Rates {
            always: Some(1),
            night: Some((always, None)),
        });
        // The one minute of the day that is no night here would take for ever.
        if free.quarter().is_none() {
            free.pass(1 << 30).await;
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        let never: Night = "00:00-00:01 Pacific/Kiritimati".parse().unwrap();
        let day = pace(&Rates {
            always: None,
            night: Some((never, Some(1))),
        });
        if day.quarter().is_none() {
            day.pass(1 << 30).await;
            assert!(day.share_used().is_none());
        }
    }

    #[tokio::test]
    async fn the_share_that_was_used_is_known() {
        let pace = pace(&Some(4 << 20).into());
        assert_eq!(pace.share_used(), None);
        for _ in 0..4 {
            pace.pass(256 << 10).await;
        }
        let used = pace.share_used().unwrap();
        assert!(used > 0.5, "{used}");
        assert!(pace.holds_back());
    }
}
