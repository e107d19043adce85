//! Settings to the files that are wanted: through the catalogue, or exactly those of a list.

use std::path::Path;

use anyhow::{Context, bail};
use globset::{Glob, GlobSet, GlobSetBuilder};
use semver::Version;

use crate::asset::Asset;
use crate::catalogue::{Catalogue, ClusterOption, Selection, listing, version};
use crate::config::Config;
use crate::digest::{Algorithm, Digest};
use crate::events::{Event, Observer, told};
use crate::index::Release;
use crate::layout::Layout;
use crate::sync::Wanted;
use crate::upstream;
use crate::vouch::Hearing;

/// The files of one release, and the versions that it is made of.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) wanted: Wanted,
    /// None for a list.
    pub(super) selection: Option<Selection>,
    pub(super) layout: Layout,
}

/// What to select without asking anybody: names that move are refused.
pub(super) fn offline(config: &Config, list: Option<&Path>, observer: &dyn Observer) -> anyhow::Result<Selected> {
    if let Some(list) = list {
        return of_list(config, list);
    }
    let (kops, kubernetes) = names(config)?;
    let versions = (version::kops(kops)?, version::kubernetes(kubernetes)?);
    of_versions(config, versions, observer)
}

/// What to select, once it is known what `stable` and `latest` are today.
pub(super) async fn online(
    config: &Config,
    list: Option<&Path>,
    hearing: &Hearing<'_>,
    observer: &dyn Observer,
) -> anyhow::Result<Selected> {
    if let Some(list) = list {
        return of_list(config, list);
    }
    let (kops, kubernetes) = names(config)?;
    let versions = (upstream::kops(kops, hearing).await?, upstream::kubernetes(kubernetes, hearing).await?);
    of_versions(config, versions, observer)
}

fn names(config: &Config) -> anyhow::Result<(&str, &str)> {
    match (&config.kops, &config.kubernetes) {
        (Some(kops), Some(kubernetes)) => Ok((kops, kubernetes)),
        (None, Some(_)) => bail!("which kops? Give --kops VERSION, 1.36.2 say, or --kops latest"),
        (Some(_), None) => bail!("which Kubernetes? Give --kubernetes VERSION, v1.34.8 say, or --kubernetes stable"),
        (None, None) => bail!(
            "which release? Give --kubernetes VERSION and --kops VERSION, v1.34.8 and 1.36.2 say, or --assets FILE with the \
             output of 'kops get assets -o json'"
        ),
    }
}

/// The catalogue in use.
pub(super) fn catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let Some(path) = &config.catalogue else {
        return Ok(Catalogue::builtin());
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read the catalogue {}", path.display()))?;
    Catalogue::parse(&text).with_context(|| format!("the catalogue {}", path.display()))
}

fn of_versions(
    config: &Config,
    (kops, kubernetes): (Version, Version),
    observer: &dyn Observer,
) -> anyhow::Result<Selected> {
    let catalogue = catalogue(config)?;
    let mut options = Vec::new();
    options.extend(config.install_nerdctl.then_some(ClusterOption::InstallNerdctl));
    options.extend(config.install_crictl.then_some(ClusterOption::InstallCrictl));
    let selection = Selection {
        archs: config.arch.clone(),
        networking: config.networking.clone(),
        runtime: config.container_runtime.as_deref().map(str::parse).transpose().map_err(anyhow::Error::msg)?,
        options,
        clients: config.clients,
        layout: config.layout,
        ..Selection::new(kops.clone(), vec![kubernetes.clone()])
    };
    let found = catalogue.assets(&selection)?;
    for warning in &found.warnings {
        observer.event(&Event::Warned { what: warning.to_string() });
    }
    let usual = catalogue.layout(&kops) == found.layout;
    let suffix = if usual { String::new() } else { format!("_{}", found.layout) };
    let release = Release {
        name: format!("kops-{kops}_kubernetes-{kubernetes}{suffix}"),
        kubernetes: Some(kubernetes.to_string()),
        kops: Some(kops.to_string()),
        arch: config.arch.clone(),
        networking: config.networking.iter().cloned().collect(),
        layout: Some(found.layout.to_string()),
    };
    let assets = matching(found.assets, config)?;
    Ok(Selected { wanted: Wanted { release, assets }, selection: Some(selection), layout: found.layout })
}

fn of_list(config: &Config, path: &Path) -> anyhow::Result<Selected> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read the list {}", path.display()))?;
    let layout = config.layout.unwrap_or(Layout::FileRepository);
    let assets = listing::from_listing(&text, layout).with_context(|| format!("the list {}", path.display()))?;
    // The same list is the same release, whatever its file is called and however it is written.
    let urls: Vec<&str> = assets.iter().map(|asset| asset.canonical.as_str()).collect();
    let digest = Digest::of(Algorithm::Sha256, urls.join("\n").as_bytes()).hex();
    let release = Release {
        name: format!("assets-{}", &digest[..12]),
        arch: config.arch.clone(),
        layout: Some(layout.to_string()),
        ..Release::default()
    };
    let assets = matching(assets, config)?;
    Ok(Selected { wanted: Wanted { release, assets }, selection: None, layout })
}

/// What `--include` and `--exclude` leave.
fn matching(assets: Vec<Asset>, config: &Config) -> anyhow::Result<Vec<Asset>> {
    let (include, exclude) = (globs(&config.include)?, globs(&config.exclude)?);
    let takes = |asset: &Asset| {
        let key = asset.key.as_str();
        (include.is_empty() || include.is_match(key)) && !exclude.is_match(key)
    };
    let taken: Vec<Asset> = assets.into_iter().filter(takes).collect();
    if taken.is_empty() {
        bail!("--include and --exclude leave no file; see 'kops-mirror assets' for the keys that they are compared with");
    }
    Ok(taken)
}

fn globs(globs: &[Glob]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    set.build().map_err(|error| anyhow::anyhow!("the globs can't be used: {}", told(&error)))
}
