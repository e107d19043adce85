//! The contract of `Store`, one suite for all of them: the folder, the S3 server of the demo, and any S3 server that
//! KOPS_MIRROR_TEST_S3 names (its credentials come from the environment as every AWS tool takes them).

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kops_mirror::asset::Key;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::s3::{Imitation, LoopbackS3, Options};
use kops_mirror::spool::{Spool, SpoolFolder};
use kops_mirror::store::folder::FolderStore;
use kops_mirror::store::s3::{Keys, S3Options, S3Store, Way};
use kops_mirror::store::staging::{Part, Staged};
use kops_mirror::store::{Attributes, Condition, ETag, Store, StoreErrorKind};
use kops_mirror::verify::{self, Arriving, Publishable, Verdict, Verified};
use tokio::sync::watch;

/// A prepared, empty store and what it is known to leave out.
struct Bench {
    store: Arc<dyn Store>,
    /// What it keeps besides the bytes.
    keeps_metadata: bool,
    /// Whether it can hold objects whose `ETag` is no MD5; where to make one.
    multipart: Option<(S3Options, String)>,
    keeps_conditions: bool,
    pages: bool,
    /// A server, a folder: ends with the bench.
    _held: Box<dyn Any + Send + Sync>,
}

/// A folder of its own.
async fn folder() -> Option<Bench> {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::new(dir.path().join("mirror"));
    store.prepare(false).await.unwrap();
    Some(Bench {
        store: Arc::new(store),
        keeps_metadata: false,
        multipart: None,
        keeps_conditions: true,
        pages: false,
        _held: Box::new(dir),
    })
}

/// The demo's S3 server, as AWS behaves.
async fn loopback() -> Option<Bench> {
    Some(on_loopback(Imitation::default()).await)
}

/// The demo's S3 server with the habits of others.
async fn lax_loopback() -> Option<Bench> {
    Some(
        on_loopback(Imitation {
            ignores_conditions: true,
            copy_keeps_multipart_etag: true,
            ignores_acls: true,
        })
        .await,
    )
}

async fn on_loopback(imitation: Imitation) -> Bench {
    let server = LoopbackS3::start(Options {
        imitation,
        ..Options::default()
    })
    .unwrap();
    let options = S3Options {
        endpoint: Some(server.endpoint()),
        keys: Some(Keys {
            access_key: server.credentials().access_key.clone(),
            secret_key: server.credentials().secret_key.clone(),
        }),
        ..S3Options::new("mirror", "pre fix/of+mirror")
    };
    Bench {
        keeps_conditions: !imitation.ignores_conditions,
        _held: Box::new(server),
        ..in_bucket(options).await
    }
}

/// The server that the environment names, if it names one.
async fn server() -> Option<Bench> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Ok(endpoint) = std::env::var("KOPS_MIRROR_TEST_S3") else {
        eprintln!("skipped: KOPS_MIRROR_TEST_S3 names no server");
        return None;
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("run {}+{number}", std::process::id());
    let options = S3Options {
        endpoint: Some(endpoint.parse().unwrap()),
        ..S3Options::new("kops-mirror-contract", prefix)
    };
    Some(Bench {
        keeps_conditions: std::env::var_os("KOPS_MIRROR_TEST_S3_IGNORES_CONDITIONS").is_none(),
        ..in_bucket(options).await
    })
}

async fn in_bucket(options: S3Options) -> Bench {
    let store = S3Store::connect(options.clone()).await.unwrap();
    store.prepare(true).await.unwrap();
    Bench {
        keeps_metadata: true,
        multipart: Some((options, store.region().to_owned())),
        keeps_conditions: true,
        pages: true,
        store: Arc::new(store),
        _held: Box::new(()),
    }
}

macro_rules! contract {
    ($($property:ident),+ $(,)?) => {
        contract!(@of folder: $($property),+);
        contract!(@of loopback: $($property),+);
        contract!(@of lax_loopback: $($property),+);
        contract!(@of server: $($property),+);
    };
    (@of $store:ident: $($property:ident),+) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $property() {
                    let Some(bench) = super::$store().await else { return };
                    super::$property(&bench).await;
                    bench.clear().await;
                }
            )+
        }
    };
}

