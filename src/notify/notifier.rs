//! Brings each message to each hook until it is there: what waits, what was told, and for how long it is tried.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::delivery::{NotTold, Sender};
use super::form;
use super::occasion::{Kind, Occasion};
use super::{Body, Hook};
use crate::events::told;
use crate::history::History;
use crate::retry::{Attempts, Class, Policy};

/// What it is remembered by in the history.
const STATE: &str = "notify";

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// For how long messages are tried and remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub policy: Policy,
    /// A message that is older is of no use any more.
    pub give_up_after: Duration,
    /// The same occasion is told once within this time.
    pub once_within: Duration,
    /// Messages that wait for one hook; of more, the oldest go.
    pub waiting_max: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // A webhook that is away for a night is tried each half hour.
            policy: Policy {
                attempts: 100,
                pause_min: Duration::from_secs(2),
                pause_max: Duration::from_mins(30),
            },
            give_up_after: Duration::from_hours(24),
            once_within: Duration::from_hours(24),
            waiting_max: 256,
        }
    }
}

/// What became of messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub told: u64,
    /// Given up.
    pub untold: u64,
    pub waiting: u64,
}

/// A message that waits for one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    delivery: String,
    fingerprint: String,
    since: Timestamp,
    occasion: Occasion,
}

/// What is known of one hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Desk {
    waiting: VecDeque<Waiting>,
    /// By fingerprint, when.
    told: BTreeMap<String, Timestamp>,
}

impl Desk {
    fn knows(&self, fingerprint: &str) -> bool {
        let waits = |waiting: &Waiting| waiting.fingerprint == fingerprint;
        self.told.contains_key(fingerprint) || self.waiting.iter().any(waits)
    }
}

#[derive(Debug, Default)]
struct State {
    /// By the hook's id.
    desks: BTreeMap<String, Desk>,
    /// Whether it differs from what the history has.
    is_new: bool,
}

