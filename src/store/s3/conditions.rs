//! Remembers which conditions a server understands, so that each is tried the standard way first and asked in vain once.
//!
//! AWS has both. Swift answers 501 to either; Ceph's gateway wants the `ETag` of If-Match without its quotes and answers 412
//! to a right one with them; some servers ignore both without a word, which nothing here can see.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::store::{Condition, ETag};

/// How a condition goes on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: "etag"`
    Quoted(ETag),
    /// `If-Match: etag`
    Bare(ETag),
}

impl Guard {
    /// The value of If-Match.
    pub(super) fn if_match(&self) -> Option<String> {
        match self {
            Self::Quoted(etag) => Some(format!("\"{etag}\"")),
            Self::Bare(etag) => Some(etag.to_string()),
            Self::None | Self::Absent => None,
        }
    }

    /// The value of If-None-Match.
    pub(super) fn if_none_match(&self) -> Option<&'static str> {
        (*self == Self::Absent).then_some("*")
    }

    /// What to try when the server holds that the condition failed though it holds.
    pub(super) fn misunderstood(&self) -> Option<Self> {
        match self {
            Self::Quoted(etag) => Some(Self::Bare(etag.clone())),
            Self::Bare(_) | Self::Absent => Some(Self::None),
            Self::None => None,
        }
    }
}

const QUOTED: u8 = 0;
const BARE: u8 = 1;
const NOT_AT_ALL: u8 = 2;

/// What one server was found to understand.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    absent: AtomicU8,
    unchanged: AtomicU8,
}

impl Conditions {
    /// The best form of a condition that the server is not known to refuse.
    pub(super) fn guard(&self, condition: &Condition) -> Guard {
        match condition {
            Condition::Any => Guard::None,
            Condition::Absent => match self.absent.load(Ordering::Relaxed) {
                NOT_AT_ALL => Guard::None,
                _ => Guard::Absent,
            },
            Condition::Unchanged(etag) => match self.unchanged.load(Ordering::Relaxed) {
                NOT_AT_ALL => Guard::None,
                BARE => Guard::Bare(etag.clone()),
                _ => Guard::Quoted(etag.clone()),
            },
        }
    }

    /// The server took `guard` where `condition` was meant.
    pub(super) fn worked(&self, condition: &Condition, guard: &Guard) {
        let form = match guard {
            Guard::None => NOT_AT_ALL,
            Guard::Bare(_) => BARE,
            Guard::Absent | Guard::Quoted(_) => QUOTED,
        };
        match condition {
            Condition::Any => {}
            Condition::Absent => self.absent.store(form, Ordering::Relaxed),
            Condition::Unchanged(_) => self.unchanged.store(form, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_worked_is_used_from_then_on() {
        let conditions = Conditions::default();
        let unchanged = Condition::Unchanged(ETag::new("\"abc\""));
        let quoted = conditions.guard(&unchanged);
        assert_eq!(quoted.if_match().as_deref(), Some("\"abc\""));
        let bare = quoted.misunderstood().unwrap();
        assert_eq!(bare.if_match().as_deref(), Some("abc"));
        conditions.worked(&unchanged, &bare);
        assert_eq!(conditions.guard(&unchanged), bare);
        conditions.worked(&unchanged, &bare.misunderstood().unwrap());
        assert_eq!(conditions.guard(&unchanged), Guard::None);
        assert_eq!(
            conditions.guard(&Condition::Absent).if_none_match(),
            Some("*")
        );
    }
}
