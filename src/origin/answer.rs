//! Brings an answer's body piece by piece, and gives it up when it stalls.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use reqwest::Response;

use super::OriginError;
use crate::digest::Digest;

/// What an origin answered to a request for a file or a part of it.
#[derive(Debug)]
pub struct Answer {
    /// The part that the body is, or None for the whole file.
    pub part: Option<Range<u64>>,
    /// The whole file's length, where it is told.
    pub total: Option<u64>,
    /// A strong validator of this source's file.
    pub etag: Option<String>,
    /// The whole file's MD5, where the origin tells it in a header (GCS, single-part S3): an extra check of the transport.
    pub md5: Option<Digest>,
    pub(super) shown: String,
    pub(super) response: Response,
    pub(super) stall_window: Duration,
    pub(super) stall_floor_bytes: u64,
    /// Time spent waiting for this body since the floor was last checked, and what came in it.
    pub(super) waited: Duration,
    pub(super) brought: u64,
    /// What [`Answer::pieces`] gathers.
    pub(super) buffer: BytesMut,
    /// The end, or the error, that was met while looking for more than was asked for: bodies tell it only once.
    pub(super) met: Option<Result<Option<Bytes>, OriginError>>,
}

impl Answer {
    /// The next piece of the body; None at its proper end. A stall is a speed below the floor over the window, counted only
    /// while waiting here: what the reader does between two calls is not the origin's fault.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, OriginError> {
        if let Some(met) = self.met.take() {
            return met;
        }
        let started = tokio::time::Instant::now();
        let left = self.stall_window.saturating_sub(self.waited);
        let piece = tokio::time::timeout(left, self.response.chunk()).await;
        self.waited += started.elapsed();
        let piece = match piece {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => {
                return Err(OriginError::Cut {
                    url: self.shown.clone(),
                    source: error.without_url().into(),
                });
            }
            Err(_) => return self.check_floor().map(|()| Some(Bytes::new())),
        };
        self.brought += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.waited >= self.stall_window {
            self.check_floor()?;
        }
        Ok(piece)
    }

    fn check_floor(&mut self) -> Result<(), OriginError> {
        let wanted = self.stall_floor_bytes as f64 * self.stall_window.as_secs_f64();
        if (self.brought as f64) < wanted.max(1.0) {
            return Err(OriginError::Stalled {
                url: self.shown.clone(),
                floor_bytes: self.stall_floor_bytes,
                window: self.stall_window,
            });
        }
        self.waited = Duration::ZERO;
        self.brought = 0;
        Ok(())
    }

    /// What has come of the body: waits for the first piece, then takes what is there already, up to `bytes_max` unless one piece
    /// has more. None at the proper end.
    ///
    /// A piece keeps all of the buffer that it was read into, some 400 KiB however little of that it is, and until it is dropped
    /// the connection reads on into another one. So small ones are copied, into one buffer that serves again, and large ones are
    /// given out as they are, one at a time.
    pub async fn pieces(&mut self, bytes_max: usize) -> Result<Option<Bytes>, OriginError> {
        let Some(first) = self.piece().await? else {
            return Ok(None);
        };
        if first.len() >= bytes_max / 2 {
            return Ok(Some(first));
        }
        self.buffer.reserve(bytes_max);
        self.buffer.extend_from_slice(&first);
        drop(first);
        while self.buffer.len() < bytes_max {
            match self.piece().now_or_never() {
                Some(Ok(Some(piece))) if self.buffer.len() + piece.len() <= bytes_max => {
                    self.buffer.extend_from_slice(&piece);
                }
                met => {
                    self.met = met;
                    break;
                }
            }
        }
        Ok(Some(self.buffer.split().freeze()))
    }

    /// The whole body, which may not be longer than this.
    pub(super) async fn whole(mut self, limit_bytes: u64) -> Result<Bytes, OriginError> {
        let mut content = Vec::new();
        while let Some(piece) = self.piece().await? {
            content.extend_from_slice(&piece);
            if content.len() as u64 > limit_bytes {
                return Err(OriginError::TooLarge {
                    url: self.shown,
                    limit_bytes,
                });
            }
        }
        Ok(content.into())
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }
}
