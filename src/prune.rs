//! Deletes what is not kept, in two phases: marked with a date, deleted after a time of grace.
//!
//! What goes, and since when, stands in one object of the target, [`MARK`]. It is below the indexes' folder, but in a folder of its
//! own: so nothing takes it for an index, no audit counts it as somebody else's, and a directory can hold it as well as a bucket.
//!
//! A release goes in the order opposite to how it came: first its index, so that nobody sees a release that is not whole, then
//! files and sidecars. The mark names all of them, so what breaks off is gone on with by the next run, index or not. Only what an
//! index of this program names is touched, and only while the object there is the one that the index tells of; never what
//! another index names, never a pointer. While an index can't be read, nobody knows what it names, and nothing is deleted.
//!
//! Whoever prunes holds the lease of the target: a sync that runs meanwhile may have found a file in place that is gone
//! before its index is written.

mod decision;
mod mark;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use semver::Version;

use self::decision::Decision;
pub use self::mark::MARK;
use self::mark::Stored;
pub use self::report::{Pruned, Waiting};
use crate::asset::Key;
use crate::catalogue::version;
use crate::retention::Keeping;
use crate::store::{Object, Store, StoreError, StoreErrorKind};
use crate::sync::{self, Seen};
use crate::transfer;

/// Long enough to notice a mistake after a holiday.
pub const GRACE: Duration = Duration::from_hours(7 * 24);

/// There is no hurry.
const DELETED_AT_ONCE: usize = 8;

/// `stable.txt` has a version and a newline; what is longer names no single one.
const POINTER_MAX_BYTES: u64 = 64;

/// Whether anything is done, and how long it stays after it was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Tells what would be done, and changes nothing.
    pub dry_run: bool,
    /// From the mark to the deletion. Zero deletes in the run that marks.
    pub grace: Duration,
}

impl Default for Mode {
    /// A dry run, and [`GRACE`].
    fn default() -> Self {
        Self {
            dry_run: true,
            grace: GRACE,
        }
    }
}

/// Marks at one target what is not kept, and deletes what has been marked for the time of grace and is still not kept.
///
/// Whether it fails or is dropped, the next call goes on from where this one came to.
pub async fn prune(
    target: &dyn Store,
    keep: &Keeping,
    now: Timestamp,
    mode: Mode,
) -> Result<Pruned, StoreError> {
    let seen = sync::look_whole(target).await?;
    let before = Stored::read(target, &seen.objects).await?;
    let pointed = pointed(target, &seen).await?;
    let decision = decision::decide(&seen, &before.mark, keep, &pointed, now, mode.grace);
    let mut pruned = Pruned::expected(target.place(), mode, &before.mark, &decision, &seen, keep);
    pruned.notes.extend(before.note.clone());
    if mode.dry_run {
        return Ok(pruned);
    }
    let marked = before.replace(target, &decision.mark).await?;
    if !decision.due.is_empty() {
        let gone = delete(target, &decision, &seen, keep).await?;
        pruned.done(gone);
        marked.replace(target, &decision.mark_afterwards()).await?;
    }
    Ok(pruned)
}

/// The Kubernetes versions that pointers name: readers take those, whatever the rules say.
async fn pointed(target: &dyn Store, seen: &Seen) -> Result<BTreeMap<Version, Key>, StoreError> {
    let pointers = decision::pointers(&seen.indexes);
    let short = |object: &&Object| object.length <= POINTER_MAX_BYTES;
    let there = seen.objects.iter().filter(short);
    let mut pointed = BTreeMap::new();
    for object in there.filter(|object| pointers.contains(&object.key)) {
        let text = transfer::read_object(target, &object.key, POINTER_MAX_BYTES).await?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        if let Ok(version) = version::kubernetes(text.trim()) {
            pointed.insert(version, object.key.clone());
        }
    }
    Ok(pointed)
}

/// What a deletion came to.
#[derive(Debug, Default)]
struct Gone {
    objects: usize,
    bytes: u64,
    left_alone: BTreeMap<Key, String>,
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deleted,
    /// Somebody was there before.
    Absent,
    /// Somebody has put another there.
    Other,
}

impl Gone {
    fn count(&mut self, object: Object, fate: Fate) {
        match fate {
            Fate::Deleted => {
                self.objects += 1;
                self.bytes += object.length;
            }
            Fate::Absent => {}
            Fate::Other => {
                let why = "somebody has written it just now".to_owned();
                self.left_alone.insert(object.key, why);
            }
        }
    }
}

/// Deletes what is due: the indexes, and then, after another look, what no index names any more.
async fn delete(
    target: &dyn Store,
    decision: &Decision,
    before: &Seen,
    keep: &Keeping,
) -> Result<Gone, StoreError> {
    let mut gone = Gone::default();
    for index in decision.due_indexes(before) {
        let fate = delete_one(target, &index).await?;
        gone.count(index, fate);
    }
    // Whatever has become whole since the first look names what it needs now.
    let seen = sync::look_whole(target).await?;
    if let Some((key, why)) = seen.unreadable.first() {
        return Err(StoreError::new(
            StoreErrorKind::Permanent,
            format!(
                "{}/{key} can't be read any more, so nobody knows what it names, and nothing else is deleted: {why}",
                target.place()
            ),
        ));
    }
    let doomed = decision.doomed(&decision.due, &seen, seen.indexes.iter(), keep);
    for objects in doomed.objects.chunks(DELETED_AT_ONCE) {
        // Each that was begun is waited for: a request that nobody waits for might delete what comes after it.
        let fates = join_all(objects.iter().map(|object| delete_one(target, object))).await;
        for (fate, object) in fates.into_iter().zip(objects) {
            gone.count(object.clone(), fate?);
        }
    }
    gone.left_alone.extend(doomed.left_alone);
    Ok(gone)
}

/// Deletes an object if it is still the one that was listed.
async fn delete_one(target: &dyn Store, object: &Object) -> Result<Fate, StoreError> {
    match target.stat(&object.key).await? {
        None => Ok(Fate::Absent),
        Some(there) if there.object != *object => Ok(Fate::Other),
        Some(_) => {
            target.delete(&object.key).await?;
            Ok(Fate::Deleted)
        }
    }
}
