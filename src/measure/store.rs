//! Measures a store: objects of noise, put side by side below a folder of their own, and removed again whatever happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ladder::{ASKED_MIN, Climbed, Ledger, Leg, Trouble, climb};
use super::{Allowance, Measured, Side};
use crate::asset::Key;
use crate::events::{Event, Observer, told};
use crate::retry::Class;
use crate::store::{Attributes, Condition, Store, StoreError, StoreErrorKind};
use crate::verify::Verified;

/// No object is larger, so that what is sent fits into this much memory.
const NOISE_BYTES: usize = 16 << 20;

/// The first objects, before it is known what one connection carries.
const FIRST_BYTES: u64 = 128 << 10;

/// A put takes about this long: its round trips are then little of it, and it still ends within its rung.
const AIMED_SECONDS: f64 = 2.5;

/// What grows by less has found its pace.
const STILL_GROWING: f64 = 1.25;

/// In seconds: no run takes so long, so what is older is nobody's.
const ABANDONED_AFTER: i64 = 6 * 3600;

/// Removals at a time.
const REMOVED_AT_ONCE: usize = 16;

/// Somebody who stopped it waits no longer than this for the store to be clean.
const CLEARING_MAX: Duration = Duration::from_mins(1);

/// A put that was given up may still arrive from the sockets' buffers: it is looked for after each of these.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// A place for objects that nobody wants, at a store, over connections of one kind.
#[derive(Debug)]
pub struct Scratch {
    /// What is measured, in a user's words.
    pub place: String,
    /// Keys of runs below its prefix are ours to remove.
    pub store: Box<dyn Store>,
    /// The congestion control that its connections have: its name, or `system`.
    pub congestion: String,
}

/// Puts objects over more and more connections, and removes them.
pub async fn measure(
    scratch: &Scratch,
    allowance: Allowance,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Measured {
    let store = scratch.store.as_ref();
    let mut measured = Measured::begun(Side::Store, scratch.place.clone());
    measured.congestion = Some(scratch.congestion.clone());
    measured.carried = format!("objects below {}, which are removed again", store.place());
    let puts = Puts::new(store);
    let tell = |connections| {
        let place = measured.place.clone();
        observer.event(&Event::Measuring { place, connections });
    };
    let what = format!(
        "what is on its way to {}, so that nothing stays there",
        scratch.place
    );
    let telling = async {
        stop.cancelled().await;
        observer.event(&Event::Waiting { what });
        std::future::pending::<()>().await;
    };
    let climbed = tokio::select! {
        climbed = climb(&puts, allowance, tell, stop) => climbed,
        () = telling => unreachable!("it tells, and then waits for ever"),
    };
    measured.left_behind = puts.clear(&climbed).await;
    let completed = puts.completed.load(Ordering::Relaxed);
    measured.take(climbed);
    if !completed && measured.failed.is_none() && !stop.is_cancelled() {
        measured.failed = Some(format!(
            "not one object was there at {} in time; allow more with --budget and --seconds",
            scratch.place
        ));
    }
    measured
}

struct Puts<'a> {
    store: &'a dyn Store,
    run: Run,
    noise: Bytes,
    /// The length that the next objects are to have.
    aimed: AtomicU64,
    count: AtomicU64,
    completed: AtomicBool,
    /// All keys at which there may be something.
    begun: Mutex<Vec<Key>>,
}

