//! What people are told of, as plain data, and when two of them are the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::record::{End, Failure, Purpose, Run};

/// More than these are not listed in one message.
const LISTED_MAX: usize = Run::FAILURES_MAX;

/// A line of somebody else's words is cut there, in characters.
const LINE_MAX: usize = 1000;

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "occasion", rename_all = "kebab-case")]
pub enum Occasion {
    /// A release is complete at all its targets.
    Mirrored {
        set: String,
        release: String,
        /// In a user's words: `s3://bucket/prefix`.
        targets: Vec<String>,
        files: u64,
        bytes: u64,
    },
    /// A run could not be begun, went without a target, or some of its files failed.
    RunFailed {
        set: String,
        /// Its id.
        run: String,
        purpose: Purpose,
        end: End,
        /// Why it could not be begun, or did not do all that was wanted.
        why: Option<String>,
        /// Files.
        failed: u64,
        /// The first of them.
        failures: Vec<Failure>,
    },
    /// A scrub found objects that are not what was stored.
    Damaged {
        set: String,
        place: String,
        damaged: u64,
        /// Those of them that are right again.
        repaired: u64,
        /// The first of them: `KEY: what is wrong with it`.
        files: Vec<String>,
    },
    /// Upstream does not have what it had.
    Upstream {
        set: String,
        release: String,
        change: Change,
        /// What of it, in one line.
        what: Option<String>,
    },
    /// Somebody tries whether messages arrive.
    Test,
}

/// What upstream did to a release that is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It has other bytes under the same name.
    Changed,
    /// It is gone.
    Withdrawn,
}

/// What an occasion is of; hooks choose by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Mirrored,
    RunFailed,
    Damaged,
    Upstream,
    Test,
}

impl Occasion {
    /// What is to be told of a run that has ended; None where it failed in nothing, was stopped, or another process runs.
    pub fn of_run(run: &Run) -> Option<Self> {
        matches!(run.end, End::Failed | End::SomeFailed).then(|| Self::RunFailed {
            set: run.set.clone(),
            run: run.id.clone(),
            purpose: run.purpose,
            end: run.end,
            why: run.why.clone(),
            failed: run.failed,
            failures: run.failures.clone(),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Mirrored { .. } => Kind::Mirrored,
            Self::RunFailed { .. } => Kind::RunFailed,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Upstream { .. } => Kind::Upstream,
            Self::Test => Kind::Test,
        }
    }

    /// With lists and lines that are not too long for anybody.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self {
            Self::Mirrored { targets, .. } => targets.truncate(LISTED_MAX),
            Self::RunFailed { why, failures, .. } => {
                failures.truncate(LISTED_MAX);
                let lines = failures.iter_mut().map(|failure| &mut failure.why);
                lines.chain(why).for_each(|line| cut(line, LINE_MAX));
            }
            Self::Damaged { files, .. } => {
                files.truncate(LISTED_MAX);
                for line in files {
                    cut(line, LINE_MAX);
                }
            }
            Self::Upstream { what, .. } => what.iter_mut().for_each(|line| cut(line, LINE_MAX)),
            Self::Test => {}
        }
        self
    }

    /// The same for occasions that are the same to people. A run that fails hour after hour is one of them, as long as it fails in
    /// the same way: with files of the same classes, whichever these are, or for the same reason.
    pub(super) fn fingerprint(&self) -> String {
        let facts = match self {
            Self::Mirrored {
                set,
                release,
                targets,
                files,
                ..
            } => format!("{set:?} {release:?} {targets:?} {files}"),
            Self::RunFailed {
                set,
                purpose,
                end,
                why,
                failures,
                ..
            } => {
                let classes: BTreeSet<_> = failures.iter().map(|failure| failure.class).collect();
                let why = why.as_deref().map(gist);
                format!("{set:?} {purpose} {end} {why:?} {classes:?}")
            }
            Self::Damaged {
                set,
                place,
                damaged,
                repaired,
                files,
            } => format!("{set:?} {place:?} {} {files:?}", damaged == repaired),
            Self::Upstream {
                set,
                release,
                change,
                what,
            } => format!("{set:?} {release:?} {change:?} {what:?}"),
            Self::Test => String::new(),
        };
        let digest = Sha256::digest(format!("{:?} {facts}", self.kind()));
        hex::encode(&digest[..16])
    }
}

