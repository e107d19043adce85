//! A small world for the engine: a loopback origin on one side, targets on the other, and a spool between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kops_mirror::asset::{Asset, Key, Role, Voucher};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::events::{Event, Observer};
use kops_mirror::index::Release;
use kops_mirror::limits::Limits;
use kops_mirror::loopback::origin::{File, Origin};
use kops_mirror::origin::{HostSettings, OriginSettings, Origins};
use kops_mirror::report::{Kind, Report};
use kops_mirror::retry::Policy;
use kops_mirror::spool::SpoolFolder;
use kops_mirror::store::Store;
use kops_mirror::store::folder::FolderStore;
use kops_mirror::sync::{self, SyncError, Wanted};
use kops_mirror::transfer::Mirror;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The host whose files the origin serves.
pub(crate) const HOST: &str = "dl.k8s.io";

/// Remembers what a run told.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<Event>>);

impl Observer for Heard {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Heard {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) origin: Origin,
    pub(crate) dir: TempDir,
    pub(crate) heard: Arc<Heard>,
    pub(crate) settings: OriginSettings,
    pub(crate) policy: Policy,
    pub(crate) in_flight: usize,
    /// Bytes a second of all fetching together.
    pub(crate) rate: Option<u64>,
    /// For small files.
    pub(crate) memory_bytes: u64,
}

impl World {
    pub(crate) async fn new() -> Self {
        let origin = Origin::start().unwrap();
        let host = HostSettings {
            sources: vec![origin.url("")],
            ..HostSettings::default()
        };
        let settings = OriginSettings {
            hosts: BTreeMap::from([(HOST.to_owned(), host)]),
            connect_timeout: Duration::from_secs(2),
            stall_window: Duration::from_millis(400),
            stall_floor_bytes: 64,
            // What comes twice must be a fault's doing.
            hedge_after: Duration::from_hours(1),
            connections: 8,
            ..OriginSettings::default()
        };
        let policy = Policy {
            attempts: 4,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(40),
        };
        let dir = TempDir::new().unwrap();
        Self {
            origin,
            dir,
            heard: Arc::default(),
            settings,
            policy,
            in_flight: 4,
            rate: None,
            memory_bytes: 32 << 20,
        }
    }

    /// Publishes a file at the origin, and is the asset that wants it.
    pub(crate) fn asset(&self, path: &str, file: File) -> Asset {
        let sha256 = file.content.digests(&[]).sha256;
        self.origin.publish(format!("/{path}"), file);
        Self::wanting(path, sha256)
    }

    /// An asset at `path` that must have this digest.
    pub(crate) fn wanting(path: &str, digest: Digest) -> Asset {
        Asset {
            key: path.parse().unwrap(),
            canonical: format!("https://{HOST}/{path}").parse().unwrap(),
            alternates: Vec::new(),
            witnesses: vec![vec![Voucher::Known {
                digest,
                source: "the test".to_owned(),
            }]],
            unvouched: None,
            sidecars: vec![Algorithm::Sha256],
            role: Role::File,
            arch: None,
            listed_by_kops: true,
        }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    pub(crate) fn folder(&self, name: &str) -> Arc<dyn Store> {
        Arc::new(FolderStore::new(self.dir.path().join(name)))
    }

    pub(crate) fn mirror(&self, targets: Vec<Arc<dyn Store>>) -> Arc<Mirror> {
        Arc::new(Mirror {
            origins: Origins::new(self.settings.clone()).unwrap(),
            limits: Limits::new(self.settings.connections, self.rate).remembering(&self.spool()),
            targets,
            spools: SpoolFolder::open(&self.spool(), 1 << 30)
                .unwrap()
                .with_memory(self.memory_bytes),
            policy: self.policy,
            observer: Arc::clone(&self.heard) as Arc<dyn Observer>,
            in_flight: self.in_flight,
            draining: CancellationToken::new(),
        })
    }

    /// One run for one release.
    pub(crate) async fn sync(&self, targets: &[Arc<dyn Store>], assets: &[Asset]) -> Report {
        self.try_sync(targets, assets, &CancellationToken::new())
            .await
            .unwrap()
    }

    pub(crate) async fn try_sync(
        &self,
        targets: &[Arc<dyn Store>],
        assets: &[Asset],
        stop: &CancellationToken,
    ) -> Result<Report, SyncError> {
        for target in targets {
            target.prepare(true).await?;
        }
        let mirror = self.mirror(targets.to_vec());
        let release = Release {
            name: "test".to_owned(),
            ..Release::default()
        };
        let wanted = vec![Wanted {
            release,
            assets: assets.to_vec(),
        }];
        let prepared = sync::prepare(&mirror, wanted, stop).await?;
        Ok(sync::carry_out(&mirror, prepared, stop).await)
    }
}

/// The lines of one kind, as `key: why`.
pub(crate) fn lines(report: &Report, kind: Kind) -> Vec<String> {
    report
        .of(kind)
        .map(|line| format!("{}: {}", line.key, line.why.as_deref().unwrap_or_default()))
        .collect()
}

/// An object's bytes, or None.
pub(crate) async fn read(store: &Arc<dyn Store>, key: &str) -> Option<Vec<u8>> {
    let key: Key = key.parse().unwrap();
    kops_mirror::transfer::read_object(store.as_ref(), &key, 1 << 32)
        .await
        .unwrap()
}
