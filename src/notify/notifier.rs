//! Brings each message to each hook until it is there: what waits, what was told, and for how long it is tried.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
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
    /// What the settings call the hook.
    #[serde(default)]
    name: String,
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

/// A desk and whose it is.
#[derive(Debug)]
struct Known {
    /// The same while its hook changes; never another's.
    number: u64,
    /// The hook's id.
    id: String,
    desk: Desk,
}

impl Known {
    /// Says what is given up with it; how many messages that is.
    fn give_up(&self) -> u64 {
        let waited = self.desk.waiting.len();
        if waited > 0 {
            tracing::warn!(
                hook = self.desk.name,
                "a hook is not in the settings any more: {waited} messages that waited for it are given up"
            );
        }
        waited as u64
    }
}

/// A hook that is told things, for as long as the settings have it.
#[derive(Debug)]
struct Served {
    hook: Hook,
    known: Known,
}

#[derive(Debug, Default)]
struct State {
    served: Vec<Served>,
    numbers: u64,
    /// Whether it differs from what the history has.
    is_new: bool,
}

impl State {
    fn of(&mut self, number: u64) -> Option<&mut Served> {
        let mut served = self.served.iter_mut();
        served.find(|served| served.known.number == number)
    }

    /// Has these hooks and no others, with what is known of them; what is left of that is given back.
    fn renew(&mut self, hooks: &[Hook], mut known: Vec<Known>) -> Vec<Known> {
        self.served.clear();
        for hook in hooks {
            let id = hook.id();
            if self.served.iter().any(|served| served.known.id == id) {
                continue;
            }
            let before = take(&mut known, hook, hooks);
            let (number, desk) = match before {
                Some(before) => (before.number, before.desk),
                None => (self.next_number(), Desk::default()),
            };
            let desk = Desk {
                name: hook.name.clone(),
                ..desk
            };
            self.served.push(Served {
                hook: hook.clone(),
                known: Known { number, id, desk },
            });
        }
        self.is_new = true;
        known
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// What is known of a hook by its settings or, where these have changed, by its name.
fn take(known: &mut Vec<Known>, hook: &Hook, renewed: &[Hook]) -> Option<Known> {
    let id = hook.id();
    let by_id = known.iter().position(|known| known.id == id);
    let is_renamed = |known: &Known| {
        let has_name = !hook.name.is_empty() && known.desk.name == hook.name;
        has_name && renewed.iter().all(|other| other.id() != known.id)
    };
    let at = by_id.or_else(|| known.iter().position(is_renamed))?;
    Some(known.remove(at))
}

/// Tells hooks of occasions. Whoever owns it runs it.
pub struct Notifier {
    sender: Sender,
    patience: Patience,
    clock: Clock,
    history: History,
    state: Mutex<State>,
    offered: Notify,
    renewed: Notify,
    changed: Notify,
    told: AtomicU64,
    untold: AtomicU64,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier")
            .field("state", &self.state())
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
        let mut state = State::default();
        let known = remembered(&history).await.into_iter();
        let known = known.map(|(id, desk)| Known {
            number: state.next_number(),
            id,
            desk,
        });
        let known = known.collect();
        let untold: u64 = state.renew(&hooks, known).iter().map(Known::give_up).sum();
        Ok(Self {
            sender,
            patience,
            clock,
            state: Mutex::new(state),
            history,
            offered: Notify::new(),
            renewed: Notify::new(),
            changed: Notify::new(),
            told: AtomicU64::new(0),
            untold: AtomicU64::new(untold),
        })
    }

    /// Tells these hooks from now on, and no others. What waits for one that is still there, by its settings or at least by its
    /// name, goes on waiting; what waits for another is given up, with a word in the log. A message that is on its way arrives.
    pub fn renew(&self, hooks: &[Hook]) {
        let gone = {
            let mut state = self.state();
            let served = std::mem::take(&mut state.served).into_iter();
            let known = served.map(|served| served.known).collect();
            state.renew(hooks, known)
        };
        let untold = gone.iter().map(Known::give_up).sum();
        self.untold.fetch_add(untold, Ordering::Relaxed);
        self.renewed.notify_waiters();
        self.changed.notify_one();
    }

    /// Has every hook told that wants to know this and was not told lately. Returns at once.
    pub fn offer(&self, occasion: Occasion) {
        let occasion = occasion.bounded();
        let now = (self.clock)();
        self.enqueue(&occasion, now);
        self.offered.notify_waiters();
        self.changed.notify_one();
    }

    fn enqueue(&self, occasion: &Occasion, now: Timestamp) {
        let fingerprint = occasion.fingerprint();
        let oldest = before(now, self.patience.once_within);
        let mut state = self.state();
        let State { served, is_new, .. } = &mut *state;
        let wants = |served: &&mut Served| served.hook.wants(occasion);
        for Served { hook, known } in served.iter_mut().filter(wants) {
            let desk = &mut known.desk;
            desk.told.retain(|_, told| *told > oldest);
            if occasion.kind() != Kind::Test && desk.knows(&fingerprint) {
                continue;
            }
            if desk.waiting.len() >= self.patience.waiting_max.max(1) {
                desk.waiting.pop_front();
                self.untold.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("{hook} has so much to be told that the oldest message is given up");
            }
            desk.waiting.push_back(Waiting {
                delivery: delivery_id(),
                fingerprint: fingerprint.clone(),
                since: now,
                occasion: occasion.clone(),
            });
            *is_new = true;
        }
    }

    /// Tells until it is stopped; what waits then is told after the next start. To be stopped, not dropped: what is being written
    /// down is written first.
    pub async fn run(&self, stop: &CancellationToken) {
        let telling = stop.run_until_cancelled(self.serve_all());
        tokio::join!(telling, self.remember(stop));
        self.save().await;
    }

    /// Those hooks that there are, and those that come.
    async fn serve_all(&self) {
        let mut serving = FuturesUnordered::new();
        let mut last = 0;
        loop {
            let renewed = self.renewed.notified();
            tokio::pin!(renewed);
            renewed.as_mut().enable();
            let numbers = self.numbers_after(last);
            last = numbers.iter().copied().max().unwrap_or(last);
            serving.extend(numbers.into_iter().map(|number| self.serve(number)));
            let telling = async {
                while serving.next().await.is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = renewed => {}
                () = telling => unreachable!("it waits for other hooks"),
            }
        }
    }

    fn numbers_after(&self, last: u64) -> Vec<u64> {
        let state = self.state();
        let numbers = state.served.iter().map(|served| served.known.number);
        numbers.filter(|number| *number > last).collect()
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
            .served
            .iter()
            .map(|served| served.known.desk.waiting.len())
            .sum::<usize>();
        Counts {
            told: self.told.load(Ordering::Relaxed),
            untold: self.untold.load(Ordering::Relaxed),
            waiting: waiting as u64,
        }
    }

    /// One hook's messages in their order, until the settings have it no more; hooks do not wait for each other.
    async fn serve(&self, number: u64) {
        loop {
            let offered = self.offered.notified();
            let renewed = self.renewed.notified();
            tokio::pin!(offered, renewed);
            offered.as_mut().enable();
            renewed.as_mut().enable();
            let Some((hook, next)) = self.next(number) else {
                return;
            };
            match next {
                None => {
                    tokio::select! {
                        () = offered => {}
                        () = renewed => {}
                    }
                }
                Some(waiting) => {
                    if let Some(came) = self.deliver(number, &waiting).await {
                        self.settle(number, &waiting, came);
                        self.changed.notify_one();
                        sleep(spacing(hook.body)).await;
                    }
                }
            }
        }
    }

    /// A hook as it is now, and what is to be told to it next; None when it is gone.
    fn next(&self, number: u64) -> Option<(Hook, Option<Waiting>)> {
        let mut state = self.state();
        let served = state.of(number)?;
        Some((
            served.hook.clone(),
            served.known.desk.waiting.front().cloned(),
        ))
    }

    /// Tries until the message is there, or it is not worth it any more; None when its hook is gone.
    async fn deliver(&self, number: u64, waiting: &Waiting) -> Option<Result<(), NotTold>> {
        let mut attempts = Attempts::new(self.patience.policy);
        loop {
            let renewed = self.renewed.notified();
            tokio::pin!(renewed);
            renewed.as_mut().enable();
            let (hook, _) = self.next(number)?;
            let post = form::post(&hook, &waiting.occasion, &waiting.delivery, (self.clock)());
            // Whatever is renewed meanwhile: a request that is cut may have arrived, and would come again.
            let Err(error) = self.sender.send(&hook, post).await else {
                return Some(Ok(()));
            };
            let pause = attempts
                .failed()
                .filter(|_| error.class() == Class::Transient);
            let Some(pause) = pause.map(|pause| pause.max(error.retry_after().unwrap_or_default()))
            else {
                return Some(Err(error));
            };
            let age = (self.clock)().duration_since(waiting.since);
            let age = Duration::try_from(age).unwrap_or_default();
            if age + pause > self.patience.give_up_after {
                return Some(Err(error));
            }
            tracing::info!(
                "{}; it is tried again in {} s",
                told(&error),
                pause.as_secs()
            );
            tokio::select! {
                () = sleep(pause) => {}
                // What was wrong may be right now.
                () = renewed => attempts = Attempts::new(self.patience.policy),
            }
        }
    }

    /// Writes down what came of a message.
    fn settle(&self, number: u64, waiting: &Waiting, came: Result<(), NotTold>) {
        let now = (self.clock)();
        let mut state = self.state();
        let has_arrived = came.is_ok();
        match came {
            Ok(()) => self.told.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::error!("a message is given up: {}", told(&error));
                self.untold.fetch_add(1, Ordering::Relaxed)
            }
        };
        let Some(served) = state.of(number) else {
            return;
        };
        let desk = &mut served.known.desk;
        desk.waiting
            .retain(|other| other.delivery != waiting.delivery);
        if has_arrived {
            desk.told.insert(waiting.fingerprint.clone(), now);
        }
        state.is_new = true;
    }

    /// Remembers what has changed since the last time.
    async fn save(&self) {
        let text = {
            let mut state = self.state();
            if !std::mem::take(&mut state.is_new) {
                return;
            }
            let desks = state.served.iter();
            let desks = desks.map(|served| (served.known.id.clone(), &served.known.desk));
            let desks: BTreeMap<String, &Desk> = desks.collect();
            serde_json::to_string(&desks).expect("it is plain data")
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
