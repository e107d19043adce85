//! Counts what goes to a registry, and notices what has come to a stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::report::StoreLeg;
use crate::store::s3::body::{Body, Progress, Stall};
use crate::verify::Publishable;

/// What has gone to one registry so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    put_bytes: AtomicU64,
    wasted_bytes: AtomicU64,
    stalls: AtomicU64,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One blob on its way, by one body after the other where the first are refused; counted when it is dropped.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    traffic: &'a Traffic,
    body: watch::Sender<Option<Arc<Progress>>>,
    arrived: AtomicBool,
}

impl Traffic {
    pub(super) fn begin(&self) -> Sending<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Sending {
            traffic: self,
            body: watch::Sender::new(None),
            arrived: AtomicBool::new(false),
        }
    }

    pub(super) fn leg(&self) -> StoreLeg {
        StoreLeg {
            bytes: self.put_bytes.load(Ordering::Relaxed),
            bytes_again: self.wasted_bytes.load(Ordering::Relaxed),
            connections_max: self.most.load(Ordering::Relaxed),
            bytes_per_second: None,
            stalls: self.stalls.load(Ordering::Relaxed),
        }
    }

    fn count_wasted(&self, progress: Option<Arc<Progress>>) {
        let taken = progress.map_or(0, |progress| progress.taken());
        self.wasted_bytes.fetch_add(taken, Ordering::Relaxed);
    }
}

impl Sending<'_> {
    /// A body of the content from its start, in the place of the one before.
    pub(super) fn body(&self, content: &dyn Publishable) -> reqwest::Body {
        let (body, progress) = Body::new(content.length(), content.chunks());
        let before = self.body.send_replace(Some(progress));
        self.traffic.count_wasted(before);
        reqwest::Body::wrap(body)
    }

    /// Ends when no byte was taken for `body_patience`, or no answer came within `answer_patience` of the last one.
    pub(super) async fn stalled(
        &self,
        body_patience: Duration,
        answer_patience: Duration,
    ) -> Stall {
        let mut bodies = self.body.subscribe();
        let stall = loop {
            let progress = bodies.borrow_and_update().clone();
            let stalled = async {
                match progress {
                    Some(progress) => progress.stalled(body_patience, answer_patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                stall = stalled => break stall,
                // The sender is `self`.
                _ = bodies.changed() => {}
            }
        };
        self.traffic.stalls.fetch_add(1, Ordering::Relaxed);
        stall
    }

    /// The registry says that it has it.
    pub(super) fn arrived(&self) {
        self.arrived.store(true, Ordering::Relaxed);
    }

    /// Why the body broke, when it was the spool's doing.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.body.borrow().as_ref()?.take_failure()
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.traffic.now.fetch_sub(1, Ordering::Relaxed);
        let progress = self.body.send_replace(None);
        let has_arrived = self.arrived.load(Ordering::Relaxed);
        match progress {
            Some(progress) if has_arrived => {
                let put_bytes = &self.traffic.put_bytes;
                put_bytes.fetch_add(progress.length(), Ordering::Relaxed);
            }
            progress => self.traffic.count_wasted(progress),
        }
    }
}
