//! Remembers every request and how many body bytes were written for it, so that a test can prove what was fetched, and
//! that nothing was fetched twice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rangemap::RangeSet;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    /// Came through the door of signed URLs.
    pub signed: bool,
    /// 0 where the connection was ended without an answer.
    pub status: u16,
    /// Where in the file the body begins; none if the body is not the file's.
    pub offset: Option<u64>,
    /// Body bytes that were written to the connection.
    pub body_bytes: u64,
    /// Everything that was to be written was written.
    pub complete: bool,
    /// Counts connections from 1.
    pub connection: u64,
    pub peer: SocketAddr,
    /// Since the origin's start.
    pub at: Duration,
}

impl Exchange {
    /// A header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The bytes of the file that were written to the connection.
    pub fn sent(&self) -> Option<Range<u64>> {
        let offset = self.offset?;
        (self.body_bytes > 0).then(|| offset..offset + self.body_bytes)
    }
}

/// How many connections there are and were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub open: u64,
    /// The most that were open at once.
    pub peak: u64,
    pub total: u64,
}

/// The log of one origin. It grows with every request, for as long as a test or a demonstration lasts.
#[derive(Debug)]
pub struct Log {
    started: Instant,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    exchanges: Vec<Exchange>,
    connections: Connections,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            kept: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Every request so far, in the order in which their heads were read.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.kept().exchanges.clone()
    }

    /// The requests for one path.
    pub fn requests(&self, path: &str) -> Vec<Exchange> {
        let kept = self.kept();
        let for_it = kept.exchanges.iter().filter(|e| e.path == path);
        for_it.cloned().collect()
    }

    /// Every path that was asked for.
    pub fn paths(&self) -> BTreeSet<String> {
        let kept = self.kept();
        kept.exchanges.iter().map(|e| e.path.clone()).collect()
    }

    /// The bytes of a file that were written, a range for each answer, in the order of the requests.
    pub fn ranges_sent(&self, path: &str) -> Vec<Range<u64>> {
        self.requests(path)
            .iter()
            .filter_map(Exchange::sent)
            .collect()
    }

    /// How many bytes of a file were written, those that were written twice counted twice.
    pub fn bytes_sent(&self, path: &str) -> u64 {
        self.ranges_sent(path).iter().map(length).sum()
    }

    /// The bytes of a file that were written more than once, in whatever answers.
    ///
    /// What was written but lost on the way (in the buffers of a process that was killed, say) is rightly asked for again
    /// and shows up here; [`Log::completed_twice`] is the question for such tests.
    pub fn served_twice(&self, path: &str) -> Vec<Range<u64>> {
        twice(self.ranges_sent(path))
    }

    /// The bytes of a file that were part of more than one answer written to its end.
    pub fn completed_twice(&self, path: &str) -> Vec<Range<u64>> {
        let completed = self.requests(path).into_iter().filter(|e| e.complete);
        twice(completed.filter_map(|exchange| exchange.sent()))
    }

    pub fn connections(&self) -> Connections {
        self.kept().connections
    }

    /// Waits until the log fulfils a condition; the caller sets the time limit.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    /// Notes a request; its exchange is completed through the returned entry.
    pub(super) fn enter(&self, exchange: Exchange) -> Entry<'_> {
        let mut kept = self.kept();
        let index = kept.exchanges.len();
        kept.exchanges.push(Exchange {
            at: self.started.elapsed(),
            ..exchange
        });
        Entry { log: self, index }
    }

    /// Counts a connection, until what is returned is dropped.
    pub(super) fn connected(&self) -> Connected<'_> {
        let mut kept = self.kept();
        let connections = &mut kept.connections;
        connections.total += 1;
        connections.open += 1;
        connections.peak = connections.peak.max(connections.open);
        Connected {
            log: self,
            number: connections.total,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept());
        self.changed.notify_waiters();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One exchange in the log while it goes on.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    log: &'a Log,
    index: usize,
}

impl Entry<'_> {
    pub(super) fn answered(&self, status: u16, offset: Option<u64>) {
        self.change(|exchange| {
            exchange.status = status;
            exchange.offset = offset;
        });
    }

    pub(super) fn wrote(&self, body_bytes: usize) {
        self.change(|exchange| exchange.body_bytes += body_bytes as u64);
    }

    pub(super) fn completed(&self) {
        self.change(|exchange| exchange.complete = true);
    }

    fn change(&self, change: impl FnOnce(&mut Exchange)) {
        self.log
            .change(|kept| change(&mut kept.exchanges[self.index]));
    }
}

/// An open connection in the log.
#[derive(Debug)]
pub(super) struct Connected<'a> {
    log: &'a Log,
    pub(super) number: u64,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.log.change(|kept| kept.connections.open -= 1);
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn twice(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut once = RangeSet::new();
    let mut twice = RangeSet::new();
    for range in ranges {
        for again in once.overlapping(&range) {
            twice.insert(again.start.max(range.start)..again.end.min(range.end));
        }
        once.insert(range);
    }
    twice.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_the_bytes_that_were_sent_more_than_once() {
        assert_eq!(twice([0..10, 10..20, 30..40]), []);
        assert_eq!(twice([0..10, 5..12, 11..13, 0..1]), [0..1, 5..10, 11..12]);
        assert_eq!(
            twice([0..10, 0..10, 2..10, 12..13, 12..14]),
            [0..10, 12..13]
        );
        assert_eq!(twice([0..4, 6..10, 2..8]), [2..4, 6..8]);
    }
}
