//! Makes the parts of a run from its settings: the targets, the upstreams, the spool.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::challenge::credentials::Files;
use crate::challenge::{Logins, Tokens};
use crate::config::{Config, PolicySettings, Publish, Rate, SignerSettings, Target};
use crate::events::{Event, Observer, told};
use crate::image::Naming;
use crate::images::layout::LayoutShelf;
use crate::images::registry::RegistryShelf;
use crate::images::shelf::Shelf;
use crate::limits::{Limits, Rates};
use crate::measure::{Kernel, Scratch};
use crate::origin::{HostSettings, OriginSettings, Origins};
use crate::signature::{Identity, Key, Policies, Policy, Signer};
use crate::spool::{SpoolFolder, SpoolFolderError};
use crate::store::folder::FolderStore;
use crate::store::registry::ecr::{EcrLogins, EcrOptions, EcrSettings};
use crate::store::registry::{Address, RegistryOptions, RegistryStore};
use crate::store::s3::{Congestion, S3Options, S3Store, Way};
use crate::store::{Store, StoreError};
use crate::transfer::Mirror;
use anyhow::Context;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether another run has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The targets, reached but not yet looked at.
pub(super) async fn targets(config: &Config) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    let mut targets = Vec::new();
    for to in &config.to {
        targets.push(target(config, to).await?);
    }
    Ok(targets)
}

/// One of them.
pub(super) async fn target(config: &Config, to: &Target) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match to {
        Target::Folder(path) => Arc::new(FolderStore::new(path)),
        Target::Bucket { bucket, prefix } => {
            Arc::new(S3Store::connect(s3_options(config, bucket, prefix)).await?)
        }
    })
}

fn s3_options(config: &Config, bucket: &str, prefix: &str) -> S3Options {
    let s3 = config.s3.of_bucket(bucket);
    S3Options {
        path_style: Some(s3.is_path_style())
            .filter(|_| s3.path_style.is_some() || s3.endpoint.is_some()),
        region: s3.region,
        endpoint: s3.endpoint,
        profile: s3.profile,
        acl: s3.acl.map(|acl| acl.name().to_owned()),
        way: match config.publish {
            Publish::Auto => Way::Auto,
            Publish::SinglePart => Way::SinglePart,
            Publish::Staged => Way::Staged,
        },
        connections: config.fetch.connections.get(),
        congestion: s3.congestion,
        ..S3Options::new(bucket, prefix)
    }
}

/// Where a bucket's link is measured, a folder beside the mirror's files, with the congestion control that was chosen; with
/// each that can be had when none was.
///
/// Their stores are not prepared, since a store that knows that it is far lets no more send at a time than it thinks good: that
/// is what is to be found out.
pub(super) async fn scratches(
    config: &Config,
    bucket: &str,
    prefix: &str,
) -> anyhow::Result<Vec<Scratch>> {
    let mirror = S3Store::connect(s3_options(config, bucket, prefix)).await?;
    mirror.prepare(false).await?;
    let below = format!("{prefix}/.bench");
    let mut scratches: Vec<Scratch> = Vec::new();
    for congestion in congestions(config) {
        let options = S3Options {
            congestion: congestion.clone(),
            ..s3_options(config, bucket, below.trim_start_matches('/'))
        };
        let store = match S3Store::connect(options).await {
            Ok(store) => store,
            Err(error) => {
                tracing::info!("{congestion} is not measured: {}", told(&error));
                continue;
            }
        };
        // Through a proxy they are all the system's.
        let congestion = store.congestion().unwrap_or("system").to_owned();
        if scratches.iter().all(|other| other.congestion != congestion) {
            scratches.push(Scratch {
                place: mirror.place().to_owned(),
                store: Box::new(store),
                congestion,
            });
        }
    }
    Ok(scratches)
}

