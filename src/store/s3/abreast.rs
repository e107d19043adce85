//! Long bodies that are on their way at once: those with less left let those with more go on, so that all end together.
//!
//! Connections share a line about equally, so what is longest would be left alone in the end, and one connection fills no far line:
//! it carries what its buffers hold in a round trip, and stands still for a while at each packet that is lost twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::body::Progress;

/// One with less than this part of what the longest has left lets others go on.
const BEHIND: f64 = 0.6;

/// The bodies, and how many of them fill the line.
#[derive(Debug)]
pub(super) struct Abreast {
    leading: AtomicUsize,
    bodies: Mutex<Vec<Weak<Progress>>>,
}

impl Abreast {
    /// Nobody lets others go on until it is known how many fill the line.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            leading: AtomicUsize::new(usize::MAX),
            bodies: Mutex::default(),
        })
    }

    /// So many fill the line.
    pub(super) fn need(&self, leading: usize) {
        self.leading.store(leading.max(1), Ordering::Relaxed);
    }

    /// Takes a body in, until its progress is dropped.
    pub(super) fn join(&self, progress: &Arc<Progress>) {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.retain(|body| body.strong_count() > 0);
        bodies.push(Arc::downgrade(progress));
    }

    /// Whether the line is full of bodies that need it more than one with so many bytes left.
    pub(super) fn is_for_others(&self, left: u64) -> bool {
        let leading = self.leading.load(Ordering::Relaxed);
        if leading == usize::MAX {
            return false;
        }
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let others = bodies.iter().filter_map(Weak::upgrade);
        let more: Vec<u64> = others
            .map(|body| body.left())
            .filter(|&other| other > left)
            .collect();
        let most = more.iter().copied().max().unwrap_or(0);
        more.len() >= leading && (left as f64) < BEHIND * most as f64
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::super::body::Body;
    use super::*;

    fn joined(abreast: &Abreast, length: u64) -> Arc<Progress> {
        let (_, progress) = Body::new(length, Box::pin(stream::empty()));
        abreast.join(&progress);
        progress
    }

    #[test]
    fn the_short_let_the_long_go_on_when_these_fill_the_line() {
        let abreast = Abreast::new();
        let long = [joined(&abreast, 100), joined(&abreast, 80)];
        assert!(!abreast.is_for_others(10));
        abreast.need(2);
        assert!(abreast.is_for_others(10));
        assert!(!abreast.is_for_others(60), "it is not far behind");
        assert!(
            !abreast.is_for_others(90),
            "one longer does not fill the line"
        );
        drop(long);
        assert!(!abreast.is_for_others(10));
    }
}