contract!(
    an_etag_is_the_md5_at_every_length,
    a_spooled_content_arrives_as_it_is,
    a_put_that_breaks_leaves_what_was_there,
    a_put_that_is_dropped_leaves_all_or_nothing,
    a_content_that_arrives_while_it_is_put_is_there_in_the_end,
    a_content_that_turns_out_wrong_leaves_what_was_there,
    what_is_staged_is_unseen_until_it_is_published_and_then_single_part,
    a_put_for_an_absent_key_replaces_nothing,
    a_put_over_another_version_replaces_nothing,
    attributes_come_back,
    odd_keys_come_back,
    other_prefixes_stay_out_of_the_listing,
    a_listing_has_every_object_in_order,
    restating_keeps_the_content_and_gives_an_md5,
    restating_another_version_is_refused,
    restating_a_multipart_object_gives_an_md5_or_is_found_out,
    concurrent_puts_never_mix,
    what_is_absent_is_none,
    removing_twice_is_no_error,
    preparing_twice_is_no_error,
);

impl Bench {
    async fn put(&self, at: &str, content: &Verified) -> ETag {
        self.put_if(at, content, &Condition::Any).await.unwrap()
    }

    async fn put_if(
        &self,
        at: &str,
        content: &dyn Publishable,
        condition: &Condition,
    ) -> Result<ETag, StoreErrorKind> {
        self.store
            .put(&key(at), content, &attributes(), condition)
            .await
            .map_err(|error| error.kind)
    }

    async fn read(&self, at: &str) -> Option<Vec<u8>> {
        let content = self.store.open(&key(at)).await.unwrap()?;
        let bytes: Vec<Bytes> = content.chunks.try_collect().await.unwrap();
        let bytes = bytes.concat();
        assert_eq!(bytes.len() as u64, content.length);
        assert_eq!(content.etag, etag_of(&bytes), "{at}");
        Some(bytes)
    }

    fn kept(&self, metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.keeps_metadata {
            metadata
        } else {
            BTreeMap::new()
        }
    }

    async fn keys(&self) -> Vec<String> {
        let listing = self.store.list().await.unwrap();
        assert_eq!(listing.foreign, [""; 0]);
        listing.objects.into_iter().map(|o| o.key.into()).collect()
    }

    async fn clear(&self) {
        for at in self.keys().await {
            self.store.delete(&key(&at)).await.unwrap();
        }
    }
}

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub(crate) fn attributes() -> Attributes {
    Attributes {
        content_type: "application/octet-stream".to_owned(),
        metadata: BTreeMap::new(),
    }
}

fn etag_of(bytes: &[u8]) -> ETag {
    ETag::from(Digest::of(Algorithm::Md5, bytes))
}

/// Bytes in which no two blocks are alike.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn content(length: usize, seed: u64) -> Verified {
    Verified::composed(bytes(length, seed))
}

/// A content that lies in a spool, and the spool's file.
async fn spooled(bytes: &[u8]) -> (Verified, std::path::PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let folder = SpoolFolder::open(dir.path(), 1 << 30).unwrap();
    let spool: Arc<Spool> = Arc::new(folder.spool(&digest).unwrap());
    spool.set_length(bytes.len() as u64).unwrap();
    spool.write_at(0, &[Bytes::copy_from_slice(bytes)]).unwrap();
    let verified = verify::follow(spool, &[digest], &[])
        .await
        .unwrap()
        .unwrap();
    let path = dir.path().join(format!("sha256-{}.part", digest.hex()));
    (verified, path, dir)
}

async fn an_etag_is_the_md5_at_every_length(bench: &Bench) {
    for length in [
        0,
        1,
        262_143,
        262_144,
        262_145,
        5 << 20,
        (5 << 20) + 1,
        (17 << 20) + 3,
    ] {
        let expected = bytes(length, 1);
        let etag = bench
            .put("a/file", &Verified::composed(expected.clone()))
            .await;
        assert_eq!(etag, etag_of(&expected), "{length}");
        let there = bench.store.stat(&key("a/file")).await.unwrap().unwrap();
        assert_eq!(there.object.etag, etag, "{length}");
        assert_eq!(there.object.length, length as u64);
        assert_eq!(there.object.key, key("a/file"));
        assert!(bench.read("a/file").await.unwrap() == expected, "{length}");
    }
}

async fn a_spooled_content_arrives_as_it_is(bench: &Bench) {
    let expected = bytes((64 << 20) + 1, 2);
    let (verified, _path, _dir) = spooled(&expected).await;
    for _attempt in 0..2 {
        assert_eq!(bench.put("spooled", &verified).await, etag_of(&expected));
    }
    assert!(bench.read("spooled").await.unwrap() == expected);
}

