//! Decides where a fetch goes next: which source, what a lost flight means, how long to be patient. No I/O but a discard.

use rangemap::RangeSet;
use tokio::time::Instant;

use super::{CHANGES_MAX, Fetch, FetchError};
use crate::events::{Event, told};
use crate::origin::OriginError;
use crate::retry::{Attempts, Class, Policy};

/// How a flight sets out.
#[derive(Clone, Copy)]
pub(super) struct Heading {
    pub(super) source: usize,
    pub(super) whole: bool,
    /// Failures that had been counted before.
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
}

/// A flight that ended before its part was whole.
pub(super) struct Lost {
    pub(super) error: FetchError,
    /// Whether it brought anything before.
    pub(super) gained: bool,
    pub(super) heading: Heading,
}

impl Lost {
    /// What trickles below the floor gets nowhere, though it brings something.
    fn is_progress(&self) -> bool {
        self.gained && !matches!(self.error, FetchError::Origin(OriginError::Stalled { .. }))
    }
}

/// Where a fetch stands: its source, what is in flight, and its patience.
pub(super) struct Course {
    pub(super) source: usize,
    /// Why each source was left for good.
    pub(super) left: Vec<Option<String>>,
    /// Only whole files can be had: one stream at a time.
    pub(super) whole: bool,
    pub(super) expected: RangeSet<u64>,
    pub(super) attempts: Attempts,
    pub(super) policy: Policy,
    /// Failures counted so far. Flights that broke together are one.
    pub(super) failures: u32,
    /// How often the file has changed at the source.
    pub(super) changes: u32,
    pub(super) not_before: Option<Instant>,
}

impl Course {
    pub(super) fn new(sources: usize, policy: Policy) -> Self {
        Self {
            source: 0,
            left: vec![None; sources],
            whole: false,
            expected: RangeSet::new(),
            attempts: Attempts::new(policy),
            policy,
            failures: 0,
            changes: 0,
            not_before: None,
        }
    }

    pub(super) fn heading(&self) -> Heading {
        Heading {
            source: self.source,
            whole: self.whole,
            failures: self.failures,
            not_before: self.not_before,
        }
    }

    /// Decides what a lost flight means. True when every other flight has to be dropped too: what they bring is no use.
    pub(super) fn absorb(&mut self, fetch: &Fetch<'_>, lost: Lost) -> Result<bool, FetchError> {
        if lost.heading.source != self.source {
            return Ok(false); // an echo from a source that was left
        }
        let mut anew = false;
        match &lost.error {
            FetchError::Origin(OriginError::IgnoresRange { .. }) if !self.whole => {
                self.whole = true;
                return Ok(true);
            }
            FetchError::Origin(OriginError::Changed { .. }) => {
                fetch.discard()?;
                self.changes += 1;
                anew = true;
            }
            FetchError::Origin(_) | FetchError::TooLarge { .. } => {}
            _ => return Err(lost.error),
        }
        if lost.is_progress() && !anew {
            self.attempts.progressed();
            return Ok(false);
        }
        if lost.heading.failures < self.failures && lost.error.class() == Class::Transient && !anew
        {
            return Ok(false); // it broke together with one that was counted
        }
        let again = lost.error.class() == Class::Transient && self.changes <= CHANGES_MAX;
        let Some(pause) = again.then(|| self.attempts.failed()).flatten() else {
            self.leave(lost.error)?;
            return Ok(anew);
        };
        fetch.observer.event(&Event::Retrying {
            key: fetch.key.clone(),
            why: told(&lost.error),
            pause,
        });
        self.failures += 1;
        self.not_before = Some(Instant::now() + pause);
        self.turn();
        Ok(anew)
    }

    /// Gives a source up for good.
    fn leave(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.left[self.source] = Some(told(&error));
        self.attempts = Attempts::new(self.policy);
        self.not_before = None;
        self.changes = 0;
        self.whole = false;
        if self.turn() || self.left[self.source].is_none() {
            return Ok(());
        }
        let tried: Vec<String> = self.left.iter().flatten().cloned().collect();
        Err(if tried.len() == 1 {
            error
        } else {
            FetchError::NoSource { tried }
        })
    }

    /// Goes on to the next source that was not left; false when there is no other.
    fn turn(&mut self) -> bool {
        let count = self.left.len();
        let others = (1..count).map(|step| (self.source + step) % count);
        let Some(next) = others.into_iter().find(|&other| self.left[other].is_none()) else {
            return false;
        };
        self.source = next;
        self.whole = false;
        true
    }
}
