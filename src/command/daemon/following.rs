//! From the rules of a set to the files that are wanted.

use std::collections::BTreeSet;

use semver::Version;

use super::process::Upstream;
use crate::asset::Asset;
use crate::catalogue::listing;
use crate::command::select;
use crate::config::{Config, SetSettings};
use crate::events::{Observer, told};
use crate::follow::{self, Product};
use crate::index::Release;
use crate::layout::Layout;
use crate::sync::Wanted;

/// What a set wants now.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) wanted: Vec<Wanted>,
    /// What somebody should know: upstreams that are away, versions that go with none of the other.
    pub(super) notes: Vec<String>,
    /// Rules that nothing fits, and versions that the catalogue does not know: what is wanted is not all here.
    pub(super) unmet: Vec<String>,
    /// Releases among them that upstream has taken back.
    pub(super) withdrawn: BTreeSet<String>,
}

/// The releases that a set follows, of the versions that are known, and its other files.
pub(super) fn following(
    name: &str,
    set: &SetSettings,
    config: &Config,
    upstream: &Upstream,
    observer: &dyn Observer,
) -> anyhow::Result<Following> {
    let catalogue = select::catalogue(config)?;
    let known = &upstream.known;
    let kubernetes = follow::follow(Product::Kubernetes, &set.kubernetes, known);
    let kops = follow::follow(Product::Kops, &set.kops, known);
    let unmet = kubernetes.unmet.iter().chain(&kops.unmet);
    let mut unmet: Vec<String> = unmet.map(ToString::to_string).collect();
    let mut notes = upstream.notes.clone();
    let supports = |kops: &Version, kubernetes: &Version| catalogue.supports(kops, kubernetes);
    let pairs = follow::pairs(&kops.versions, &kubernetes.versions, supports);
    notes.extend(alone("kops", &pairs.kops_alone, "Kubernetes"));
    notes.extend(alone("Kubernetes", &pairs.kubernetes_alone, "kops"));
    let mut wanted = Vec::new();
    for (kops, kubernetes) in &pairs.by_kops {
        let kubernetes = kubernetes.iter().cloned().collect();
        match select::of_versions(config, kops, kubernetes, observer) {
            Ok(selected) => wanted.extend(selected.releases),
            // A version that the catalogue does not know yet stops no other one.
            Err(error) => unmet.push(told(error.as_ref())),
        }
    }
    if !set.urls.is_empty() {
        wanted.push(extra(name, set, config)?);
    }
    let withdrawn = wanted
        .iter()
        .filter(|wanted| upstream.withdrew(&wanted.release));
    Ok(Following {
        withdrawn: withdrawn
            .map(|wanted| wanted.release.name.clone())
            .collect(),
        wanted,
        notes,
        unmet,
    })
}

fn alone<'a>(
    what: &'a str,
    versions: &'a BTreeSet<Version>,
    other: &'a str,
) -> impl Iterator<Item = String> + 'a {
    versions.iter().map(move |version| {
        format!("{what} {version} goes with none of the {other} versions that are followed")
    })
}

/// The files that no catalogue knows, as a release of their own.
fn extra(name: &str, set: &SetSettings, config: &Config) -> anyhow::Result<Wanted> {
    let layout = config.layout.unwrap_or(Layout::FileRepository);
    let mut assets: Vec<Asset> = Vec::new();
    for (at, file) in set.urls.iter().enumerate() {
        assets.push(listing::vouched_file(
            &file.url,
            file.digest,
            at + 1,
            layout,
        )?);
    }
    let release = Release {
        name: format!("files-{name}"),
        arch: config.arch.clone(),
        layout: Some(layout.to_string()),
        ..Release::default()
    };
    Ok(Wanted {
        release,
        assets,
        ..Wanted::default()
    })
}
