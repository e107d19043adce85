//! Follows one request from its head to its end, and logs it when it ends, however it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::faults::Trouble;

/// Request headers worth logging besides those of S3: what makes a request conditional, partial or checkable.
const LOGGED_HEADERS: [&str; 6] = [
    "content-length",
    "content-md5",
    "content-type",
    "if-match",
    "if-none-match",
    "range",
];

/// Headers of S3 that hold secrets start so.
const SECRET_HEADERS: [&str; 3] = [
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer",
    "x-amz-copy-source-server-side-encryption-customer",
];

fn is_logged(name: &str) -> bool {
    LOGGED_HEADERS.contains(&name)
        || name.starts_with("x-amz-") && !SECRET_HEADERS.iter().any(|s| name.starts_with(s))
}

/// A request that has ended.
#[derive(Debug, Clone, Default)]
pub struct Exchanged {
    /// `PutObject`, …; the HTTP method for a request that was refused before that was known.
    pub operation: String,
    pub bucket: String,
    pub key: String,
    /// None when the connection ended without an answer.
    pub status: Option<u16>,
    /// Body bytes that arrived, framing included.
    pub body_bytes: u64,
    /// The request headers without secrets: conditions, digests, ranges, all of S3's own. Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Since the server started to log.
    pub began: Duration,
    pub took: Duration,
}

/// Every request that has ended, in the order of their ends, and those under way.
#[derive(Debug, Clone)]
pub struct Log {
    epoch: Instant,
    ended: Arc<Mutex<Vec<Exchanged>>>,
    under_way: Arc<Mutex<Vec<Weak<Exchange>>>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            ended: Arc::default(),
            under_way: Arc::default(),
        }
    }
}

impl Log {
    pub fn all(&self) -> Vec<Exchanged> {
        self.ended().clone()
    }

    /// The requests for one operation: `PutObject`.
    pub fn of(&self, operation: &str) -> Vec<Exchanged> {
        let mut all = self.all();
        all.retain(|e| e.operation == operation);
        all
    }

    /// How many requests for one operation there were.
    pub fn count(&self, operation: &str) -> usize {
        self.ended()
            .iter()
            .filter(|e| e.operation == operation)
            .count()
    }

    /// The requests that have begun and not ended, as far as they have come.
    pub fn under_way(&self) -> Vec<Exchanged> {
        let exchanges: Vec<_> = self.begun().iter().filter_map(Weak::upgrade).collect();
        exchanges.iter().map(|exchange| exchange.so_far()).collect()
    }

    pub fn clear(&self) {
        self.ended().clear();
    }

    fn begun(&self) -> MutexGuard<'_, Vec<Weak<Exchange>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Vec<Exchanged>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a body ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing came for longer than the stall limit.
    Stalled,
    /// A fault cut it.
    Cut,
}

/// A request under way. Dropped when it has ended, which logs it.
#[derive(Debug)]
pub(super) struct Exchange {
    log: Log,
    began: Instant,
    body_bytes: AtomicU64,
    course: Mutex<Course>,
}

#[derive(Debug, Default)]
struct Course {
    entry: Exchanged,
    trouble: Option<Trouble>,
    broken: Option<Broken>,
    /// The rest of a body that nobody wanted to read.
    leftover: Option<Incoming>,
}

impl Exchange {
    pub(super) fn begin(log: &Log, method: &http::Method, headers: &HeaderMap) -> Arc<Self> {
        let headers = headers.iter().filter_map(|(name, value)| {
            let value = value.to_str().ok().filter(|_| is_logged(name.as_str()))?;
            Some((name.to_string(), value.to_owned()))
        });
        let entry = Exchanged {
            operation: method.to_string(),
            headers: headers.collect(),
            ..Exchanged::default()
        };
        let exchange = Arc::new(Self {
            log: log.clone(),
            began: Instant::now(),
            body_bytes: AtomicU64::new(0),
            course: Mutex::new(Course {
                entry,
                ..Course::default()
            }),
        });
        let mut begun = log.begun();
        begun.retain(|exchange| exchange.strong_count() > 0);
        begun.push(Arc::downgrade(&exchange));
        exchange
    }

    fn so_far(&self) -> Exchanged {
        Exchanged {
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            began: self.began - self.log.epoch,
            took: self.began.elapsed(),
            ..self.course().entry.clone()
        }
    }

    /// The request's signature is good and this is what it asks for.
    pub(super) fn asks(&self, operation: &str, bucket: &str, key: &str, trouble: Option<Trouble>) {
        let mut course = self.course();
        operation.clone_into(&mut course.entry.operation);
        bucket.clone_into(&mut course.entry.bucket);
        key.clone_into(&mut course.entry.key);
        course.trouble = trouble;
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.course().trouble.clone()
    }

    pub(super) fn received(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(super) fn broke(&self, how: Broken) {
        self.course().broken = Some(how);
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        self.course().broken
    }

    pub(super) fn leave(&self, rest: Incoming) {
        self.course().leftover = Some(rest);
    }

    pub(super) fn take_leftover(&self) -> Option<Incoming> {
        self.course().leftover.take()
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        self.course().entry.status = Some(status.as_u16());
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let entry = self.so_far();
        self.log.ended().push(entry);
    }
}