async fn a_put_that_breaks_leaves_what_was_there(bench: &Bench) {
    let old = bytes(70_000, 3);
    bench.put("old", &Verified::composed(old.clone())).await;
    let length = 9 << 20;
    let (verified, path, _dir) = spooled(&bytes(length, 4)).await;
    // The last byte of the spool is gone when the put comes to it.
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length as u64 - 1)
        .unwrap();
    for at in ["old", "new"] {
        let failed = bench.put_if(at, &verified, &Condition::Any).await;
        assert_eq!(failed, Err(StoreErrorKind::Spool), "{at}");
    }
    assert_eq!(bench.read("old").await, Some(old));
    assert_eq!(bench.read("new").await, None);
    assert_eq!(bench.keys().await, ["old"]);
}

async fn a_put_that_is_dropped_leaves_all_or_nothing(bench: &Bench) {
    let old = bytes(1000, 5);
    let new = bytes(24 << 20, 6);
    let (verified, _path, _dir) = spooled(&new).await;
    for wait in [0, 1, 3, 10, 30, 100] {
        bench.put("file", &Verified::composed(old.clone())).await;
        let put = bench.put_if("file", &verified, &Condition::Any);
        let ended = tokio::time::timeout(Duration::from_millis(wait), put).await;
        let there = bench.read("file").await.unwrap();
        match ended {
            Ok(etag) => assert_eq!(etag, Ok(etag_of(&there))),
            Err(_) => assert!(there == old || there == new),
        }
    }
}

/// A content whose bytes come one MiB after the other, and whose end is judged in the end.
struct Coming {
    content: Arriving,
    verdict: watch::Sender<Verdict>,
    spool: Arc<Spool>,
    expected: Digest,
    _dir: tempfile::TempDir,
}

impl Coming {
    /// It is foretold as `told`.
    fn new(told: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = SpoolFolder::open(dir.path(), 1 << 30).unwrap();
        let expected = Digest::of(Algorithm::Sha256, told);
        let spool = Arc::new(folder.spool(&expected).unwrap());
        spool.set_length(told.len() as u64).unwrap();
        let verdict = watch::Sender::default();
        let md5 = Digest::of(Algorithm::Md5, told);
        let content = Arriving::new(&spool, &[expected], md5, verdict.subscribe()).unwrap();
        Self {
            content,
            verdict,
            spool,
            expected,
            _dir: dir,
        }
    }

