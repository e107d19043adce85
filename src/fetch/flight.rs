//! One request for a part, while it is under way: what it has brought, and where it is to end.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::locked;

/// One request for a part.
#[derive(Debug)]
pub(super) struct Flight {
    /// Which of the fetch's sources it goes to.
    pub(super) source: usize,
    /// Its source is known to give whole files only.
    pub(super) asks_for_all: bool,
    /// The flight that it was sent after.
    pub(super) chases: Option<Arc<Flight>>,
    start: u64,
    at: AtomicU64,
    end: AtomicU64,
    begun: Instant,
    heard: Mutex<Instant>,
    /// What it brought is being written, or held back by a rate: its silence is ours.
    is_ours_to_speak: AtomicBool,
    chased: AtomicBool,
    whole: AtomicBool,
    /// What it would bring is there.
    pub(super) needless: CancellationToken,
}

impl Flight {
    pub(super) fn new(
        source: usize,
        asks_for_all: bool,
        part: Range<u64>,
        chases: Option<Arc<Self>>,
    ) -> Self {
        if let Some(chased) = &chases {
            chased.chased.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        Self {
            source,
            asks_for_all,
            chases,
            start: part.start,
            at: AtomicU64::new(part.start),
            end: AtomicU64::new(part.end),
            begun: now,
            heard: Mutex::new(now),
            is_ours_to_speak: AtomicBool::new(false),
            chased: AtomicBool::new(false),
            whole: AtomicBool::new(asks_for_all),
            needless: CancellationToken::new(),
        }
    }

    /// The part that was asked for, as far as it is still to come.
    pub(super) fn rest(&self) -> Range<u64> {
        let end = self.end();
        self.at.load(Ordering::Relaxed).min(end)..end
    }

    /// It brings everything up to the end, wherever that is.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    pub(super) fn answered_whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Ends it sooner: another flight brings what lies behind.
    pub(super) fn shorten(&self, end: u64) {
        self.end.fetch_min(end, Ordering::Relaxed);
    }

    pub(super) fn brought_up_to(&self, at: u64) {
        self.at.store(at, Ordering::Relaxed);
        *locked(&self.heard) = Instant::now();
        self.is_ours_to_speak.store(false, Ordering::Relaxed);
    }

    /// Another flight is after what it was to bring.
    pub(super) fn is_chased(&self) -> bool {
        self.chased.load(Ordering::Relaxed)
    }

    pub(super) fn chase_ended(&self) {
        self.chased.store(false, Ordering::Relaxed);
    }

    /// Bytes have come that are not yet where they belong.
    pub(super) fn is_heard(&self) {
        self.is_ours_to_speak.store(true, Ordering::Relaxed);
    }

    pub(super) fn silence(&self, now: Instant) -> Duration {
        if self.is_ours_to_speak.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        now.duration_since(*locked(&self.heard))
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.begun)
    }

    /// Bytes a second since it began.
    pub(super) fn goodput(&self, now: Instant) -> f64 {
        let brought = self.at.load(Ordering::Relaxed).saturating_sub(self.start);
        let elapsed = now.duration_since(self.begun).as_secs_f64();
        brought as f64 / elapsed.max(0.001)
    }
}
