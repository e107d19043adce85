//! Lets a request body in: counts it, times its stalls, and makes the troubles ordered for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::exchange::{Broken, Exchange};
use super::faults::Trouble;

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrivalError {
    #[error("the body stalled")]
    Stalled,
    #[error("the body was cut as ordered")]
    Cut,
    #[error("the body ended early")]
    Ended(#[source] hyper::Error),
}

/// A request body on its way in. What is left of it when it is dropped goes back to its [`Exchange`].
#[derive(Debug)]
pub(super) struct Arrival {
    body: Option<Incoming>,
    exchange: Arc<Exchange>,
    stall_limit: Duration,
    stall: Pin<Box<Sleep>>,
    trouble: Option<Trouble>,
    /// Set once the first byte was asked for: before that, time is not the client's to answer for.
    asked: bool,
    /// A frame that is handed on only after a while, because reading is slow.
    held: Option<(Bytes, Pin<Box<Sleep>>)>,
}

impl Arrival {
    pub(super) fn new(body: Incoming, exchange: Arc<Exchange>, stall_limit: Duration) -> Self {
        Self {
            body: Some(body),
            exchange,
            stall_limit,
            stall: Box::pin(sleep(stall_limit)),
            trouble: None,
            asked: false,
            held: None,
        }
    }

    fn restart_clock(&mut self) {
        self.stall.as_mut().reset(Instant::now() + self.stall_limit);
    }

    fn breaks(
        &mut self,
        how: Broken,
        error: ArrivalError,
    ) -> Poll<Option<Result<Frame<Bytes>, ArrivalError>>> {
        self.exchange.broke(how);
        self.body = None;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some((_, pause)) = &mut self.held {
            ready!(pause.as_mut().poll(cx));
            self.restart_clock();
        }
        Poll::Ready(self.held.take().map(|(frame, _)| frame))
    }
}

impl Body for Arrival {
    type Data = Bytes;
    type Error = ArrivalError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ArrivalError>>> {
        let this = &mut *self;
        if !this.asked {
            this.asked = true;
            this.trouble = this.exchange.trouble();
            this.restart_clock();
        }
        if let Some(frame) = ready!(this.poll_held(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                this.body = None;
                return Poll::Ready(Some(Err(ArrivalError::Ended(error))));
            }
            Poll::Ready(None) => {
                this.body = None;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                ready!(this.stall.as_mut().poll(cx));
                return this.breaks(Broken::Stalled, ArrivalError::Stalled);
            }
        };
        // Trailers of chunked transfer encoding say nothing here.
        let Ok(data) = frame.into_data() else {
            return Poll::Ready(None);
        };
        this.restart_clock();
        let arrived = this.exchange.received(data.len());
        match this.trouble {
            Some(Trouble::Cut { after_bytes }) if arrived >= after_bytes => {
                this.breaks(Broken::Cut, ArrivalError::Cut)
            }
            Some(Trouble::Slow { bytes_per_second }) => {
                let micros = data.len() as u64 * 1_000_000 / bytes_per_second.max(1);
                let pause = Box::pin(sleep(Duration::from_micros(micros)));
                this.held = Some((data, pause));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Ok(Frame::data(data)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // Exact only while untouched: that is when the length is asked for.
        match &self.body {
            Some(body) if self.held.is_none() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.exchange.leave(body);
        }
    }
}
