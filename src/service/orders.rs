//! Runs that somebody asked for, and the means to stop those that are under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Set;
use crate::board::Refused;
use crate::record::Purpose;

/// A run that waits for its turn.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) set: String,
    pub(super) purpose: Purpose,
    pub(super) since: Timestamp,
    pub(super) cancel: CancellationToken,
}

/// What waits for one job: at most one run, since a second would find everything done.
#[derive(Debug, Default)]
pub(super) struct Desk {
    waiting: Mutex<Option<Order>>,
    pub(super) came: Notify,
}

impl Desk {
    pub(super) fn take(&self) -> Option<Order> {
        locked(&self.waiting).take()
    }

    /// Takes an order out that is not wanted any more.
    fn take_back(&self, id: &str) -> Option<Order> {
        locked(&self.waiting).take_if(|order| order.id == id)
    }

    /// Puts an order in, or says which one waits there already.
    pub(super) fn put(&self, order: Order) -> Result<(), String> {
        let mut waiting = locked(&self.waiting);
        if let Some(before) = waiting.as_ref() {
            return Err(before.id.clone());
        }
        *waiting = Some(order);
        drop(waiting);
        self.came.notify_one();
        Ok(())
    }
}

type Name = (String, Purpose);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Orders {
    desks: Mutex<BTreeMap<Name, Arc<Desk>>>,
    /// Of runs that wait or are under way, by id.
    running: Mutex<BTreeMap<String, CancellationToken>>,
    numbers: AtomicU64,
}

impl Orders {
    /// Only these sets take orders from now on; what waits for one of them goes on waiting. What waits for others is given back.
    pub(super) fn renew(&self, sets: &[Set]) -> Vec<Order> {
        let mut desks = locked(&self.desks);
        let mut before = std::mem::take(&mut *desks);
        for set in sets {
            for (purpose, _) in &set.jobs {
                let name = (set.name.clone(), *purpose);
                let desk = before.remove(&name).unwrap_or_default();
                desks.insert(name, desk);
            }
        }
        before.values().filter_map(|desk| desk.take()).collect()
    }

    pub(super) fn desk(&self, set: &str, purpose: Purpose) -> Arc<Desk> {
        let name = (set.to_owned(), purpose);
        Arc::clone(locked(&self.desks).entry(name).or_default())
    }

    /// The desk of a set that takes such orders.
    pub(super) fn known_desk(&self, set: &str, purpose: Purpose) -> Result<Arc<Desk>, Refused> {
        let desk = locked(&self.desks).get(&(set.to_owned(), purpose)).cloned();
        desk.ok_or_else(|| Refused::Unknown {
            what: "set with such runs",
            name: format!("{set} ({purpose})"),
        })
    }

    /// An order that no job has taken yet, taken back.
    pub(super) fn take_back(&self, id: &str) -> Option<Order> {
        locked(&self.desks)
            .values()
            .find_map(|desk| desk.take_back(id))
    }

    /// A run with an id of its own, which can be cancelled until it is forgotten.
    pub(super) fn new_order(&self, set: &str, purpose: Purpose, now: Timestamp) -> Order {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let order = Order {
            id: format!("{}-{number}", now.strftime("%Y%m%dT%H%M%SZ")),
            set: set.to_owned(),
            purpose,
            since: now,
            cancel: CancellationToken::new(),
        };
        locked(&self.running).insert(order.id.clone(), order.cancel.clone());
        order
    }

    pub(super) fn forget(&self, id: &str) {
        locked(&self.running).remove(id);
    }

    pub(super) fn cancel(&self, id: &str) -> Result<(), Refused> {
        let running = locked(&self.running);
        let cancel = running.get(id).ok_or_else(|| Refused::Unknown {
            what: "run under way",
            name: id.to_owned(),
        })?;
        cancel.cancel();
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
