//! Measures the user's own link: chooses what to measure by, one end after the other, and says what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{document, parts, say, select};
use crate::asset::{Asset, Role};
use crate::cli::{BenchArgs, End, Output};
use crate::config::{Config, Target};
use crate::events::Observer;
use crate::measure::{
    self, Advice, Allowance, Findings, Kernel, Measured, Sample, Scratch, Size, Upstreams,
};
use crate::report::Exit;
use crate::retry::Policy;
use crate::vouch::Hearing;

/// What is measured by where nobody says which release: today's, which every host of the catalogue has.
const RELEASE: (&str, &str) = ("1.36.2", "v1.34.8");

/// A host that only has smaller files is no matter for a link.
const SAMPLE_BYTES_MIN: u64 = 1 << 20;

/// Lengths that are asked for at a time.
const ASKED_AT_ONCE: usize = 16;

/// A host that answers none of three attempts is not worth measuring.
const ATTEMPTS: u32 = 3;

/// What is to be measured.
struct Ends {
    samples: Vec<Sample>,
    scratches: Vec<Scratch>,
    size: Size,
}

pub(super) async fn bench(
    args: &BenchArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    // A measurement takes a while: that its picture has no place must be known before.
    let picture = args.svg.as_deref().map(create).transpose()?;
    let upstreams = upstreams(config)?;
    let chosen = stop.run_until_cancelled(ends(args, config, &upstreams, observer.as_ref()));
    let Some(ends) = chosen.await.transpose()? else {
        return Ok(Exit::Interrupted);
    };
    let measured = measure_all(&ends, args, config, &upstreams, observer.as_ref(), stop).await;
    let kernel = Kernel::ask();
    let findings = Findings {
        advice: Advice::of(&measured, &ends.size, kernel.as_ref()),
        interrupted: stop.is_cancelled(),
        measured,
    };
    drop(observer); // and with it the bars
    match output {
        Output::Table => say(&findings.table())?,
        _ => document(&findings, output)?,
    }
    if let Some((path, file)) = picture {
        draw(&findings, path, file)?;
    }
    Ok(findings.exit())
}

fn create(path: &Path) -> anyhow::Result<(&Path, File)> {
    let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
    Ok((path, file))
}

fn draw(findings: &Findings, path: &Path, mut file: File) -> anyhow::Result<()> {
    let picture = measure::svg(&findings.measured)?;
    file.write_all(picture.as_bytes())
        .with_context(|| format!("can't write {}", path.display()))
}

fn upstreams(config: &Config) -> anyhow::Result<Upstreams> {
    let policy = config.retry.policy();
    Ok(Upstreams {
        origins: parts::origins(config)?,
        limits: parts::limits(config),
        policy: Policy {
            attempts: policy.attempts.min(ATTEMPTS),
            ..policy
        },
    })
}

/// Finds what to measure by. A bucket that can't be used is an error, as for every command.
async fn ends(
    args: &BenchArgs,
    config: &Config,
    upstreams: &Upstreams,
    observer: &dyn Observer,
) -> anyhow::Result<Ends> {
    let mut scratches = Vec::new();
    if args.only != Some(End::Origin) {
        for target in &config.to {
            if let Target::Bucket { bucket, prefix } = target {
                scratches.extend(parts::scratches(config, bucket, prefix).await?);
            }
        }
    }
    if args.only == Some(End::Store) && scratches.is_empty() {
        bail!("which store? A folder has no link to measure: give --to s3://BUCKET/PREFIX");
    }
    let (samples, size) = match (&args.url, args.only) {
        (_, Some(End::Store)) => Default::default(),
        (Some(url), _) => (samples_of(url, upstreams), Size::default()),
        (None, _) => samples(args, config, upstreams, observer).await?,
    };
    if samples.is_empty() && scratches.is_empty() {
        bail!("no host has a file of 1 MiB or more to measure by: name one with --url");
    }
    Ok(Ends {
        samples,
        scratches,
        size,
    })
}

/// A file at each of its sources.
fn samples_of(canonical: &Url, upstreams: &Upstreams) -> Vec<Sample> {
    let sources = upstreams.origins.sources(canonical).into_iter();
    sources
        .map(|source| Sample {
            host: host_of(canonical),
            source,
        })
        .collect()
}

