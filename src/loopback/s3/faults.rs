//! Orders faults: which requests go wrong, how, and how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Answered with this error before the body is read.
    Refused { status: u16, code: &'static str },
    /// The body is read, then the answer is 500 `InternalError`, with the object stored or not.
    Failed { stored: bool },
    /// All is done, then the connection ends without an answer.
    AnswerLost,
    /// All is done, with another `ETag` in the answer than the object has.
    WrongEtag,
    /// The connection ends when this many body bytes have arrived.
    Cut { after_bytes: u64 },
    /// The body is read no faster than this.
    Slow { bytes_per_second: u64 },
    /// All is done, and the answer comes this much later.
    Late(Duration),
    /// All is done, and the answer's document is none that S3 would send.
    Garbled,
}

/// A trouble and the requests that it befalls: the next one of any kind, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    trouble: Trouble,
    operation: Option<&'static str>,
    key: String,
    times: Option<u32>,
}

impl Fault {
    pub fn new(trouble: Trouble) -> Self {
        Self {
            trouble,
            operation: None,
            key: "*".to_owned(),
            times: Some(1),
        }
    }

    /// 503 `SlowDown` before the body.
    pub fn slow_down() -> Self {
        Self::new(Trouble::Refused {
            status: 503,
            code: "SlowDown",
        })
    }

    /// 403 `AccessDenied` before the body.
    pub fn access_denied() -> Self {
        Self::new(Trouble::Refused {
            status: 403,
            code: "AccessDenied",
        })
    }

    /// Only requests for this operation: `PutObject`, `CopyObject`, …
    #[must_use]
    pub fn on(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only keys of this pattern, where `*` stands for any characters, `/` too.
    #[must_use]
    pub fn key(mut self, pattern: &str) -> Self {
        pattern.clone_into(&mut self.key);
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    fn befalls(&self, operation: &str, key: &str) -> bool {
        self.times != Some(0)
            && self.operation.is_none_or(|wanted| wanted == operation)
            && matches(&self.key, key)
    }
}

/// The faults that are still to come.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    ordered: Arc<Mutex<Vec<Fault>>>,
}

impl Faults {
    pub fn order(&self, fault: Fault) {
        self.ordered().push(fault);
    }

    pub fn clear(&self) {
        self.ordered().clear();
    }

    /// Faults with a number that have not all happened.
    pub fn outstanding(&self) -> usize {
        self.ordered()
            .iter()
            .filter(|f| f.times.is_some_and(|n| n > 0))
            .count()
    }

    /// The first fault ordered that befalls this request; a request has one at most.
    pub(super) fn next(&self, operation: &str, key: &str) -> Option<Trouble> {
        let mut ordered = self.ordered();
        let fault = ordered.iter_mut().find(|f| f.befalls(operation, key))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.trouble.clone())
    }

    fn ordered(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `text` is of the form `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_keys() {
        let check = |pattern, key, expected| assert_eq!(matches(pattern, key), expected);
        check("*", "", true);
        check("*", "a/b", true);
        check("a", "a", true);
        check("a", "ab", false);
        check("*.tar.gz", "x/cni.tar.gz", true);
        check("*.tar.gz", "x/cni.tar.gz.sha256", false);
        check("releases/*/linux/*", "releases/v1/bin/linux/kubelet", true);
        check("releases/*/linux/*", "release/v1/bin/linux/kubelet", false);
    }

    #[test]
    fn a_fault_befalls_as_often_as_ordered() {
        let faults = Faults::default();
        faults.order(Fault::slow_down().on("PutObject").times(2));
        assert_eq!(faults.next("GetObject", "a"), None);
        assert!(faults.next("PutObject", "a").is_some());
        assert_eq!(faults.outstanding(), 1);
        assert!(faults.next("PutObject", "b").is_some());
        assert_eq!(faults.next("PutObject", "a"), None);
        assert_eq!(faults.outstanding(), 0);
    }

    #[test]
    fn faults_come_one_at_a_time_in_the_order_given() {
        let faults = Faults::default();
        faults.order(Fault::slow_down());
        faults.order(Fault::access_denied().always());
        let codes: Vec<_> = (0..3).map(|_| faults.next("HeadObject", "k")).collect();
        assert_eq!(codes[0], Some(Fault::slow_down().trouble));
        assert_eq!(codes[1], Some(Fault::access_denied().trouble));
        assert_eq!(codes[2], codes[1]);
    }
}
