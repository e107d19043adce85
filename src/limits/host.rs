//! One network host: who may use a connection to it next, and what it has brought.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::climb::Climb;
use super::pace::Pace;
use crate::origin::OriginError;
use crate::report::Link;

/// Long for a client on this machine, and short beside any answer that crosses a border.
const UNTIL_FREE: Duration = Duration::from_millis(2);

/// Who comes before whom: the fewer bytes somebody wants, the sooner, so that small files are never stuck behind large ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u64);

impl Rank {
    /// Sidecars, lists, pointers, and the first look at a file: everything else waits for what they tell.
    pub const FIRST: Self = Self(0);
    /// What only makes sense with a connection that nobody else has a use for.
    pub const LAST: Self = Self(u64::MAX);

    /// A file with so many bytes that nobody has asked for yet.
    pub fn of(bytes: u64) -> Self {
        Self(bytes.clamp(1, u64::MAX - 1))
    }
}

/// One network host.
#[derive(Debug)]
pub struct Host {
    state: Mutex<State>,
    /// The most that it may bring, besides what all together may.
    pub(super) pace: Option<Pace>,
}

#[derive(Debug)]
struct State {
    climb: Climb,
    busy: usize,
    waiting: BinaryHeap<Reverse<(Rank, u64)>>,
    /// Those who wait, by the order in which they came.
    grants: BTreeMap<u64, oneshot::Sender<Admission>>,
    came: u64,
    /// By asset present: bytes that nobody has asked for yet.
    unclaimed: u64,
    paused_until: Option<Instant>,
    round_trip: Option<Duration>,
    told: Link,
}

impl State {
    fn pause(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
    }
}

