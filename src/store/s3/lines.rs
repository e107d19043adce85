//! The connections to a bucket that are open, so that their congestion control can begin anew.
//!
//! BBR finds a line's bandwidth in its first second and then raises its estimate by a quarter every eight round trips. A connection
//! that began beside others and is left alone by them needs a quarter of a minute to take what they had. Begun anew it doubles with
//! every round trip.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::congestion::Chosen;

/// Long enough for a socket's buffer to be emptied and filled again.
const WINDOW: Duration = Duration::from_secs(2);

/// What carries so much less than others do on average has measured a line that was full of them.
const LAGS: u64 = 3;

/// All that are open, with the congestion control that was chosen for them.
#[derive(Debug)]
pub(super) struct Lines {
    congestion: Chosen,
    open: Mutex<Vec<Weak<Share>>>,
    looked: Mutex<Instant>,
    quickest: Mutex<Option<Duration>>,
}

/// What one connection has of the line.
#[derive(Debug)]
struct Share {
    /// A second handle on it, which must not outlive it.
    handle: OwnedFd,
    /// Taken from us since the last look.
    bytes: AtomicU64,
    /// Whether more was to be taken.
    is_full: AtomicBool,
    /// Looks since it was made, or began anew.
    looks: AtomicU64,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    connection: TokioIo<TcpStream>,
    share: Arc<Share>,
    lines: Arc<Lines>,
}

impl Lines {
    pub(super) fn new(congestion: Chosen) -> Arc<Self> {
        Arc::new(Self {
            congestion,
            open: Mutex::default(),
            looked: Mutex::new(Instant::now()),
            quickest: Mutex::default(),
        })
    }

    /// The time in which the quickest connection was made; None before the first.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        *locked(&self.quickest)
    }

    /// Takes a connection in that was just made, in so much time.
    pub(super) fn join(
        self: &Arc<Self>,
        connection: TokioIo<TcpStream>,
        took: Duration,
    ) -> io::Result<Line> {
        self.congestion.apply(connection.inner())?;
        let mut quickest = locked(&self.quickest);
        *quickest = Some(quickest.map_or(took, |before| before.min(took)));
        drop(quickest);
        let share = Arc::new(Share {
            handle: connection.inner().as_fd().try_clone_to_owned()?,
            bytes: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            looks: AtomicU64::new(0),
        });
        let mut open = locked(&self.open);
        open.retain(|line| line.strong_count() > 0);
        open.push(Arc::downgrade(&share));
        Ok(Line {
            connection,
            share,
            lines: Arc::clone(self),
        })
    }

    /// Has the congestion control of all begin anew.
    pub(super) fn begin_anew(&self) {
        for share in self.shares() {
            self.restart(&share);
        }
    }

    fn shares(&self) -> Vec<Arc<Share>> {
        locked(&self.open)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn restart(&self, share: &Share) {
        share.looks.store(0, Ordering::Relaxed);
        if let Err(error) = self.congestion.begin_anew(&share.handle) {
            tracing::debug!("a connection goes on as it was: {error}");
        }
    }

    /// Has those begin anew that lag behind the others, when the last look was long enough ago.
    fn look(&self) {
        if !self.congestion.rides_out_loss() {
            return;
        }
        let now = Instant::now();
        let mut looked = locked(&self.looked);
        if now.duration_since(*looked) < WINDOW {
            return;
        }
        *looked = now;
        drop(looked);
        let shares = self.shares();
        let full = shares.iter().filter_map(|share| {
            let bytes = share.bytes.swap(0, Ordering::Relaxed);
            let looks = share.looks.fetch_add(1, Ordering::Relaxed);
            let is_full = share.is_full.swap(false, Ordering::Relaxed);
            (is_full && looks > 0).then_some((share, bytes))
        });
        let (full, bytes): (Vec<_>, Vec<u64>) = full.unzip();
        for (share, bytes) in full.iter().zip(&bytes).filter(|(_, of)| lags(**of, &bytes)) {
            tracing::debug!(bytes, "a connection lags behind others and begins anew");
            self.restart(share);
        }
    }
}

/// Whether one that carried so much is far behind the average of all.
fn lags(bytes: u64, of_all: &[u64]) -> bool {
    let average = of_all.iter().sum::<u64>() / of_all.len().max(1) as u64;
    bytes * LAGS < average
}

impl Share {
    fn took(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.bytes.fetch_add(*bytes as u64, Ordering::Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.is_full.store(true, Ordering::Relaxed),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.inner().as_fd()
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.connection.connected()
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(cx, bytes);
        self.share.took(&written);
        self.lines.look();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(cx, slices);
        self.share.took(&written);
        self.lines.look();
        written
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::store::s3::Congestion;

    #[test]
    fn one_far_behind_the_average_lags() {
        let all = [12_000_000, 9_000_000, 8_000_000, 2_000_000];
        let lagging: Vec<u64> = all.into_iter().filter(|&of| lags(of, &all)).collect();
        assert_eq!(lagging, [2_000_000]);
        assert!(!lags(5, &[5]));
        assert!(!lags(0, &[]));
    }

    #[tokio::test]
    async fn what_begins_anew_keeps_to_the_choice_and_what_is_closed_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap());
        let lines = Lines::new(Congestion::Auto.choose().unwrap());
        let (connection, took) = (connection.await.unwrap(), Duration::from_millis(7));
        let line = lines.join(TokioIo::new(connection), took).unwrap();
        let before = rustix::net::sockopt::tcp_congestion(&line).unwrap();
        lines.begin_anew();
        assert_eq!(rustix::net::sockopt::tcp_congestion(&line).unwrap(), before);
        assert_eq!(lines.round_trip(), Some(took));
        assert_eq!(lines.shares().len(), 1);
        drop(line);
        assert!(lines.shares().is_empty());
    }
}
