//! Reads a mirror again, object by object, at a rate, and goes on where it stopped.
//!
//! Each portion begins with an audit of the listing, and then reads what that shows as right, in the order of the keys, to see
//! whether the bytes still are what the indexes say. Where it stopped is a [`Position`], which the caller keeps; with the last key
//! a pass is complete, and the next portion begins another. What is put behind the position meanwhile is met in the next pass.
//!
//! An object is not damaged because the line to it was: what could not be read is tried again, and where the store does not
//! answer at all the portion ends before that object.

mod pace;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use crate::asset::Key;
use crate::audit::{self, Audit, Finding};
use crate::digest::{Algorithm, Digest};
use crate::events::told;
use crate::index;
use crate::report::{Kind, Report};
use crate::store::{Content, ETag, Store, StoreError};
use crate::sync::SyncError;
use crate::transfer::Mirror;

/// Sidecars are small and may be far away: a few at a time hide the way to them.
const READ_AT_ONCE: usize = 4;

/// How often an object is read before it counts as unreadable.
const ATTEMPTS: u32 = 3;

const PAUSE: Duration = Duration::from_secs(2);

/// How far a pass has come, and what is known to be wrong. Begins as `Position::default()`; what a portion returns goes into the
/// next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// When the pass began; None before the first.
    pub began: Option<Timestamp>,
    /// The last key that was read.
    pub after: Option<Key>,
    /// Whether that was the last of all: the next portion begins another pass.
    pub complete: bool,
    /// Objects that the pass has read.
    pub objects: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// By listings as of the last portion, by reading since the object was read last: rot that nobody mends stays known over passes.
    pub damaged: BTreeMap<Key, Finding>,
}

/// What one portion may take. Without any limit it is the rest of the pass, as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes a second.
    pub rate: Option<u64>,
    /// No object is begun that goes beyond so many bytes, but the first, so that no object is too large for every portion.
    pub bytes: Option<u64>,
    /// No object is begun after so long.
    pub time: Option<Duration>,
}

/// What one portion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scrubbed {
    /// The target in a user's words.
    pub place: String,
    /// Objects that were read.
    pub objects: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// What is wrong and was not known before; [`Position::damaged`] has all.
    pub damaged: BTreeMap<Key, Finding>,
    /// Whether the pass has come to its end.
    pub complete: bool,
    /// Why the portion ended before its budget did.
    pub held_up: Option<String>,
    pub position: Position,
}

impl Position {
    /// Forgets what a repair has mended at every target.
    pub fn mended(&mut self, report: &Report) {
        for kind in [Kind::Transferred, Kind::Repaired] {
            for line in report.of(kind) {
                self.damaged.remove(&line.key);
                for algorithm in Algorithm::ALL {
                    self.damaged.remove(&line.key.sidecar(algorithm));
                }
            }
        }
    }

    /// Where a portion begins, at this time.
    fn or_begin(self, now: Timestamp) -> Self {
        if self.began.is_some() && !self.complete {
            return self;
        }
        Self {
            began: Some(now),
            damaged: self.damaged,
            ..Self::default()
        }
    }

    /// Takes over what a listing shows. What was found by reading stays known as long as the object is to be there.
    fn listed(&mut self, findings: &BTreeMap<Key, Finding>, wanted: &BTreeMap<Key, Wanted>) {
        self.damaged.retain(|key, finding| {
            let by_reading = matches!(finding, Finding::Rotten { .. } | Finding::Unreadable { .. });
            by_reading && wanted.contains_key(key)
        });
        self.damaged.extend(findings.clone());
    }

    fn read(&mut self, read: Read) {
        self.objects += 1;
        self.bytes += read.length;
        match read.finding {
            Some(finding) => self.damaged.insert(read.key.clone(), finding),
            None => self.damaged.remove(&read.key),
        };
        self.after = Some(read.key);
    }
}

/// What an object has to be.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    length: u64,
    md5: Digest,
    sha256: Option<Digest>,
}

/// An object that was read.
#[derive(Debug)]
struct Read {
    key: Key,
    length: u64,
    finding: Option<Finding>,
}

