//! Tells which versions a set of rules follows, of those that are known. Asks nobody.
//!
//! A rule is a name that moves (`stable`, `stable-1.34`, `latest`), an exact version, or comparisons with what is to be taken of
//! those that fit: `>=1.33, latest 3 patches`. Pre-releases are followed by their exact name alone.

mod pairs;
mod reach;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};

pub use self::pairs::{Pairs, pairs};
pub use self::reach::{Needs, complete_from};
use self::rule::Form;
pub use self::rule::{NotARule, Rule};

/// Whose versions a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    Kubernetes,
    Kops,
}

/// What is known of the upstreams' versions, partly from before where one did not answer. Releases alone, no pre-releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub kubernetes: BTreeSet<Version>,
    pub kops: BTreeSet<Version>,
    /// By the names of Kubernetes' channels: `stable`, `stable-1.34`.
    pub channels: BTreeMap<String, Version>,
    /// All Kubernetes releases from this one on are known, as upstream has them now; None where it was not heard out this time,
    /// so that nobody can say of a version that it is gone.
    pub kubernetes_complete_from: Option<Version>,
    /// The same of kops.
    pub kops_complete_from: Option<Version>,
}

/// What rules come to. Those that nothing fits do not stand in the way of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    pub versions: BTreeSet<Version>,
    pub unmet: Vec<NothingFits>,
}

/// A rule that no known version fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {product} version fits '{rule}': {why}")]
pub struct NothingFits {
    pub product: Product,
    pub rule: Rule,
    why: String,
}

impl Known {
    fn releases(&self, product: Product) -> &BTreeSet<Version> {
        match product {
            Product::Kubernetes => &self.kubernetes,
            Product::Kops => &self.kops,
        }
    }

    fn complete_from(&self, product: Product) -> Option<&Version> {
        match product {
            Product::Kubernetes => self.kubernetes_complete_from.as_ref(),
            Product::Kops => self.kops_complete_from.as_ref(),
        }
    }
}

/// The versions of a product that its rules want. An exact version is wanted whether it is known or not: who names it knows.
pub fn follow(product: Product, rules: &[Rule], known: &Known) -> Followed {
    let mut followed = Followed::default();
    for rule in rules {
        let wanted = wanted_by(product, rule, known);
        if wanted.is_empty() {
            followed.unmet.push(NothingFits {
                product,
                rule: rule.clone(),
                why: why_nothing_fits(product, rule, known),
            });
        }
        followed.versions.extend(wanted);
    }
    followed
}

fn wanted_by(product: Product, rule: &Rule, known: &Known) -> BTreeSet<Version> {
    let known_releases = known.releases(product);
    match rule.form() {
        Form::Exact(version) => BTreeSet::from([version.clone()]),
        Form::Channel(channel) if product == Product::Kubernetes => {
            let version = known.channels.get(&channel.to_string());
            version.cloned().into_iter().collect()
        }
        // kops has no such channels: its newest release, or that of the minor, is what they would name.
        Form::Channel(channel) => channel.as_fitting().of(known_releases),
        Form::Fitting(fitting) => fitting.of(known_releases),
    }
}

fn why_nothing_fits(product: Product, rule: &Rule, known: &Known) -> String {
    if matches!(rule.form(), Form::Channel(_)) && product == Product::Kubernetes {
        return "upstream has not said which version that is".to_owned();
    }
    match known.releases(product).last() {
        None => "none are known yet".to_owned(),
        Some(newest) => format!("the newest known is {newest}"),
    }
}

/// What was known and is no more: upstream has taken it back. Says nothing of what this time was not asked for.
pub fn withdrawn(product: Product, before: &Known, now: &Known) -> BTreeSet<Version> {
    let Some(from) = now.complete_from(product) else {
        return BTreeSet::new();
    };
    let gone = before.releases(product).difference(now.releases(product));
    gone.filter(|version| *version >= from).cloned().collect()
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "Kubernetes",
            Self::Kops => "kops",
        })
    }
}

#[cfg(test)]
mod tests;
