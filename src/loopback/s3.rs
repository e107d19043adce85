//! Serves S3 on 127.0.0.1 the way AWS does, for as long as a [`LoopbackS3`] lives.
//!
//! Signatures, digests, conditions, multipart rules, regions and ACLs are all enforced, since a stand-in that is kinder than the
//! original hides errors. The wire format and the signatures come from the `s3s` crate; what it leaves open is here: when an
//! object becomes visible, what its `ETag` is, and who may see it. [`Imitation`] turns single habits of other servers on;
//! [`Faults`] orders what a long link and a busy server do.

mod access;
mod arrival;
mod bucket;
mod content;
mod exchange;
mod faults;
mod multipart;
mod operations;
mod receive;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use bucket::{Bucket, Found};
pub use exchange::{Exchanged, Log};
pub use faults::{Fault, Faults, Trouble};

/// Connections that are still busy this long after `stop` are cut.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What the one account of the server signs its requests with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            access_key: "LOOPBACKACCESSKEY".to_owned(),
            secret_key: "secret-that-opens-nothing-but-loopback".to_owned(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Where object contents are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Storage {
    #[default]
    Memory,
    /// Unnamed files in this folder, removed with their objects.
    Folder(PathBuf),
    /// Nowhere: digests and lengths remain, reading answers 501. The parts of a multipart upload are kept in memory till it
    /// is completed, since they come in any order.
    Nowhere,
}

/// Habits of other S3 servers that AWS does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imitation {
    /// If-Match and If-None-Match on writes are taken without a word (Garage, JuiceFS).
    pub ignores_conditions: bool,
    /// A copy of a multipart object keeps its `…-N` `ETag` (SeaweedFS, Ceph RGW).
    pub copy_keeps_multipart_etag: bool,
    /// `x-amz-acl` is taken without a word and opens nothing (SeaweedFS, Garage).
    pub ignores_acls: bool,
}

/// How the server is to behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// The region of this endpoint: `us-east-1`, `cn-north-1`, …
    pub region: String,
    pub credentials: Credentials,
    pub storage: Storage,
    /// A request whose body brings nothing for this long is answered 400 `RequestTimeout`; S3 waits about 20 seconds.
    pub stall_limit: Duration,
    /// The most keys in one page of a listing, 1,000 on S3.
    pub page_keys_max: usize,
    /// The least size of every part but the last, 5 MiB on S3.
    pub part_bytes_min: u64,
    pub imitation: Imitation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            credentials: Credentials::default(),
            storage: Storage::Memory,
            stall_limit: Duration::from_secs(20),
            page_keys_max: 1000,
            part_bytes_min: 5 << 20,
            imitation: Imitation::default(),
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct Account {
    options: Options,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    faults: Faults,
    log: Log,
}

impl Account {
    fn bucket(&self, name: &str) -> Option<Bucket> {
        self.buckets().get(name).cloned()
    }

    fn buckets(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running S3 server; dropping it ends it.
#[derive(Debug)]
pub struct LoopbackS3 {
    account: Arc<Account>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl LoopbackS3 {
    /// Starts a server on a free port of 127.0.0.1. To be called inside a Tokio runtime.
    pub fn start(options: Options) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST, options)
    }

    /// As [`LoopbackS3::start`], on another address of this host: one of a network namespace, say.
    pub fn start_on(address: Ipv4Addr, options: Options) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((address, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let account = Arc::new(Account {
            options,
            buckets: Mutex::default(),
            faults: Faults::default(),
            log: Log::default(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(wire::serve(
            TcpListener::from_std(listener)?,
            Arc::clone(&account),
            stop.clone(),
        ));
        Ok(Self {
            account,
            address,
            stop,
            tasks,
        })
    }

    /// `http://ADDRESS:PORT`, for path-style requests. Virtual-host style works as `BUCKET.localhost:PORT`.
    pub fn endpoint(&self) -> Url {
        Url::parse(&format!("http://{}", self.address))
            .expect("an address and a port make a good URL")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn region(&self) -> &str {
        &self.account.options.region
    }

    pub fn credentials(&self) -> &Credentials {
        &self.account.options.credentials
    }

    /// The bucket of this name, made in the server's region when there is none.
    pub fn bucket(&self, name: &str) -> Bucket {
        self.bucket_elsewhere(name, self.region())
    }

    /// The bucket of this name, made in the region named when there is none.
    pub fn bucket_elsewhere(&self, name: &str, region: &str) -> Bucket {
        self.account
            .buckets()
            .entry(name.to_owned())
            .or_insert_with(|| Bucket::new(name, region))
            .clone()
    }

    pub fn faults(&self) -> &Faults {
        &self.account.faults
    }

    pub fn log(&self) -> &Log {
        &self.account.log
    }

    /// Takes no more connections, lets the requests at hand end, and cuts those that take too long.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Too long is fine: what is left ends with `self`.
        let _ = tokio::time::timeout(STOP_PATIENCE, ended).await;
    }
}
