//! Follows upstream for months: decides when a set runs, has it run, and writes down what came of it.
//!
//! Every purpose of every set is a job of its own, with its own schedule and its own queue. One run crosses the border at a time,
//! since two would only share the line; a mirror is read again beside it. The board shows what is, the history what was.

mod clock;
mod desk;
mod job;
mod orders;
mod runner;
mod watch;
mod written;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch as watched};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::clock::Clock;
pub use self::desk::Counter;
use self::orders::{Order, Orders};
pub use self::runner::{Closing, Ran, Runner};
use crate::board::{Board, Refused, SetStatus, WaitingRun};
use crate::notify::Occasion;
use crate::record::{End, Purpose, Run};
use crate::schedule::Schedule;

/// One set of releases that is followed.
#[derive(Debug, Clone)]
pub struct Set {
    pub name: String,
    /// The targets in a user's words.
    pub targets: Vec<String>,
    /// What it does, and when. Each purpose once.
    pub jobs: Vec<(Purpose, Schedule)>,
    pub runner: Arc<dyn Runner>,
}

/// Where what was is kept. What can't be written or read is told in the log: the targets know better.
#[async_trait]
pub trait Memory: Send + Sync + fmt::Debug {
    /// How it is remembered: it may stand for several that only repeat each other.
    async fn add(&self, run: Run) -> Run;

    /// Newest first: at most so many, of those before a run's id.
    async fn runs(&self, most: usize, before: Option<&str>) -> Vec<Run>;

    async fn run(&self, id: &str) -> Option<Run>;

    /// The newest run of a set for a purpose.
    async fn last(&self, set: &str, purpose: Purpose) -> Option<Run>;
}

/// Who tells people what happened.
pub trait Teller: Send + Sync + fmt::Debug {
    /// Takes it and returns at once.
    fn tell(&self, occasion: Occasion);
}

/// What a service is made of.
#[derive(Debug)]
pub struct Service {
    board: Arc<Board>,
    memory: Arc<dyn Memory>,
    teller: Arc<dyn Teller>,
    clock: Clock,
    orders: Orders,
    /// Held by who crosses the border.
    crossing: Semaphore,
    /// Held by who reads a mirror again.
    reading: Semaphore,
}

impl Service {
    pub fn new(
        board: Arc<Board>,
        memory: Arc<dyn Memory>,
        teller: Arc<dyn Teller>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            board,
            memory,
            teller,
            clock,
            orders: Orders::default(),
            crossing: Semaphore::new(1),
            reading: Semaphore::new(1),
        })
    }

    /// Who takes orders for it.
    pub fn desk(self: &Arc<Self>) -> Counter {
        Counter::new(Arc::clone(self))
    }

    /// Runs the sets until it is closed. Whenever other sets are given, those of before end with the runs that are under way.
    pub async fn run(self: &Arc<Self>, mut sets: watched::Receiver<Vec<Set>>, closing: &Closing) {
        let mut jobs = JoinSet::new();
        loop {
            let generation = sets.borrow_and_update().clone();
            let retired = closing.draining.child_token();
            self.show(&generation).await;
            for order in self.orders.renew(&generation) {
                let why = "the settings have no such runs any more".to_owned();
                self.give_up(order, Some(why)).await;
            }
            self.begin(&generation, &retired, closing, &mut jobs);
            let renewed = tokio::select! {
                renewed = sets.changed() => renewed.is_ok(),
                () = closing.draining.cancelled() => false,
                () = closing.stop.cancelled() => false,
            };
            if !renewed {
                break;
            }
            retired.cancel();
        }
        closing.draining.cancelled().await;
        self.board.update(|status| status.draining = true);
        while jobs.join_next().await.is_some() {}
    }

    fn begin(
        self: &Arc<Self>,
        sets: &[Set],
        retired: &CancellationToken,
        closing: &Closing,
        jobs: &mut JoinSet<()>,
    ) {
        for set in sets {
            let set = Arc::new(set.clone());
            for (purpose, schedule) in &set.jobs {
                let job = job::Job {
                    service: Arc::clone(self),
                    set: Arc::clone(&set),
                    purpose: *purpose,
                    schedule: schedule.clone(),
                    retired: retired.clone(),
                    closing: closing.clone(),
                };
                jobs.spawn(job.work());
            }
        }
    }

    /// Has a run of a set begin as soon as it can; its id.
    fn order(&self, set: &str, purpose: Purpose) -> Result<String, Refused> {
        let desk = self.orders.known_desk(set, purpose)?;
        let order = self.orders.new_order(set, purpose, self.clock.now());
        let id = order.id.clone();
        // Before anybody can take it: who begins it shows that it waits no more.
        self.show_waiting(&order);
        desk.put(order).map(|()| id.clone()).map_err(|before| {
            self.orders.forget(&id);
            self.update_set(set, |set| set.waits_no_more(&id));
            Refused::NotNow(format!(
                "run {before} of this set waits already, and will find what this one would"
            ))
        })
    }

    /// Stops a run that is under way; one that nobody has taken yet has ended with that.
    async fn cancel(&self, id: &str) -> Result<(), Refused> {
        match self.orders.take_back(id) {
            Some(order) => self.give_up(order, None).await,
            None => self.orders.cancel(id)?,
        }
        Ok(())
    }

    fn show_waiting(&self, order: &Order) {
        let waiting = WaitingRun {
            run: order.id.clone(),
            purpose: order.purpose,
            since: order.since,
        };
        self.update_set(&order.set, |set| set.waits(waiting));
    }

    fn update_set(&self, name: &str, change: impl FnOnce(&mut SetStatus)) {
        self.board.update(|status| {
            if let Some(set) = status.set_mut(name) {
                change(set);
            }
        });
    }

    /// Writes down a run that was ordered and never begun.
    async fn give_up(&self, order: Order, why: Option<String>) {
        let ran = Ran::nothing(End::Interrupted, why);
        let times = (order.since, self.clock.now());
        let run = written::run(&order.id, &order.set, order.purpose, times, &ran);
        let run = self.memory.add(run).await;
        self.orders.forget(&order.id);
        self.board.update(|status| {
            written::count(&mut status.counters, &run, &ran);
            if let Some(set) = status.set_mut(&order.set) {
                set.waits_no_more(&order.id);
            }
        });
    }

    /// Puts the sets on the board; what is known of one stays.
    async fn show(&self, sets: &[Set]) {
        let before = self.board.status();
        let mut shown = Vec::new();
        for set in sets {
            shown.push(self.shown(set, before.set(&set.name)).await);
        }
        self.board.update(|status| status.sets = shown);
    }

    async fn shown(&self, set: &Set, known: Option<&SetStatus>) -> SetStatus {
        let of_before = match known {
            Some(known) => known.clone(),
            None => self.remembered(&set.name).await,
        };
        let schedules = set.jobs.iter().map(|(_, schedule)| schedule.to_string());
        SetStatus {
            targets: set.targets.clone(),
            schedule: schedules.take(1).collect(),
            ..of_before
        }
    }

    async fn remembered(&self, set: &str) -> SetStatus {
        let last = self.memory.last(set, Purpose::Sync).await;
        let success = last.as_ref().filter(|run| written::is_success(run));
        SetStatus {
            last_success: success.map(|run| run.ended),
            last_run: last,
            ..SetStatus::named(set)
        }
    }

    fn permits(&self, purpose: Purpose) -> &Semaphore {
        match purpose {
            Purpose::Sync | Purpose::Prune => &self.crossing,
            Purpose::Scrub => &self.reading,
        }
    }
}
