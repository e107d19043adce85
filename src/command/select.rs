//! Settings to the files that are wanted: through the catalogue, or exactly those of a list.

use std::path::Path;

use anyhow::{Context, bail};
use globset::{Glob, GlobSet, GlobSetBuilder};
use semver::Version;

use crate::asset::Asset;
use crate::catalogue::listing::Listing;
use crate::catalogue::{Catalogue, ClusterOption, Form, Selection, version};
use crate::config::Config;
use crate::digest::{Algorithm, Digest};
use crate::events::{Event, Observer, told};
use crate::image::Reference;
use crate::index::Release;
use crate::layout::Layout;
use crate::sync::Wanted;
use crate::upstream;
use crate::vouch::Hearing;

/// The files that are wanted, and the selections that they follow from: none for a list.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) releases: Vec<Wanted>,
    pub(super) selections: Vec<Selection>,
}

/// What to select without asking anybody: names that move are refused.
pub(super) fn offline(
    config: &Config,
    list: Option<&Path>,
    observer: &dyn Observer,
) -> anyhow::Result<Selected> {
    if let Some(list) = list {
        return of_list(config, list);
    }
    let (kops, names) = names(config)?;
    for name in names.iter().map(String::as_str).chain([kops]) {
        if upstream::moves(name) {
            bail!(
                "which version '{name}' is today is known to the network alone, which this command doesn't touch: name the \
                 version itself, as 'kops-mirror plan' shows it"
            );
        }
    }
    let kubernetes = names
        .iter()
        .map(|name| version::kubernetes(name))
        .collect::<Result<_, _>>()?;
    of_versions(config, &version::kops(kops)?, kubernetes, observer)
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
    let (kops, names) = names(config)?;
    let kops = upstream::kops(kops, hearing).await?;
    let mut kubernetes = Vec::new();
    for name in names {
        kubernetes.push(upstream::kubernetes(name, hearing).await?);
    }
    of_versions(config, &kops, kubernetes, observer)
}

fn names(config: &Config) -> anyhow::Result<(&str, &[String])> {
    match (&config.kops, config.kubernetes.as_slice()) {
        (None, []) => bail!(
            "which release? Give --kubernetes VERSION and --kops VERSION, v1.34.8 and 1.36.2 say, or --assets FILE with the \
             output of 'kops get assets -o json'"
        ),
        (None, _) => bail!("which kops? Give --kops VERSION, 1.36.2 say, or --kops latest"),
        (_, []) => bail!(
            "which Kubernetes? Give --kubernetes VERSION, v1.34.8 say, or --kubernetes stable"
        ),
        (Some(kops), kubernetes) => Ok((kops, kubernetes)),
    }
}

/// The catalogue in use.
pub(super) fn catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let Some(path) = &config.catalogue else {
        return Ok(Catalogue::builtin());
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the catalogue {}", path.display()))?;
    Catalogue::parse(&text).with_context(|| format!("the catalogue {}", path.display()))
}

/// One release for each Kubernetes version, under the same kops.
pub(super) fn of_versions(
    config: &Config,
    kops: &Version,
    mut kubernetes: Vec<Version>,
    observer: &dyn Observer,
) -> anyhow::Result<Selected> {
    let catalogue = catalogue(config)?;
    kubernetes.sort();
    kubernetes.dedup();
    let mut selected = Selected {
        releases: Vec::new(),
        selections: Vec::new(),
    };
    for kubernetes in kubernetes {
        let selection = selection(config, kops, &kubernetes)?;
        let found = catalogue.assets(&selection)?;
        for warning in &found.warnings {
            observer.event(&Event::Warned {
                what: warning.to_string(),
            });
        }
        let usual = catalogue.layout(kops) == found.layout;
        let suffix = if usual {
            String::new()
        } else {
            format!("_{}", found.layout)
        };
        let release = Release {
            name: format!("kops-{kops}_kubernetes-{kubernetes}{suffix}"),
            kubernetes: Some(kubernetes.to_string()),
            kops: Some(kops.to_string()),
            arch: config.arch.clone(),
            networking: config.networking.iter().cloned().collect(),
            layout: Some(found.layout.to_string()),
            ..Release::default()
        };
        let images = if config.images {
            references(&catalogue.images(&selection)?)?
        } else {
            Vec::new()
        };
        selected.releases.push(Wanted {
            release,
            assets: matching(found.assets, config)?,
            images,
            lacks: None,
            awaits: false,
        });
        selected.selections.push(selection);
    }
    Ok(selected)
}

fn selection(config: &Config, kops: &Version, kubernetes: &Version) -> anyhow::Result<Selection> {
    let options = [
        (config.install_nerdctl, ClusterOption::InstallNerdctl),
        (config.install_crictl, ClusterOption::InstallCrictl),
        (config.skip_container_runtime, ClusterOption::SkipRuntime),
        (config.cilium_portmap, ClusterOption::CiliumPortmap),
    ];
    let forms = [
        (config.with_kubernetes_url, Form::KubernetesUrl),
        (config.with_base_url, Form::BaseUrl),
    ];
    Ok(Selection {
        archs: config.arch.clone(),
        networking: config.networking.clone(),
        runtime: config
            .container_runtime
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(anyhow::Error::msg)?,
        options: options
            .into_iter()
            .filter_map(|(is_set, option)| is_set.then_some(option))
            .chain(config.cluster_options.iter().copied())
            .collect(),
        clients: config.clients,
        pointers: config.pointers,
        forms: forms
            .into_iter()
            .filter_map(|(is_set, form)| is_set.then_some(form))
            .collect(),
        layout: config.layout,
        ..Selection::new(kops.clone(), vec![kubernetes.clone()])
    })
}

fn of_list(config: &Config, path: &Path) -> anyhow::Result<Selected> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the list {}", path.display()))?;
    let layout = config.layout.unwrap_or(Layout::FileRepository);
    let of_list = || format!("the list {}", path.display());
    let list = Listing::parse(&text).with_context(of_list)?;
    let assets = list.assets(layout).with_context(of_list)?;
    let images = list.images.iter().map(|image| &image.canonical);
    let images = references(images.filter(|_| config.images)).with_context(of_list)?;
    // The same list is the same release, whatever its file is called and however it is written.
    let urls: Vec<&str> = assets
        .iter()
        .map(|asset| asset.canonical.as_str())
        .collect();
    let digest = Digest::of(Algorithm::Sha256, urls.join("\n").as_bytes()).hex();
    let release = Release {
        name: format!("assets-{}", &digest[..12]),
        arch: config.arch.clone(),
        layout: Some(layout.to_string()),
        ..Release::default()
    };
    let assets = matching(assets, config)?;
    Ok(Selected {
        releases: vec![Wanted {
            release,
            assets,
            images,
            lacks: None,
            awaits: false,
        }],
        selections: Vec::new(),
    })
}

/// Images by the names that kops has for them.
fn references<'a>(names: impl IntoIterator<Item = &'a String>) -> anyhow::Result<Vec<Reference>> {
    let references = names.into_iter().map(|name| name.parse());
    Ok(references.collect::<Result<_, _>>()?)
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
        bail!(
            "--include and --exclude leave no file; they are compared with keys, as 'kops-mirror plan' shows them without the two"
        );
    }
    Ok(taken)
}

fn globs(globs: &[Glob]) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    set.build()
        .map_err(|error| anyhow::anyhow!("the globs can't be used: {}", told(&error)))
}
