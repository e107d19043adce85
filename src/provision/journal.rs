//! What was begun, what is done and what was made: read again by the run after.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of this format; a reader refuses a newer one.
const FORMAT: u32 = 1;

/// The steps to a cluster, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    /// What can be wrong is looked for before anything is changed.
    Preflight,
    /// Everything that the cluster will ask for is in the mirror, verified.
    Mirror,
    StateStore,
    /// Addresses of what exists are looked up.
    Network,
    /// The image is resolved, copied or built, and available.
    Image,
    /// The manifest is rendered.
    Manifest,
    /// It is in kops' state store, and read back.
    Config,
    /// The key that hosts let in.
    Keys,
    /// kops has made the cloud's resources, or terraform's files.
    Resources,
    Kubeconfig,
    /// The cluster answers and is well.
    Ready,
}

/// How far a step has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// And not ended: the process died, or was stopped.
    Begun,
    Done,
    Failed,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub state: StepState,
    pub at: Timestamp,
    /// What it found or did, or why it failed. No secrets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Something in the cloud that was made here, and is ours to remove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Made {
    pub kind: MadeKind,
    /// `ami-…`, a bucket's name.
    pub id: String,
    pub region: String,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MadeKind {
    Bucket,
    Image,
    Snapshot,
    Instance,
}

/// What is known of the way to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub format: u32,
    pub cluster: String,
    #[serde(default)]
    pub steps: BTreeMap<StepName, Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// What kops goes on to list after its update, by its digest: some of what it lists it never does, such as the name of a gateway that
    /// is not its own (1.8.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residue: Option<Digest>,
}

/// A journal that can't be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJournal {
    #[error("it can't be read: {why}")]
    Unreadable { why: String },
    #[error("it has format {format}: a newer kops-mirror wrote it")]
    Newer { format: u32 },
    #[error("it is of {found}, and not of {wanted}")]
    OfAnother { found: String, wanted: String },
}

impl Journal {
    /// Of a cluster that nobody has worked on.
    pub fn new(cluster: &str) -> Self {
        Self {
            format: FORMAT,
            cluster: cluster.to_owned(),
            steps: BTreeMap::new(),
            made: Vec::new(),
            residue: None,
        }
    }

    /// Reads one that was kept.
    pub fn parse(text: &[u8], cluster: &str) -> Result<Self, BadJournal> {
        let journal: Self =
            serde_json::from_slice(text).map_err(|error| BadJournal::Unreadable {
                why: error.to_string(),
            })?;
        if journal.format > FORMAT {
            return Err(BadJournal::Newer {
                format: journal.format,
            });
        }
        if journal.cluster != cluster {
            return Err(BadJournal::OfAnother {
                found: journal.cluster,
                wanted: cluster.to_owned(),
            });
        }
        Ok(journal)
    }

    /// As it is kept.
    pub fn json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(self).expect("a journal has only strings for keys");
        text.push(b'\n');
        text
    }

    /// Writes down how far a step has got.
    pub fn note(&mut self, step: StepName, state: StepState, note: impl Into<String>) {
        let entry = Entry {
            state,
            at: Timestamp::now(),
            note: note.into(),
        };
        self.steps.insert(step, entry);
    }

    /// Writes down what was made, once.
    pub fn add_made(&mut self, made: Made) {
        if !self.made.contains(&made) {
            self.made.push(made);
            self.made.sort();
        }
    }

    /// Writes down that it is gone.
    pub fn remove_made(&mut self, made: &Made) {
        self.made.retain(|other| other != made);
    }

    /// Takes the newer of both for each step, and everything that either says was made: the one here may be lost, or another operator's
    /// in the state store be ahead.
    pub fn unite(&mut self, other: Self) {
        let updated = |journal: &Self| {
            journal
                .steps
                .get(&StepName::Resources)
                .map(|entry| entry.at)
        };
        if updated(self) < updated(&other) {
            self.residue = other.residue;
        }
        for (step, entry) in other.steps {
            let is_older = |mine: &Entry| mine.at < entry.at;
            if self.steps.get(&step).is_none_or(is_older) {
                self.steps.insert(step, entry);
            }
        }
        other.made.into_iter().for_each(|made| self.add_made(made));
    }
}

impl StepName {
    /// In a user's words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Mirror => "mirror",
            Self::StateStore => "state store",
            Self::Network => "network",
            Self::Image => "image",
            Self::Manifest => "manifest",
            Self::Config => "configuration",
            Self::Keys => "keys",
            Self::Resources => "resources",
            Self::Kubeconfig => "kubeconfig",
            Self::Ready => "ready",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_of_two_journals_counts_step_by_step() {
        let mut here = Journal::new("prod.k8s.local");
        here.note(StepName::Mirror, StepState::Done, "here");
        let mut there = here.clone();
        there.note(StepName::Mirror, StepState::Failed, "there, later");
        there.note(StepName::Image, StepState::Begun, "");
        there.note(StepName::Resources, StepState::Done, "");
        there.residue = Some(Digest::of(crate::digest::Algorithm::Sha256, b"a list"));
        let made = Made {
            kind: MadeKind::Image,
            id: "ami-1".to_owned(),
            region: "cn-north-1".to_owned(),
        };
        there.add_made(made.clone());
        there.add_made(made);
        here.unite(there.clone());
        assert_eq!(here, there);
        assert_eq!(here.made.len(), 1);
        let read = Journal::parse(&here.json(), "prod.k8s.local").unwrap();
        assert_eq!(read, here);
        assert!(Journal::parse(&here.json(), "other.k8s.local").is_err());
        assert!(Journal::parse(b"{", "prod.k8s.local").is_err());
    }
}
