//! Serves the distribution protocol on 127.0.0.1 as a strict registry does, for as long as a [`LoopbackRegistry`] lives.
//!
//! Digests, tokens and their scopes, states of uploads, and that a manifest's blobs and children are there before it, are all
//! enforced (github.com/opencontainers/distribution-spec). [`Imitation`] turns single habits of other registries on, ECR's above
//! all, and ECR's API is served beside it; [`Faults`] orders what a long link and a busy server do. Blobs can be given away by a
//! redirect to a second port, which refuses requests that bring an Authorization, as S3 does.

mod access;
mod answer;
mod asked;
mod ecr;
mod exchange;
mod faults;
mod pull;
mod push;
mod shelf;
mod signature;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::access::Issued;
pub use self::asked::Operation;
pub use self::exchange::{Exchanged, Log};
pub use self::faults::{Fault, Faults, Trouble};
use self::shelf::Shelf;
pub use self::shelf::{Found, Kept};
use super::s3::Credentials;
use crate::digest::{Algorithm, Digest};

/// Connections that are still busy this long after `stop` are cut.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Connections that wait to be taken, as many as the standard library's listeners have.
const BACKLOG: u32 = 128;

/// Who is let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    /// Whoever comes.
    #[default]
    Open,
    /// Who brings the user and the password with each request.
    Basic,
    /// Who brings a token, which the realm on this server gives out for scopes to who brings user and password.
    Token {
        /// Also gives tokens for pulling to who brings nothing.
        anonymous_pull: bool,
    },
    /// Who brings `AWS` and a password that the ECR API has given out.
    Ecr,
}

/// What a push to a repository that is not there comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missing {
    /// It is made.
    #[default]
    Created,
    /// The connection ends without an answer (ECR, often).
    Dropped,
    /// 404 `NAME_UNKNOWN`.
    Unknown,
}

/// What becomes of the wish to mount a blob of another repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mounts {
    /// It is there: 201.
    #[default]
    Done,
    /// An upload is begun instead: 202 (ECR until 2026, and everybody whose blob is not there).
    Never,
    /// Done where a manifest of the other repository names the blob, else an upload is begun (ECR since 2026).
    OfReferenced,
}

/// Habits of other registries that the protocol does not ask for.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a habit of its own, and any of them go together"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imitation {
    pub missing: Missing,
    pub mounts: Mounts,
    /// A PATCH is answered 201 (ECR), and 202 elsewhere.
    pub patch_answers_created: bool,
    /// Every chunk of an upload but the last has at least so many bytes: 5 MiB at ECR, 0 elsewhere.
    pub chunk_bytes_min: u64,
    /// A tag that is there is not moved to another manifest.
    pub immutable_tags: bool,
    /// Locations of uploads are whole URLs; without a host elsewhere.
    pub absolute_locations: bool,
    /// The answer to a PUT does not tell a digest.
    pub tells_no_digest: bool,
    /// A HEAD for a blob is answered with a redirect too, to where only a GET is allowed.
    pub redirects_heads: bool,
}

impl Imitation {
    /// As Amazon's registry behaves.
    pub const ECR: Self = Self {
        missing: Missing::Dropped,
        mounts: Mounts::OfReferenced,
        patch_answers_created: true,
        chunk_bytes_min: 5 << 20,
        immutable_tags: false,
        absolute_locations: true,
        tells_no_digest: false,
        redirects_heads: false,
    };
}

/// How the server is to behave.
#[derive(Debug, Clone)]
pub struct Options {
    pub auth: Auth,
    /// For Basic and for the realm.
    pub user: String,
    pub password: String,
    /// How long a token, or a password of ECR, is good.
    pub token_life: Duration,
    /// For how many requests it is good; None: for as many as come.
    pub token_requests: Option<u32>,
    /// Blobs are answered with a redirect to the second port, and served there.
    pub redirects_blobs: bool,
    /// Whether it has the referrers API; elsewhere those are 404.
    pub referrers: bool,
    pub imitation: Imitation,
    /// Of each connection, in bytes; None: as the system has it. With a small one the log runs little ahead of what has arrived.
    pub send_buffer: Option<u32>,
    /// What requests to the ECR API are signed with.
    pub credentials: Credentials,
    /// That they are signed for.
    pub region: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: Auth::Open,
            user: "loopback".to_owned(),
            password: "password-that-opens-nothing-but-loopback".to_owned(),
            token_life: Duration::from_secs(300),
            token_requests: None,
            redirects_blobs: false,
            referrers: true,
            imitation: Imitation::default(),
            send_buffer: None,
            credentials: Credentials::default(),
            region: "cn-north-1".to_owned(),
        }
    }
}

