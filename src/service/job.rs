//! One job of a set: waits until it is due or ordered, has it run, and waits again.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::orders::Order;
use super::runner::{Closing, Ran};
use super::watch::Watch;
use super::{Service, Set, written};
use crate::board::Progress;
use crate::events::Observer;
use crate::record::{End, Purpose};
use crate::schedule::Schedule;

/// What a job works with.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) service: Arc<Service>,
    pub(super) set: Arc<Set>,
    pub(super) purpose: Purpose,
    pub(super) schedule: Schedule,
    /// Other settings have come: it ends with the run that is under way.
    pub(super) retired: CancellationToken,
    pub(super) closing: Closing,
}

impl Job {
    pub(super) async fn work(self) {
        let last = self.service.memory.last(&self.set.name, self.purpose).await;
        let mut last = last.map(|run| run.began);
        // A mirror is looked at as soon as the service is there: nobody knows what happened meanwhile.
        let mut due = match self.purpose {
            Purpose::Sync => self.service.clock.now(),
            Purpose::Scrub | Purpose::Prune => self.next(last),
        };
        loop {
            self.show_due(due);
            let Some(order) = self.wait(due).await else {
                return;
            };
            last = Some(self.service.clock.now());
            let again_at = self.run(&order).await;
            self.service.orders.forget(&order.id);
            let next = self.next(last);
            due = again_at.map_or(next, |again_at| again_at.min(next));
        }
    }

    fn next(&self, last: Option<Timestamp>) -> Timestamp {
        let salt = written::salt(&self.set.name, self.purpose);
        self.schedule.next(self.service.clock.now(), last, salt)
    }

    fn show_due(&self, due: Timestamp) {
        if self.purpose != Purpose::Sync {
            return;
        }
        self.service
            .update_set(&self.set.name, |set| set.next_run = Some(due));
    }

    /// The next run; None when there is to be none.
    async fn wait(&self, due: Timestamp) -> Option<Order> {
        let desk = self.service.orders.desk(&self.set.name, self.purpose);
        let clock = self.service.clock;
        loop {
            if let Some(order) = desk.take() {
                return Some(order);
            }
            tokio::select! {
                biased;
                () = self.retired.cancelled() => return None,
                () = self.closing.stop.cancelled() => return None,
                () = desk.came.notified() => {}
                () = clock.until(due) => {
                    let orders = &self.service.orders;
                    return Some(orders.new_order(&self.set.name, self.purpose, clock.now()));
                }
            }
        }
    }

    /// Has it run; when another is worth trying before its time.
    async fn run(&self, order: &Order) -> Option<Timestamp> {
        let began = self.service.clock.now();
        let closing = Closing {
            draining: self.closing.draining.clone(),
            stop: self.closing.stop.child_token(),
        };
        let cancelling = async {
            tokio::select! {
                () = order.cancel.cancelled() => {}
                () = self.is_not_worth_draining() => {}
            }
            closing.stop.cancel();
            std::future::pending::<()>().await;
        };
        let ran = tokio::select! {
            ran = self.when_possible(order, began, &closing) => ran,
            () = cancelling => unreachable!("it only passes a cancellation on"),
        };
        let again_at = ran.again_at;
        self.write_down(order, began, ran).await;
        again_at
    }

    /// Ends when the service drains and this is a scrub, which goes on where it stopped: nothing of it is worth waiting for.
    async fn is_not_worth_draining(&self) {
        match self.purpose {
            Purpose::Scrub => self.closing.draining.cancelled().await,
            Purpose::Sync | Purpose::Prune => std::future::pending().await,
        }
    }

    /// Runs once the line is free, unless it is stopped before.
    async fn when_possible(&self, order: &Order, began: Timestamp, closing: &Closing) -> Ran {
        let name = &self.set.name;
        self.service.show_waiting(order);
        let permit = tokio::select! {
            permit = self.service.permits(self.purpose).acquire() => permit.ok(),
            () = closing.stop.cancelled() => None,
            () = closing.draining.cancelled() => None,
        };
        let Some(_permit) = permit else {
            return Ran::nothing(End::Interrupted, None);
        };
        tracing::info!(set = name, run = order.id, "{} begins", self.purpose);
        let progress = Progress::begun(&order.id, self.purpose, began);
        let watch = Watch::new(Arc::clone(&self.service.board), name, progress);
        // Only now, so that it is to be seen at every moment.
        self.service
            .update_set(name, |set| set.waits_no_more(&order.id));
        let observer = Arc::clone(&watch) as Arc<dyn Observer>;
        let mut ran = tokio::select! {
            ran = self.set.runner.run(self.purpose, observer, closing) => ran,
            () = watch.refresh() => unreachable!("it goes on for as long as the run does"),
        };
        for note in watch.notes() {
            if !ran.notes.contains(&note) {
                ran.notes.push(note);
            }
        }
        ran
    }

    async fn write_down(&self, order: &Order, began: Timestamp, ran: Ran) {
        let name = &self.set.name;
        let run = written::run(
            &order.id,
            name,
            self.purpose,
            (began, self.service.clock.now()),
            &ran,
        );
        tracing::info!(
            set = name,
            run = order.id,
            "{} ended: {}",
            self.purpose,
            run.end
        );
        let run = self.service.memory.add(run).await;
        for occasion in written::occasions(&run, &ran) {
            self.service.teller.tell(occasion);
        }
        self.service.board.update(|status| {
            written::count(&mut status.counters, &run, &ran);
            if let Some(set) = status.set_mut(name) {
                written::show(set, run, ran);
            }
            status.ready = status.sets.iter().all(|set| set.last_run.is_some());
        });
    }
}
