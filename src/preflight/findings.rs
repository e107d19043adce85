//! What one check finds, gathered.

use super::facts::Known;
use super::{Finding, Weight};
use crate::cluster::CheckId;

/// The findings of one check, as they come up.
#[derive(Debug)]
pub(super) struct Findings {
    check: CheckId,
    all: Vec<Finding>,
}

impl Findings {
    pub(super) fn of(number: u8) -> Self {
        Self {
            check: CheckId::new(number),
            all: Vec::new(),
        }
    }

    fn add(&mut self, weight: Weight, what: impl Into<String>, remedy: impl Into<String>) {
        self.all.push(Finding {
            check: self.check,
            weight,
            what: what.into(),
            remedy: remedy.into(),
            is_acknowledged: false,
        });
    }

    pub(super) fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Weight::Error, what, remedy);
    }

    pub(super) fn warning(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Weight::Warning, what, remedy);
    }

    pub(super) fn unknown(&mut self, why: impl Into<String>, remedy: impl Into<String>) {
        self.add(Weight::Unknown, why, remedy);
    }

    /// A fact if it is known; that it is not is a finding.
    pub(super) fn known<'a, T>(&mut self, fact: &'a Known<T>) -> Option<&'a T> {
        match fact {
            Ok(fact) => Some(fact),
            Err(why) => {
                self.unknown(why, "");
                None
            }
        }
    }

    /// What was found; that all is well where that is nothing.
    pub(super) fn or_fine(mut self, what: impl Into<String>) -> Vec<Finding> {
        if self.all.is_empty() {
            self.add(Weight::Fine, what, "");
        }
        self.all
    }
}