/// A sentence without what differs each time: numbers, times, ids of requests.
fn gist(why: &str) -> String {
    let words = why.split_whitespace();
    let lasting = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    lasting.collect::<Vec<_>>().join(" ")
}

/// Cuts a text to so many characters.
pub(super) fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FailureClass;

    fn failed(why: Option<&str>, keys: &[&str], class: FailureClass) -> Occasion {
        Occasion::RunFailed {
            set: "cn".to_owned(),
            run: format!("2026-{}", keys.len()),
            purpose: Purpose::Sync,
            end: if why.is_some() {
                End::Failed
            } else {
                End::SomeFailed
            },
            why: why.map(ToOwned::to_owned),
            failed: keys.len() as u64,
            failures: keys
                .iter()
                .map(|key| Failure {
                    key: (*key).to_owned(),
                    class,
                    why: format!("{key} after {} s", key.len()),
                })
                .collect(),
        }
    }

    #[test]
    fn a_run_that_fails_in_the_same_way_is_the_same() {
        let origin = |keys: &[&str]| failed(None, keys, FailureClass::Origin).fingerprint();
        assert_eq!(origin(&["a"]), origin(&["b", "cd"]));
        let store = failed(None, &["a"], FailureClass::Store).fingerprint();
        assert_ne!(origin(&["a"]), store);
    }

    #[test]
    fn the_same_reason_is_the_same_whatever_its_numbers() {
        let because = |why| failed(Some(why), &[], FailureClass::Store).fingerprint();
        let first = because("can't list s3://mirror: SlowDown (503, request 44425A)");
        assert_eq!(
            first,
            because("can't list s3://mirror: SlowDown (503, request 90F1)")
        );
        assert_ne!(first, because("can't list s3://mirror: AccessDenied (403)"));
    }

    #[test]
    fn what_is_repaired_is_another_thing_than_what_is_not() {
        let damage = |repaired| Occasion::Damaged {
            set: "cn".to_owned(),
            place: "s3://mirror".to_owned(),
            damaged: 2,
            repaired,
            files: vec!["a: gone".to_owned()],
        };
        assert_ne!(damage(0).fingerprint(), damage(2).fingerprint());
        assert_eq!(damage(0).fingerprint(), damage(1).fingerprint());
    }

    #[test]
    fn only_runs_that_failed_are_told_of() {
        let run = |end| Run {
            id: "20261124T210500Z-0".to_owned(),
            set: "cn".to_owned(),
            purpose: Purpose::Sync,
            began: jiff::Timestamp::UNIX_EPOCH,
            ended: jiff::Timestamp::UNIX_EPOCH,
            end,
            why: None,
            repeated: None,
            transferred: 0,
            skipped: 0,
            repaired: 0,
            failed: 0,
            withheld: 0,
            bytes_fetched: 0,
            bytes_refetched: 0,
            bytes_by_origin: std::collections::BTreeMap::new(),
            marked: vec![],
            failures: vec![],
        };
        let told = End::ALL.map(|end| Occasion::of_run(&run(end)).is_some());
        assert_eq!(told, [false, true, true, false, false]);
    }

    #[test]
    fn lists_and_lines_are_bounded() {
        let files = vec!["x".repeat(5000); 500];
        let damage = Occasion::Damaged {
            set: "cn".to_owned(),
            place: "s3://mirror".to_owned(),
            damaged: 500,
            repaired: 0,
            files,
        };
        let Occasion::Damaged { files, damaged, .. } = damage.bounded() else {
            unreachable!()
        };
        assert_eq!((files.len(), damaged), (100, 500));
        assert_eq!(files[0].chars().count(), 1001);
    }
}
