//! Knows the connections that are open, so that one of them can be reset while it is used.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use super::locked;

/// The open connections by their numbers, each with a way to end it.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<BTreeMap<u64, oneshot::Sender<()>>>);

impl Open {
    /// Takes a connection in. What is returned tells when to reset it, or fails when nobody will.
    pub(super) fn enter(&self, number: u64) -> oneshot::Receiver<()> {
        let (order, ordered) = oneshot::channel();
        locked(&self.0).insert(number, order);
        ordered
    }

    pub(super) fn leave(&self, number: u64) {
        locked(&self.0).remove(&number);
    }

    /// Orders the reset of the connection that the lot falls on; false where none is open.
    pub(super) fn reset_one(&self, lot: usize) -> bool {
        let mut open = locked(&self.0);
        let Some(place) = lot.checked_rem(open.len()) else {
            return false;
        };
        let number = *open.keys().nth(place).expect("a place among them");
        open.remove(&number)
            .is_some_and(|order| order.send(()).is_ok())
    }
}
