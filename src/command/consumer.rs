//! `env`: what kops needs to use the mirror, for the release that is there.

mod images;

use anyhow::{Context, bail};
use url::Url;

use super::{document, parts, say, select};
use crate::asset::Asset;
use crate::catalogue::{Catalogue, Selection};
use crate::cli::{EnvArgs, EnvForm, Output};
use crate::config::{Config, Target};
use crate::consumer::{self, ConsumerInput, MirroredImages, Settings};
use crate::digest::Digest;
use crate::events::{Event, Observer, told};
use crate::index::Index;
use crate::layout::Layout;
use crate::partition::Partition;
use crate::report::Exit;
use crate::sync::{self, Wanted};

pub(super) async fn env(
    args: &EnvArgs,
    output: Output,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Exit> {
    if args.selection.assets.is_some() {
        bail!("env speaks of a kops and a Kubernetes version; a list of files has none");
    }
    let selected = select::offline(config, None, observer)?;
    let catalogue = select::catalogue(config)?;
    let base_url = match &args.base_url {
        Some(url) => url.clone(),
        None => base_url(config)?,
    };
    let mut all = Vec::new();
    for (wanted, selection) in selected.releases.iter().zip(&selected.selections) {
        let index = mirrored(wanted, config, observer).await;
        let is_typed = !args.registries.to_registry.is_empty();
        let images = images::mirrored(config, is_typed, index.as_ref(), observer);
        all.push(settings(
            wanted,
            selection,
            &catalogue,
            index.as_ref(),
            &base_url,
            config,
            images,
        )?);
    }
    match (output, all.as_slice()) {
        (Output::Table, all) => all
            .iter()
            .try_for_each(|settings| print(settings, args.form))?,
        (_, [settings]) => document(settings, output)?,
        (_, all) => document(&all, output)?,
    }
    Ok(Exit::Done)
}

/// The index of the release at the first target. Without one the settings are printed all the same, with a warning: whoever asks
/// may have no access to the bucket from here.
async fn mirrored(wanted: &Wanted, config: &Config, observer: &dyn Observer) -> Option<Index> {
    let name = &wanted.release.name;
    let look = async {
        let targets = parts::targets(config).await?;
        let target = targets.first().context("there is no target")?;
        let seen = sync::look(target.as_ref(), std::slice::from_ref(wanted)).await?;
        anyhow::Ok(seen.index(&wanted.release).cloned())
    };
    let warning = match look.await {
        Ok(Some(index)) => return Some(index),
        Ok(None) => format!(
            "{name} is not complete there: run 'kops-mirror sync' before you use these settings"
        ),
        Err(error) => format!(
            "can't see whether {name} is complete there: {}",
            told(error.as_ref())
        ),
    };
    observer.event(&Event::Warned { what: warning });
    None
}

fn settings(
    wanted: &Wanted,
    selection: &Selection,
    catalogue: &Catalogue,
    index: Option<&Index>,
    base_url: &Url,
    config: &Config,
    images: Option<MirroredImages>,
) -> anyhow::Result<Settings> {
    let layout = selection
        .layout
        .unwrap_or_else(|| catalogue.layout(&selection.kops));
    let kubernetes = selection
        .kubernetes
        .first()
        .context("a selection has a Kubernetes version")?;
    let input = ConsumerInput {
        kops: selection.kops.clone(),
        kubernetes: kubernetes.clone(),
        region: region(config),
        base_url: base_url.clone(),
        layout,
        archs: selection.archs.clone(),
        cni: cni(wanted, index, base_url, layout),
        images,
    };
    Ok(consumer::settings(&input)?)
}

fn region(config: &Config) -> Option<String> {
    config
        .s3
        .region
        .clone()
        .filter(|_| matches!(config.to.first(), Some(Target::Bucket { .. })))
}

/// The mirrored CNI archive, by what the index says of it, or else by what the catalogue carries.
fn cni(
    wanted: &Wanted,
    index: Option<&Index>,
    base_url: &Url,
    layout: Layout,
) -> Option<(Url, Digest)> {
    if layout != Layout::Offline {
        return None;
    }
    let asset = wanted
        .assets
        .iter()
        .find(|asset| asset.key.file_name().starts_with("cni-"))?;
    let stored = index.and_then(|index| index.files.iter().find(|entry| entry.key == asset.key));
    let digest = stored
        .map(|entry| entry.sha1.unwrap_or(entry.sha256))
        .or_else(|| carried(asset))?;
    let url = format!("{}/{}", base_url.as_str().trim_end_matches('/'), asset.key);
    Some((url.parse().ok()?, digest))
}

fn carried(asset: &Asset) -> Option<Digest> {
    asset
        .witnesses
        .iter()
        .flatten()
        .find_map(crate::asset::Voucher::digest)
}

/// Where nodes find the first target, as far as its name tells.
fn base_url(config: &Config) -> anyhow::Result<Url> {
    let Some(Target::Bucket { bucket, prefix }) = config.to.first() else {
        bail!(
            "nodes read a mirror over HTTP: give the address at which they find the folder, --base-url http://…"
        );
    };
    let s3 = config.s3.of_bucket(bucket);
    let host = match (&s3.endpoint, &s3.region) {
        (Some(endpoint), _) => format!("{}/{bucket}", endpoint.as_str().trim_end_matches('/')),
        (None, Some(region)) => {
            let partition = Partition::of_region(region);
            // A dot in a bucket's name breaks the certificate of its own host name.
            if bucket.contains('.') || s3.path_style == Some(true) {
                format!("https://{}/{bucket}", partition.s3_host(region))
            } else {
                format!("https://{}", partition.bucket_host(bucket, region))
            }
        }
        (None, None) => bail!(
            "which region is the bucket in? Give --region, or --base-url with the mirror's address"
        ),
    };
    let url = if prefix.is_empty() {
        host
    } else {
        format!("{host}/{prefix}")
    };
    Url::parse(&url)
        .with_context(|| format!("'{url}' is not an address that nodes could use; give --base-url"))
}

fn print(settings: &Settings, form: Option<EnvForm>) -> anyhow::Result<()> {
    match form {
        None => say(&settings.shell()),
        Some(EnvForm::Variables) => say(&settings.variables()),
        Some(EnvForm::Flags) => say(&format!("{}\n", settings.flags())),
        Some(EnvForm::Spec) => match settings.yaml() {
            Some(spec) => say(&spec),
            None => {
                bail!("this kops has no spec.assets.fileRepository that works: use --as variables")
            }
        },
    }
}
