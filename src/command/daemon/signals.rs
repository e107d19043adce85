//! What signals have the service do: end when it can, end now, read the settings again.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::service::Closing;

/// The signals that are heard.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("can't listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Closes at the first SIGTERM or Ctrl-C: what is under way has `drain` to end, or until the second one. `reload` is called at
    /// each SIGHUP.
    pub(super) async fn heed(
        mut self,
        closing: &Closing,
        drain: watch::Receiver<Duration>,
        reload: impl Fn(),
    ) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hang_up.recv() => reload(),
            }
        }
        let drain = *drain.borrow();
        tracing::info!(limit = ?drain, "ending: files under way go on, no other is begun");
        closing.draining.cancel();
        tokio::select! {
            () = sleep(drain) => tracing::info!("what is still under way is dropped; the next run goes on from there"),
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        closing.stop.cancel();
    }
}