/// Audits the listing and reads on from a position, until the budget is used up, the pass complete, or `stop` fires.
///
/// Stopping drops what is being read; the position stands before it. `now` is when a pass begins that this portion begins.
pub async fn scrub(
    target: &dyn Store,
    position: Position,
    budget: &Budget,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<Scrubbed, StoreError> {
    let known = position.damaged.clone();
    let mut position = position.or_begin(now);
    let (objects, bytes) = (position.objects, position.bytes);
    let Some(audit) = stop.run_until_cancelled(audit::audit(target, false)).await else {
        return Ok(Scrubbed::new(target, position, (objects, bytes), &known));
    };
    let audit = audit?;
    let wanted = wanted(&audit);
    position.listed(&audit.findings, &wanted);
    let after = position
        .after
        .clone()
        .map_or(Bound::Unbounded, Bound::Excluded);
    let rest: Vec<(Key, Wanted)> = wanted
        .range((after, Bound::Unbounded))
        .filter(|(key, _)| !audit.findings.contains_key(*key))
        .map(|(key, wanted)| (key.clone(), *wanted))
        .collect();
    let last = rest.last().map(|(key, _)| key.clone());
    let held_up = read_on(target, rest, budget, &mut position, stop).await;
    position.complete = last.is_none() || position.after == last;
    Ok(Scrubbed {
        held_up,
        ..Scrubbed::new(target, position, (objects, bytes), &known)
    })
}

impl Scrubbed {
    /// What a portion did that began with so many objects and bytes, and what was wrong.
    fn new(
        target: &dyn Store,
        position: Position,
        (objects, bytes): (u64, u64),
        known: &BTreeMap<Key, Finding>,
    ) -> Self {
        let mut damaged = position.damaged.clone();
        damaged.retain(|key, _| !known.contains_key(key));
        Self {
            place: target.place().to_owned(),
            objects: position.objects - objects,
            bytes: position.bytes - bytes,
            damaged,
            complete: position.complete,
            held_up: None,
            position,
        }
    }
}

fn wanted(audit: &Audit) -> BTreeMap<Key, Wanted> {
    let sha256 = audit::sha256_of(&audit.seen.indexes);
    index::objects_of(&audit.seen.indexes)
        .into_iter()
        .map(|(key, (length, md5))| {
            let sha256 = sha256.get(&key).copied();
            let wanted = Wanted {
                length,
                md5,
                sha256,
            };
            (key, wanted)
        })
        .collect()
}

/// Reads these objects in their order, as far as the budget goes. Returns why it could not go on.
async fn read_on(
    target: &dyn Store,
    rest: Vec<(Key, Wanted)>,
    budget: &Budget,
    position: &mut Position,
    stop: &CancellationToken,
) -> Option<String> {
    let pace = Arc::new(Pace::new(budget.rate));
    let mut spent = Spent::new(*budget);
    let reads = rest
        .into_iter()
        .take_while(|(_, wanted)| spent.allows(wanted.length))
        .map(|(key, wanted)| read(target, key, wanted, Arc::clone(&pace)));
    let mut reads = stream::iter(reads).buffered(READ_AT_ONCE);
    while let Some(read) = stop.run_until_cancelled(reads.next()).await.flatten() {
        match read {
            Ok(read) => position.read(read),
            Err(error) => return Some(told(&error)),
        }
    }
    None
}

/// What a portion has taken of its budget.
#[derive(Debug)]
struct Spent {
    budget: Budget,
    began: Instant,
    objects: u64,
    bytes: u64,
}

impl Spent {
    fn new(budget: Budget) -> Self {
        Self {
            budget,
            began: Instant::now(),
            objects: 0,
            bytes: 0,
        }
    }

    /// Whether another object may be begun.
    fn allows(&mut self, length: u64) -> bool {
        let is_first = self.objects == 0;
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(length);
        let is_within = self.budget.bytes.is_none_or(|most| self.bytes <= most);
        let is_early = self
            .budget
            .time
            .is_none_or(|most| self.began.elapsed() < most);
        is_first || (is_within && is_early)
    }
}

/// Reads one object, again where that fails. An error says that the store does not answer at all.
async fn read(
    target: &dyn Store,
    key: Key,
    wanted: Wanted,
    pace: Arc<Pace>,
) -> Result<Read, StoreError> {
    let mut attempts = 1;
    let mut finding = read_once(target, &key, &wanted, &pace).await;
    while let Some(Finding::Unreadable { .. }) = finding
        && attempts < ATTEMPTS
    {
        sleep(PAUSE * attempts).await;
        attempts += 1;
        finding = read_once(target, &key, &wanted, &pace).await;
    }
    if finding.is_some() && !is_there(target, &key, &wanted).await? {
        // Somebody has changed it since it was listed: the next listing tells what it is now.
        finding = None;
    }
    Ok(Read {
        key,
        length: wanted.length,
        finding,
    })
}

async fn read_once(
    target: &dyn Store,
    key: &Key,
    wanted: &Wanted,
    pace: &Arc<Pace>,
) -> Option<Finding> {
    let content = target.open(key).await;
    let content = content.map(|content| content.map(|content| paced(content, Arc::clone(pace))));
    audit::read(content, wanted.md5, wanted.sha256).await
}

/// Content that comes at a rate.
fn paced(content: Content, pace: Arc<Pace>) -> Content {
    let chunks = content.chunks.then(move |chunk| {
        let pace = Arc::clone(&pace);
        async move {
            if let Ok(chunk) = &chunk {
                pace.pass(chunk.len()).await;
            }
            chunk
        }
    });
    Content {
        chunks: chunks.boxed(),
        ..content
    }
}

/// Whether the object is still the one that was listed.
async fn is_there(target: &dyn Store, key: &Key, wanted: &Wanted) -> Result<bool, StoreError> {
    let there = target.stat(key).await?;
    Ok(there.is_some_and(|there| there.object.etag == ETag::from(wanted.md5)))
}

/// Mends what scrubs of the mirror's targets know to be wrong, in the order of the targets, as [`audit::repair`] does.
pub async fn repair(
    mirror: &Arc<Mirror>,
    damaged: &[BTreeMap<Key, Finding>],
    stop: &CancellationToken,
) -> Result<Report, SyncError> {
    let mut audits = Vec::new();
    for (at, target) in mirror.targets.iter().enumerate() {
        let audited = stop.run_until_cancelled(audit::audit(target.as_ref(), false));
        let mut audit = audited.await.ok_or(SyncError::Interrupted)??;
        let wanted = wanted(&audit);
        let read = damaged.get(at).into_iter().flatten();
        for (key, finding) in read.filter(|(key, _)| wanted.contains_key(*key)) {
            // What a listing shows is told by this one.
            if matches!(finding, Finding::Rotten { .. } | Finding::Unreadable { .. }) {
                audit
                    .findings
                    .entry(key.clone())
                    .or_insert_with(|| finding.clone());
            }
        }
        audits.push(audit);
    }
    audit::repair(mirror, audits, stop).await
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, finding) in &self.position.damaged {
            writeln!(f, "wrong     {key}: {finding}")?;
        }
        writeln!(f, "Mirror       {}", self.place)?;
        let bytes = indicatif::BinaryBytes(self.bytes);
        writeln!(f, "Read         {} objects, {bytes}", self.objects)?;
        let (objects, bytes) = (self.position.objects, self.position.bytes);
        let bytes = indicatif::BinaryBytes(bytes);
        let so_far = if self.complete { "complete" } else { "so far" };
        writeln!(f, "Pass         {so_far}: {objects} objects, {bytes}")?;
        if let Some(why) = &self.held_up {
            writeln!(f, "Held up      {why}")?;
        }
        match self.position.damaged.len() {
            0 if self.complete => writeln!(f, "All is right."),
            0 => writeln!(f, "All is right so far."),
            wrong => writeln!(f, "Wrong        {wrong}"),
        }
    }
}