fn host_of(canonical: &Url) -> String {
    let host = canonical.host_str().unwrap_or_default();
    canonical
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The largest file of each host of the release, at each of its sources; a server that stands for several hosts counts once.
async fn samples(
    args: &BenchArgs,
    config: &Config,
    upstreams: &Upstreams,
    observer: &dyn Observer,
) -> anyhow::Result<(Vec<Sample>, Size)> {
    let hosts = by_host(assets(args, config, upstreams, observer).await?);
    let mut size = Size::default();
    let mut samples: Vec<Sample> = Vec::new();
    for (host, assets) in hosts {
        let told = lengths(&assets, upstreams).await;
        let bytes = told.iter().filter_map(|(_, length)| *length).sum();
        size.untold += told.iter().filter(|(_, length)| length.is_none()).count();
        size.bytes.insert(host.clone(), bytes);
        let Some(largest) = largest(&told) else {
            tracing::info!("{host} has no file of 1 MiB or more: it is not measured");
            continue;
        };
        let known: BTreeSet<String> = samples.iter().map(|it| it.source.host()).collect();
        let new = samples_of(&largest.canonical, upstreams)
            .into_iter()
            .filter(|sample| !known.contains(&sample.source.host()));
        samples.extend(new);
    }
    Ok((samples, size))
}

async fn assets(
    args: &BenchArgs,
    config: &Config,
    upstreams: &Upstreams,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Asset>> {
    let list = args.selection.assets.as_deref();
    let mut config = config.clone();
    if list.is_none() && config.kops.is_none() && config.kubernetes.is_empty() {
        let (kops, kubernetes) = RELEASE;
        config.kops = Some(kops.to_owned());
        config.kubernetes = vec![kubernetes.to_owned()];
    }
    let hearing = Hearing::new(&upstreams.origins, &upstreams.limits, upstreams.policy);
    let selected = select::online(&config, list, &hearing, observer).await?;
    let releases = selected.releases.into_iter();
    Ok(releases.flat_map(|release| release.assets).collect())
}

fn by_host(assets: Vec<Asset>) -> BTreeMap<String, Vec<Asset>> {
    let mut hosts: BTreeMap<String, Vec<Asset>> = BTreeMap::new();
    for asset in assets {
        let of_host = hosts.entry(host_of(&asset.canonical)).or_default();
        if of_host.iter().all(|other| other.key != asset.key) {
            of_host.push(asset);
        }
    }
    hosts
}

async fn lengths<'a>(assets: &'a [Asset], upstreams: &Upstreams) -> Vec<(&'a Asset, Option<u64>)> {
    let asked = stream::iter(assets).map(|asset| async move {
        let source = upstreams
            .origins
            .sources(&asset.canonical)
            .into_iter()
            .next();
        let length = match source {
            Some(source) => upstreams.origins.length(&source).await,
            None => None,
        };
        (asset, length)
    });
    asked.buffered(ASKED_AT_ONCE).collect().await
}

/// Where nobody tells a length, the first file: why nobody does is then found out.
fn largest<'a>(told: &[(&'a Asset, Option<u64>)]) -> Option<&'a Asset> {
    let known = told
        .iter()
        .filter_map(|(asset, length)| Some((*asset, (*length)?)));
    match known.max_by_key(|(_, length)| *length) {
        Some((asset, length)) => (length >= SAMPLE_BYTES_MIN).then_some(asset),
        None => told
            .iter()
            .map(|(asset, _)| *asset)
            .find(|asset| asset.role == Role::File),
    }
}

/// Each end has its part of what is left: one over a bad link uses little and leaves it to the others.
async fn measure_all(
    ends: &Ends,
    args: &BenchArgs,
    config: &Config,
    upstreams: &Upstreams,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Vec<Measured> {
    let mut measured: Vec<Measured> = Vec::new();
    let count = ends.samples.len() + ends.scratches.len();
    let allowance = |measured: &[Measured]| {
        let used: u64 = measured.iter().map(|it| it.bytes).sum();
        let ends_left = (count - measured.len()).max(1) as u64;
        Allowance {
            bytes: args.budget.bytes().saturating_sub(used) / ends_left,
            rung: Duration::from_secs(args.seconds.get()),
            connections: config.fetch.connections.get(),
        }
    };
    for sample in &ends.samples {
        if !stop.is_cancelled() {
            let allowance = allowance(&measured);
            measured.push(measure::origin(sample, upstreams, allowance, observer, stop).await);
        }
    }
    for scratch in &ends.scratches {
        if !stop.is_cancelled() {
            let allowance = allowance(&measured);
            measured.push(measure::store(scratch, allowance, observer, stop).await);
        }
    }
    measured
}
