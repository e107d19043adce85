//! What every registry must do for us, one suite for all of them: the loopback registry, plain, with tokens, and as ECR is, and any
//! registry that KOPS_MIRROR_TEST_REGISTRY names (`HOST:PORT`, without a login).

mod ecr;
mod faults;
mod memory;
mod skopeo;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use kops_mirror::challenge::{ChallengeError, Login, Logins};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::{Manifest, media};
use kops_mirror::loopback::registry::{Auth, LoopbackRegistry, Options};
use kops_mirror::retry::Policy;
use kops_mirror::spool::SpoolFolder;
use kops_mirror::store::registry::ecr::EcrOptions;
use kops_mirror::store::registry::{RegistryOptions, RegistryStore, blob_key};
use kops_mirror::store::s3::Keys;
use kops_mirror::store::{Condition, Store, StoreError, StoreErrorKind};
use kops_mirror::verify::{self, Verified};
use serde_json::json;

use crate::store_contract::{attributes, bytes};

/// One user and one password, for every registry.
#[derive(Debug, Clone)]
pub(crate) struct Known(pub(crate) Option<Login>);

#[async_trait]
impl Logins for Known {
    async fn login(&self, _registry: &str) -> Result<Option<Login>, ChallengeError> {
        Ok(self.0.clone())
    }
}

/// A store at a registry of its own, or below a path of its own.
pub(crate) struct Bench {
    pub(crate) store: RegistryStore,
    /// None where it is a real one.
    pub(crate) server: Option<LoopbackRegistry>,
}

/// How to get to a loopback registry.
pub(crate) fn options(server: &LoopbackRegistry) -> RegistryOptions {
    let options = server.options();
    let login = Login::password(&options.user, &options.password);
    let ecr = EcrOptions {
        endpoint: (options.auth == Auth::Ecr)
            .then(|| format!("http://{}", server.address()).parse().unwrap()),
        region: Some(options.region.clone()),
        keys: Some(Keys {
            access_key: options.credentials.access_key.clone(),
            secret_key: options.credentials.secret_key.clone(),
        }),
        ..EcrOptions::default()
    };
    let address = format!("{}/mirror", server.address());
    RegistryOptions {
        ecr,
        policy: quick(),
        ..RegistryOptions::new(address.parse().unwrap(), Arc::new(Known(Some(login))))
    }
}

/// Pauses that nobody has to wait for.
pub(crate) fn quick() -> Policy {
    Policy {
        attempts: 5,
        pause_min: Duration::from_millis(5),
        pause_max: Duration::from_millis(20),
    }
}

pub(crate) fn at(server: LoopbackRegistry) -> Bench {
    Bench {
        store: RegistryStore::connect(options(&server)).unwrap(),
        server: Some(server),
    }
}

async fn plain() -> Option<Bench> {
    Some(at(LoopbackRegistry::start(Options::default()).unwrap()))
}

async fn with_tokens() -> Option<Bench> {
    let options = Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        redirects_blobs: true,
        ..Options::default()
    };
    Some(at(LoopbackRegistry::start(options).unwrap()))
}

async fn as_ecr() -> Option<Bench> {
    Some(at(LoopbackRegistry::start(Options::ecr()).unwrap()))
}

/// The registry that the environment names, if it names one.
async fn server() -> Option<Bench> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Ok(host) = std::env::var("KOPS_MIRROR_TEST_REGISTRY") else {
        eprintln!("skipped: KOPS_MIRROR_TEST_REGISTRY names no registry");
        return None;
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = format!("{host}/run-{}-{number}", std::process::id());
    let options = RegistryOptions::new(address.parse().unwrap(), Arc::new(Known(None)));
    Some(Bench {
        store: RegistryStore::connect(options).unwrap(),
        server: None,
    })
}

macro_rules! contract {
    ($($property:ident),+ $(,)?) => {
        contract!(@of plain: $($property),+);
        contract!(@of with_tokens: $($property),+);
        contract!(@of as_ecr: $($property),+);
        contract!(@of server: $($property),+);
    };
    (@of $registry:ident: $($property:ident),+) => {
        mod $registry {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $property() {
                    let Some(bench) = super::$registry().await else { return };
                    bench.prepare().await;
                    bench.make(&["a", "b", "c"]).await;
                    super::$property(&bench).await;
                }
            )+
        }
    };
}

