//! What must be asked of the upstreams to follow rules: which channels, and how far back the lists of releases.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;

use super::Product;
use super::rule::{Fitting, Form, Rule, minor_of};

/// What rules need to know. Of several sets, made one by [`Needs::and`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    channels: BTreeSet<String>,
    lists: BTreeMap<Product, Vec<Fitting>>,
}

impl Needs {
    /// What these rules need.
    pub fn of(kubernetes: &[Rule], kops: &[Rule]) -> Self {
        let mut needs = Self::default();
        for rule in kubernetes {
            match rule.form() {
                Form::Exact(_) => {}
                Form::Channel(channel) => drop(needs.channels.insert(channel.to_string())),
                Form::Fitting(fitting) => needs.list(Product::Kubernetes, fitting.clone()),
            }
        }
        for rule in kops {
            match rule.form() {
                Form::Exact(_) => {}
                Form::Channel(channel) => needs.list(Product::Kops, channel.as_fitting()),
                Form::Fitting(fitting) => needs.list(Product::Kops, fitting.clone()),
            }
        }
        needs
    }

    fn list(&mut self, product: Product, fitting: Fitting) {
        let fittings = self.lists.entry(product).or_default();
        if !fittings.contains(&fitting) {
            fittings.push(fitting);
        }
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.channels.extend(others.channels);
        for (product, fittings) in others.lists {
            for fitting in fittings {
                self.list(product, fitting);
            }
        }
        self
    }

    /// The names of Kubernetes' channels: `stable`, `stable-1.34`.
    pub fn channels(&self) -> &BTreeSet<String> {
        &self.channels
    }

    /// Whether the list of a product's releases is needed.
    pub fn needs_list(&self, product: Product) -> bool {
        self.lists.contains_key(&product)
    }

    /// Whether a list that is read from its newest end, and has shown these releases so far, has shown all that the rules could
    /// take.
    pub fn is_content_with(&self, product: Product, seen: &BTreeSet<Version>) -> bool {
        let Some(complete_from) = complete_from(seen) else {
            return false;
        };
        let has_enough = |fitting: &Fitting| {
            let oldest = fitting.oldest_minor(seen);
            oldest.is_some_and(|oldest| minor_of(&complete_from) <= oldest)
        };
        self.lists
            .get(&product)
            .into_iter()
            .flatten()
            .all(has_enough)
    }
}

/// The release from which on a list, read from its newest end, has shown all: patches come after the first release of their minor,
/// and minors one after the other.
pub fn complete_from(seen: &BTreeSet<Version>) -> Option<Version> {
    let is_first = |version: &&Version| version.patch == 0 && version.pre.is_empty();
    seen.iter().find(is_first).cloned()
}
