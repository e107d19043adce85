//! A rate of bytes: what may pass, and how it is shared between those who wait.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The least that may pass at once under a rate: equal small slices are what keeps streams fair to each other.
const SLICE_KIBIBYTES: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

const WITHIN_BURST: &str = "a slice is no larger than the burst";

/// A rate of bytes.
#[derive(Debug)]
pub(super) struct Pace {
    /// One cell is a KiB, so that rates up to 32 Tbit/s fit.
    limiter: DefaultDirectRateLimiter,
    slice: NonZeroU32,
    holds_back: AtomicBool,
}

impl Pace {
    /// What a timer's coarseness or a busy machine misses may be made up for within a tenth of a second; with less, a fast line
    /// would get one slice for each tick of the timer.
    pub(super) fn new(bytes: u64) -> Self {
        let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let a_second = NonZeroU32::new(kibibytes).unwrap_or(NonZeroU32::MIN);
        let at_least = |kibibytes: u32| {
            NonZeroU32::new(kibibytes).map_or(SLICE_KIBIBYTES, |n| n.max(SLICE_KIBIBYTES))
        };
        let burst = at_least(kibibytes / 10);
        Self {
            limiter: RateLimiter::direct(Quota::per_second(a_second).allow_burst(burst)),
            slice: at_least(burst.get() / 8),
            holds_back: AtomicBool::new(false),
        }
    }

    /// Whether the last bytes had to wait.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let mut kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        while let Some(slice) = NonZeroU32::new(kibibytes.min(self.slice.get())) {
            let ready = self.limiter.check_n(slice).expect(WITHIN_BURST).is_ok();
            self.holds_back.store(!ready, Ordering::Relaxed);
            if !ready {
                self.limiter.until_n_ready(slice).await.expect(WITHIN_BURST);
            }
            kibibytes -= slice.get();
        }
    }
}
