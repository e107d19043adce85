//! The checks before a cluster is made, by their numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a check: `P07`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckId(u8);

/// A text that names no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no check: they are P01 to P{:02}", text.escape_debug(), CHECKS.len())]
pub struct BadCheckId {
    text: String,
}

/// What each check is about, in the order of their numbers.
const CHECKS: [&str; 20] = [
    "the credentials are of the region's partition",
    "both ends of a copied image are in the partitions that were named",
    "the region is known and has the zones",
    "the control plane survives the loss of a zone",
    "the state store is there, ours, private, versioned and encrypted",
    "the mirror can be read without credentials, as nodes read it",
    "who may read the mirror",
    "the API is not public on port 443",
    "each subnet has a way to what the mirror does not cover",
    "the VPC and its subnets fit",
    "the image is there, available and of the right processors",
    "the types of machines are offered in every zone",
    "the account may have so many",
    "the registry has every image",
    "the registry's name is one that kubelet logs in to",
    "the mirrors of registries are alive",
    "the addresses of the mirror are what kops takes",
    "names and load balancers suit this kops",
    "the versions of kops and Kubernetes fit the cluster's last",
    "the clock is right, nobody else is at work, nothing is left of another cluster",
];

impl CheckId {
    /// The check of this number, from 1.
    pub const fn new(number: u8) -> Self {
        assert!(
            number >= 1 && number as usize <= CHECKS.len(),
            "a check's number"
        );
        Self(number)
    }

    /// From 1.
    pub fn number(self) -> u8 {
        self.0
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=CHECKS.len())
            .filter_map(|number| u8::try_from(number).ok())
            .map(Self)
    }

    /// What it is about.
    pub fn about(self) -> &'static str {
        CHECKS[usize::from(self.0) - 1]
    }
}

impl FromStr for CheckId {
    type Err = BadCheckId;

    fn from_str(text: &str) -> Result<Self, BadCheckId> {
        let number = text
            .strip_prefix(['P', 'p'])
            .and_then(|digits| digits.parse().ok());
        let is_one = |number: &u8| (1..=CHECKS.len()).contains(&usize::from(*number));
        number.filter(is_one).map(Self).ok_or_else(|| BadCheckId {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for CheckId {
    type Error = BadCheckId;

    fn try_from(text: String) -> Result<Self, BadCheckId> {
        text.parse()
    }
}

impl From<CheckId> for String {
    fn from(id: CheckId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{:02}", self.0)
    }
}