/// Tells hooks of occasions. Whoever owns it runs it.
pub struct Notifier {
    hooks: Vec<Hook>,
    sender: Sender,
    patience: Patience,
    clock: Clock,
    history: History,
    state: Mutex<State>,
    offered: Notify,
    changed: Notify,
    told: AtomicU64,
    untold: AtomicU64,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("hooks", &self.hooks)
            .field("patience", &self.patience)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Notifier {
    /// With what the history remembers of these hooks; what it does not know any more is told anew.
    pub async fn new(
        hooks: Vec<Hook>,
        history: History,
        patience: Patience,
        clock: Clock,
    ) -> Result<Self, NotTold> {
        let sender = Sender::new().map_err(|error| NotTold::client(&error))?;
        let mut remembered = remembered(&history).await;
        let mut state = State::default();
        let mut different = Vec::new();
        for hook in hooks {
            let id = hook.id();
            let desk = remembered.remove(&id).unwrap_or_default();
            if state.desks.insert(id, desk).is_none() {
                different.push(hook);
            }
        }
        Ok(Self {
            hooks: different,
            sender,
            patience,
            clock,
            history,
            state: Mutex::new(state),
            offered: Notify::new(),
            changed: Notify::new(),
            told: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        })
    }

    /// Has every hook told that wants to know this and was not told lately. Returns at once.
    pub fn offer(&self, occasion: Occasion) {
        let occasion = occasion.bounded();
        let now = (self.clock)();
        for hook in self.hooks.iter().filter(|hook| hook.wants(&occasion)) {
            self.enqueue(hook, &occasion, now);
        }
        self.offered.notify_waiters();
        self.changed.notify_one();
    }

    fn enqueue(&self, hook: &Hook, occasion: &Occasion, now: Timestamp) {
        let fingerprint = occasion.fingerprint();
        let oldest = before(now, self.patience.once_within);
        let mut state = self.state();
        let State { desks, is_new } = &mut *state;
        let desk = desks.entry(hook.id()).or_default();
        desk.told.retain(|_, told| *told > oldest);
        if occasion.kind() != Kind::Test && desk.knows(&fingerprint) {
            return;
        }
        if desk.waiting.len() >= self.patience.waiting_max.max(1) {
            desk.waiting.pop_front();
            self.untold.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("{hook} has so much to be told that the oldest message is given up");
        }
        desk.waiting.push_back(Waiting {
            delivery: delivery_id(),
            fingerprint,
            since: now,
            occasion: occasion.clone(),
        });
        *is_new = true;
    }

    /// Tells until it is stopped; what waits then is told after the next start. To be stopped, not dropped: what is being written
    /// down is written first.
    pub async fn run(&self, stop: &CancellationToken) {
        let telling = join_all(self.hooks.iter().map(|hook| self.serve(hook)));
        let telling = stop.run_until_cancelled(telling);
        tokio::join!(telling, self.remember(stop));
        self.save().await;
    }

    /// Writes down what changes, one thing after the other.
    async fn remember(&self, stop: &CancellationToken) {
        let changed = || stop.run_until_cancelled(self.changed.notified());
        while changed().await.is_some() {
            self.save().await;
        }
    }

    pub fn counts(&self) -> Counts {
        let waiting = self
            .state()
            .desks
            .values()
            .map(|desk| desk.waiting.len())
            .sum::<usize>();
        Counts {
            told: self.told.load(Ordering::Relaxed),
            untold: self.untold.load(Ordering::Relaxed),
            waiting: waiting as u64,
        }
    }

    /// One hook's messages in their order; hooks do not wait for each other.
    async fn serve(&self, hook: &Hook) {
        let id = hook.id();
        loop {
            let offered = self.offered.notified();
            tokio::pin!(offered);
            offered.as_mut().enable();
            let next = self
                .state()
                .desks
                .get(&id)
                .and_then(|desk| desk.waiting.front().cloned());
            match next {
                None => offered.await,
                Some(waiting) => {
                    let came = self.deliver(hook, &waiting).await;
                    self.settle(hook, &waiting, came);
                    self.changed.notify_one();
                    sleep(spacing(hook.body)).await;
                }
            }
        }
    }

    /// Tries until the message is there, or it is not worth it any more.
    async fn deliver(&self, hook: &Hook, waiting: &Waiting) -> Result<(), NotTold> {
        let mut attempts = Attempts::new(self.patience.policy);
        loop {
            let post = form::post(hook, &waiting.occasion, &waiting.delivery, (self.clock)());
            let Err(error) = self.sender.send(hook, post).await else {
                return Ok(());
            };
            let pause = attempts
                .failed()
                .filter(|_| error.class() == Class::Transient);
            let Some(pause) = pause.map(|pause| pause.max(error.retry_after().unwrap_or_default()))
            else {
                return Err(error);
            };
            let age = (self.clock)().duration_since(waiting.since);
            let age = Duration::try_from(age).unwrap_or_default();
            if age + pause > self.patience.give_up_after {
                return Err(error);
            }
            tracing::info!(
                "{}; it is tried again in {} s",
                told(&error),
                pause.as_secs()
            );
            sleep(pause).await;
        }
    }

    /// Writes down what came of a message.
    fn settle(&self, hook: &Hook, waiting: &Waiting, came: Result<(), NotTold>) {
        let now = (self.clock)();
        let mut state = self.state();
        let State { desks, is_new } = &mut *state;
        let desk = desks.entry(hook.id()).or_default();
        desk.waiting
            .retain(|other| other.delivery != waiting.delivery);
        *is_new = true;
        match came {
            Ok(()) => {
                desk.told.insert(waiting.fingerprint.clone(), now);
                self.told.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.untold.fetch_add(1, Ordering::Relaxed);
                tracing::error!("a message is given up: {}", told(&error));
            }
        }
    }

    /// Remembers what has changed since the last time.
    async fn save(&self) {
        let text = {
            let mut state = self.state();
            if !std::mem::take(&mut state.is_new) {
                return;
            }
            serde_json::to_string(&state.desks).expect("it is plain data")
        };
        if let Err(error) = self.history.set(STATE, &text).await {
            self.state().is_new = true;
            tracing::warn!(
                "what was told is not remembered over a restart: {}",
                told(&error)
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn remembered(history: &History) -> BTreeMap<String, Desk> {
    let text = match history.get(STATE).await {
        Ok(text) => text.unwrap_or_else(|| "{}".to_owned()),
        Err(error) => {
            tracing::warn!("what was told is not known any more: {}", told(&error));
            return BTreeMap::new();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!("what was told can't be read: {error}");
        BTreeMap::new()
    })
}

/// What a message is known by.
pub(super) fn delivery_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Between two messages: DingTalk and WeCom take 20 a minute, the others at least one a second.
fn spacing(body: Body) -> Duration {
    match body {
        Body::DingTalk | Body::WeCom => Duration::from_secs(3),
        Body::Feishu | Body::Slack => Duration::from_secs(1),
        Body::Json => Duration::ZERO,
    }
}

fn before(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
