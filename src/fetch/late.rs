//! Finds the flight that will end last, and what another connection should bring in its place.
//!
//! Connections over a lossy link differ: at the end of a file some have far to go while others have nothing left to do. One
//! that still moves is cut short, and what lies behind is asked for by another; it costs what was under way to the one that
//! is cut. One that has fallen silent (a retransmission that was lost as well backs off for seconds) is hedged: its rest is
//! asked for a second time, and whoever is first wins; where that is long it is taken away. All of it costs bytes that cross
//! twice, so there is a budget.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::Flight;

/// Shorter parts are not cut: what that costs is as much as it gains.
const CUT_MIN_BYTES: u64 = 64 << 10;

/// What is longer is not asked for twice.
const HEDGED_MAX_BYTES: u64 = 64 << 10;

/// What crosses of a connection that is cut when the receiver has said nothing yet, at least.
const UNDER_WAY_MIN_BYTES: u64 = 16 << 10;

/// What another connection can be expected to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Another {
    /// Bytes a second.
    pub(super) goodput: f64,
    pub(super) round_trip: Duration,
    /// Silence that is longer is no pause between packets, whatever the round trip; what ends sooner by half of it is worth a
    /// request.
    pub(super) patience: Duration,
}

/// A part that another connection is to bring.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) flight: Arc<Flight>,
    pub(super) part: Range<u64>,
    /// Its flight goes on as well, up to the same end.
    pub(super) is_hedge: bool,
    /// Bytes that may cross twice.
    pub(super) cost_bytes: u64,
}

/// The part whose end is furthest away and that another connection would bring sooner, at a cost within `budget_bytes`.
pub(super) fn last(
    flights: &[Arc<Flight>],
    another: Another,
    budget_bytes: u64,
    now: Instant,
) -> Option<Late> {
    let candidates = flights
        .iter()
        .filter(|flight| !flight.is_whole() && !flight.is_chased());
    let late = candidates.filter_map(|flight| candidate(flight, another, now));
    late.filter(|(_, late)| late.cost_bytes <= budget_bytes)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, late)| late)
}

/// The flight that holds up everything behind it, when it has fallen silent.
pub(super) fn head(
    flights: &[Arc<Flight>],
    frontier: u64,
    another: Another,
    budget_bytes: u64,
    now: Instant,
) -> Option<Late> {
    let at_head = |flight: &&Arc<Flight>| flight.rest().start <= frontier && !flight.is_chased();
    let flight = flights
        .iter()
        .filter(|flight| !flight.is_whole())
        .find(at_head)?;
    if flight.silence(now) < 2 * silence(another) {
        return None;
    }
    let late = after_silence(flight);
    (late.cost_bytes <= budget_bytes && !late.part.is_empty()).then_some(late)
}

fn silence(another: Another) -> Duration {
    another.patience.max(another.round_trip * 4)
}

/// A short rest is asked for a second time, and whoever is first wins; a long one is taken away.
fn after_silence(flight: &Arc<Flight>) -> Late {
    let part = flight.rest();
    let length = part.end - part.start;
    let is_hedge = length <= HEDGED_MAX_BYTES;
    Late {
        flight: Arc::clone(flight),
        part,
        is_hedge,
        cost_bytes: if is_hedge {
            length
        } else {
            UNDER_WAY_MIN_BYTES
        },
    }
}