contract!(
    a_blob_comes_back_as_it_is_at_every_length,
    a_blob_is_in_every_repository_that_needs_it,
    a_blob_that_is_there_is_not_sent_again,
    a_blob_goes_only_to_who_needs_it,
    a_content_that_is_not_what_its_key_says_is_not_kept,
    a_spool_that_breaks_leaves_nothing,
    a_put_that_is_dropped_leaves_all_or_nothing,
    a_manifest_waits_for_its_blobs_and_an_index_for_its_manifests,
    a_tag_moves_and_what_it_was_stays_by_its_digest,
    puts_of_one_blob_at_a_time_do_not_hinder_each_other,
    what_is_absent_is_none,
    nothing_is_removed_and_nothing_listed,
);

impl Bench {
    pub(crate) fn server(&self) -> &LoopbackRegistry {
        self.server.as_ref().unwrap()
    }

    async fn prepare(&self) {
        self.store.prepare(true).await.unwrap();
    }

    pub(crate) async fn make(&self, repositories: &[&str]) {
        let names: Vec<String> = repositories.iter().map(|&name| name.to_owned()).collect();
        self.store.prepare_repositories(&names).await.unwrap();
    }

    pub(crate) fn need(&self, digest: Digest, repositories: &[&str]) {
        let repositories = repositories.iter().map(|&name| name.to_owned());
        let needs = BTreeMap::from([(digest, repositories.collect::<BTreeSet<String>>())]);
        self.store.needs(needs);
    }

    pub(crate) async fn put(&self, content: &Verified) -> Result<(), StoreError> {
        self.put_as(&content.digests().sha256, content).await
    }

    async fn put_as(&self, digest: &Digest, content: &Verified) -> Result<(), StoreError> {
        let (key, attributes) = (blob_key(digest), attributes());
        let put = self.store.put(&key, content, &attributes, &Condition::Any);
        let etag = put.await?;
        assert_eq!(etag.md5(), Some(content.digests().md5));
        Ok(())
    }

    /// Puts a blob that these repositories need.
    pub(crate) async fn give(&self, content: &[u8], repositories: &[&str]) -> Digest {
        let content = Verified::composed(content.to_vec());
        let digest = content.digests().sha256;
        self.need(digest, repositories);
        self.put(&content).await.unwrap();
        digest
    }

    pub(crate) async fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(content) = self.store.open(&blob_key(digest)).await? else {
            return Ok(None);
        };
        let bytes: Vec<Bytes> = content.chunks.try_collect().await?;
        let bytes = bytes.concat();
        assert_eq!(bytes.len() as u64, content.length);
        Ok(Some(bytes))
    }

    pub(crate) async fn has(&self, repository: &str, digest: &Digest) -> bool {
        self.store.has_blob(repository, digest).await.unwrap()
    }

    /// Where the server counts, that so many bytes of blobs have arrived.
    fn assert_received(&self, expected: u64) {
        if let Some(server) = &self.server {
            assert_eq!(server.log().blob_bytes_received(), expected);
        }
    }

    fn is_ecr(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| server.options().auth == Auth::Ecr)
    }
}

/// An image of one layer.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Manifest,
}

