//! Brings an asset's missing ranges into its spool, from any of its sources, over as many connections as it may use.
//!
//! One loop launches *flights*, each a request for a part. What a flight brought stays when it breaks; the loop only ever asks
//! for gaps, so nothing that arrived is asked for again. Retries count failures without progress ([`crate::retry`]); a source
//! that says no for good is left, and the next takes over. All of it is one future: dropping it stops everything.

mod bring;
mod course;
mod flight;
mod late;
mod tally;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use rangemap::RangeSet;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::course::Course;
use self::flight::Flight;
use self::late::{Another, Late};
pub use self::tally::Tally;
use crate::asset::Key;
use crate::digest::Digest;
use crate::events::{Event, Observer};
use crate::limits::{Admission as HostAdmission, Host, Limits, Presence, Rank};
use crate::origin::{OriginError, Origins, Source};
use crate::retry::{Class, Policy};
use crate::spool::{Reservation, Spool, SpoolFolder};
use crate::store::SINGLE_PART_MAX_BYTES;

/// A chunk is small enough that every connection has work and a lost one costs little, and large enough that the round trip
/// between two of them is noise.
const CHUNK_MIN_BYTES: u64 = 1 << 20;
const CHUNK_MAX_BYTES: u64 = 8 << 20;

/// The last parts are smaller, so that all connections end at about the same time.
const CHUNK_LAST_BYTES: u64 = 64 << 10;

/// A hundredth of a file, and a little for small ones, may cross twice so that its end comes sooner.
const LATE_SHARE: u64 = 100;
const LATE_MIN_BYTES: u64 = 64 << 10;

/// So often it is looked whether a flight has become late.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// So often may a file change at one source, there and back, before that source is no use.
const CHANGES_MAX: u32 = 4;

/// So many changes of an ETag are believed. Many servers behind one name may disagree on it about one file: the digest decides.
const ETAG_CHANGES_MAX: u32 = 2;

/// Written and noted at a time, when as much is there.
const WRITE_BYTES: usize = 64 << 10;

/// Why an asset's bytes could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("none of the {} sources brought it: {}", tried.len(), tried.join("; "))]
    /// Each was left for good; why, in their order.
    NoSource { tried: Vec<String> },
    #[error("can't write to the spool folder {folder}; is there room, and the right to write?")]
    Spool { folder: String, source: io::Error },
    #[error(
        "the spool folder {folder} has {available_bytes} bytes free where {needed_bytes} are needed; \
         free some, or choose another with --spool DIR"
    )]
    DiskFull {
        folder: String,
        needed_bytes: u64,
        available_bytes: u64,
    },
    #[error(
        "it has {length} bytes; no single-part object can be larger than {SINGLE_PART_MAX_BYTES} bytes (5 GiB)"
    )]
    TooLarge { length: u64 },
}

impl FetchError {
    fn class(&self) -> Class {
        match self {
            Self::Origin(error) => error.class(),
            _ => Class::Permanent,
        }
    }
}

/// What a fetch needs to know and to have.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    pub key: &'a Key,
    /// In the order to try them.
    pub sources: &'a [Source],
    pub spool: &'a Arc<Spool>,
    pub folder: &'a SpoolFolder,
    pub origins: &'a Origins,
    pub limits: &'a Limits,
    pub policy: Policy,
    pub observer: &'a Arc<dyn Observer>,
    pub tally: &'a Arc<Tally>,
    /// Told the whole file's MD5 as soon as a source's transport tells it: an extra check, and known before the last byte.
    pub foretold_md5: &'a watch::Sender<Option<Digest>>,
}

/// What the flights of one fetch share.
#[derive(Debug, Default)]
struct Shared {
    /// The strong validator that each source answered with, and how often it has changed.
    validators: Mutex<HashMap<usize, (String, u32)>>,
    /// Which source told the length, if one of this fetch did.
    told_length: Mutex<Option<usize>>,
    reservation: Mutex<Option<Reservation>>,
}

impl Shared {
    /// Whether a source's validator shows another file than before, and may be believed.
    fn is_another(&self, source: usize, etag: &str) -> bool {
        let mut validators = locked(&self.validators);
        let (before, changes) = validators
            .entry(source)
            .or_insert_with(|| (etag.to_owned(), 0));
        if before == etag || *changes == ETAG_CHANGES_MAX {
            return false;
        }
        etag.clone_into(before);
        *changes += 1;
        true
    }

