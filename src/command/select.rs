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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::cluster::ClusterFile;
    use crate::config::{Environment, Target};
    use crate::events::Silent;
    use crate::provision::Remedy;

    const EXAMPLE: &str = include_str!("../../config/cluster.example.yaml");

    /// The example with other words in it.
    fn file(changes: &[(&str, &str)]) -> ClusterFile {
        let text = changes.iter().fold(EXAMPLE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        ClusterFile::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The settings that the printed command has, as a shell and the command line read it.
    fn typed(remedy: &Remedy) -> Config {
        let words = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {remedy}")])
            .output()
            .unwrap();
        let words = String::from_utf8(words.stdout).unwrap();
        let is_program = |word: &&str| *word == "kops-mirror";
        let variables = words.lines().take_while(|word| !is_program(word));
        let variables = variables.map(|word| word.split_once('=').unwrap());
        let environment: Environment = variables.collect();
        let cli = Cli::try_parse_from(words.lines().skip_while(|word| !is_program(word)));
        let cli = cli.unwrap_or_else(|error| panic!("{remedy}: {error}"));
        cli.settings(&environment).unwrap()
    }

    /// The command that is printed where a mirror lacks something brings all that the cluster of the file asks for, there where it asks.
    #[test]
    fn the_command_for_a_cluster_selects_what_it_asks_for() {
        let kops = |version: &'static str| ("kopsVersion: 1.36.2", version);
        let kubernetes = |version: &'static str| ("kubernetesVersion: 1.35.5", version);
        let key = (
            "  # publicKey: id_ed25519.pub",
            "  publicKey: id_ed25519.pub",
        );
        let registry = "containerRegistry: 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/k8s";
        for changes in [
            vec![],
            vec![("  # mode: auto", "  mode: base-url")],
            vec![(
                "# options: [metrics-server, node-local-dns]",
                "options: [metrics-server, hubble, cert-manager, install-nerdctl]",
            )],
            vec![(registry, "containerProxy: registry.example.cn/all")],
            vec![("at: s3://my-mirror/prod", "at: \"./the mirror's\"")],
            vec![
                kops("kopsVersion: 1.10.1"),
                kubernetes("kubernetesVersion: 1.10.13"),
                ("networking: cilium", "networking: calico"),
                key,
            ],
            vec![
                kops("kopsVersion: 1.8.1"),
                kubernetes("kubernetesVersion: 1.8.7"),
                ("networking: cilium", "networking: weave"),
                key,
            ],
        ] {
            let file = file(&changes);
            let remedy = Remedy::of(&file, true);
            let config = typed(&remedy);
            let selected = offline(&config, None, &Silent).unwrap();
            let (selection, wanted) = (&selected.selections[0], file.selection());
            assert_eq!(
                (&selection.kops, &selection.kubernetes, &selection.archs),
                (&wanted.kops, &wanted.kubernetes, &wanted.archs)
            );
            assert_eq!(selection.networking, wanted.networking, "{remedy}");
            assert_eq!(selection.options, wanted.options, "{remedy}");
            let release = &selected.releases[0];
            assert_eq!(release.release.layout, Some(file.layout().to_string()));
            let keys: BTreeSet<_> = release.assets.iter().map(|asset| &asset.key).collect();
            let lacks = file.files().unwrap().assets.into_iter();
            let lacks: Vec<_> = lacks.filter(|asset| !keys.contains(&asset.key)).collect();
            assert!(lacks.is_empty(), "{remedy}: {lacks:?}");
            let images = references(&file.images().unwrap()).unwrap();
            assert_eq!(release.images, images, "{remedy}");
            assert_eq!(Some(config.registry.naming()), file.naming());
            assert_eq!(config.to, [file.mirror.at.parse::<Target>().unwrap()]);
        }
    }

    #[test]
    fn images_are_left_out_of_it_where_a_proxy_fetches_them() {
        let config = typed(&Remedy::of(&file(&[]), false));
        assert!(!config.images && config.registry.to.is_empty());
        assert_eq!(config.s3.region.as_deref(), Some("cn-north-1"));
    }
}
