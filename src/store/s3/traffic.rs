//! Counts what goes to a bucket, and remembers how fast one connection carries it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::abreast::Abreast;
use super::body::Progress;
use super::lines::Lines;
use super::turns::{Expected, Turn, Turns};
use crate::report::StoreLeg;
use crate::spool::SMALL_MAX_BYTES;

/// Of a body shorter than this the round trips are most of its time.
const TELLING_BYTES: u64 = 256 << 10;

/// How much one more measurement counts. Bodies are minutes long where it matters.
const WEIGHT: f64 = 0.3;

/// A round trip above this leaves the region, and most likely the country.
const FAR: Duration = Duration::from_millis(50);

/// Where one connection carries 20 Mbit/s, so many files at a time fill any link that one process is for.
pub(super) const FAST_ENOUGH: f64 = 2_500_000.0;

/// What one connection is taken to carry to a far store before any has shown it, in bytes a second: 1 Mbit/s.
const PRESUMED_FAR: f64 = 125_000.0;

/// A hundredth of all may cross twice, so that the end comes sooner.
const LATE_SHARE: u64 = 100;

/// A short run may send one short part again.
const LATE_MIN_BYTES: u64 = 1 << 20;

/// How much longer than others a body takes that is late.
const LATE: f64 = 1.5;

const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What has gone to one bucket so far.
#[derive(Debug)]
pub(super) struct Traffic {
    turns: Arc<Turns>,
    /// Of those that are neither long nor short.
    other_turns: Arc<Turns>,
    abreast: Arc<Abreast>,
    put_bytes: AtomicU64,
    wasted_bytes: AtomicU64,
    stalls: AtomicU64,
    /// Of bodies that were begun, and of those among them that were sent after late ones.
    begun_bytes: AtomicU64,
    late_bytes: AtomicU64,
    now: AtomicUsize,
    lines: Arc<Lines>,
    /// Bodies on their way that had to wait for a turn.
    long: AtomicUsize,
    /// As many of them fill a far line whose connections ride out loss; 0 where that is not known.
    few: AtomicUsize,
    most: AtomicUsize,
    pace: Mutex<Pace>,
}

#[derive(Debug, Default)]
struct Pace {
    round_trip: Option<Duration>,
    /// Of one connection, in bytes a second.
    goodput: Option<f64>,
}

/// One body on its way; counted when it is dropped.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    traffic: &'a Traffic,
    progress: Arc<Progress>,
    begun: Instant,
    arrived: bool,
    _turn: Option<Turn>,
}

impl Traffic {
    /// No more than `connections` long bodies at a time.
    pub(super) fn new(connections: usize, lines: Arc<Lines>) -> Self {
        Self {
            turns: Turns::new(connections),
            other_turns: Turns::new(connections),
            abreast: Abreast::new(),
            put_bytes: AtomicU64::default(),
            wasted_bytes: AtomicU64::default(),
            stalls: AtomicU64::default(),
            begun_bytes: AtomicU64::default(),
            late_bytes: AtomicU64::default(),
            now: AtomicUsize::default(),
            lines,
            long: AtomicUsize::default(),
            few: AtomicUsize::default(),
            most: AtomicUsize::default(),
            pace: Mutex::default(),
        }
    }

    /// Waits for the turn of a whole object. What is small is never stuck behind what is large, and what is smaller still behind
    /// nothing at all.
    pub(super) async fn turn_of_object(&self, length: u64) -> Option<Turn> {
        match length {
            ..TELLING_BYTES => None,
            TELLING_BYTES..=SMALL_MAX_BYTES => Some(self.other_turns.turn(length).await),
            _ => Some(self.turns.turn(length).await),
        }
    }

    /// Waits for the turn of a part, of which there are many.
    pub(super) async fn turn_of_part(&self, length: u64) -> Option<Turn> {
        Some(self.turns.turn(length).await)
    }

    /// Ends when a body of this length that is begun now takes half as long again as others do, and a connection is idle that could
    /// take its place.
    pub(super) async fn is_late(&self, length: u64) {
        let begun = Instant::now();
        loop {
            sleep(LOOK_AGAIN).await;
            let goodput = self.pace().goodput;
            let is_late = goodput.is_some_and(|goodput| {
                begun.elapsed().as_secs_f64() > LATE * length as f64 / goodput
            });
            // Where bodies take no longer than a look, nothing is to be gained.
            let is_worth_it = is_late && begun.elapsed() > 2 * LOOK_AGAIN;
            if is_worth_it && self.turns.are_free() && self.may_send_again(length) {
                return;
            }
        }
    }

