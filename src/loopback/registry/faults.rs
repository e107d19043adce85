//! Orders faults: which requests go wrong, how, and how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::asked::{Asked, Operation};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Answered so before the body is read.
    Refused {
        status: u16,
        code: &'static str,
        retry_after: Option<Duration>,
    },
    /// The connection ends when this many bytes of the request's body have arrived.
    Cut { after_bytes: u64 },
    /// The request's body is read no faster than this.
    Slow { bytes_per_second: u64 },
    /// All is done, then the connection ends without an answer.
    AnswerLost,
    /// The answer's body ends after so many bytes.
    AnswerCut { after_bytes: u64 },
    /// The answer's body comes no faster than this.
    AnswerSlow { bytes_per_second: u64 },
    /// One bit of the answer's body is another.
    WrongBytes,
    /// The answer names another digest than its content has.
    WrongDigest,
    /// All is done, and the answer comes this much later.
    Late(Duration),
}

/// A trouble and the requests that it befalls: the next one of any kind, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    trouble: Trouble,
    operation: Option<Operation>,
    repository: Option<String>,
    reference: Option<String>,
    after: u32,
    times: Option<u32>,
}

impl Fault {
    pub fn new(trouble: Trouble) -> Self {
        Self {
            trouble,
            operation: None,
            repository: None,
            reference: None,
            after: 0,
            times: Some(1),
        }
    }

    /// 429 `TOOMANYREQUESTS`, with the seconds after which to come again.
    pub fn too_many(retry_after: Option<Duration>) -> Self {
        Self::new(Trouble::Refused {
            status: 429,
            code: "TOOMANYREQUESTS",
            retry_after,
        })
    }

    /// 503 `UNAVAILABLE`.
    pub fn unavailable() -> Self {
        Self::new(Trouble::Refused {
            status: 503,
            code: "UNAVAILABLE",
            retry_after: None,
        })
    }

    /// Only requests for this.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only requests to this repository.
    #[must_use]
    pub fn at(mut self, repository: &str) -> Self {
        self.repository = Some(repository.to_owned());
        self
    }

    /// Only requests for this digest or tag, or for this operation of the ECR API.
    #[must_use]
    pub fn naming(mut self, reference: &str) -> Self {
        self.reference = Some(reference.to_owned());
        self
    }

    /// Not the first so many of them.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
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

    fn befalls(&self, asked: &Asked) -> bool {
        let is_of = |wanted: &String| *wanted == asked.repository;
        self.times != Some(0)
            && self
                .operation
                .is_none_or(|wanted| wanted == asked.operation)
            && self.repository.as_ref().is_none_or(is_of)
            && self
                .reference
                .as_ref()
                .is_none_or(|wanted| *wanted == asked.reference)
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
        let is_left = |fault: &&Fault| fault.times.is_some_and(|times| times > 0);
        self.ordered().iter().filter(is_left).count()
    }

    /// The first fault ordered that befalls this request; a request has one at most.
    pub(super) fn next(&self, asked: &Asked) -> Option<Trouble> {
        let mut ordered = self.ordered();
        let fault = ordered.iter_mut().find(|fault| fault.befalls(asked))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.trouble.clone())
    }

    fn ordered(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