    async fn comes(self, bytes: &[u8]) {
        for (at, piece) in bytes.chunks(1 << 20).enumerate() {
            let piece = Bytes::copy_from_slice(piece);
            self.spool.write_at((at as u64) << 20, &[piece]).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let judged = verify::follow(self.spool, &[self.expected], &[]).await;
        self.verdict.send_replace(judged.unwrap().into());
    }
}

async fn a_content_that_arrives_while_it_is_put_is_there_in_the_end(bench: &Bench) {
    let bytes = bytes((9 << 20) + 1, 20);
    let coming = Coming::new(&bytes);
    let content = coming.content.clone();
    let put = bench.put_if("file", &content, &Condition::Any);
    let (put, ()) = tokio::join!(put, coming.comes(&bytes));
    assert_eq!(put, Ok(etag_of(&bytes)));
    assert!(bench.read("file").await.unwrap() == bytes);
}

async fn a_content_that_turns_out_wrong_leaves_what_was_there(bench: &Bench) {
    let old = bytes(70_000, 21);
    bench.put("old", &Verified::composed(old.clone())).await;
    let told = bytes(9 << 20, 22);
    let mut wrong = told.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for at in ["old", "new"] {
        let coming = Coming::new(&told);
        let content = coming.content.clone();
        let put = bench.put_if(at, &content, &Condition::Any);
        let (put, ()) = tokio::join!(put, coming.comes(&wrong));
        assert_eq!(put, Err(StoreErrorKind::Spool), "{at}");
    }
    assert_eq!(bench.read("old").await, Some(old));
    assert_eq!(bench.keys().await, ["old"]);
}

async fn what_is_staged_is_unseen_until_it_is_published_and_then_single_part(bench: &Bench) {
    let Some((options, _)) = &bench.multipart else {
        return;
    };
    let options = S3Options {
        way: Way::Staged,
        ..options.clone()
    };
    let store = S3Store::connect(options).await.unwrap();
    let staging = store.staging().unwrap();
    let content = bytes(12 << 20, 23);
    let coming = Coming::new(&content);
    let staged = Staged {
        run: "0011223344556677".to_owned(),
        digest: coming.expected,
        length: content.len() as u64,
    };
    let Some(part_bytes) = staging.parts_for(&staged).await else {
        let why = staging.complaint().unwrap();
        assert!(why.contains("not its MD5"), "{why}");
        return;
    };
    let (spool, verdict) = (Arc::clone(&coming.spool), coming.verdict.subscribe());
    coming.comes(&content).await;
    let verified = match &*verdict.borrow() {
        Verdict::Right(verified) => verified.clone(),
        other => panic!("{other:?}"),
    };
    for ends in ["abandoned", "published"] {
        let upload = staging.begin(&staged).await.unwrap();
        let mut parts = Vec::new();
        for (number, start) in (1..).zip((0..staged.length).step_by(part_bytes as usize)) {
            let range = start..staged.length.min(start + part_bytes);
            let part = Part::read(&spool, number, range).await.unwrap();
            parts.push(staging.put_part(&upload, &part).await.unwrap());
        }
        let etag = staging.complete(&upload, &parts).await.unwrap();
        assert_eq!(bench.keys().await, [""; 0], "{ends}");
        if ends == "abandoned" {
            staging.abandon(&upload).await;
            continue;
        }
        let (at, attributes) = (key("file"), attributes());
        let published = staging
            .publish(
                &upload,
                &etag,
                &at,
                &verified,
                &attributes,
                &Condition::Absent,
            )
            .await;
        assert_eq!(published.unwrap(), etag_of(&content));
        staging.remove(&upload).await;
    }
    assert_eq!(bench.keys().await, ["file"]);
    assert!(bench.read("file").await.unwrap() == content);
    let upload = staging.begin(&staged).await.unwrap();
    let part = Part::read(&spool, 1, 0..10).await.unwrap();
    staging.clear(&staged.run).await;
    staging.put_part(&upload, &part).await.expect("it is alive");
    // For another process it is a dead one's.
    let options = &bench.multipart.as_ref().unwrap().0;
    let next = S3Store::connect(options.clone()).await.unwrap();
    next.staging().unwrap().clear(&staged.run).await;
    let late = staging.put_part(&upload, &part).await;
    assert!(late.is_err(), "it was cleared away");
}

async fn a_put_for_an_absent_key_replaces_nothing(bench: &Bench) {
    let old = bytes(300_000, 7);
    let absent = Condition::Absent;
    let first = bench
        .put_if("file", &Verified::composed(old.clone()), &absent)
        .await;
    assert_eq!(first, Ok(etag_of(&old)));
    let second = bench.put_if("file", &content(300_000, 8), &absent).await;
    if bench.keeps_conditions {
        assert_eq!(second, Err(StoreErrorKind::ConditionFailed));
        assert_eq!(bench.read("file").await, Some(old));
    } else {
        assert_eq!(second, Ok(etag_of(&bytes(300_000, 8))));
    }
}

async fn a_put_over_another_version_replaces_nothing(bench: &Bench) {
    let first = bench.put("file", &content(300_000, 9)).await;
    let unchanged = Condition::Unchanged(first);
    let second = bench
        .put_if("file", &content(300_000, 10), &unchanged)
        .await;
    assert_eq!(second, Ok(etag_of(&bytes(300_000, 10))));
    let third = bench
        .put_if("file", &content(300_000, 11), &unchanged)
        .await;
    if bench.keeps_conditions {
        assert_eq!(third, Err(StoreErrorKind::ConditionFailed));
        assert!(bench.read("file").await.unwrap() == bytes(300_000, 10));
        let right = Condition::Unchanged(second.unwrap());
        assert!(bench.put_if("file", &content(5, 12), &right).await.is_ok());
    } else {
        assert!(third.is_ok());
    }
}

async fn attributes_come_back(bench: &Bench) {
    let metadata: BTreeMap<_, _> = [
        ("sha256", "9f86d081884c7d65"),
        (
            "canonical-url",
            "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let attributes = Attributes {
        content_type: "text/plain".to_owned(),
        metadata: metadata.clone(),
    };
    bench
        .store
        .put(&key("file"), &content(10, 13), &attributes, &Condition::Any)
        .await
        .unwrap();
    let there = bench.store.stat(&key("file")).await.unwrap().unwrap();
    let expected = bench.kept(metadata);
    assert_eq!(there.metadata, expected);
}

async fn odd_keys_come_back(bench: &Bench) {
    let odd = [
        "a b/c  d.txt",
        "plus+plus",
        "v1.0.0+build.1/kubectl",
        "100%",
        "a%20b",
        "%",
        "tilde~and=equals&ampersand",
        "ünïcödé/文件/файл",
        "quotes'\"and<angles>",
        "brackets[1]{2}(3)",
        "question?mark#hash",
        "comma,semi;colon:at@dollar$!*",
        "dots../..a/a..b",
    ];
    let odd: Vec<_> = odd
        .iter()
        .filter(|at| !at.contains("/..") || bench.keeps_metadata)
        .collect();
    for at in &odd {
        bench
            .put(at, &Verified::composed(at.as_bytes().to_vec()))
            .await;
    }
    let mut expected: Vec<_> = odd.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(bench.keys().await, expected);
    for at in &odd {
        let there = bench.store.stat(&key(at)).await.unwrap();
        assert_eq!(there.map(|t| t.object.key), Some(key(at)));
        assert_eq!(bench.read(at).await.as_deref(), Some(at.as_bytes()));
        let etag = etag_of(at.as_bytes());
        let restated = bench.store.restate(&key(at), &etag, &attributes()).await;
        assert_eq!(restated.unwrap(), etag, "{at}");
        bench.store.delete(&key(at)).await.unwrap();
        assert_eq!(bench.read(at).await, None, "{at}");
    }
    assert_eq!(bench.keys().await, [""; 0]);
}

async fn other_prefixes_stay_out_of_the_listing(bench: &Bench) {
    let Some((options, _)) = &bench.multipart else {
        return;
    };
    let beside = S3Options {
        prefix: format!("{}beside", options.prefix),
        ..options.clone()
    };
    let beside = S3Store::connect(beside).await.unwrap();
    let there = (key("file"), content(1, 14));
    let put = beside
        .put(&there.0, &there.1, &attributes(), &Condition::Any)
        .await;
    put.unwrap();
    bench.put("mine", &content(1, 15)).await;
    assert_eq!(bench.keys().await, ["mine"]);
    beside.delete(&key("file")).await.unwrap();
}

async fn a_listing_has_every_object_in_order(bench: &Bench) {
    let names: Vec<String> = (0..1_050).map(|n| format!("d{}/f{n:04}", n % 7)).collect();
    stream::iter(&names)
        .for_each_concurrent(16, |name| async move {
            bench.put(name, &Verified::composed(name.clone())).await;
        })
        .await;
    let listing = bench.store.list().await.unwrap();
    let mut expected = names.clone();
    expected.sort();
    let listed: Vec<String> = listing.objects.iter().map(|o| o.key.to_string()).collect();
    assert_eq!(listed, expected);
    for object in &listing.objects {
        assert_eq!(object.etag, etag_of(object.key.as_str().as_bytes()));
        assert_eq!(object.length, object.key.as_str().len() as u64);
    }
    assert_eq!(listing.requests, if bench.pages { 2 } else { 0 });
}

async fn restating_keeps_the_content_and_gives_an_md5(bench: &Bench) {
    let expected = bytes(6 << 20, 16);
    let etag = bench
        .put("file", &Verified::composed(expected.clone()))
        .await;
    let metadata = BTreeMap::from([("md5".to_owned(), etag.to_string())]);
    let attributes = Attributes {
        content_type: "text/plain".to_owned(),
        metadata: metadata.clone(),
    };
    let restated = bench.store.restate(&key("file"), &etag, &attributes).await;
    assert_eq!(restated.unwrap(), etag);
    assert!(bench.read("file").await.unwrap() == expected);
    let there = bench.store.stat(&key("file")).await.unwrap().unwrap();
    let expected = bench.kept(metadata);
    assert_eq!(there.metadata, expected);
}

async fn restating_another_version_is_refused(bench: &Bench) {
    let old = bench.put("file", &content(1000, 17)).await;
    let new = bench.put("file", &content(1000, 18)).await;
    for (at, etag) in [("file", &old), ("absent", &new)] {
        let restated = bench.store.restate(&key(at), etag, &attributes()).await;
        let kind = restated.map_err(|error| error.kind);
        assert_eq!(kind, Err(StoreErrorKind::ConditionFailed), "{at}");
    }
    assert_eq!(bench.read("file").await, Some(bytes(1000, 18)));
}

async fn restating_a_multipart_object_gives_an_md5_or_is_found_out(bench: &Bench) {
    let Some((options, region)) = &bench.multipart else {
        return;
    };
    let expected = bytes(6 << 20, 19);
    put_in_parts(options, region, "parts/of it", &expected).await;
    let listed = bench.store.list().await.unwrap().objects.remove(0);
    assert!(listed.etag.as_str().ends_with("-2"), "{}", listed.etag);
    assert_eq!(listed.etag.md5(), None);
    let restated = bench
        .store
        .restate(&listed.key, &listed.etag, &attributes())
        .await
        .unwrap();
    let there = bench.store.stat(&listed.key).await.unwrap().unwrap();
    assert_eq!(there.object.etag, restated);
    assert_eq!(there.object.length, expected.len() as u64);
    if restated.md5().is_some() {
        assert_eq!(restated, etag_of(&expected));
    } else {
        assert_eq!(restated, listed.etag);
    }
}

/// What somebody else's tool does to large files.
async fn put_in_parts(options: &S3Options, region: &str, at: &str, bytes: &[u8]) {
    let mut config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(region.to_owned()))
        .endpoint_url(options.endpoint.as_ref().unwrap().as_str());
    if let Some(keys) = &options.keys {
        config = config.credentials_provider(aws_credential_types::Credentials::new(
            &keys.access_key,
            &keys.secret_key,
            None,
            None,
            "test",
        ));
    }
    let config = aws_sdk_s3::config::Builder::from(&config.load().await)
        .force_path_style(true)
        .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let key = format!("{}/{at}", options.prefix);
    let (bucket, key) = (options.bucket.as_str(), key.as_str());
    let begun = client
        .create_multipart_upload()
        .bucket(bucket)
        .key(key)
        .send()
        .await
        .unwrap();
    let id = begun.upload_id().unwrap();
    let mut upload = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(bytes.chunks(5 << 20)) {
        let sent = client.upload_part().bucket(bucket).key(key).upload_id(id);
        let sent = sent
            .part_number(number)
            .body(part.to_vec().into())
            .send()
            .await
            .unwrap();
        let part = CompletedPart::builder()
            .part_number(number)
            .e_tag(sent.e_tag().unwrap());
        upload = upload.parts(part.build());
    }
    let completing = client
        .complete_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(id);
    completing
        .multipart_upload(upload.build())
        .send()
        .await
        .unwrap();
}

async fn concurrent_puts_never_mix(bench: &Bench) {
    let versions: Vec<_> = (0..8)
        .map(|n| bytes(3_000_000 + n, 20 + n as u64))
        .collect();
    stream::iter(&versions)
        .for_each_concurrent(8, |version| async move {
            // Busy servers may refuse one of two that race, but never lie about one.
            let put = bench
                .put_if(
                    "file",
                    &Verified::composed(version.clone()),
                    &Condition::Any,
                )
                .await;
            assert!(put.is_err() || put == Ok(etag_of(version)));
        })
        .await;
    let there = bench.read("file").await.unwrap();
    assert!(versions.contains(&there));
    assert_eq!(bench.keys().await, ["file"]);
}

async fn what_is_absent_is_none(bench: &Bench) {
    bench.put("folder/file", &content(3, 30)).await;
    for at in ["absent", "folder", "folder/file/below", "folder/fil"] {
        assert_eq!(bench.store.stat(&key(at)).await.unwrap(), None, "{at}");
        assert!(bench.store.open(&key(at)).await.unwrap().is_none(), "{at}");
    }
}

async fn removing_twice_is_no_error(bench: &Bench) {
    bench.put("a/file", &content(3, 31)).await;
    bench.store.delete(&key("a/file")).await.unwrap();
    bench.store.delete(&key("a/file")).await.unwrap();
    bench.store.delete(&key("never/there")).await.unwrap();
    assert_eq!(bench.keys().await, [""; 0]);
    // What stood in a folder's place may become a file's.
    bench.put("a", &content(3, 32)).await;
    assert_eq!(bench.keys().await, ["a"]);
}

async fn preparing_twice_is_no_error(bench: &Bench) {
    bench.put("file", &content(3, 33)).await;
    bench.store.prepare(false).await.unwrap();
    bench.store.prepare(true).await.unwrap();
    assert_eq!(bench.keys().await, ["file"]);
}
