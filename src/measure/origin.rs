//! Measures a source of files: parts of a large one, side by side, and thrown away as they come.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ladder::{ASKED_MIN, Ledger, Leg, Trouble, climb};
use super::{Allowance, Measured, Side};
use crate::events::{Event, Observer, told};
use crate::limits::{Host, Limits};
use crate::origin::{OriginError, Origins, Source};
use crate::retry::{Attempts, Class, Policy};

/// A large file at one source.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The host of its canonical URL, as settings know it.
    pub host: String,
    pub source: Source,
}

/// The upstreams as a run reaches them.
#[derive(Debug)]
pub struct Upstreams {
    pub origins: Origins,
    pub limits: Limits,
    pub policy: Policy,
}

/// Reads parts of the sample over more and more connections.
pub async fn measure(
    sample: &Sample,
    upstreams: &Upstreams,
    allowance: Allowance,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Measured {
    let mut measured = Measured::begun(Side::Origin, sample.source.host());
    measured.host = Some(sample.host.clone());
    measured.carried = format!("parts of {}", sample.source);
    let looked = stop.run_until_cancelled(length(sample, upstreams));
    let length = match looked.await {
        None => return measured,
        Some(Err(why)) => {
            measured.failed = Some(why);
            return measured;
        }
        Some(Ok(length)) => length,
    };
    let parts = Parts {
        sample,
        upstreams,
        host: upstreams.limits.host(&sample.source),
        length,
        at: AtomicU64::default(),
        silence: upstreams.origins.settings().hedge_after,
    };
    let cap = sample.source.connections().unwrap_or(usize::MAX);
    let allowance = Allowance {
        connections: allowance.connections.min(cap),
        ..allowance
    };
    let tell = |connections| {
        let place = measured.place.clone();
        observer.event(&Event::Measuring { place, connections });
    };
    let climbed = climb(&parts, allowance, tell, stop).await;
    measured.take(climbed);
    measured
}

/// The sample's length, asked for as patiently as a transfer asks.
async fn length(sample: &Sample, upstreams: &Upstreams) -> Result<u64, String> {
    let mut attempts = Attempts::new(upstreams.policy);
    loop {
        let error = match upstreams.origins.open(&sample.source, Some(0..1)).await {
            Ok(answer) => match answer.total {
                Some(length) if length > 0 => return Ok(length),
                _ => return Err(format!("{} does not tell its length", sample.source)),
            },
            Err(error) => error,
        };
        let pause = match error.class() {
            Class::Transient => attempts.failed(),
            _ => None,
        };
        match pause {
            Some(pause) => sleep(error.retry_after().unwrap_or(pause).max(pause)).await,
            None => return Err(told(&error)),
        }
    }
}

struct Parts<'a> {
    sample: &'a Sample,
    upstreams: &'a Upstreams,
    host: Arc<Host>,
    length: u64,
    at: AtomicU64,
    silence: Duration,
}

impl Parts<'_> {
    /// The next part of about this many bytes; the file begins anew where it ends.
    fn next(&self, bytes: u64) -> Range<u64> {
        let bytes = bytes.clamp(ASKED_MIN, self.length.max(ASKED_MIN));
        let start = self.at.fetch_add(bytes, Ordering::Relaxed) % self.length;
        start..(start + bytes).min(self.length)
    }
}

impl Leg for Parts<'_> {
    /// As far as the first rung's own slow start goes, which is read apart.
    async fn warm_up(&self, _: &Ledger) -> Result<(), Trouble> {
        Ok(())
    }

    async fn carry(&self, ledger: &Ledger) -> Result<(), Trouble> {
        let part = self.next(ledger.share());
        let origins = &self.upstreams.origins;
        let mut answer = origins
            .open(&self.sample.source, Some(part))
            .await
            .map_err(|error| trouble(&error))?;
        loop {
            let piece = answer.piece();
            tokio::pin!(piece);
            let soon = timeout(self.silence, &mut piece).await;
            if soon.is_err() {
                ledger.was_silent();
            }
            let piece = match soon {
                Ok(piece) => piece,
                Err(_) => piece.await,
            };
            let Some(piece) = piece.map_err(|error| trouble(&error))? else {
                return Ok(());
            };
            ledger.came(piece.len() as u64);
            self.upstreams.limits.pass(&self.host, piece.len()).await;
        }
    }
}

fn trouble(error: &OriginError) -> Trouble {
    let is_refused =
        matches!(error, OriginError::Status { status, .. } if matches!(status.as_u16(), 429 | 503));
    if is_refused {
        Trouble::Refused(told(error))
    } else if error.class() != Class::Transient {
        Trouble::Failed(told(error))
    } else {
        Trouble::Broke(told(error))
    }
}
