//! What is looked at before a cluster is made: the checks P01 to P20, each with what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::CheckId;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// All is well.
    Fine,
    /// It could not be looked at, and why.
    Unknown,
    Warning,
    /// Nothing is done while it is so, unless it is acknowledged and may be.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub check: CheckId,
    pub weight: Weight,
    /// What is so.
    pub what: String,
    /// What to do about it; empty where nothing is to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// The file says that it is known and accepted.
    #[serde(default)]
    pub is_acknowledged: bool,
}

impl Finding {
    /// Whether nothing can be done while it is so.
    pub fn stops(&self) -> bool {
        self.weight == Weight::Error && !self.is_acknowledged
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.weight {
            Weight::Fine => "fine",
            Weight::Unknown => "unknown",
            Weight::Warning => "warning",
            Weight::Error if self.is_acknowledged => "accepted",
            Weight::Error => "error",
        };
        write!(f, "{}  {word:<9} {}", self.check, self.what)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.remedy),
        }
    }
}
