//! Climbs from one connection to many, and reads at each rung what they bring together.
//!
//! Connections are added and never replaced: those that are there go on over the rung's end, so that only the new ones are in
//! slow start. The first part of each rung is read apart for their sake.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::tape::Tape;
use super::{Allowance, Reading};

/// The share of a rung that its new connections have for their slow start: two of five seconds, which is the eight round trips
/// of 200 ms in which a handshake with TLS and a window of 1 MiB are through.
const SLOW_START: f64 = 0.4;

/// A connection that broke is made again after this.
const AFTER_BREAK: Duration = Duration::from_millis(500);

/// What is asked for at once is no less: below, round trips are most of the time.
pub(super) const ASKED_MIN: u64 = 64 << 10;

/// Something that bytes can be carried to or from, over any number of connections at once.
pub(super) trait Leg: Sync {
    /// One connection's first bytes, which nobody reads: it is through with slow start, and with whatever else there is to find
    /// out, when this ends.
    fn warm_up(&self, ledger: &Ledger) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Carries some bytes over one connection, and counts them in the ledger. Called again as long as there is something left.
    fn carry(&self, ledger: &Ledger) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Why a connection brought no more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It broke; another may do better.
    Broke(String),
    /// The other side wants no more connections.
    Refused(String),
    /// It will go wrong again.
    Failed(String),
}

/// What a climb came to.
#[derive(Debug)]
pub(super) struct Climbed {
    pub(super) readings: Vec<Reading>,
    /// All that was carried or claimed.
    pub(super) bytes: u64,
    /// Why the other side wanted no more connections.
    pub(super) refused: Option<String>,
    /// Why it can't go on.
    pub(super) failed: Option<String>,
    /// The last thing that broke.
    pub(super) broke: Option<String>,
    /// What was claimed and is still on its way, given up.
    pub(super) given_up: usize,
}

/// One rung, as it was.
#[derive(Debug)]
struct Rung {
    connections: usize,
    from: Duration,
    until: Duration,
    silences: u64,
    breaks: u64,
}

/// The numbers of connections that are tried: 1, 2, 4, … and the most.
pub(super) fn rungs(connections_max: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |n: &usize| n.checked_mul(2));
    let mut rungs: Vec<usize> = doubled.take_while(|n| *n < connections_max).collect();
    rungs.push(connections_max.max(1));
    rungs
}

/// Climbs for as long as the allowance lasts. `tell` hears the number of connections of each rung as it begins.
pub(super) async fn climb(
    leg: &impl Leg,
    allowance: Allowance,
    tell: impl Fn(usize),
    stop: &CancellationToken,
) -> Climbed {
    let ledger = Ledger::new();
    let rungs = rungs(allowance.connections);
    let mut connections = FuturesUnordered::new();
    let mut climbed = Vec::new();
    // The warm-up has a rung's part at most, in bytes and in time.
    ledger.begin_rung(allowance.bytes / (rungs.len() + 1) as u64, 1);
    connections.push(connection(leg, &ledger, true));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = ledger.is_warm() => {}
        () = sleep(allowance.rung) => {}
        _ = connections.next() => unreachable!("a connection never ends by itself"),
    }
    for (at, &count) in rungs.iter().enumerate() {
        let left = allowance.bytes.saturating_sub(ledger.bytes());
        let share = left / (rungs.len() - at) as u64;
        if share == 0 || stop.is_cancelled() || ledger.is_ended() {
            break;
        }
        tell(count);
        ledger.begin_rung(share, count);
        connections.extend((connections.len()..count).map(|_| connection(leg, &ledger, false)));
        let from = ledger.now();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ledger.rung_is_done() => {}
            () = sleep(allowance.rung) => {}
            _ = connections.next() => unreachable!("a connection never ends by itself"),
        }
        climbed.push(ledger.end_rung(count, from));
    }
    ledger.allow_no_more();
    tokio::select! {
        () = ledger.nothing_is_claimed() => {}
        () = sleep(allowance.rung * 2) => {}
        _ = connections.next(), if !connections.is_empty() => unreachable!("a connection never ends by itself"),
    }
    let given_up = ledger.claims.load(Ordering::Relaxed);
    drop(connections);
    ledger.sum_up(&climbed, given_up)
}

/// One connection's life.
async fn connection<L: Leg>(leg: &L, ledger: &Ledger, warms_up: bool) {
    let mut cold = warms_up;
    loop {
        ledger.something_is_left().await;
        let carried = if cold {
            leg.warm_up(ledger).await
        } else {
            leg.carry(ledger).await
        };
        if std::mem::take(&mut cold) {
            ledger.warmed_up();
        }
        if let Err(trouble) = carried {
            ledger.note(trouble);
            ledger.goes_on().await;
            sleep(AFTER_BREAK).await;
        }
    }
}

