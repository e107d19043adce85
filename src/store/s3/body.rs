//! Streams content as a request body, and watches that it keeps moving.
//!
//! The SDK's own protection against stalled uploads ends a PUT six seconds after the body was last asked for, and full socket
//! buffers on a slow link make pauses longer than that. So it is off, and this watch takes its place.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};
use sync_wrapper::SyncWrapper;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::abreast::Abreast;
use super::turns::Turn;

/// hyper asks for a frame only when the last one is written out, so a frame is what one look at the progress can miss.
const FRAME_BYTES: usize = 256 * 1024;

/// How often one that lets others go on looks whether it still must.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A frame goes at least this often: S3 cuts a body that brings nothing for about 20 s.
const YIELDS_MAX: Duration = Duration::from_secs(5);

/// One sending of a content. Its size hint is exact and it may be polled after its end: the SDK needs both.
pub(in crate::store) struct Body {
    chunks: SyncWrapper<BoxStream<'static, io::Result<Bytes>>>,
    chunk: Bytes,
    remaining: u64,
    /// Since when the next chunk has been waited for.
    waiting: Option<Instant>,
    progress: Arc<Progress>,
    turn: Option<Turn>,
    abreast: Option<Arc<Abreast>>,
    yielding: Option<Yielding>,
}

/// Others are let go on.
struct Yielding {
    since: Instant,
    look: Pin<Box<Sleep>>,
}

/// How far a body has come, and why it broke.
#[derive(Debug)]
pub(in crate::store) struct Progress {
    length: u64,
    remaining: watch::Sender<u64>,
    waited: Mutex<Duration>,
    failure: Mutex<Option<io::Error>>,
}

/// What a PUT stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Stall {
    /// The body was not taken.
    Body { remaining: u64 },
    /// The body was taken whole, but no answer came.
    Answer,
}

impl Body {
    pub(in crate::store) fn new(
        length: u64,
        chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress {
            length,
            remaining: watch::Sender::new(length),
            waited: Mutex::default(),
            failure: Mutex::new(None),
        });
        let body = Self {
            chunks: SyncWrapper::new(chunks),
            chunk: Bytes::new(),
            remaining: length,
            waiting: None,
            progress: Arc::clone(&progress),
            turn: None,
            abreast: None,
            yielding: None,
        };
        (body, progress)
    }

    /// Gives a turn back when all is taken. What the kernel still has to send then, and the answer's way, are time in which the
    /// next body can begin.
    pub(super) fn with_turn(self, turn: Option<Turn>) -> Self {
        Self { turn, ..self }
    }

    /// Lets others go on that are on their way too and have more left.
    pub(super) fn abreast_of(self, others: Option<Arc<Abreast>>) -> Self {
        if let Some(others) = &others {
            others.join(&self.progress);
        }
        Self {
            abreast: others,
            ..self
        }
    }

    /// Whether others are to go on now; `cx` is woken when that may have changed.
    fn yields(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(others) = &self.abreast else {
            return false;
        };
        while others.is_for_others(self.remaining) {
            let yielding = self.yielding.get_or_insert_with(|| Yielding {
                since: Instant::now(),
                look: Box::pin(sleep(LOOK_AGAIN)),
            });
            if yielding.since.elapsed() > YIELDS_MAX {
                break;
            }
            if yielding.look.as_mut().poll(cx).is_pending() {
                return true;
            }
            yielding.look = Box::pin(sleep(LOOK_AGAIN));
        }
        if let Some(yielding) = self.yielding.take() {
            *locked(&self.progress.waited) += yielding.since.elapsed();
        }
        false
    }

    fn next_frame(&mut self) -> Bytes {
        let frame = self.chunk.split_to(self.chunk.len().min(FRAME_BYTES));
        self.remaining -= frame.len() as u64;
        self.progress.remaining.send_replace(self.remaining);
        if self.remaining == 0 {
            self.turn = None;
        }
        frame
    }

    fn count_waiting(&mut self) {
        if let Some(since) = self.waiting.take() {
            *locked(&self.progress.waited) += since.elapsed();
        }
    }

    /// Notes why the spool failed; what is handed to hyper only says that it did.
    fn fail(&self, error: io::Error) -> io::Error {
        let told = io::Error::new(error.kind(), "the spool can't be read");
        *locked(&self.progress.failure) = Some(error);
        told
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            if this.remaining == 0 {
                return Poll::Ready(None);
            }
            if this.yields(cx) {
                return Poll::Pending;
            }
            if !this.chunk.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(this.next_frame()))));
            }
            let next = Pin::new(this.chunks.get_mut()).poll_next(cx);
            if next.is_ready() {
                this.count_waiting();
            }
            let error = match next {
                Poll::Pending => {
                    this.waiting.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(chunk))) if chunk.len() as u64 <= this.remaining => {
                    this.chunk = chunk;
                    continue;
                }
                Poll::Ready(Some(Ok(_))) => io::Error::other("it has grown"),
                Poll::Ready(Some(Err(error))) => error,
                Poll::Ready(None) => io::ErrorKind::UnexpectedEof.into(),
            };
            return Poll::Ready(Some(Err(this.fail(error))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Of the whole body, in bytes.
    pub(in crate::store) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that were taken.
    pub(in crate::store) fn taken(&self) -> u64 {
        self.length - self.left()
    }

    /// Bytes that were not taken yet.
    pub(super) fn left(&self) -> u64 {
        *self.remaining.borrow()
    }

    /// How long the connection was kept waiting, by the content itself or for others' sake.
    pub(super) fn waited(&self) -> Duration {
        *locked(&self.waited)
    }

    /// Why the body broke, when it was the spool's doing.
    pub(in crate::store) fn take_failure(&self) -> Option<io::Error> {
        locked(&self.failure).take()
    }

    /// Ends when no byte was taken for `body_patience`, or no answer came within `answer_patience` of the last one.
    pub(in crate::store) async fn stalled(
        &self,
        body_patience: Duration,
        answer_patience: Duration,
    ) -> Stall {
        let mut watched = self.remaining.subscribe();
        loop {
            let remaining = *watched.borrow_and_update();
            let (stall, patience) = match remaining {
                0 => (Stall::Answer, answer_patience),
                _ => (Stall::Body { remaining }, body_patience),
            };
            if timeout(patience, watched.changed()).await.is_err() {
                return stall;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Publishable, Verified};
    use http_body_util::BodyExt;

    fn body(length: usize) -> (Body, Arc<Progress>) {
        let content = Verified::composed(vec![7u8; length]);
        Body::new(content.length(), content.chunks())
    }

    #[tokio::test]
    async fn frames_are_small_and_the_end_stays_the_end() {
        let (mut body, _) = body(600_000);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(frames, [262_144, 262_144, 75_712]);
        assert!(body.frame().await.is_none());
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(0));
    }

    #[tokio::test]
    async fn a_body_that_is_not_taken_is_a_stall_and_so_is_a_missing_answer() {
        const SOON: Duration = Duration::from_millis(10);
        const NEVER: Duration = Duration::from_hours(1);
        let (mut body, progress) = body(300_000);
        let stall = progress.stalled(SOON, NEVER).await;
        assert_eq!(stall, Stall::Body { remaining: 300_000 });
        body.frame().await.unwrap().unwrap();
        let stall = progress.stalled(SOON, NEVER).await;
        assert_eq!(stall, Stall::Body { remaining: 37_856 });
        while body.frame().await.is_some() {}
        assert_eq!(progress.stalled(NEVER, SOON).await, Stall::Answer);
    }
}
