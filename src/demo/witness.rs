//! Watches a run from outside: what has arrived of which file, and what the bucket shows whenever something goes wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::asset::Key;
use crate::events::{Event, Observer};
use crate::loopback::s3::Bucket;

/// Something went wrong and was tried again.
#[derive(Debug, Clone)]
pub(super) struct Setback {
    pub(super) key: Key,
    pub(super) why: String,
    /// Whether the bucket showed an object at that moment.
    pub(super) visible: bool,
}

#[derive(Debug)]
pub(super) struct Witness {
    bucket: Bucket,
    prefix: &'static str,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    received: BTreeMap<Key, u64>,
    setbacks: Vec<Setback>,
    finished: usize,
}

impl Witness {
    pub(super) fn new(bucket: Bucket, prefix: &'static str) -> Self {
        Self {
            bucket,
            prefix,
            noted: Mutex::default(),
        }
    }

    /// The bytes of a file that the run has received and noted.
    pub(super) fn received(&self, key: &Key) -> u64 {
        self.noted().received.get(key).copied().unwrap_or_default()
    }

    /// Files that are done.
    pub(super) fn finished(&self) -> usize {
        self.noted().finished
    }

    pub(super) fn setbacks(&self, key: &Key) -> Vec<Setback> {
        let noted = self.noted();
        let of_key = noted.setbacks.iter().filter(|setback| setback.key == *key);
        of_key.cloned().collect()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Witness {
    fn event(&self, event: &Event) {
        match event {
            Event::Received { key, bytes } => {
                *self.noted().received.entry(key.clone()).or_default() += bytes;
            }
            Event::Retrying { key, why, .. } => {
                let there = self.bucket.object(&format!("{}/{key}", self.prefix));
                self.noted().setbacks.push(Setback {
                    key: key.clone(),
                    why: why.clone(),
                    visible: there.is_some(),
                });
            }
            Event::Finished { .. } => self.noted().finished += 1,
            _ => {}
        }
    }
}