/// What the connections of a climb share: what they may still carry, and what they did.
#[derive(Debug)]
pub(super) struct Ledger {
    begun: Instant,
    /// Of the rung's share.
    left: AtomicU64,
    /// The rung's share, for each of its connections.
    each: AtomicU64,
    /// A connection has nothing to do any more in this rung.
    used_up: AtomicBool,
    connections: AtomicUsize,
    bytes: AtomicU64,
    claims: AtomicUsize,
    warm: AtomicBool,
    silences: AtomicU64,
    breaks: AtomicU64,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    tape: Tape,
    refused: Option<String>,
    failed: Option<String>,
    broke: Option<String>,
}

/// Bytes that are on their way and are counted already. What becomes of it is for the tape; dropped, it is on its way no more.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    ledger: &'a Ledger,
    pub(super) bytes: u64,
    from: Duration,
}

impl Ledger {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            left: AtomicU64::default(),
            each: AtomicU64::default(),
            used_up: AtomicBool::default(),
            connections: AtomicUsize::new(1),
            bytes: AtomicU64::default(),
            claims: AtomicUsize::default(),
            warm: AtomicBool::default(),
            silences: AtomicU64::default(),
            breaks: AtomicU64::default(),
            kept: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn begin_rung(&self, share: u64, connections: usize) {
        self.left.store(share, Ordering::Relaxed);
        self.each
            .store(share / connections.max(1) as u64, Ordering::Relaxed);
        self.used_up.store(false, Ordering::Relaxed);
        self.connections.store(connections, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    fn end_rung(&self, connections: usize, from: Duration) -> Rung {
        Rung {
            connections,
            from,
            until: self.now(),
            silences: self.silences.swap(0, Ordering::Relaxed),
            breaks: self.breaks.swap(0, Ordering::Relaxed),
        }
    }

    fn allow_no_more(&self) {
        self.left.store(0, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// What one connection may ask for so that all have something to do until the rung's share is used up.
    pub(super) fn share(&self) -> u64 {
        let connections = self.connections.load(Ordering::Relaxed) as u64;
        self.left.load(Ordering::Relaxed) / connections.max(1)
    }

    /// So many bytes have just come.
    pub(super) fn came(&self, bytes: u64) {
        let now = self.now();
        self.kept().tape.note(now, now, bytes);
        if self.count(bytes) == 0 {
            self.end_of_share();
        }
    }

    /// Says what is left.
    fn count(&self, bytes: u64) -> u64 {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed).saturating_sub(bytes);
        self.left.store(left, Ordering::Relaxed);
        left
    }

    fn end_of_share(&self) {
        self.used_up.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Takes up to `wanted` bytes off what is left, and no more than a connection's part of the rung's share, for something that
    /// can't be taken back once it is begun. None when nothing is left.
    pub(super) fn claim(&self, wanted: u64) -> Option<Claim<'_>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return None;
        }
        let each = self.each.load(Ordering::Relaxed);
        let bytes = wanted.min(each).max(ASKED_MIN).min(left);
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.count(bytes);
        Some(Claim {
            ledger: self,
            bytes,
            from: self.now(),
        })
    }

    /// A connection brought nothing for longer than connections do that are well.
    pub(super) fn was_silent(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, trouble: Trouble) {
        let mut kept = self.kept();
        match trouble {
            Trouble::Broke(why) => {
                self.breaks.fetch_add(1, Ordering::Relaxed);
                kept.broke = Some(why);
            }
            Trouble::Refused(why) => drop(kept.refused.get_or_insert(why)),
            Trouble::Failed(why) => drop(kept.failed.get_or_insert(why)),
        }
        drop(kept);
        self.changed.notify_waiters();
    }

    /// The other side wants no more, or it can't go on.
    fn is_ended(&self) -> bool {
        let kept = self.kept();
        kept.refused.is_some() || kept.failed.is_some()
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    fn warmed_up(&self) {
        self.warm.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    async fn is_warm(&self) {
        self.until(|ledger| ledger.warm.load(Ordering::Relaxed) || ledger.is_ended())
            .await;
    }

    /// Waits for ever where it does not.
    async fn goes_on(&self) {
        self.until(|ledger| !ledger.is_ended()).await;
    }

    async fn something_is_left(&self) {
        if self.left.load(Ordering::Relaxed) == 0 {
            self.end_of_share();
        }
        self.until(|ledger| ledger.left.load(Ordering::Relaxed) > 0)
            .await;
    }

    async fn nothing_is_claimed(&self) {
        self.until(|ledger| ledger.claims.load(Ordering::Relaxed) == 0)
            .await;
    }

    /// A connection has nothing to do any more, or the other side wants no more. What others still carry is read as far as it
    /// falls into the rung.
    async fn rung_is_done(&self) {
        self.until(|ledger| ledger.used_up.load(Ordering::Relaxed) || ledger.is_ended())
            .await;
    }

    fn sum_up(&self, climbed: &[Rung], given_up: usize) -> Climbed {
        let kept = self.kept();
        Climbed {
            readings: climbed.iter().map(|rung| rung.read(&kept.tape)).collect(),
            bytes: self.bytes(),
            refused: kept.refused.clone(),
            failed: kept.failed.clone(),
            broke: kept.broke.clone(),
            given_up,
        }
    }
}

impl Claim<'_> {
    /// It sets out now: what was done before was not the link's.
    pub(super) fn sets_out(&mut self) {
        self.from = self.ledger.now();
    }

    /// All of it has arrived. It counts as if it had come evenly: how much a socket's buffer held when can't be seen.
    pub(super) fn arrived(self) -> Duration {
        let now = self.ledger.now();
        self.ledger.kept().tape.note(self.from, now, self.bytes);
        now.saturating_sub(self.from)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.ledger.claims.fetch_sub(1, Ordering::Relaxed);
        self.ledger.changed.notify_waiters();
    }
}

impl Rung {
    fn read(&self, tape: &Tape) -> Reading {
        let took = self.until.saturating_sub(self.from);
        let steady = self.from + took.mul_f64(SLOW_START);
        let rate = |from: Duration, until: Duration| {
            let seconds = until.saturating_sub(from).as_secs_f64();
            if seconds > 0.0 {
                tape.between(from, until) * 8.0 / seconds
            } else {
                0.0
            }
        };
        Reading {
            connections: self.connections,
            bits_per_second: rate(steady, self.until),
            bits_per_second_at_first: rate(self.from, steady),
            seconds: took.as_secs_f64(),
            silences: Some(self.silences),
            breaks: self.breaks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of 10 Mbit/s, of which one connection carries up to 1 Mbit/s.
    struct Line {
        claims: bool,
        refuses_at: usize,
    }

    const TICK: Duration = Duration::from_millis(10);

    impl Line {
        /// Bytes in a tick on one of so many connections.
        fn share(connections: usize) -> u64 {
            1250.min(12_500 / connections as u64)
        }
    }

    impl Leg for Line {
        async fn warm_up(&self, ledger: &Ledger) -> Result<(), Trouble> {
            self.carry(ledger).await
        }

        async fn carry(&self, ledger: &Ledger) -> Result<(), Trouble> {
            let connections = ledger.connections.load(Ordering::Relaxed);
            if connections >= self.refuses_at {
                return Err(Trouble::Refused("enough".to_owned()));
            }
            if !self.claims {
                sleep(TICK).await;
                ledger.came(Self::share(connections));
                return Ok(());
            }
            let Some(claim) = ledger.claim(ASKED_MIN) else {
                return Ok(());
            };
            let ticks = claim.bytes / (Self::share(connections));
            sleep(TICK * u32::try_from(ticks).unwrap()).await;
            claim.arrived();
            Ok(())
        }
    }

    async fn climbed(line: &Line, bytes: u64) -> Climbed {
        let allowance = Allowance {
            bytes,
            rung: Duration::from_secs(20),
            connections: 32,
        };
        climb(line, allowance, |_| (), &CancellationToken::new()).await
    }

    fn mbits(climbed: &Climbed) -> Vec<f64> {
        let tenths = |reading: &Reading| (reading.bits_per_second / 1e5).round() / 10.0;
        climbed.readings.iter().map(tenths).collect()
    }

    #[test]
    fn each_rung_has_twice_the_connections_and_the_last_has_all() {
        assert_eq!(rungs(1), [1]);
        assert_eq!(rungs(2), [1, 2]);
        assert_eq!(rungs(20), [1, 2, 4, 8, 16, 20]);
        assert_eq!(rungs(64), [1, 2, 4, 8, 16, 32, 64]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_is_what_the_line_carries() {
        let line = Line {
            claims: false,
            refuses_at: usize::MAX,
        };
        let climbed = climbed(&line, 1 << 30).await;
        assert_eq!(mbits(&climbed), [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!((climbed.refused, climbed.broke), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_only_when_it_has_arrived_is_read_as_well() {
        let line = Line {
            claims: true,
            refuses_at: usize::MAX,
        };
        let climbed = climbed(&line, 1 << 30).await;
        for (mbit, wanted) in mbits(&climbed).iter().zip([1.0, 2.0, 4.0, 8.0, 10.0, 10.0]) {
            assert!((mbit / wanted - 1.0).abs() < 0.1, "{mbit} of {wanted}");
        }
        assert_eq!(climbed.given_up, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_carried_than_was_allowed() {
        for (claims, slack) in [(true, 0), (false, 32 * 1250)] {
            let line = Line {
                claims,
                refuses_at: usize::MAX,
            };
            let climbed = climbed(&line, 3_000_000).await;
            assert!(climbed.bytes <= 3_000_000 + slack, "{}", climbed.bytes);
            assert_eq!(climbed.readings.len(), 6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_climb_and_leaves_what_was_read() {
        let line = Line {
            claims: false,
            refuses_at: 4,
        };
        let climbed = climbed(&line, 1 << 30).await;
        assert_eq!(mbits(&climbed)[..2], [1.0, 2.0]);
        assert_eq!(climbed.readings.len(), 3);
        assert_eq!(climbed.refused.as_deref(), Some("enough"));
    }
}