fn congestions(config: &Config) -> Vec<Congestion> {
    let chosen = &config.s3.congestion;
    let choices = Kernel::ask()
        .filter(|_| *chosen == Congestion::Auto)
        .map(|kernel| kernel.choices());
    match choices {
        Some(names) => names.into_iter().map(Congestion::Named).collect(),
        None => vec![chosen.clone()],
    }
}

/// The upstreams as the settings have them.
pub(super) fn origins(config: &Config) -> anyhow::Result<Origins> {
    let mut hosts = BTreeMap::new();
    for (host, origin) in &config.origins {
        let headers = origin
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let settings = HostSettings {
            sources: origin.sources.clone(),
            proxy: origin.proxy.as_ref().map(|proxy| proxy.url().clone()),
            headers,
            connections: origin.connections.map(usize::from),
            limit: origin.limit.map(Rate::bytes_per_second),
        };
        hosts.insert(host.as_str().to_owned(), settings);
    }
    let settings = OriginSettings {
        hosts,
        tokens: tokens(config)?,
        connect_timeout: config.fetch.connect_timeout,
        stall_window: config.fetch.stall_window,
        stall_floor_bytes: config.fetch.stall_floor.bytes_per_second(),
        hedge_after: config.fetch.hedge_after,
        connections: config.fetch.connections.get(),
    };
    Ok(Origins::new(settings)?)
}

/// What answers registries that ask who comes.
fn tokens(config: &Config) -> anyhow::Result<Tokens> {
    let source = &config.registry.ecr_source;
    let options = EcrOptions {
        profile: source.profile.clone(),
        endpoint: source.endpoint.clone(),
        region: source.region.clone(),
        ..EcrOptions::default()
    };
    let logins: Vec<Arc<dyn Logins>> = vec![
        Arc::new(Files::new(config.login_files())),
        Arc::new(EcrLogins::connect(options, config.fetch.connect_timeout)?),
    ];
    Ok(Tokens::new(Arc::new(logins)))
}

/// The limits on fetching.
pub(super) fn limits(config: &Config) -> Limits {
    let fetch = &config.fetch;
    let by_night = fetch.night_limit.map(Rate::bytes_per_second);
    let rates = Rates {
        always: fetch.limit.map(Rate::bytes_per_second),
        night: fetch.night.clone().map(|night| (night, by_night)),
    };
    Limits::new(fetch.connections.get(), rates)
}

/// Everything that a run works with. Waits for a run that has the same spool, until the caller drops it.
pub(super) async fn mirror(
    config: &Config,
    targets: Vec<Arc<dyn Store>>,
    observer: Arc<dyn Observer>,
    draining: CancellationToken,
) -> anyhow::Result<Mirror> {
    mirror_from(origins(config)?, config, targets, observer, draining).await
}

/// The same, from upstreams that others work with as well.
pub(super) async fn mirror_from(
    origins: Origins,
    config: &Config,
    targets: Vec<Arc<dyn Store>>,
    observer: Arc<dyn Observer>,
    draining: CancellationToken,
) -> anyhow::Result<Mirror> {
    let spools = spools(config, observer.as_ref()).await?;
    Ok(Mirror {
        origins,
        limits: limits(config).remembering(spools.path()),
        targets,
        spools,
        policy: config.retry.policy(),
        observer,
        in_flight: config.fetch.files.get(),
        draining,
    })
}

/// Everything that brings blobs of images to these stores. Its spool is beside the files'.
pub(super) async fn mirror_of_blobs(
    origins: Origins,
    config: &Config,
    targets: Vec<Arc<dyn Store>>,
    observer: Arc<dyn Observer>,
    draining: CancellationToken,
) -> anyhow::Result<Arc<Mirror>> {
    let mut config = config.clone();
    config.spool.dir = Some(config.spool_folder()?.join("images"));
    let mirror = mirror_from(origins, &config, targets, observer, draining).await?;
    Ok(Arc::new(mirror))
}

