//! Follows one request from its head to its end, and logs it when it ends, however it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, RANGE};
use tokio::time::Instant;

use super::asked::{Asked, Operation};

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Exchanged {
    pub operation: Operation,
    pub repository: String,
    /// A digest, a tag, or an upload's number; at the ECR API, the operation's name.
    pub reference: String,
    /// None when the connection ended without an answer.
    pub status: Option<u16>,
    /// Body bytes that arrived.
    pub received_bytes: u64,
    /// Body bytes that were given to the connection.
    pub sent_bytes: u64,
    /// Whether it brought an Authorization.
    pub authorized: bool,
    pub content_length: Option<u64>,
    pub range: Option<String>,
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

    pub fn of(&self, operation: Operation) -> Vec<Exchanged> {
        let mut all = self.all();
        all.retain(|exchanged| exchanged.operation == operation);
        all
    }

    pub fn count(&self, operation: Operation) -> usize {
        self.of(operation).len()
    }

    /// Bytes of blobs that arrived, in vain or not.
    pub fn blob_bytes_received(&self) -> u64 {
        let is_upload = |exchanged: &&Exchanged| {
            matches!(
                exchanged.operation,
                Operation::PatchUpload | Operation::PutUpload
            )
        };
        let ended = self.ended();
        let uploads = ended.iter().filter(is_upload);
        uploads.map(|exchanged| exchanged.received_bytes).sum()
    }

    /// Bytes of blobs that were given to connections.
    pub fn blob_bytes_sent(&self) -> u64 {
        let is_blob = |exchanged: &&Exchanged| {
            matches!(
                exchanged.operation,
                Operation::GetBlob | Operation::GetStored
            )
        };
        let ended = self.ended();
        let blobs = ended.iter().filter(is_blob);
        blobs.map(|exchanged| exchanged.sent_bytes).sum()
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

/// A request under way. Dropped when it has ended, which logs it.
#[derive(Debug)]
pub(super) struct Exchange {
    log: Log,
    began: Instant,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    entry: Mutex<Exchanged>,
}

impl Exchange {
    pub(super) fn begin(log: &Log, asked: &Asked, headers: &HeaderMap) -> Arc<Self> {
        let text = |name| {
            let value = headers.get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let entry = Exchanged {
            operation: asked.operation,
            repository: asked.repository.clone(),
            reference: asked.reference.clone(),
            status: None,
            received_bytes: 0,
            sent_bytes: 0,
            authorized: headers.contains_key(AUTHORIZATION),
            content_length: text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            range: text(RANGE),
            began: log.epoch.elapsed(),
            took: Duration::ZERO,
        };
        let exchange = Arc::new(Self {
            log: log.clone(),
            began: Instant::now(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            entry: Mutex::new(entry),
        });
        let mut begun = log.begun();
        begun.retain(|exchange| exchange.strong_count() > 0);
        begun.push(Arc::downgrade(&exchange));
        exchange
    }

    fn so_far(&self) -> Exchanged {
        Exchanged {
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            took: self.began.elapsed(),
            ..self.entry().clone()
        }
    }

    /// Counts, and says how many there are by now.
    pub(super) fn received(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        self.entry().status = Some(status.as_u16());
    }

    fn entry(&self) -> MutexGuard<'_, Exchanged> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let entry = self.so_far();
        self.log.ended().push(entry);
    }
}