impl<'a> Puts<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            run: Run::new(),
            noise: noise(NOISE_BYTES),
            aimed: AtomicU64::new(FIRST_BYTES),
            count: AtomicU64::default(),
            completed: AtomicBool::default(),
            begun: Mutex::default(),
        }
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_key(&self) -> Key {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let key = self.run.key(count);
        self.begun().push(key.clone());
        key
    }

    /// Noise of this length, from somewhere in what is at hand.
    fn content(&self, bytes: u64) -> Bytes {
        let length = usize::try_from(bytes).unwrap_or(NOISE_BYTES);
        let from = fastrand::usize(0..=NOISE_BYTES - length.min(NOISE_BYTES));
        self.noise.slice(from..from + length)
    }

    /// Aims the next objects at what one connection carries.
    fn learn(&self, bytes: u64, took: Duration) {
        if bytes < ASKED_MIN {
            return;
        }
        let seconds = took.as_secs_f64().max(1e-3);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a length of some MiB"
        )]
        let would = (bytes as f64 / seconds * AIMED_SECONDS).min(NOISE_BYTES as f64) as u64;
        // Slow start makes the first ones look slower than the link is.
        let aimed = would.clamp(ASKED_MIN, (bytes * 4).min(NOISE_BYTES as u64));
        self.aimed.store(aimed, Ordering::Relaxed);
    }

    /// Removes everything that was begun; says what may still be there, and why.
    async fn clear(&self, climbed: &Climbed) -> Vec<String> {
        let begun = std::mem::take(&mut *self.begun());
        let cleared = timeout(CLEARING_MAX, self.clear_all(&begun, climbed.given_up > 0)).await;
        cleared.unwrap_or_else(|_| {
            let place = self.store.place();
            vec![format!(
                "objects below {place}/{}: they could not be removed in time",
                self.run.name
            )]
        })
    }

    async fn clear_all(&self, begun: &[Key], some_given_up: bool) -> Vec<String> {
        let mut left = self.remove(begun).await;
        let looks = if some_given_up {
            &LOOKS[..]
        } else {
            &[Duration::ZERO]
        };
        for pause in looks {
            sleep(*pause).await;
            left = match self.store.list().await {
                // What is not listed is not there, whatever became of its removal.
                Ok(listing) => {
                    let keys = listing.objects.into_iter().map(|object| object.key);
                    let ours: Vec<Key> = keys.filter(|key| self.run.may_remove(key)).collect();
                    self.remove(&ours).await
                }
                Err(error) => {
                    left.push(format!("it can't be looked for: {}", told(&error)));
                    left
                }
            };
        }
        left
    }

    /// Says what could not be removed, and why.
    async fn remove(&self, keys: &[Key]) -> Vec<String> {
        let removed = stream::iter(keys).map(|key| async move {
            let removed = self.store.delete(key).await;
            removed.err().map(|error| told(&error))
        });
        let removed = removed.buffer_unordered(REMOVED_AT_ONCE);
        removed
            .filter_map(|failed| async { failed })
            .collect()
            .await
    }
}

impl Leg for Puts<'_> {
    /// Finds out what one connection carries, so that the first rung's objects are of the right length: each is as long as the
    /// last one says, until one says no more.
    async fn warm_up(&self, ledger: &Ledger) -> Result<(), Trouble> {
        let mut before = 0.0;
        while ledger.share() > 0 {
            self.carry(ledger).await?;
            let aimed = self.aimed.load(Ordering::Relaxed) as f64;
            if aimed < before * STILL_GROWING {
                break;
            }
            before = aimed;
        }
        Ok(())
    }

    async fn carry(&self, ledger: &Ledger) -> Result<(), Trouble> {
        let Some(mut claim) = ledger.claim(self.aimed.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let bytes = claim.bytes;
        let noise = self.content(bytes);
        let content = tokio::task::spawn_blocking(move || Verified::composed(noise))
            .await
            .map_err(|error| Trouble::Broke(told(&error)))?;
        let key = self.next_key();
        let attributes = Attributes {
            content_type: "application/octet-stream".to_owned(),
            ..Attributes::default()
        };
        claim.sets_out();
        self.store
            .put(&key, &content, &attributes, &Condition::Any)
            .await
            .map_err(|error| trouble(&error))?;
        self.completed.store(true, Ordering::Relaxed);
        self.learn(bytes, claim.arrived());
        Ok(())
    }
}

fn trouble(error: &StoreError) -> Trouble {
    if error.kind == StoreErrorKind::Busy {
        Trouble::Refused(told(error))
    } else if error.class() != Class::Transient {
        Trouble::Failed(told(error))
    } else {
        Trouble::Broke(told(error))
    }
}

/// The folder of one run: `1785412800-9f3c21aa`.
#[derive(Debug)]
struct Run {
    second: i64,
    name: String,
}

impl Run {
    fn new() -> Self {
        let second = Timestamp::now().as_second();
        let name = format!("{second}-{:08x}", fastrand::u32(..));
        Self { second, name }
    }

    fn key(&self, count: u64) -> Key {
        let key = format!("{}/{count:06}", self.name);
        key.parse().expect("numbers make a key")
    }

    /// Whether an object is this run's, or one that a run left which was killed long ago.
    fn may_remove(&self, key: &Key) -> bool {
        let Some((run, _)) = key.as_str().split_once('/') else {
            return false;
        };
        let begun = run
            .split_once('-')
            .and_then(|(second, _)| second.parse().ok());
        let is_old = begun.is_some_and(|second: i64| self.second - second > ABANDONED_AFTER);
        run == self.name || is_old
    }
}

/// Bytes that nothing on the way can compress.
fn noise(length: usize) -> Bytes {
    let mut noise = vec![0; length];
    fastrand::fill(&mut noise);
    noise.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_removes_its_own_and_what_is_long_abandoned() {
        let run = Run {
            second: 1_785_412_800,
            name: "1785412800-00000001".to_owned(),
        };
        for (key, may) in [
            ("1785412800-00000001/000000", true),
            ("1785412800-00000002/000000", false),
            ("1785300000-00000002/000000", true),
            ("kubelet", false),
            ("release/kubelet", false),
            ("-1/kubelet", false),
        ] {
            assert_eq!(run.may_remove(&key.parse().unwrap()), may, "{key}");
        }
    }
}
