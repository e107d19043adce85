//! Decides where a fetch goes next: which sources, what a lost flight means, how long to be patient. No I/O but a discard.

use std::sync::Arc;

use tokio::time::Instant;

use super::flight::Flight;
use super::{CHANGES_MAX, Fetch, FetchError};
use crate::events::{Event, told};
use crate::origin::OriginError;
use crate::retry::{Attempts, Class, Policy};

/// A flight that ended before its part was whole.
pub(super) struct Lost {
    pub(super) error: FetchError,
    /// Whether it brought anything before.
    pub(super) gained: bool,
    /// Failures of its source that had been counted when it set out.
    pub(super) failures: u32,
}

impl Lost {
    /// What trickles below the floor gets nowhere, though it brings something.
    fn is_progress(&self) -> bool {
        self.gained && !matches!(self.error, FetchError::Origin(OriginError::Stalled { .. }))
    }
}

/// One source, as a fetch has met it.
#[derive(Debug)]
pub(super) struct Lane {
    /// Why it was left for good.
    left: Option<String>,
    /// Only whole files can be had there: one stream at a time.
    pub(super) whole: bool,
    attempts: Attempts,
    /// Failures counted so far. Flights that broke together are one.
    pub(super) failures: u32,
    /// How often the file has changed there.
    changes: u32,
    pub(super) not_before: Option<Instant>,
    /// A connection has been asked for and has not been granted yet.
    pub(super) is_waiting: bool,
}

impl Lane {
    fn new(policy: Policy) -> Self {
        Self {
            left: None,
            whole: false,
            attempts: Attempts::new(policy),
            failures: 0,
            changes: 0,
            not_before: None,
            is_waiting: false,
        }
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.is_some()
    }
}

/// Where a fetch stands: its sources, and what is in flight.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) lanes: Vec<Lane>,
    /// The source that is asked when only one is.
    pub(super) leader: usize,
    pub(super) flights: Vec<Arc<Flight>>,
    /// Bytes that late parts may have made cross twice.
    pub(super) late_bytes: u64,
}

impl Course {
    pub(super) fn new(sources: usize, policy: Policy) -> Self {
        Self {
            lanes: (0..sources).map(|_| Lane::new(policy)).collect(),
            leader: 0,
            flights: Vec::new(),
            late_bytes: 0,
        }
    }

    /// Whether no source is left that gives parts.
    pub(super) fn is_whole(&self) -> bool {
        self.lanes.iter().all(|lane| lane.whole || lane.is_left())
    }

    /// Whether a source may be asked for parts now, beside the others.
    pub(super) fn gives_parts(&self, source: usize) -> bool {
        let lane = &self.lanes[source];
        !lane.whole && !lane.is_left()
    }

    pub(super) fn ended(&mut self, flight: &Arc<Flight>) {
        self.flights.retain(|other| !Arc::ptr_eq(other, flight));
        if let Some(chased) = &flight.chases {
            chased.chase_ended();
        }
    }

    /// A source answered with the whole file where a part was asked for.
    pub(super) fn gives_only_whole(&mut self, source: usize) {
        self.lanes[source].whole = true;
        self.turn(source);
    }

    pub(super) fn progressed(&mut self, source: usize) {
        self.lanes[source].attempts.progressed();
    }

    /// Decides what a lost flight means. True when every other flight has to be dropped too: what they bring is no use.
    pub(super) fn absorb(
        &mut self,
        fetch: &Fetch<'_>,
        source: usize,
        lost: Lost,
    ) -> Result<bool, FetchError> {
        let lane = &mut self.lanes[source];
        if lane.is_left() {
            return Ok(false); // an echo from a source that was left
        }
        let mut anew = false;
        match &lost.error {
            FetchError::Origin(OriginError::IgnoresRange { .. }) if !lane.whole => {
                self.gives_only_whole(source);
                return Ok(self.is_whole());
            }
            FetchError::Origin(OriginError::Changed { .. }) => {
                fetch.discard()?;
                lane.changes += 1;
                anew = true;
            }
            FetchError::Origin(_) | FetchError::TooLarge { .. } => {}
            _ => return Err(lost.error),
        }
        if lost.is_progress() && !anew {
            lane.attempts.progressed();
            return Ok(false);
        }
        if lost.failures < lane.failures && lost.error.class() == Class::Transient && !anew {
            return Ok(false); // it broke together with one that was counted
        }
        let again = lost.error.class() == Class::Transient && lane.changes <= CHANGES_MAX;
        let Some(pause) = again.then(|| lane.attempts.failed()).flatten() else {
            self.leave(source, lost.error)?;
            return Ok(anew);
        };
        fetch.observer.event(&Event::Retrying {
            key: fetch.key.clone(),
            why: told(&lost.error),
            pause,
        });
        lane.failures += 1;
        lane.not_before = Some(Instant::now() + pause);
        self.turn(source);
        Ok(anew)
    }

    /// Gives a source up for good.
    fn leave(&mut self, source: usize, error: FetchError) -> Result<(), FetchError> {
        self.lanes[source].left = Some(told(&error));
        self.turn(source);
        if self.lanes.iter().any(|lane| !lane.is_left()) {
            return Ok(());
        }
        let tried: Vec<String> = self
            .lanes
            .iter_mut()
            .filter_map(|lane| lane.left.take())
            .collect();
        Err(if tried.len() == 1 {
            error
        } else {
            FetchError::NoSource { tried }
        })
    }

    /// Another source leads from here on, one that gives parts if there is one.
    fn turn(&mut self, from: usize) {
        if self.leader != from {
            return;
        }
        let count = self.lanes.len();
        let others = (1..=count).map(|step| (from + step) % count);
        let not_left = others.filter(|&other| !self.lanes[other].is_left());
        if let Some(next) = not_left.min_by_key(|&other| self.lanes[other].whole) {
            self.leader = next;
        }
    }
}
