//! Keeps the blobs of images at a registry, any that speaks the distribution protocol, ECR above all.
//!
//! A blob's key is `blobs/sha256/HEX`, whichever repositories need it ([`RegistryStore::needs`]): it is sent once, to the first of
//! them that has it not, and mounted into the others. It is sent by POST and one PUT with its length: ECR takes no short chunks,
//! answers them otherwise than others, and in China has failed at the end of them; a body that comes from the spool can be sent again. The
//! registry compares the digest before it says that it has it, so what it has is right, and there is no other way to a
//! blob than by its digest.
//!
//! Manifests have their own way in, since their order counts: a registry refuses one whose parts are not there.

mod address;
mod answers;
mod blobs;
mod calls;
pub mod ecr;
mod manifests;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use url::Url;

pub use self::address::{Address, BadAddress};
pub use self::blobs::BlobThere;
use self::calls::Calls;
use self::ecr::{Ecr, EcrOptions};
pub use self::manifests::RawManifest;
use self::traffic::Traffic;
use super::{
    Attributes, Condition, Content, ETag, Listing, Object, Stat, Store, StoreError, StoreErrorKind,
};
use crate::asset::Key;
use crate::challenge::{Logins, Tokens};
use crate::digest::{Algorithm, Digest};
use crate::report::StoreLeg;
use crate::retry;
use crate::verify::Publishable;

/// Repositories that are asked at a time whether they have a blob, and into which one is mounted.
const ASKED_AT_A_TIME: usize = 8;

const BLOBS: &str = "blobs/sha256/";

/// Which registry, and how to get to it.
#[derive(Clone)]
pub struct RegistryOptions {
    pub address: Address,
    /// `http://`, `https://`, `socks5://` or `socks5h://`; None: those of the environment.
    pub proxy: Option<Url>,
    pub logins: Arc<dyn Logins>,
    /// How to get to ECR's API and what repositories there are to be like; only used where the address is ECR's, or where an
    /// endpoint is given.
    pub ecr: EcrOptions,
    /// Blobs on their way at a time; too many make ECR close connections.
    pub connections: usize,
    /// How requests without a blob are tried again. A blob is one attempt: `publish` does the rest.
    pub policy: retry::Policy,
    pub connect_timeout: Duration,
    /// A blob that is not taken, or does not come, for this long is given up.
    pub stall_timeout: Duration,
    /// A blob that is sent whole may wait this long for its answer.
    pub answer_timeout: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("address", &self.address)
            .field("ecr", &self.ecr)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl RegistryOptions {
    pub fn new(address: Address, logins: Arc<dyn Logins>) -> Self {
        Self {
            address,
            proxy: None,
            logins,
            ecr: EcrOptions::default(),
            connections: 16,
            policy: retry::Policy {
                attempts: 4,
                ..retry::Policy::default()
            },
            // As for origins and buckets: several SYNs may be lost on the way.
            connect_timeout: Duration::from_secs(15),
            // Full socket buffers (up to 4 MiB) are emptied in bursts: at 20 KiB/s one is a minute apart from the next.
            stall_timeout: Duration::from_mins(1),
            answer_timeout: Duration::from_mins(5),
        }
    }
}

/// A registry, below a path. Repositories are named as they are below that path.
pub struct RegistryStore {
    address: Address,
    place: String,
    calls: Calls,
    /// None where it is not ECR.
    ecr: Option<Arc<Ecr>>,
    needs: Mutex<BTreeMap<Digest, BTreeSet<String>>>,
    sending: Semaphore,
    stall_timeout: Duration,
    answer_timeout: Duration,
    traffic: Traffic,
}

impl fmt::Debug for RegistryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryStore")
            .field("place", &self.place)
            .field("ecr", &self.ecr.is_some())
            .finish_non_exhaustive()
    }
}