impl Options {
    /// As Amazon's registry behaves, its API included.
    pub fn ecr() -> Self {
        Self {
            auth: Auth::Ecr,
            token_life: Duration::from_hours(12),
            redirects_blobs: true,
            referrers: false,
            imitation: Imitation::ECR,
            ..Self::default()
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct Registry {
    options: Options,
    /// Of the registry.
    address: SocketAddr,
    /// Of what redirects lead to.
    storage: SocketAddr,
    shelf: Mutex<Shelf>,
    issued: Mutex<Issued>,
    faults: Faults,
    log: Log,
    /// Fires at a restart, then another takes its place.
    connections: Mutex<CancellationToken>,
}

impl Registry {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, CancellationToken> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running registry; dropping it ends it.
pub struct LoopbackRegistry {
    registry: Arc<Registry>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl fmt::Debug for LoopbackRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackRegistry")
            .field("address", &self.registry.address)
            .finish_non_exhaustive()
    }
}

impl LoopbackRegistry {
    /// Starts a registry on free ports of 127.0.0.1. To be called inside a Tokio runtime.
    pub fn start(options: Options) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST, options)
    }

    /// As [`LoopbackRegistry::start`], on another address of this host: one of a network namespace, say.
    pub fn start_on(address: Ipv4Addr, options: Options) -> io::Result<Self> {
        let (storage_door, storage) = bound(address, options.send_buffer)?;
        let (door, address) = bound(address, options.send_buffer)?;
        let registry = Arc::new(Registry {
            options,
            address,
            storage,
            shelf: Mutex::default(),
            issued: Mutex::default(),
            faults: Faults::default(),
            log: Log::default(),
            connections: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for door in [door, storage_door] {
            tasks.spawn(wire::serve(door, Arc::clone(&registry), stop.clone()));
        }
        Ok(Self {
            registry,
            stop,
            tasks,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.registry.address
    }

    /// Where redirects lead to.
    pub fn storage_address(&self) -> SocketAddr {
        self.registry.storage
    }

    pub fn options(&self) -> &Options {
        &self.registry.options
    }

    pub fn faults(&self) -> &Faults {
        &self.registry.faults
    }

    pub fn log(&self) -> &Log {
        &self.registry.log
    }

    /// Makes a repository when there is none of this name.
    pub fn create(&self, repository: &str) {
        let mut shelf = self.registry.shelf();
        shelf.create(repository);
    }

    /// What a repository holds; None when there is none.
    pub fn find(&self, repository: &str) -> Option<Found> {
        self.registry.shelf().find(repository)
    }

    pub fn repositories(&self) -> BTreeSet<String> {
        self.registry.shelf().names()
    }

    /// Uploads that are begun and not ended.
    pub fn uploads(&self) -> usize {
        self.registry.shelf().uploads()
    }

    /// Puts a blob on the shelf, as if it had been pushed.
    pub fn add_blob(&self, repository: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::of(Algorithm::Sha256, &content);
        let mut shelf = self.registry.shelf();
        shelf.create(repository).add_blob(digest, content);
        digest
    }

    /// Puts a manifest on the shelf, with a tag where one is named, as if it had been pushed; nothing is checked.
    pub fn add_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Digest {
        let content = content.into();
        let digest = Digest::of(Algorithm::Sha256, &content);
        let mut shelf = self.registry.shelf();
        let repository = shelf.create(repository);
        repository.add_manifest(digest, media_type, content);
        if let Some(tag) = tag {
            repository.tag(tag, digest);
        }
        digest
    }

    /// Takes a blob or a manifest out of a repository, as if its disk had lost it; a tag that leads to it stays.
    pub fn lose(&self, repository: &str, digest: &Digest) {
        let mut shelf = self.registry.shelf();
        shelf.create(repository).lose(digest);
    }

    /// Takes a tag away.
    pub fn untag(&self, repository: &str, tag: &str) {
        let mut shelf = self.registry.shelf();
        shelf.create(repository).untag(tag);
    }

    /// Puts other bytes under a blob's digest, as a disk does that lies.
    pub fn rot(&self, repository: &str, digest: &Digest, content: impl Into<Bytes>) {
        let mut shelf = self.registry.shelf();
        shelf.create(repository).add_blob(*digest, content.into());
    }

    /// As a server does that is restarted: all connections end, begun uploads and given tokens are forgotten.
    pub fn restart(&self) {
        self.registry.shelf().forget_uploads();
        self.revoke_tokens();
        std::mem::take(&mut *self.registry.connections()).cancel();
    }

    /// Tokens and passwords that were given out are no longer good.
    pub fn revoke_tokens(&self) {
        self.registry.issued().revoke();
    }

    /// Takes no more connections, lets the requests at hand end, and cuts those that take too long.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Too long is fine: what is left ends with `self`.
        let _ = tokio::time::timeout(STOP_PATIENCE, ended).await;
    }
}

fn bound(host: Ipv4Addr, send_buffer: Option<u32>) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = send_buffer {
        // Accepted connections inherit it.
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind((host, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