/// The right to one connection to a host, until it is dropped.
#[derive(Debug)]
pub struct Admission(Arc<Host>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Admission {
    /// Gives the right back after an answer that was read to its end. The client takes a moment to see that the connection is
    /// free again; whoever came before that would open one more.
    pub async fn give_back(self) {
        if self.0.is_crowded() {
            sleep(UNTIL_FREE).await;
        }
    }
}

/// One asset is being fetched from a host, until it is dropped.
#[derive(Debug)]
pub struct Presence {
    host: Arc<Host>,
    unclaimed: u64,
}

impl Presence {
    /// Says how many of the asset's bytes nobody has asked for yet.
    pub fn leave(&mut self, unclaimed: u64) {
        let mut state = self.host.state();
        state.unclaimed = state.unclaimed + unclaimed - self.unclaimed;
        self.unclaimed = unclaimed;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave(0);
    }
}

impl Host {
    pub(super) fn new(cap: usize, remembered: Option<usize>, pace: Option<Pace>) -> Self {
        let state = State {
            climb: Climb::new(cap, remembered, Instant::now()),
            busy: 0,
            waiting: BinaryHeap::new(),
            grants: BTreeMap::new(),
            came: 0,
            unclaimed: 0,
            paused_until: None,
            round_trip: None,
            told: Link::default(),
        };
        Self {
            state: Mutex::new(state),
            pace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an asset among those that share this host's connections.
    pub fn enter(self: &Arc<Self>) -> Presence {
        Presence {
            host: Arc::clone(self),
            unclaimed: 0,
        }
    }

    /// Waits for a connection's turn, and for the end of a pause.
    pub async fn admit(self: &Arc<Self>, rank: Rank) -> Admission {
        let granted = {
            let mut state = self.state();
            let (grant, granted) = oneshot::channel();
            let came = state.came;
            state.came += 1;
            state.waiting.push(Reverse((rank, came)));
            state.grants.insert(came, grant);
            granted
        };
        self.grant();
        let admission = granted.await.expect("who waits is never forgotten");
        while let Some(until) = self.paused() {
            sleep_until(until).await;
        }
        admission
    }

    /// Gives free connections to those who come first.
    fn grant(self: &Arc<Self>) {
        loop {
            let grant = {
                let mut state = self.state();
                if state.busy >= state.climb.allowed() {
                    return;
                }
                let Some(Reverse((_, came))) = state.waiting.pop() else {
                    return;
                };
                let Some(grant) = state.grants.remove(&came) else {
                    continue;
                };
                if grant.is_closed() {
                    continue;
                }
                state.busy += 1;
                state.told.connections_max = state.told.connections_max.max(state.busy);
                grant
            };
            // Who has gone away meanwhile drops it, and that gives it back.
            drop(grant.send(Admission(Arc::clone(self))));
        }
    }

    fn release(self: &Arc<Self>) {
        self.state().busy -= 1;
        self.grant();
    }

    fn is_crowded(&self) -> bool {
        let state = self.state();
        state.busy >= state.climb.allowed()
    }

    /// The connections that are worth having now.
    pub fn connections(&self) -> usize {
        self.state().climb.allowed()
    }

    /// Bytes a second that one connection brings on average; None before the first look.
    pub fn goodput_of_one(&self) -> Option<f64> {
        let state = self.state();
        let all = state.climb.goodput();
        (all > 0.0).then(|| all / state.busy.max(1) as f64)
    }

    /// The shortest time between a request and its answer so far.
    pub fn round_trip(&self) -> Duration {
        self.state().round_trip.unwrap_or_default()
    }

    /// Bytes of all assets present that nobody has asked for yet.
    pub fn unclaimed(&self) -> u64 {
        self.state().unclaimed
    }

    /// Takes note of the time that an answer took.
    pub fn answered(&self, after: Duration) {
        let mut state = self.state();
        state.round_trip = Some(state.round_trip.map_or(after, |least| least.min(after)));
    }

    /// Takes note of bytes that came at a time, and whether a rate held them back; tells how it stands when it has just been
    /// looked at.
    pub fn received(self: &Arc<Self>, bytes: u64, held_back: bool) -> Option<Link> {
        let (looked, raised) = {
            let mut state = self.state();
            let (before, now) = (state.climb.allowed(), Instant::now());
            let wanted =
                state.busy >= before && state.grants.values().any(|grant| !grant.is_closed());
            let round_trip = state.round_trip.unwrap_or_default();
            state.told.bytes += bytes;
            state.climb.count(bytes, held_back);
            let looked = state.climb.look(now, wanted, round_trip);
            let best = state.told.bytes_per_second_max.max(state.climb.goodput());
            state.told.bytes_per_second_max = best;
            (looked, state.climb.allowed() > before)
        };
        if raised {
            self.grant();
        }
        looked.then(|| self.link())
    }

    /// Takes note of what went wrong there: a connection that broke or stalled, or a host that is asked too much.
    pub fn failed(&self, error: &OriginError) {
        let now = Instant::now();
        let mut state = self.state();
        match error {
            OriginError::Status { status, .. } if matches!(status.as_u16(), 429 | 503) => {
                state.told.refusals += 1;
                state.climb.halve(now);
            }
            OriginError::Cut { .. } | OriginError::Unreachable { .. } => {
                state.told.breaks += 1;
                state.climb.trouble(now);
            }
            OriginError::Stalled { .. } => state.told.stalls += 1,
            _ => {}
        }
        if let Some(pause) = error.retry_after() {
            state.pause(now + pause);
        }
    }

    /// Takes note of another connection that was sent after a late part.
    pub fn hedged(&self) {
        self.state().told.hedges += 1;
    }

    /// Takes note that it was first.
    pub fn hedge_won(&self) {
        self.state().told.hedges_won += 1;
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.pace.as_ref().is_some_and(Pace::holds_back)
    }

    fn paused(&self) -> Option<Instant> {
        self.state()
            .paused_until
            .filter(|until| *until > Instant::now())
    }

    /// The connections that are worth having, once that was found out.
    pub(super) fn learnt(&self) -> Option<usize> {
        let state = self.state();
        (state.climb.goodput() > 0.0).then(|| state.climb.allowed())
    }

    /// What it brought so far.
    pub fn link(&self) -> Link {
        let state = self.state();
        Link {
            connections: state.climb.allowed(),
            ..state.told
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn host(connections: usize) -> Arc<Host> {
        Arc::new(Host::new(connections, None, None))
    }

    fn refusal(seconds: u64) -> OriginError {
        OriginError::Status {
            url: "https://dl.k8s.io/".to_owned(),
            status: reqwest::StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(Duration::from_secs(seconds)),
            redirected: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_host_admits_nobody_until_the_pause_ends() {
        let host = host(2);
        host.failed(&refusal(7));
        host.failed(&refusal(3));
        let started = Instant::now();
        host.admit(Rank::FIRST).await;
        assert_eq!(started.elapsed().as_secs(), 7);
    }

    #[tokio::test]
    async fn whoever_wants_least_comes_first() {
        let host = host(1);
        let held = host.admit(Rank::FIRST).await;
        let mut large = Box::pin(host.admit(Rank::of(48_000_000)));
        let mut small = Box::pin(host.admit(Rank::of(4)));
        assert!((&mut large).now_or_never().is_none());
        assert!((&mut small).now_or_never().is_none());
        drop(held);
        assert!((&mut large).now_or_never().is_none());
        let small = small.now_or_never().expect("it comes first");
        drop(small);
        assert!(large.now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_goes_away_takes_no_connection_along() {
        let host = host(1);
        let held = host.admit(Rank::FIRST).await;
        let mut gone = Box::pin(host.admit(Rank::FIRST));
        let mut granted = Box::pin(host.admit(Rank::FIRST));
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut granted).now_or_never().is_none());
        drop(gone);
        drop(held);
        drop(granted);
        assert!(host.admit(Rank::LAST).now_or_never().is_some());
    }

    #[test]
    fn assets_say_what_nobody_has_asked_for() {
        let host = host(64);
        let (mut one, mut other) = (host.enter(), host.enter());
        one.leave(100);
        other.leave(50);
        one.leave(30);
        assert_eq!(host.unclaimed(), 80);
        drop(other);
        assert_eq!(host.unclaimed(), 30);
    }
}
