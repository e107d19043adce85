//! Which Kubernetes versions go with which kops.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

/// Versions that go together, and those that nothing goes with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    /// By kops version, the Kubernetes versions that it supports; none has no entry.
    pub by_kops: BTreeMap<Version, BTreeSet<Version>>,
    /// kops versions that support none of the Kubernetes versions.
    pub kops_alone: BTreeSet<Version>,
    /// Kubernetes versions that none of the kops versions supports.
    pub kubernetes_alone: BTreeSet<Version>,
}

/// Pairs each kops version with the Kubernetes versions that it supports, by the word of `supports(kops, kubernetes)`.
pub fn pairs(
    kops: &BTreeSet<Version>,
    kubernetes: &BTreeSet<Version>,
    supports: impl Fn(&Version, &Version) -> bool,
) -> Pairs {
    let mut pairs = Pairs {
        kubernetes_alone: kubernetes.clone(),
        ..Pairs::default()
    };
    for kops in kops {
        let fitting = kubernetes.iter().filter(|version| supports(kops, version));
        let fitting: BTreeSet<Version> = fitting.cloned().collect();
        pairs
            .kubernetes_alone
            .retain(|version| !fitting.contains(version));
        if fitting.is_empty() {
            pairs.kops_alone.insert(kops.clone());
        } else {
            pairs.by_kops.insert(kops.clone(), fitting);
        }
    }
    pairs
}
