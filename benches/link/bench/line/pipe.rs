//! One direction of a link, without devices and clocks: what becomes of each packet, and when.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

/// What a direction is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quality {
    /// Bytes per second of whole IP packets.
    pub(crate) rate: f64,
    pub(crate) delay: Duration,
    /// What the bottleneck holds before it drops, as the time that it takes to send it.
    pub(crate) queue: Duration,
    /// The share of packets that are lost before they reach the bottleneck, 0 to below 1.
    pub(crate) loss: f64,
    /// The mean number of packets lost in a row; at 1 losses are independent.
    pub(crate) burst: f64,
}

/// What becomes of a packet that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It comes out later.
    Carried,
    Lost,
    /// The bottleneck's queue was full.
    Dropped,
}

/// Losses by the model of Gilbert and Elliott: a good state that loses nothing, and a bad one that loses all.
#[derive(Debug)]
struct Losses {
    rng: Rng,
    begin: f64,
    go_on: f64,
    is_bad: bool,
}

impl Losses {
    /// In the long run `loss` of the packets meet the bad state, for `burst` packets at a time.
    fn new(loss: f64, burst: f64, seed: u64) -> Self {
        let end = 1.0 / burst.max(1.0);
        // The share of bad packets is begin / (begin + end). Independent losses are the case begin = go_on = loss.
        let (begin, go_on) = if burst > 1.0 {
            (loss * end / (1.0 - loss), 1.0 - end)
        } else {
            (loss, loss)
        };
        Self {
            rng: Rng::with_seed(seed),
            begin,
            go_on,
            is_bad: false,
        }
    }

    fn strike(&mut self) -> bool {
        let chance = if self.is_bad { self.go_on } else { self.begin };
        self.is_bad = chance > 0.0 && self.rng.f64() < chance;
        self.is_bad
    }
}

/// A packet on its way, and when it comes out.
#[derive(Debug)]
struct OnItsWay {
    due: Duration,
    packet: Box<[u8]>,
}

/// One direction. All times are since one moment, and never go back.
#[derive(Debug)]
pub(crate) struct Pipe {
    quality: Quality,
    losses: Losses,
    /// When the bottleneck will have sent all that it holds.
    busy_until: Duration,
    /// In order of `due`, since the bottleneck sends one after the other.
    on_their_way: VecDeque<OnItsWay>,
}

impl Pipe {
    pub(crate) fn new(quality: Quality, seed: u64) -> Self {
        Self {
            quality,
            losses: Losses::new(quality.loss, quality.burst, seed),
            busy_until: Duration::ZERO,
            on_their_way: VecDeque::new(),
        }
    }

    pub(crate) fn take(&mut self, now: Duration, packet: &[u8]) -> Fate {
        if self.losses.strike() {
            return Fate::Lost;
        }
        if self.busy_until.saturating_sub(now) > self.quality.queue {
            return Fate::Dropped;
        }
        let begins = self.busy_until.max(now);
        let sending = packet.len() as f64 / self.quality.rate;
        self.busy_until = begins + Duration::from_secs_f64(sending);
        self.on_their_way.push_back(OnItsWay {
            due: self.busy_until + self.quality.delay,
            packet: packet.into(),
        });
        Fate::Carried
    }

    /// When the next packet comes out.
    pub(crate) fn due(&self) -> Option<Duration> {
        Some(self.on_their_way.front()?.due)
    }

    /// The next packet, if its time has come, and how late it is.
    pub(crate) fn give(&mut self, now: Duration) -> Option<(Box<[u8]>, Duration)> {
        let late = now.checked_sub(self.due()?)?;
        let next = self.on_their_way.pop_front()?;
        Some((next.packet, late))
    }
}