    /// What a source told that was left for good contradicts nobody any more.
    fn forget_length_of(&self, course: &Course) {
        let mut told = locked(&self.told_length);
        if told.is_some_and(|source| course.lanes[source].is_left()) {
            *told = None;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the flights under way are to bring.
fn expected(course: &Course) -> RangeSet<u64> {
    let flights = course.flights.iter();
    let parts = flights.map(|flight| flight.start()..flight.end().max(flight.start()));
    parts.filter(|part| !part.is_empty()).collect()
}

/// Sends a flight after a late one.
fn chase(course: &mut Course, host: &Host, source: usize, late: Late) -> Arc<Flight> {
    course.late_bytes += late.cost_bytes;
    host.hedged();
    let chased = late.is_hedge.then(|| Arc::clone(&late.flight));
    if !late.is_hedge {
        late.flight.shorten(late.part.start);
        if late.flight.rest().is_empty() {
            late.flight.needless.cancel();
        }
    }
    Arc::new(Flight::new(source, false, late.part, chased))
}

/// A whole spool, and what was learnt on the way.
#[derive(Debug)]
pub struct Fetched {
    /// Keep it for as long as the spool is used.
    pub reservation: Option<Reservation>,
}

impl Fetch<'_> {
    /// Brings whatever is missing. When it returns, the spool is whole, though not yet verified. An error means that every source
    /// was left for good, or that the spool can't be written; what has arrived stays there.
    pub async fn fill(&self) -> Result<Fetched, FetchError> {
        let shared = Shared::default();
        self.resume(&shared).await?;
        let hosts = self.sources.iter().map(|source| self.limits.host(source));
        let hosts: Vec<Arc<Host>> = hosts.collect();
        let mut presences: Vec<Presence> = hosts.iter().map(Host::enter).collect();
        let mut course = Course::new(self.sources.len(), self.policy);
        let mut asked = FuturesUnordered::new();
        let mut flights = FuturesUnordered::new();
        let mut seen = self.spool.watch();
        while !self.spool.is_whole() {
            let unclaimed = self.unclaimed(&course);
            for presence in &mut presences {
                presence.leave(unclaimed.unwrap_or(0));
            }
            for source in self.lanes_with_work(&course, &hosts, unclaimed) {
                course.lanes[source].is_waiting = true;
                let rank = match unclaimed {
                    None => Rank::FIRST,
                    Some(0) => Rank::LAST,
                    Some(bytes) => Rank::of(bytes),
                };
                asked.push(self.ask(&hosts, source, course.lanes[source].not_before, rank));
            }
            tokio::select! {
                Some((flight, ended)) = flights.next() => {
                    let flight: Arc<Flight> = flight;
                    course.ended(&flight);
                    if flight.is_whole() {
                        course.gives_only_whole(flight.source);
                    }
                    let Err(lost) = ended else {
                        course.progressed(flight.source);
                        self.call_off_needless(&course, &flight, &hosts);
                        continue;
                    };
                    if course.absorb(self, flight.source, lost)? {
                        flights.clear();
                        course.flights.clear();
                        self.spool.revoke();
                    }
                    shared.forget_length_of(&course);
                }
                Some((source, admission)) = asked.next() => {
                    course.lanes[source].is_waiting = false;
                    if let Some(flight) = self.next_flight(&mut course, &hosts, source) {
                        course.flights.push(Arc::clone(&flight));
                        let failures = course.lanes[source].failures;
                        flights.push(self.fly(&shared, flight, failures, admission));
                    }
                }
                // More connections become useful once the length is known.
                _ = seen.changed(), if unclaimed.is_none() => {}
                () = sleep(LOOK_AGAIN), if !course.flights.is_empty() => {}
            }
        }
        drop(flights);
        self.spool.revoke();
        let reservation = locked(&shared.reservation).take();
        Ok(Fetched { reservation })
    }

    /// Bytes that nobody has been asked for; None while the length is unknown.
    fn unclaimed(&self, course: &Course) -> Option<u64> {
        self.spool.unclaimed_bytes(&expected(course))
    }

    /// The sources that a connection should be asked for now.
    fn lanes_with_work(
        &self,
        course: &Course,
        hosts: &[Arc<Host>],
        unclaimed: Option<u64>,
    ) -> Vec<usize> {
        let one_at_a_time = unclaimed.is_none() || course.is_whole();
        if one_at_a_time || course.flights.iter().any(|flight| flight.is_whole()) {
            let leads = course.flights.is_empty() && !course.lanes[course.leader].is_waiting;
            return leads.then_some(course.leader).into_iter().collect();
        }
        let has_work = |source: usize| {
            let lane = &course.lanes[source];
            let worth_it = source == course.leader || self.is_worth_another_source();
            course.gives_parts(source)
                && !lane.is_waiting
                && worth_it
                && (unclaimed > Some(0) || self.late(course, &hosts[source]).is_some())
        };
        (0..course.lanes.len())
            .filter(|&source| has_work(source))
            .collect()
    }

    /// One source brings a small file before another has answered.
    fn is_worth_another_source(&self) -> bool {
        self.spool
            .seen()
            .length
            .is_some_and(|length| length > CHUNK_MIN_BYTES)
    }

    async fn ask(
        &self,
        hosts: &[Arc<Host>],
        source: usize,
        not_before: Option<Instant>,
        rank: Rank,
    ) -> (usize, HostAdmission) {
        if let Some(until) = not_before {
            sleep_until(until).await;
        }
        (source, hosts[source].admit(rank).await)
    }

    /// What a connection that has become free does now; None when there is nothing for it any more.
    fn next_flight(
        &self,
        course: &mut Course,
        hosts: &[Arc<Host>],
        source: usize,
    ) -> Option<Arc<Flight>> {
        let lane = &course.lanes[source];
        let must_wait = lane.not_before.is_some_and(|until| until > Instant::now());
        if lane.is_left() || must_wait {
            return None;
        }
        let host = &hosts[source];
        if course.is_whole() || self.spool.seen().length.is_none() {
            let alone = course.flights.is_empty() && source == course.leader;
            let gap = self.spool.first_gap(&RangeSet::new()).filter(|_| alone)?;
            let (whole, chunk) = (course.is_whole(), CHUNK_MIN_BYTES);
            let end = if whole {
                gap.end
            } else {
                gap.end.min(gap.start + chunk)
            };
            return Some(Arc::new(Flight::new(source, whole, gap.start..end, None)));
        }
        if lane.whole {
            return None;
        }
        if let Some(late) = late::head(
            &course.flights,
            self.spool.seen().frontier,
            self.another(host),
            self.budget_bytes(course),
            Instant::now(),
        ) {
            return Some(chase(course, host, source, late));
        }
        if let Some(gap) = self.spool.first_gap(&expected(course)) {
            let end = gap.end.min(gap.start + self.chunk(host));
            return Some(Arc::new(Flight::new(source, false, gap.start..end, None)));
        }
        let late = self.late(course, host)?;
        Some(chase(course, host, source, late))
    }

    fn late(&self, course: &Course, host: &Host) -> Option<Late> {
        late::last(
            &course.flights,
            self.another(host),
            self.budget_bytes(course),
            Instant::now(),
        )
    }

    fn another(&self, host: &Host) -> Another {
        Another {
            goodput: host.goodput_of_one().unwrap_or(0.0),
            round_trip: host.round_trip(),
            patience: self.origins.settings().hedge_after,
        }
    }

    /// What late parts may still cost. Where a rate holds everything back nothing is late, and sockets are full of what would
    /// be lost.
    fn budget_bytes(&self, course: &Course) -> u64 {
        if self.limits.hold_back() {
            return 0;
        }
        let length = self.spool.seen().length.unwrap_or(0);
        (length / LATE_SHARE + LATE_MIN_BYTES).saturating_sub(course.late_bytes)
    }

    /// Ends flights whose bytes another has brought.
    fn call_off_needless(&self, course: &Course, ended: &Flight, hosts: &[Arc<Host>]) {
        for flight in &course.flights {
            let rest = flight.rest();
            if !flight.is_whole() && !rest.is_empty() && self.spool.has(&rest) {
                let won = ended
                    .chases
                    .as_ref()
                    .is_some_and(|chased| Arc::ptr_eq(chased, flight));
                if won {
                    hosts[ended.source].hedge_won();
                }
                flight.needless.cancel();
            }
        }
    }

    /// How much to ask for at once: so much that a round trip between two parts is noise, and so little that all connections
    /// have work to the end, when what is left shrinks.
    fn chunk(&self, host: &Host) -> u64 {
        let connections = host.connections() as u64;
        let length = self.spool.seen().length.unwrap_or(0);
        let rule = (length / (4 * connections)).clamp(CHUNK_MIN_BYTES, CHUNK_MAX_BYTES);
        let share = host.unclaimed() / (2 * connections);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a speed in bytes"
        )]
        let second = host
            .goodput_of_one()
            .map_or(CHUNK_MIN_BYTES, |goodput| goodput as u64);
        rule.min(share.max(second.clamp(CHUNK_LAST_BYTES, CHUNK_MIN_BYTES)))
    }

    /// Makes room for what an earlier run left, and says that it is there.
    async fn resume(&self, shared: &Shared) -> Result<(), FetchError> {
        let length = self.spool.seen().length;
        if let Some(length) = length {
            self.make_room(shared, length).await?;
        }
        self.observer.event(&Event::Started {
            key: self.key.clone(),
            length,
            resumed_bytes: self.spool.arrived_bytes(),
        });
        Ok(())
    }

    fn spool_error(&self, source: io::Error) -> FetchError {
        FetchError::Spool {
            folder: self.folder.path().display().to_string(),
            source,
        }
    }

    fn discard(&self) -> Result<(), FetchError> {
        self.tally.discarded(self.spool.arrived_bytes());
        self.spool
            .discard()
            .map_err(|error| self.spool_error(error))
    }
}
