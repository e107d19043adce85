//! Lets simulated time go on at two paces. It leaps to whatever is due next while nothing is under way. While something waits for
//! sockets it must not, or each time-out would be over before the first answer: there it goes on with the machine's time, only faster.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::advance;
use tokio_util::sync::CancellationToken;

use crate::events::Observer;
use crate::notify::{Notifier, Occasion};
use crate::record::Purpose;
use crate::service::{Clock, Closing, Ran, Runner, Teller};

/// Pauses of seconds before something is tried again shall not take seconds.
const FASTER: u32 = 20;
const STEP: Duration = Duration::from_millis(1);

/// Goes on for ever. Paused time does not leap while the blocking pool has something to do.
async fn step_by_step() -> Infallible {
    loop {
        let step = tokio::task::spawn_blocking(|| std::thread::sleep(STEP));
        step.await.unwrap();
        advance(STEP * FASTER).await;
    }
}

/// The runs of another, without leaps.
#[derive(Debug)]
pub(super) struct Paced(pub(super) Arc<dyn Runner>);

#[async_trait]
impl Runner for Paced {
    async fn run(&self, purpose: Purpose, observer: Arc<dyn Observer>, closing: &Closing) -> Ran {
        tokio::select! {
            ran = self.0.run(purpose, observer, closing) => ran,
            never = step_by_step() => match never {},
        }
    }

    async fn plan(&self, closing: &Closing) -> Result<serde_json::Value, String> {
        self.0.plan(closing).await
    }
}

/// Notes what is told, and passes it on to a notifier, whose messages go out without leaps.
#[derive(Debug)]
pub(super) struct Telling {
    notifier: Notifier,
    clock: Clock,
    told: Mutex<Vec<(Timestamp, Occasion)>>,
    offered: Notify,
}

impl Telling {
    pub(super) fn new(notifier: Notifier, clock: Clock) -> Self {
        Self {
            notifier,
            clock,
            told: Mutex::default(),
            offered: Notify::new(),
        }
    }

    pub(super) async fn run(&self, ended: &CancellationToken) {
        tokio::join!(
            self.notifier.run(ended),
            ended.run_until_cancelled(self.keep_pace())
        );
    }

    async fn keep_pace(&self) {
        loop {
            self.offered.notified().await;
            let all_arrived = async {
                while self.notifier.counts().waiting > 0 {
                    tokio::time::sleep(STEP).await;
                }
            };
            tokio::select! {
                () = all_arrived => {}
                never = step_by_step() => match never {},
            }
        }
    }

    /// All of it, with the hours since the beginning.
    pub(super) fn told(&self, begin: Timestamp) -> Vec<(u64, Occasion)> {
        let told = self.told.lock().unwrap();
        let hour = |at: &Timestamp| at.duration_since(begin).as_hours().cast_unsigned();
        told.iter()
            .map(|(at, occasion)| (hour(at), occasion.clone()))
            .collect()
    }
}

impl Teller for Telling {
    fn tell(&self, occasion: Occasion) {
        let noted = (self.clock.now(), occasion.clone());
        self.told.lock().unwrap().push(noted);
        self.notifier.offer(occasion);
        self.offered.notify_one();
    }
}
