//! Lets so many long bodies go at a time; the longest of those that wait is next.
//!
//! What is longest takes longest: begun last, it would have the line to itself in the end and not fill it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The turns that are to be had.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    most: usize,
    taken: usize,
    asked: u64,
    waiting: BinaryHeap<Waiting>,
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
        Arc::new(Self(Mutex::new(State {
            most: most.max(1),
            taken: 0,
            asked: 0,
            waiting: BinaryHeap::new(),
        })))
    }

    /// No more than so many from now on; who has a turn keeps it.
    pub(super) fn at_most(&self, most: usize) {
        self.state().most = most.max(1);
    }

    /// Whether somebody could have one at once.
    pub(super) fn are_free(&self) -> bool {
        let state = self.state();
        state.taken < state.most && state.waiting.is_empty()
    }

    /// Waits for the turn of a body of this length.
    pub(super) async fn turn(self: &Arc<Self>, length: u64) -> Turn {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        turns.at_most(1);
        let mut third = Box::pin(turns.turn(1));
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.as_mut().now_or_never().is_some());
    }
}