impl Image {
    pub(crate) fn new(seed: u64) -> Self {
        let layer = bytes(50_000, seed);
        let config = json!({"architecture": "amd64", "os": "linux", "seed": seed, "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer).to_string()]}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": sha256(&config).to_string(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": sha256(&layer).to_string(), "size": layer.len()}]});
        let manifest = Manifest::parse(manifest.to_string(), None, None).unwrap();
        Self {
            config,
            layer,
            manifest,
        }
    }

    pub(crate) async fn put_blobs(&self, bench: &Bench, repository: &str) {
        bench.give(&self.config, &[repository]).await;
        bench.give(&self.layer, &[repository]).await;
    }

    pub(crate) fn index(&self) -> Manifest {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [{
            "mediaType": media::MANIFEST, "digest": self.manifest.digest.to_string(),
            "size": self.manifest.bytes.len(), "platform": {"os": "linux", "architecture": "amd64"}}]});
        Manifest::parse(index.to_string(), None, None).unwrap()
    }
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// A content that lies in a file, and the file.
pub(crate) async fn spooled(content: &[u8]) -> (Verified, std::path::PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let digest = sha256(content);
    let folder = SpoolFolder::open(dir.path(), 1 << 30).unwrap();
    let spool = Arc::new(folder.spool(&digest).unwrap());
    spool.set_length(content.len() as u64).unwrap();
    for (piece, at) in content.chunks(1 << 20).zip((0u64..).step_by(1 << 20)) {
        spool
            .write_at(at, &[Bytes::copy_from_slice(piece)])
            .unwrap();
    }
    let verified = verify::follow(spool, &[digest], &[]).await;
    let path = dir.path().join(format!("sha256-{}.part", digest.hex()));
    (verified.unwrap().unwrap(), path, dir)
}

async fn a_blob_comes_back_as_it_is_at_every_length(bench: &Bench) {
    for length in [0, 1, 262_143, 262_144, 262_145, 5 << 20, (9 << 20) + 3] {
        let content = bytes(length, length as u64);
        let digest = bench.give(&content, &["a"]).await;
        let there = bench.store.stat(&blob_key(&digest)).await.unwrap().unwrap();
        assert_eq!(there.object.length, length as u64);
        assert_eq!(there.object.etag.md5(), None);
        let read = bench.read(&digest).await.unwrap().unwrap();
        assert!(read == content, "{length}");
    }
}

async fn a_blob_is_in_every_repository_that_needs_it(bench: &Bench) {
    let content = bytes(400_000, 2);
    let digest = bench.give(&content, &["a", "b", "c"]).await;
    for repository in ["a", "b", "c"] {
        assert!(bench.has(repository, &digest).await, "{repository}");
    }
    // ECR mounts only what a manifest names already.
    bench.assert_received(if bench.is_ecr() { 3 } else { 1 } * 400_000);
}

async fn a_blob_that_is_there_is_not_sent_again(bench: &Bench) {
    let content = bytes(400_000, 3);
    for _again in 0..2 {
        bench.give(&content, &["a"]).await;
    }
    bench.assert_received(400_000);
    let leg = bench.store.leg().unwrap();
    assert_eq!((leg.bytes, leg.bytes_again), (400_000, 0));
}

async fn a_blob_goes_only_to_who_needs_it(bench: &Bench) {
    let digest = bench.give(&bytes(1000, 4), &["a"]).await;
    assert!(!bench.has("b", &digest).await);
    // Whoever needs it later has not got it yet.
    bench.need(digest, &["b"]);
    assert_eq!(bench.store.stat(&blob_key(&digest)).await.unwrap(), None);
    bench.give(&bytes(1000, 4), &["b"]).await;
    assert!(
        bench
            .store
            .stat(&blob_key(&digest))
            .await
            .unwrap()
            .is_some()
    );
    let unneeded = Verified::composed("nobody needs it");
    let error = bench.put(&unneeded).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent);
}

async fn a_content_that_is_not_what_its_key_says_is_not_kept(bench: &Bench) {
    let (wanted, got) = (sha256(b"wanted"), Verified::composed("got"));
    bench.need(wanted, &["a", "b"]);
    let error = bench.put_as(&wanted, &got).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::EtagMismatch, "{error}");
    for digest in [wanted, got.digests().sha256] {
        assert!(!bench.has("a", &digest).await && !bench.has("b", &digest).await);
    }
}

async fn a_spool_that_breaks_leaves_nothing(bench: &Bench) {
    let length = 9 << 20;
    let (verified, path, _dir) = spooled(&bytes(length, 5)).await;
    let file = OpenOptions::new().write(true).open(path).unwrap();
    // The last byte of the spool is gone when the put comes to it.
    file.set_len(length as u64 - 1).unwrap();
    let digest = verified.digests().sha256;
    bench.need(digest, &["a"]);
    let error = bench.put(&verified).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Spool, "{error}");
    assert!(!bench.has("a", &digest).await);
}

