//! Finds how many connections to a host are worth having, by climbing on the goodput of all of them together.
//!
//! Over a lossy link each connection carries only so much, and twice as many carry twice as much; over a clean one a few fill it
//! and more only crowd each other. So the number doubles for as long as the goodput grows with it, goes back to where it last
//! helped, and is tried again from time to time. Latency tells nothing here: a link that loses at random shows no queue.
//!
//! Pure: the clock is the caller's.

use std::time::Duration;

use tokio::time::Instant;

/// Where a climb begins that nothing is remembered of: the first look then comes while most of them are still in slow start.
const START: usize = 32;

/// A raise that brings less than this was for nothing.
const GAIN_MIN: f64 = 1.05;

/// So many looks in a row must find no gain: one alone may have met a burst of losses.
const LOOKS_WITHOUT_GAIN: u32 = 2;

/// What falls so far below its settled goodput has met another link than it settled on, or settled on slow start's first rush.
const WORSE: f64 = 0.7;

/// A link changes over minutes; a raise for nothing costs little.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// The host had enough of us: it is left at less for this long.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// Shorter, and a look sees single packets; longer, and a short run is over before the climb.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// Bytes that come so many at a time have waited for us.
const WAITED_BYTES: u64 = 128 << 10;

/// Where nearly all have waited, it is we who are slow: more connections bring nothing, and what waits in each is memory.
const WAITED_SHARE: f64 = 0.9;

/// A pause of the disk is over sooner than this, and the memory of all connections is not yet full.
const NARROW_AFTER: Duration = Duration::from_millis(100);

/// So few keep any reader busy.
const NARROW_MIN: usize = 8;

/// How the climb stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Raised from `from` connections, which brought `goodput`; so many looks have seen no gain.
    Rising {
        from: usize,
        goodput: f64,
        looks: u32,
    },
    /// Left as it is until then, unless it becomes worse than `goodput`.
    Settled { goodput: f64, until: Instant },
}

/// The number of connections to one host.
#[derive(Debug)]
pub(super) struct Climb {
    cap: usize,
    allowed: usize,
    state: State,
    looked: Instant,
    bytes: u64,
    troubles: usize,
    goodput: f64,
    reading: Reading,
}

/// How what came was read, since the last look at that.
#[derive(Debug, Clone, Copy)]
struct Reading {
    since: Instant,
    bytes: u64,
    waited_bytes: u64,
}

impl Reading {
    fn since(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            waited_bytes: 0,
        }
    }

    fn is_slow(&self) -> bool {
        self.bytes > 0 && self.waited_bytes as f64 >= self.bytes as f64 * WAITED_SHARE
    }
}

