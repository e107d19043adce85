//! Tells systemd how the service is, where it was started by it (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;

/// Without a watchdog there is still something to look after.
const BEAT: Duration = Duration::from_secs(5);

/// How often systemd wants a sign of life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watchdog {
    limit: Option<Duration>,
}

impl Watchdog {
    pub(super) fn found() -> Self {
        Self {
            limit: sd_notify::watchdog_enabled(),
        }
    }

    /// Half of the time after which it takes the service for dead.
    pub(super) fn beat(self) -> Duration {
        self.limit.map_or(BEAT, |limit| (limit / 2).min(BEAT))
    }

    pub(super) fn alive(self) {
        if self.limit.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The time is what Type=notify-reload asks for.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}