/// Where images go.
pub(super) fn shelves(config: &Config) -> anyhow::Result<Vec<Arc<dyn Shelf>>> {
    let mut shelves: Vec<Arc<dyn Shelf>> = Vec::new();
    if let Some(dir) = &config.registry.to_layout {
        shelves.push(Arc::new(LayoutShelf::new(dir)));
    }
    for address in &config.registry.to {
        shelves.push(shelf_at(config, address, config.registry.naming(), None)?);
    }
    Ok(shelves)
}

/// A registry as a place for images; the profile is used where the settings name none.
pub(super) fn shelf_at(
    config: &Config,
    address: &Address,
    naming: Naming,
    profile: Option<&str>,
) -> anyhow::Result<Arc<dyn Shelf>> {
    let mut options = registry(config, address)?;
    let given = options.ecr.profile.take();
    options.ecr.profile = given.or_else(|| profile.map(str::to_owned));
    let store = RegistryStore::connect(options)?;
    Ok(Arc::new(RegistryShelf::new(store, naming)))
}

fn registry(config: &Config, address: &Address) -> anyhow::Result<RegistryOptions> {
    let ecr = &config.registry.ecr;
    let logins = Arc::new(Files::new(config.login_files()));
    Ok(RegistryOptions {
        ecr: EcrOptions {
            profile: ecr.profile.clone(),
            keys: None,
            endpoint: ecr.endpoint.clone(),
            region: ecr.region.clone(),
            settings: EcrSettings {
                encryption: ecr.encryption.0.clone(),
                scan_on_push: ecr.scan_on_push,
                immutable_tags: ecr.immutable_tags,
                lifecycle_policy: document(ecr.lifecycle_policy_file.as_deref())?,
                repository_policy: document(ecr.repository_policy_file.as_deref())?,
            },
        },
        policy: config.retry.policy(),
        connect_timeout: config.fetch.connect_timeout,
        ..RegistryOptions::new(address.clone(), logins)
    })
}

/// By whom images must be signed.
pub(super) fn policies(config: &Config) -> anyhow::Result<Policies> {
    let policies = config.registry.policies.iter().map(policy);
    Ok(Policies::new(policies.collect::<Result<_, _>>()?))
}

fn policy(settings: &PolicySettings) -> anyhow::Result<Policy> {
    let of = settings.to_string();
    let signer = match &settings.signer {
        SignerSettings::Key(file) => {
            let key = Key::from_pem(&text_of(file, &of)?);
            Signer::Key(key.with_context(|| format!("{}, of {of}", file.display()))?)
        }
        SignerSettings::Identity {
            identity,
            issuer,
            trust_root,
        } => {
            let root = trust_root.as_ref().map(|file| text_of(file, &of));
            let root = root.transpose()?;
            let identity = Identity::new(identity, issuer, root.as_deref());
            Signer::Identity(Box::new(identity.with_context(|| of.clone())?))
        }
    };
    Policy::new(&settings.images, &settings.except, signer).with_context(|| of)
}

/// A file of a policy, whole.
fn text_of(file: &Path, of: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("can't read {}, of {of}", file.display()))
}

/// The JSON document of a file.
fn document(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("can't read the policy {}", file.display()))?;
    serde_json::from_str::<serde_json::Value>(&text)
        .with_context(|| format!("the policy {} is no JSON document", file.display()))?;
    Ok(Some(text))
}

async fn spools(config: &Config, observer: &dyn Observer) -> anyhow::Result<SpoolFolder> {
    let path = config.spool_folder()?;
    let mut told = false;
    loop {
        match SpoolFolder::open(&path, config.spool.limit.bytes()) {
            Err(SpoolFolderError::Busy { .. }) => {}
            opened => return Ok(opened?.with_memory(config.fetch.memory.bytes())),
        }
        if !told {
            let what = format!(
                "another run on the same target (its spool is {}) to end",
                path.display()
            );
            observer.event(&Event::Waiting { what });
            told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