impl Climb {
    /// At most `cap` connections; `remembered` is where an earlier run came to.
    pub(super) fn new(cap: usize, remembered: Option<usize>, now: Instant) -> Self {
        let cap = cap.max(1);
        let allowed = remembered.unwrap_or(START).clamp(1, cap);
        Self {
            cap,
            allowed,
            state: State::Rising {
                from: allowed,
                goodput: 0.0,
                looks: 0,
            },
            looked: now,
            bytes: 0,
            troubles: 0,
            goodput: 0.0,
            reading: Reading::since(now),
        }
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Bytes a second at the last look.
    pub(super) fn goodput(&self) -> f64 {
        self.goodput
    }

    /// Takes note of bytes that came at a time; `held_back` by a rate, they waited because they had to.
    pub(super) fn count(&mut self, bytes: u64, held_back: bool) {
        self.bytes += bytes;
        self.reading.bytes += bytes;
        if bytes >= WAITED_BYTES && !held_back {
            self.reading.waited_bytes += bytes;
        }
    }

    /// Looks at what came since the last look, when that was long enough ago. `wanted` says that more connections would have
    /// been used had they been allowed; `round_trip` is the host's. False when it is too soon.
    pub(super) fn look(&mut self, now: Instant, wanted: bool, round_trip: Duration) -> bool {
        self.narrow(now);
        let elapsed = now.duration_since(self.looked);
        if elapsed < LOOK_MIN.max(round_trip * 4) {
            return false;
        }
        self.goodput = self.bytes as f64 / elapsed.as_secs_f64();
        (self.looked, self.bytes, self.troubles) = (now, 0, 0);
        if wanted {
            self.step(now);
        }
        true
    }

    /// Halves the number where it is we who are slow.
    fn narrow(&mut self, now: Instant) {
        if now.duration_since(self.reading.since) < NARROW_AFTER {
            return;
        }
        if self.reading.is_slow() && self.allowed > NARROW_MIN {
            self.allowed = (self.allowed / 2).max(NARROW_MIN);
            // What has settled stays so: a host that had enough of us is left alone for as long as before.
            if matches!(self.state, State::Rising { .. }) {
                self.state = State::Rising {
                    from: self.allowed,
                    goodput: 0.0,
                    looks: 0,
                };
            }
        }
        self.reading = Reading::since(now);
    }

    fn step(&mut self, now: Instant) {
        match self.state {
            State::Rising { goodput, .. } if self.goodput > goodput * GAIN_MIN => {
                self.raise(self.allowed * 2);
            }
            State::Rising {
                from,
                goodput,
                looks,
            } if looks + 1 < LOOKS_WITHOUT_GAIN => {
                let looks = looks + 1;
                self.state = State::Rising {
                    from,
                    goodput,
                    looks,
                };
            }
            State::Rising { from, goodput, .. } => {
                self.allowed = from;
                self.state = State::Settled {
                    goodput,
                    until: now + TRY_AGAIN_AFTER,
                };
            }
            State::Settled { goodput, until } => {
                if self.goodput < goodput * WORSE || now >= until {
                    self.raise(self.allowed + self.allowed.div_ceil(2));
                }
            }
        }
    }

    fn raise(&mut self, to: usize) {
        self.state = State::Rising {
            from: self.allowed,
            goodput: self.goodput,
            looks: 0,
        };
        self.allowed = to.min(self.cap);
    }

    /// A connection was reset or could not be made. One in a while is the link's doing; many at once are the host's.
    pub(super) fn trouble(&mut self, now: Instant) {
        self.troubles += 1;
        if self.troubles >= (self.allowed / 4).max(4) {
            self.halve(now);
        }
    }

    /// The host said that it is asked too much (429, 503). What is said many times at once is heard once.
    pub(super) fn halve(&mut self, now: Instant) {
        let heard_already = matches!(self.state, State::Settled { until, .. } if until > now + AFTER_REFUSAL - LOOK_MIN);
        self.troubles = 0;
        if heard_already {
            return;
        }
        self.allowed = (self.allowed / 2).max(1);
        self.state = State::Settled {
            goodput: 0.0,
            until: now + AFTER_REFUSAL,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(200);

    /// Lets a link with this goodput by connections run for so many seconds.
    fn run(climb: &mut Climb, now: &mut Instant, seconds: u64, link: impl Fn(usize) -> u64) {
        for _ in 0..seconds {
            *now += Duration::from_secs(1);
            climb.count(link(climb.allowed()), true);
            climb.look(*now, true, ROUND_TRIP);
        }
    }

    fn lossy(connections: usize) -> u64 {
        connections as u64 * 87_000
    }

    fn clean(connections: usize) -> u64 {
        lossy(connections).min(40 * 87_000)
    }

    #[test]
    fn it_climbs_to_the_cap_for_as_long_as_that_helps() {
        let mut now = Instant::now();
        let mut climb = Climb::new(160, None, now);
        run(&mut climb, &mut now, 4, lossy);
        assert_eq!(climb.allowed(), 160);
        run(&mut climb, &mut now, 60, lossy);
        assert!(climb.allowed() >= 128, "{}", climb.allowed());
    }

    #[test]
    fn it_goes_back_to_what_fills_the_link() {
        let mut now = Instant::now();
        let mut climb = Climb::new(512, None, now);
        run(&mut climb, &mut now, 10, clean);
        assert_eq!(climb.allowed(), 64);
        run(&mut climb, &mut now, 10, clean);
        assert_eq!(climb.allowed(), 64);
    }

    #[test]
    fn it_climbs_again_where_it_settled_on_a_rush() {
        let mut now = Instant::now();
        let mut climb = Climb::new(256, None, now);
        run(&mut climb, &mut now, 4, |_| 12_500_000);
        assert_eq!(climb.allowed(), 32);
        run(&mut climb, &mut now, 6, lossy);
        assert_eq!(climb.allowed(), 256);
    }

    #[test]
    fn it_begins_where_an_earlier_run_came_to() {
        let now = Instant::now();
        assert_eq!(Climb::new(64, Some(48), now).allowed(), 48);
        assert_eq!(Climb::new(16, Some(48), now).allowed(), 16);
        assert_eq!(Climb::new(16, Some(0), now).allowed(), 1);
    }

    #[test]
    fn a_refusal_halves_it_once_however_many_hear_it() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        for _ in 0..20 {
            climb.halve(now);
        }
        assert_eq!(climb.allowed(), 32);
        now += Duration::from_secs(2);
        climb.halve(now);
        assert_eq!(climb.allowed(), 16);
        run(&mut climb, &mut now, 20, lossy);
        assert_eq!(climb.allowed(), 16);
        run(&mut climb, &mut now, 30, lossy);
        assert!(climb.allowed() > 16);
    }

    #[test]
    fn one_reset_a_second_is_the_links_doing_and_many_are_the_hosts() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        for _ in 0..10 {
            climb.trouble(now);
            run(&mut climb, &mut now, 1, lossy);
        }
        assert_eq!(climb.allowed(), 64);
        for _ in 0..16 {
            climb.trouble(now);
        }
        assert_eq!(climb.allowed(), 32);
    }

    #[test]
    fn what_nobody_wanted_teaches_nothing() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(8), now);
        for _ in 0..10 {
            now += Duration::from_secs(1);
            climb.count(1, false);
            climb.look(now, false, ROUND_TRIP);
        }
        assert_eq!(climb.allowed(), 8);
    }

    /// Lets bytes come so many at a time for some tenths of a second.
    fn read(climb: &mut Climb, now: &mut Instant, tenths: u32, at_a_time: u64, held_back: bool) {
        for _ in 0..tenths {
            for _ in 0..100 {
                climb.count(at_a_time, held_back);
            }
            *now += Duration::from_millis(100);
            climb.look(*now, true, Duration::ZERO);
        }
    }

    #[test]
    fn fewer_are_enough_where_we_are_slow() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        read(&mut climb, &mut now, 2, 400_000, false);
        assert_eq!(climb.allowed(), 16);
        read(&mut climb, &mut now, 7, 400_000, false);
        assert_eq!(climb.allowed(), 8);
    }

    #[test]
    fn a_refusal_is_not_forgotten_because_we_are_slow() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        climb.halve(now);
        read(&mut climb, &mut now, 1, 400_000, false);
        assert_eq!(climb.allowed(), 16);
        run(&mut climb, &mut now, 20, lossy);
        assert_eq!(climb.allowed(), 16);
        run(&mut climb, &mut now, 20, lossy);
        assert!(climb.allowed() > 16);
    }

    #[test]
    fn what_a_rate_holds_back_does_not_make_us_slow() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        read(&mut climb, &mut now, 8, 400_000, true);
        assert_eq!(climb.allowed(), 64);
    }

    #[test]
    fn after_a_pause_of_ours_it_climbs_again() {
        let mut now = Instant::now();
        let mut climb = Climb::new(64, Some(64), now);
        read(&mut climb, &mut now, 3, 400_000, false);
        assert_eq!(climb.allowed(), 8);
        run(&mut climb, &mut now, 6, lossy);
        assert!(climb.allowed() >= 48, "{}", climb.allowed());
    }
}
