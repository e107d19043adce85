//! Sets the stage: an origin with generated releases on one side, an S3 server on the other, and the engine's parts between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{BinaryBytes, HumanCount};
use semver::Version;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::story::Told;
use super::witness::Witness;
use crate::asset::{Asset, Key, Role, Voucher};
use crate::events::Observer;
use crate::index::Release;
use crate::limits::Limits;
use crate::loopback::origin::{Exchange, Origin};
use crate::loopback::releases::{Kind, Releases};
use crate::loopback::s3::{Bucket, Found, LoopbackS3, Options};
use crate::origin::{HostSettings, OriginSettings, Origins};
use crate::report::Report;
use crate::retry::Policy;
use crate::spool::SpoolFolder;
use crate::store::Store;
use crate::store::s3::{Keys, S3Options, S3Store};
use crate::sync::{self, Wanted};
use crate::transfer::Mirror;

const BUCKET: &str = "kops-mirror-demo";
const REGION: &str = "cn-north-1";
/// Files have a 32nd of the real ones' size: small enough for a few seconds, large enough to be fetched in several ranges.
const DIVISOR: u64 = 32;
const CONNECTIONS: usize = 32;
/// A link that stands still is not given up before the demo stops the run, however slow the machine.
const STALL_WINDOW: Duration = Duration::from_mins(2);
const FILES_IN_FLIGHT: usize = 4;
const SPOOL_BYTES: u64 = 1 << 30;
/// Nothing is far away here.
const POLICY: Policy = Policy {
    attempts: 6,
    pause_min: Duration::from_millis(20),
    pause_max: Duration::from_millis(200),
};

/// A release of today and one of 2018, as the catalogue has them.
#[derive(Debug)]
pub struct Eras {
    pub modern: Wanted,
    pub legacy: Wanted,
}

/// One release and the prefix that it is mirrored under.
#[derive(Debug)]
pub(super) struct Era {
    pub(super) prefix: &'static str,
    pub(super) wanted: Wanted,
}

impl Era {
    /// The one file whose key ends so.
    pub(super) fn file(&self, end: &str) -> anyhow::Result<&Asset> {
        let mut assets = self.wanted.assets.iter();
        assets
            .find(|asset| asset.key.as_str().ends_with(end))
            .with_context(|| format!("the catalogue has no {end} in {}", self.name()))
    }

    pub(super) fn keys(&self, role: Role) -> BTreeSet<&Key> {
        let assets = self.wanted.assets.iter();
        assets
            .filter(|asset| asset.role == role)
            .map(|asset| &asset.key)
            .collect()
    }

    /// A key as the server knows it.
    pub(super) fn full_key(&self, key: &Key) -> String {
        format!("{}/{key}", self.prefix)
    }

    pub(super) fn name(&self) -> String {
        let version = |version: &Option<String>| version.clone().unwrap_or_default();
        let release = &self.wanted.release;
        format!(
            "kops {} with Kubernetes {}",
            version(&release.kops),
            version(&release.kubernetes)
        )
    }
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) releases: Releases,
    pub(super) origin: Origin,
    pub(super) s3: LoopbackS3,
    pub(super) modern: Era,
    pub(super) legacy: Era,
    settings: OriginSettings,
    folder: PathBuf,
    /// The files that a mirror is for, as paths at the origin.
    file_paths: BTreeSet<String>,
}

/// Generates the releases and starts both servers.
pub(super) async fn set(eras: Eras, folder: PathBuf) -> anyhow::Result<(Told, Stage)> {
    let Eras {
        mut modern,
        mut legacy,
    } = eras;
    let releases = generate(&modern.release, &legacy.release).await?;
    for asset in modern.assets.iter_mut().chain(&mut legacy.assets) {
        carry_generated_digests(asset, &releases)?;
    }
    let origin = Origin::start().context("can't listen on 127.0.0.1")?;
    releases.publish_on(&origin);
    let s3 = LoopbackS3::start(Options {
        region: REGION.to_owned(),
        ..Options::default()
    })
    .context("can't listen on 127.0.0.1")?;
    let assets = modern.assets.iter().chain(&legacy.assets);
    let files = releases
        .files()
        .filter(|(_, file)| file.kind == Kind::Asset);
    let stage = Stage {
        settings: settings(&origin, &releases, assets),
        file_paths: files.map(|(url, _)| path(url)).collect(),
        modern: Era {
            prefix: "today",
            wanted: modern,
        },
        legacy: Era {
            prefix: "2018",
            wanted: legacy,
        },
        releases,
        origin,
        s3,
        folder,
    };
    for era in [&stage.modern, &stage.legacy] {
        stage.target(era).await?.prepare(true).await?;
    }
    let created = stage.s3.log().count("CreateBucket");
    ensure!(created == 1, "the bucket was created {created} times");
    let told = stage.told();
    Ok((told, stage))
}