/// What to do about one flight, and how many seconds it would take without.
fn candidate(flight: &Arc<Flight>, another: Another, now: Instant) -> Option<(f64, Late)> {
    let rest = flight.rest();
    let bytes = (rest.end - rest.start) as f64;
    if rest.is_empty() || another.goodput <= 0.0 {
        return None;
    }
    // Nothing is known yet of one that has only just begun.
    if flight.age(now) < another.patience.max(another.round_trip * 4) {
        return None;
    }
    let goodput = flight.goodput(now).max(1.0);
    let seconds = bytes / goodput;
    let reach = 2.0 * another.round_trip.as_secs_f64();
    if flight.silence(now) >= silence(another) {
        let sooner = reach + bytes / another.goodput;
        return (sooner < seconds).then(|| (seconds, after_silence(flight)));
    }
    // Both ends meet when each has brought its share.
    let share = (seconds - reach) / (1.0 / another.goodput + 1.0 / goodput);
    let gain = seconds - (bytes - share) / goodput;
    if share < CUT_MIN_BYTES as f64 || gain < another.patience.as_secs_f64() / 2.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shares are of parts"
    )]
    let (share, under_way) = (
        share as u64,
        (goodput * another.round_trip.as_secs_f64()).max(UNDER_WAY_MIN_BYTES as f64) as u64,
    );
    let late = Late {
        flight: Arc::clone(flight),
        part: rest.end - share..rest.end,
        is_hedge: false,
        cost_bytes: under_way,
    };
    Some((seconds, late))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANOTHER: Another = Another {
        goodput: 87_000.0,
        round_trip: Duration::from_millis(200),
        patience: Duration::from_secs(1),
    };

    fn flight(part: Range<u64>) -> Arc<Flight> {
        Arc::new(Flight::new(0, false, part, None))
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_that_moves_is_cut_where_both_would_meet() {
        let (slow, fast) = (flight(0..1_000_000), flight(1_000_000..1_300_000));
        tokio::time::advance(Duration::from_secs(5)).await;
        slow.brought_up_to(100_000);
        fast.brought_up_to(1_250_000);
        let late = last(&[fast, slow], ANOTHER, u64::MAX, Instant::now()).unwrap();
        assert!(!late.is_hedge);
        assert_eq!(late.part.end, 1_000_000);
        // 20,000 bytes a second against 87,000: what is left is shared in that proportion.
        assert!((270_000..290_000).contains(&late.part.start), "{late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_only_just_begun_is_not_late() {
        let begun = flight(0..1_000_000);
        tokio::time::advance(Duration::from_millis(700)).await;
        begun.brought_up_to(1);
        assert!(last(&[begun], ANOTHER, u64::MAX, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_is_asked_for_again_whole() {
        let (silent, done) = (flight(0..60_000), flight(60_000..120_000));
        tokio::time::advance(Duration::from_secs(3)).await;
        done.brought_up_to(120_000);
        let late = last(&[silent, done], ANOTHER, 60_000, Instant::now()).unwrap();
        assert!(late.is_hedge);
        assert_eq!(late.part, 0..60_000);
        assert_eq!(late.cost_bytes, 60_000);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_our_disk_is_not_silent() {
        let waiting = flight(0..60_000);
        waiting.is_heard();
        tokio::time::advance(Duration::from_secs(9)).await;
        let flights = [waiting];
        assert!(super::head(&flights, 0, ANOTHER, u64::MAX, Instant::now()).is_none());
        flights[0].brought_up_to(10);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(super::head(&flights, 10, ANOTHER, u64::MAX, Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_soon_or_is_chased_or_costs_too_much_is_left_alone() {
        let soon = flight(0..100_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        soon.brought_up_to(90_000);
        assert!(last(&[soon], ANOTHER, u64::MAX, Instant::now()).is_none());

        let silent = flight(0..60_000);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(last(&[Arc::clone(&silent)], ANOTHER, 50_000, Instant::now()).is_none());
        let chaser = Flight::new(0, false, 0..60_000, Some(Arc::clone(&silent)));
        assert!(last(&[Arc::clone(&silent)], ANOTHER, u64::MAX, Instant::now()).is_none());
        chaser.chases.unwrap().chase_ended();
        assert!(last(&[silent], ANOTHER, u64::MAX, Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_is_hedged_only_when_it_is_silent() {
        let (head, next) = (flight(0..1_000_000), flight(1_000_000..2_000_000));
        tokio::time::advance(Duration::from_secs(3)).await;
        next.brought_up_to(1_500_000);
        let flights = [next, head];
        let late = super::head(&flights, 0, ANOTHER, u64::MAX, Instant::now()).unwrap();
        assert_eq!(late.part, 0..1_000_000);
        assert!(!late.is_hedge);
        flights[1].brought_up_to(10);
        assert!(super::head(&flights, 10, ANOTHER, u64::MAX, Instant::now()).is_none());
    }
}