async fn a_put_that_is_dropped_leaves_all_or_nothing(bench: &Bench) {
    for (wait, seed) in [(0, 10), (1, 11), (5, 12), (20, 13)] {
        let content = bytes(8 << 20, seed);
        let (verified, _path, _dir) = spooled(&content).await;
        let digest = verified.digests().sha256;
        bench.need(digest, &["a"]);
        let patience = Duration::from_millis(wait);
        let ended = tokio::time::timeout(patience, bench.put(&verified)).await;
        match bench.read(&digest).await.unwrap() {
            Some(there) => assert!(there == content),
            None => assert!(ended.is_err()),
        }
        // What was left does not stand in the way.
        bench.put(&verified).await.unwrap();
        assert!(bench.has("a", &digest).await);
    }
}

async fn a_manifest_waits_for_its_blobs_and_an_index_for_its_manifests(bench: &Bench) {
    let image = Image::new(6);
    let index = image.index();
    let put =
        async |reference: &str, manifest| bench.store.put_manifest("a", reference, manifest).await;
    let error = put("v1", &image.manifest).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent, "{error}");
    assert_eq!(bench.store.manifest_at("a", "v1").await.unwrap(), None);
    image.put_blobs(bench, "a").await;
    let error = put("v2", &index).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent, "{error}");
    let by_digest = image.manifest.digest.to_string();
    put(&by_digest, &image.manifest).await.unwrap();
    put("v2", &index).await.unwrap();
    for (reference, digest) in [
        (by_digest.as_str(), image.manifest.digest),
        ("v2", index.digest),
    ] {
        let there = bench.store.manifest_at("a", reference).await.unwrap();
        assert_eq!(there, Some(digest));
    }
    assert_eq!(bench.store.manifest_at("a", "v1").await.unwrap(), None);
}

async fn a_tag_moves_and_what_it_was_stays_by_its_digest(bench: &Bench) {
    let images = [Image::new(7), Image::new(8)];
    for image in &images {
        image.put_blobs(bench, "a").await;
        let put = bench.store.put_manifest("a", "v1", &image.manifest);
        put.await.unwrap();
        let there = bench.store.manifest_at("a", "v1").await.unwrap();
        assert_eq!(there, Some(image.manifest.digest));
    }
    let before = images[0].manifest.digest.to_string();
    let there = bench.store.manifest_at("a", &before).await.unwrap();
    assert_eq!(there, Some(images[0].manifest.digest));
}

async fn puts_of_one_blob_at_a_time_do_not_hinder_each_other(bench: &Bench) {
    let content = Verified::composed(bytes(3 << 20, 9));
    let digest = content.digests().sha256;
    bench.need(digest, &["a", "b"]);
    let puts = (0..4).map(|_| bench.put(&content));
    for ended in futures::future::join_all(puts).await {
        ended.unwrap();
    }
    assert!(bench.has("a", &digest).await && bench.has("b", &digest).await);
}

async fn what_is_absent_is_none(bench: &Bench) {
    let digest = sha256(b"absent");
    bench.need(digest, &["a", "never-made"]);
    let key = blob_key(&digest);
    assert_eq!(bench.store.stat(&key).await.unwrap(), None);
    assert_eq!(bench.read(&digest).await.unwrap(), None);
    assert!(!bench.has("never-made", &digest).await);
    for repository in ["a", "never-made"] {
        let there = bench.store.manifest_at(repository, "v1").await.unwrap();
        assert_eq!(there, None);
    }
    let other = "blobs/sha256/nonsense".parse().unwrap();
    assert_eq!(bench.store.stat(&other).await.unwrap(), None);
}

async fn nothing_is_removed_and_nothing_listed(bench: &Bench) {
    let digest = bench.give(b"stays", &["a"]).await;
    let key = blob_key(&digest);
    let there = bench.store.stat(&key).await.unwrap().unwrap();
    let removed = bench.store.delete(&key).await.unwrap_err();
    let attributes = attributes();
    let restated = bench.store.restate(&key, &there.object.etag, &attributes);
    for error in [removed, restated.await.unwrap_err()] {
        assert_eq!(error.kind, StoreErrorKind::Permanent);
    }
    assert!(bench.has("a", &digest).await);
    assert_eq!(
        bench.store.list().await.unwrap(),
        kops_mirror::store::Listing::default()
    );
    assert_eq!(bench.store.list_service().await.unwrap(), []);
}