async fn generate(modern: &Release, legacy: &Release) -> anyhow::Result<Releases> {
    let (modern, legacy) = (versions(modern)?, versions(legacy)?);
    let generated = tokio::task::spawn_blocking(move || {
        Releases::scaled_down(DIVISOR)
            .with_modern(&modern.0, &modern.1)
            .with_legacy(&legacy.0, &legacy.1)
    });
    generated.await.context("the releases were not generated")
}

/// Of Kubernetes and of kops.
fn versions(release: &Release) -> anyhow::Result<(Version, Version)> {
    let version = |version: &Option<String>| {
        let text = version.as_deref().unwrap_or_default();
        Version::parse(text).with_context(|| format!("'{text}' is no version"))
    };
    Ok((version(&release.kubernetes)?, version(&release.kops)?))
}

/// kops carries digests of some real files; those of the generated ones take their places.
fn carry_generated_digests(asset: &mut Asset, releases: &Releases) -> anyhow::Result<()> {
    let url = asset.canonical.as_str();
    ensure!(
        releases.file(url).is_some(),
        "the catalogue wants {url}, which nobody generated"
    );
    for voucher in asset.witnesses.iter_mut().flatten() {
        if let Voucher::Carried { digest, source } = voucher {
            let algorithm = digest.algorithm();
            let generated = releases
                .digests(url)
                .and_then(|digests| digests.get(algorithm));
            *digest = generated.context("generated files have all digests")?;
            source.push_str(", with the digest of the generated file");
        }
    }
    Ok(())
}

/// Every host is redirected to the origin, so that nothing can leave this machine.
fn settings<'a>(
    origin: &Origin,
    releases: &Releases,
    assets: impl Iterator<Item = &'a Asset>,
) -> OriginSettings {
    let urls = assets.flat_map(|asset| {
        let told = asset
            .witnesses
            .iter()
            .flatten()
            .filter_map(|voucher| match voucher {
                Voucher::Known { .. } | Voucher::Carried { .. } => None,
                Voucher::Sidecar { url, .. } | Voucher::List { url, .. } => Some(url),
            });
        std::iter::once(&asset.canonical)
            .chain(&asset.alternates)
            .chain(told)
    });
    let hosts = urls.filter_map(Url::host_str).chain(releases.hosts());
    let at_origin = |host: &str| HostSettings {
        sources: vec![origin.host_url(host)],
        ..HostSettings::default()
    };
    let hosts: BTreeMap<String, HostSettings> = hosts
        .map(|host| (host.to_owned(), at_origin(host)))
        .collect();
    OriginSettings {
        hosts,
        connections: CONNECTIONS,
        stall_window: STALL_WINDOW,
        // What is sent again must be the troubles' doing, however busy the machine is.
        hedge_after: STALL_WINDOW,
        ..OriginSettings::default()
    }
}

/// The path at the origin of the file with this canonical URL.
pub(super) fn path(canonical: &Url) -> String {
    let host = canonical.host_str().unwrap_or_default();
    format!("/{host}{}", canonical.path())
}

impl Stage {
    fn told(&self) -> Told {
        let lengths = self
            .releases
            .files()
            .map(|(_, published)| published.file.content.length());
        let (files, bytes) = (self.releases.files().count(), lengths.sum::<u64>());
        let hosts = self.releases.hosts().len();
        Told::did("Generated two releases, and started an origin and an S3 server.")
            .saw(format!("{}, for today's clusters", self.modern.name()))
            .saw(format!("{}, for those of 2018", self.legacy.name()))
            .saw(format!(
                "origin http://{}: {} files and sidecars of {hosts} hosts, {} ({DIVISOR} times smaller than life)",
                self.origin.address(),
                HumanCount(files as u64),
                BinaryBytes(bytes)
            ))
            .saw(format!(
                "S3 server http://{} in {REGION}: the bucket {BUCKET} was created",
                self.s3.address()
            ))
            .figure("files", files)
            .figure("bytes", bytes)
            .figure("hosts", hosts)
    }