    /// Takes so many bytes out of what may cross twice, if there are as many.
    fn may_send_again(&self, length: u64) -> bool {
        let budget = self.begun_bytes.load(Ordering::Relaxed) / LATE_SHARE;
        let budget = budget.max(LATE_MIN_BYTES);
        let taken = |late: u64| Some(late + length).filter(|&late| late <= budget);
        let (store, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.late_bytes.fetch_update(store, fetch, taken).is_ok()
    }

    /// Where connections ride out loss, few of them fill a far line, and more only crowd each other out.
    pub(super) fn need_few(&self, connections: usize) {
        let round_trip = self.pace().round_trip.filter(|took| *took >= FAR);
        if let Some(round_trip) = round_trip {
            self.turns.at_most(connections, round_trip * 2);
            // They end soon; what counts is that not all begin at once.
            let third = connections.div_ceil(3);
            self.other_turns.at_most(third, Duration::ZERO);
            self.abreast.need(third);
            self.few.store(connections, Ordering::Relaxed);
        }
    }

    /// With whom an object of this length shares the line.
    pub(super) fn abreast(&self, length: u64) -> Option<Arc<Abreast>> {
        (length > SMALL_MAX_BYTES).then(|| Arc::clone(&self.abreast))
    }

    /// An object of this length is coming.
    pub(super) fn expect(&self, length: u64) -> Expected {
        self.turns.expect(length)
    }

    /// A turn ends with the body where a few of them fill the line, so that the next begins while the answer is awaited, and with
    /// the answer elsewhere: until then its connection is taken.
    pub(super) fn until_body_or_answer(&self, turn: Option<Turn>) -> (Option<Turn>, Option<Turn>) {
        match self.few.load(Ordering::Relaxed) {
            0 => (None, turn),
            _ => (turn, None),
        }
    }

    pub(super) fn begin(&self, progress: Arc<Progress>, turn: Option<Turn>) -> Sending<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        self.begun_bytes
            .fetch_add(progress.length(), Ordering::Relaxed);
        if progress.length() > SMALL_MAX_BYTES {
            self.long.fetch_add(1, Ordering::Relaxed);
        }
        Sending {
            traffic: self,
            progress,
            begun: Instant::now(),
            arrived: false,
            _turn: turn,
        }
    }

    /// A request with nothing to carry took this long.
    pub(super) fn round_trip(&self, took: Duration) {
        let mut pace = self.pace();
        pace.round_trip = Some(pace.round_trip.map_or(took, |before| before.min(took)));
    }

    /// What one connection carries in bytes a second, as far as anything tells it; None where the store is near.
    pub(super) fn goodput(&self) -> Option<f64> {
        let pace = self.pace();
        let is_far = pace.round_trip.is_some_and(|took| took >= FAR);
        pace.goodput.or(is_far.then_some(PRESUMED_FAR))
    }

    /// Whether one connection is known to carry little.
    pub(super) fn is_slow(&self) -> bool {
        self.goodput().is_some_and(|goodput| goodput < FAST_ENOUGH)
    }

    /// What has gone there so far.
    pub(super) fn leg(&self) -> StoreLeg {
        StoreLeg {
            bytes: self.put_bytes.load(Ordering::Relaxed),
            bytes_again: self.wasted_bytes.load(Ordering::Relaxed),
            connections_max: self.most.load(Ordering::Relaxed),
            bytes_per_second: self.pace().goodput,
            stalls: self.stalls.load(Ordering::Relaxed),
        }
    }

    /// One of the long bodies has come to its end: where few are left and none comes after, the line is theirs.
    fn long_one_ended(&self) {
        let left = self.long.fetch_sub(1, Ordering::Relaxed) - 1;
        let few = self.few.load(Ordering::Relaxed);
        if (1..=few / 2).contains(&left) && self.turns.are_all_begun() {
            self.lines.begin_anew();
        }
    }

    fn measured(&self, bytes: u64, took: Duration) {
        if bytes < TELLING_BYTES || took.is_zero() {
            return;
        }
        let goodput = bytes as f64 / took.as_secs_f64();
        let mut pace = self.pace();
        let before = pace.goodput.unwrap_or(goodput);
        pace.goodput = Some(before + WEIGHT * (goodput - before));
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending<'_> {
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The server says that it has it.
    pub(super) fn arrived(mut self) {
        self.arrived = true;
        let took = self.begun.elapsed().saturating_sub(self.progress.waited());
        self.traffic.measured(self.progress.length(), took);
    }

    /// It came to a stop and is given up.
    pub(super) fn stalled(self) {
        self.traffic.stalls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let traffic = self.traffic;
        traffic.now.fetch_sub(1, Ordering::Relaxed);
        if self.progress.length() > SMALL_MAX_BYTES {
            traffic.long_one_ended();
        }
        let (counter, bytes) = if self.arrived {
            (&traffic.put_bytes, self.progress.length())
        } else {
            (&traffic.wasted_bytes, self.progress.taken())
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }
}
