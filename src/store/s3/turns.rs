//! Lets so many long bodies go at a time; the longest of those that wait is next.
//!
//! What is longest takes longest: begun last, it would have the line to itself in the end and not fill it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

/// Who was expected and is there asks for a turn within this time.
const UNTIL_ASKED: Duration = Duration::from_millis(10);

/// The turns that are to be had.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// Told when something that was expected is there, or won't come.
    came: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    most: usize,
    taken: usize,
    asked: u64,
    waiting: BinaryHeap<Waiting>,
    /// By length, how many that will want a turn.
    expected: BTreeMap<u64, usize>,
    /// How long a free turn is left to a longer one that is expected.
    patience: Duration,
}

impl State {
    fn expects_longer(&self, length: u64) -> bool {
        let longest = self.expected.last_key_value();
        longest.is_some_and(|(&longest, _)| longest > length)
    }
}

/// A body of some length that will want a turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Expected {
    turns: Arc<Turns>,
    length: u64,
}

/// The right to send one body, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Turns>>);

/// Ordered by length, and by who came first.
#[derive(Debug)]
struct Waiting {
    rank: (u64, Reverse<u64>),
    turn: oneshot::Sender<Turn>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Turns {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                most: most.max(1),
                taken: 0,
                asked: 0,
                waiting: BinaryHeap::new(),
                expected: BTreeMap::new(),
                patience: Duration::ZERO,
            }),
            came: watch::Sender::new(()),
        })
    }

    /// No more than so many from now on; who has a turn keeps it. A free one is left for so long to a longer body that is expected.
    pub(super) fn at_most(&self, most: usize, patience: Duration) {
        let mut state = self.state();
        state.most = most.max(1);
        state.patience = patience;
    }

    /// A body of this length will want a turn.
    pub(super) fn expect(self: &Arc<Self>, length: u64) -> Expected {
        *self.state().expected.entry(length).or_default() += 1;
        Expected {
            turns: Arc::clone(self),
            length,
        }
    }

    /// Whether nobody is left to begin.
    pub(super) fn are_all_begun(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Whether somebody could have one at once.
    pub(super) fn are_free(&self) -> bool {
        let state = self.state();
        state.taken < state.most && state.waiting.is_empty()
    }

    /// Waits for the turn of a body of this length.
    pub(super) async fn turn(self: &Arc<Self>, length: u64) -> Turn {
        self.let_longer_come(length).await;
        let waiting = {
            let mut state = self.state();
            if state.taken < state.most {
                state.taken += 1;
                return Turn(Some(Arc::clone(self)));
            }
            let (turn, waiting) = oneshot::channel();
            state.asked += 1;
            let rank = (length, Reverse(state.asked));
            state.waiting.push(Waiting { rank, turn });
            waiting
        };
        waiting.await.expect("turns are given to all who wait")
    }

    /// Waits a moment for longer ones that are expected: who fetches them all at once gets the short ones first.
    async fn let_longer_come(&self, length: u64) {
        let until = Instant::now() + self.state().patience;
        let mut came = self.came.subscribe();
        while self.state().expects_longer(length) {
            if timeout_at(until, came.changed()).await.is_err() {
                return;
            }
            sleep(UNTIL_ASKED).await;
        }
    }

    /// Gives a turn that is over to the next who still waits for one.
    fn pass_on(self: &Arc<Self>) {
        let mut state = self.state();
        while state.taken <= state.most {
            let Some(next) = state.waiting.pop() else {
                break;
            };
            match next.turn.send(Turn(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // It was given up. What comes back is no turn to be passed on once more.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.taken -= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if let Some(count) = state.expected.get_mut(&self.length) {
            *count -= 1;
            if *count == 0 {
                state.expected.remove(&self.length);
            }
        }
        drop(state);
        self.turns.came.send_replace(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_longest_of_those_who_wait_is_next() {
        let turns = Turns::new(1);
        let first = turns.turn(1).await;
        let (mut short, mut long) = (Box::pin(turns.turn(5)), Box::pin(turns.turn(50)));
        assert!(short.as_mut().now_or_never().is_none());
        assert!(long.as_mut().now_or_never().is_none());
        drop(first);
        assert!(short.as_mut().now_or_never().is_none());
        let long = long.as_mut().now_or_never().unwrap();
        assert!(!turns.are_free());
        drop(long);
        drop(short.as_mut().now_or_never().unwrap());
        assert!(turns.are_free());
    }

    #[tokio::test]
    async fn who_gives_up_holds_nobody_up() {
        let turns = Turns::new(1);
        let first = turns.turn(1).await;
        let (mut waits, mut leaves) = (Box::pin(turns.turn(5)), Box::pin(turns.turn(50)));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(leaves.as_mut().now_or_never().is_none());
        drop(leaves);
        drop(first);
        let mut late = Box::pin(turns.turn(9));
        assert!(late.as_mut().now_or_never().is_none());
        // It has its turn already and goes without having noticed.
        drop(waits);
        drop(late.as_mut().now_or_never().unwrap());
        assert!(turns.are_free());
    }

    #[tokio::test]
    async fn fewer_turns_are_given_as_those_taken_end() {
        let turns = Turns::new(2);
        let (first, second) = (turns.turn(1).await, turns.turn(1).await);
        turns.at_most(1, Duration::ZERO);
        let mut third = Box::pin(turns.turn(1));
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_turn_is_left_for_a_moment_to_a_longer_one_that_is_expected() {
        const MOMENT: Duration = Duration::from_millis(400);
        let turns = Turns::new(2);
        turns.at_most(1, MOMENT);
        let (long, longer) = (turns.expect(50), turns.expect(60));
        let mut short = Box::pin(turns.turn(5));
        assert!(short.as_mut().now_or_never().is_none());
        drop(long);
        assert!(short.as_mut().now_or_never().is_none());
        drop(longer);
        let turn = turns.turn(60).await;
        assert!(short.as_mut().now_or_never().is_none());
        drop(turn);
        drop(short.await);

        let _never = turns.expect(60);
        let asked = Instant::now();
        turns.turn(5).await;
        assert_eq!(asked.elapsed(), MOMENT);
        turns.turn(60).await;
        assert_eq!(asked.elapsed(), MOMENT);
    }
}