    pub(super) fn eras(&self) -> [&Era; 2] {
        [&self.modern, &self.legacy]
    }

    pub(super) fn bucket(&self) -> Bucket {
        self.s3.bucket(BUCKET)
    }

    pub(super) fn object(&self, era: &Era, key: &Key) -> anyhow::Result<Found> {
        let there = self.bucket().object(&era.full_key(key));
        there.with_context(|| format!("the bucket has no {}", era.full_key(key)))
    }

    /// How long the origin's file for an asset is.
    pub(super) fn length(&self, asset: &Asset) -> u64 {
        let file = self.releases.file(asset.canonical.as_str());
        file.map_or(0, |file| file.content.length())
    }

    /// Lets the origin work as it should again.
    pub(super) fn recover(&self) {
        self.origin.recover();
        // The redirects of GitHub are ordered as well.
        self.releases.publish_on(&self.origin);
    }

    /// How many requests the origin has had.
    pub(super) fn requests(&self) -> usize {
        self.origin.log().exchanges().len()
    }

    /// The bytes of files, sidecars apart, that the origin has sent since it had so many requests.
    pub(super) fn file_bytes_sent_since(&self, requests: usize) -> u64 {
        let exchanges = self.origin.log().exchanges();
        let of_files = exchanges[requests..]
            .iter()
            .filter(|exchange| self.file_paths.contains(&exchange.path));
        of_files
            .filter_map(Exchange::sent)
            .map(|sent| sent.end - sent.start)
            .sum()
    }

    /// The answers to the PUTs of an object; None where the answer was lost.
    pub(super) fn puts(&self, era: &Era, key: &Key) -> Vec<Option<u16>> {
        let key = era.full_key(key);
        let puts = self.s3.log().of("PutObject").into_iter();
        puts.filter(|put| put.key == key)
            .map(|put| put.status)
            .collect()
    }

    pub(super) fn witness(&self, era: &Era) -> Arc<Witness> {
        Arc::new(Witness::new(self.bucket(), era.prefix))
    }

    /// Connects to the bucket, as every run does.
    pub(super) async fn target(&self, era: &Era) -> anyhow::Result<Arc<dyn Store>> {
        let credentials = self.s3.credentials();
        let options = S3Options {
            region: Some(REGION.to_owned()),
            endpoint: Some(self.s3.endpoint()),
            keys: Some(Keys {
                access_key: credentials.access_key.clone(),
                secret_key: credentials.secret_key.clone(),
            }),
            ..S3Options::new(BUCKET, era.prefix)
        };
        Ok(Arc::new(S3Store::connect(options).await?))
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// The parts of a run, made anew for each as a new process makes them.
    pub(super) fn mirror(
        &self,
        targets: Vec<Arc<dyn Store>>,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<Arc<Mirror>> {
        Ok(Arc::new(Mirror {
            origins: Origins::new(self.settings.clone())?,
            limits: Limits::new(CONNECTIONS, None),
            targets,
            spools: open(&self.spool())?,
            policy: POLICY,
            observer,
            in_flight: FILES_IN_FLIGHT,
            draining: CancellationToken::new(),
        }))
    }

    /// One `sync` of an era into its prefix.
    pub(super) async fn sync(
        &self,
        era: &Era,
        observer: Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Report> {
        let targets = vec![self.target(era).await?];
        self.sync_to(targets, era, observer, stop).await
    }

    pub(super) async fn sync_to(
        &self,
        targets: Vec<Arc<dyn Store>>,
        era: &Era,
        observer: Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Report> {
        for target in &targets {
            target.prepare(true).await?;
        }
        let mirror = self.mirror(targets, observer)?;
        let prepared = sync::prepare(&mirror, vec![era.wanted.clone()], stop).await?;
        Ok(sync::carry_out(&mirror, prepared, stop).await)
    }
}

fn open(spool: &Path) -> anyhow::Result<SpoolFolder> {
    Ok(SpoolFolder::open(spool, SPOOL_BYTES)?)
}