impl RegistryStore {
    /// Makes the client; talks to no registry yet.
    pub fn connect(options: RegistryOptions) -> Result<Self, StoreError> {
        let (proxy, is_local) = (options.proxy.as_ref(), options.address.is_local());
        let client = calls::client(proxy, is_local, options.connect_timeout)?;
        let ecr = Ecr::at(&options, &client)?.map(Arc::new);
        let tokens = Tokens::new(Arc::clone(&options.logins));
        let place = options.address.to_string();
        Ok(Self {
            calls: Calls::new(&options, client, tokens, ecr.clone()),
            address: options.address,
            place,
            ecr,
            needs: Mutex::default(),
            sending: Semaphore::new(options.connections.max(1)),
            stall_timeout: options.stall_timeout,
            answer_timeout: options.answer_timeout,
            traffic: Traffic::default(),
        })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Notes which repositories need which blobs, besides what was noted before. A blob that none needs can't be put.
    pub fn needs(&self, needs: BTreeMap<Digest, BTreeSet<String>>) {
        let mut noted = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        for (digest, repositories) in needs {
            noted.entry(digest).or_default().extend(repositories);
        }
    }

    /// Makes the repositories that are not there, where the registry does not do that by itself (ECR).
    pub async fn prepare_repositories(&self, repositories: &[String]) -> Result<(), StoreError> {
        let Some(ecr) = &self.ecr else { return Ok(()) };
        let full: BTreeSet<String> = repositories
            .iter()
            .map(|repository| self.address.repository(repository))
            .collect();
        ecr.prepare(&full).await
    }

    fn needed_by(&self, digest: &Digest) -> Vec<String> {
        let noted = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        let repositories = noted.get(digest).into_iter().flatten();
        repositories.cloned().collect()
    }

    /// A blob or manifest in a user's words.
    fn told(&self, repository: &str, what: impl fmt::Display) -> String {
        format!("{} of {}/{repository}", what, self.place)
    }

    fn impossible(&self, action: &str, key: &Key) -> StoreError {
        StoreError::new(
            StoreErrorKind::Permanent,
            format!(
                "can't {action} {key} at {}: blobs of a registry are what their digests say, and it removes by itself what \
                 no manifest names",
                self.place
            ),
        )
    }
}

/// The key of a blob in every store of images: `blobs/sha256/HEX`.
pub fn blob_key(digest: &Digest) -> Key {
    let text = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    text.parse()
        .expect("an algorithm and digits make a good key")
}

/// The digest that a key names; None where it is no blob's.
fn digest_of(key: &Key) -> Option<Digest> {
    let hex = key.as_str().strip_prefix(BLOBS)?;
    let digest: Digest = hex.parse().ok()?;
    (digest.algorithm() == Algorithm::Sha256 && digest.hex() == hex).then_some(digest)
}

#[async_trait]
impl Store for RegistryStore {
    fn place(&self) -> &str {
        &self.place
    }

    /// Looks whether the registry is there and takes the credentials. Repositories are another matter
    /// ([`RegistryStore::prepare_repositories`]).
    async fn prepare(&self, _create: bool) -> Result<(), StoreError> {
        self.calls.look().await
    }

    /// Empty: registries list nothing by digest. [`RegistryStore::has_blob`] and [`RegistryStore::manifest_at`] tell.
    async fn list(&self) -> Result<Listing, StoreError> {
        Ok(Listing::default())
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        Ok(Vec::new())
    }

    /// A blob is there when every repository that needs it has it. Its `ETag` is its digest, since no registry tells an MD5.
    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        match digest_of(key) {
            Some(digest) => self.stat_blob(key, &digest).await,
            None => Ok(None),
        }
    }

    /// The content from the first repository that has it, compared with its digest as it comes.
    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError> {
        match digest_of(key) {
            Some(digest) => self.open_blob(&digest).await,
            None => Ok(None),
        }
    }

    /// Conditions have no sense here: what a digest names is always the same.
    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        _attributes: &Attributes,
        _condition: &Condition,
    ) -> Result<ETag, StoreError> {
        let Some(digest) = digest_of(key) else {
            return Err(StoreError::new(
                StoreErrorKind::Permanent,
                format!(
                    "can't put {key} at {}: a registry takes only {BLOBS}HEX",
                    self.place
                ),
            ));
        };
        self.put_blob(&digest, content).await?;
        Ok(ETag::from(content.md5()))
    }

    async fn restate(
        &self,
        key: &Key,
        _etag: &ETag,
        _attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        Err(self.impossible("restate", key))
    }

    fn leg(&self) -> Option<StoreLeg> {
        Some(self.traffic.leg())
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        Err(self.impossible("remove", key))
    }
}
