//! Mirrors that were damaged: what an audit finds, what a repair brings back, and what that costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use kops_mirror::asset::Asset;
use kops_mirror::audit::{self, Audit, Finding};
use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::loopback::s3::{Imitation, Options};
use kops_mirror::report::{Exit, Kind, Report};
use kops_mirror::store::Store;
use tokio_util::sync::CancellationToken;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::world::{World, lines, read};

const LENGTH: u64 = 700_000;
const MARKER: &str = "releases/test.json";

/// A bucket with a whole mirror of three files.
struct Mirrored {
    world: World,
    server: BucketServer,
    store: Arc<dyn Store>,
    assets: Vec<Asset>,
}

impl Mirrored {
    async fn new() -> Self {
        Self::at(BucketServer::start()).await
    }

    async fn at(server: BucketServer) -> Self {
        let world = World::new().await;
        let store = server.store().await;
        let assets: Vec<Asset> = (0..3)
            .map(|n| world.asset(&name(n), File::generated(n, LENGTH)))
            .collect();
        let mirrored = Self {
            world,
            server,
            store,
            assets,
        };
        let report = mirrored.sync().await;
        assert_eq!(report.of(Kind::Transferred).count(), 3);
        assert!(mirrored.audit(true).await.is_clean());
        mirrored
    }

    async fn sync(&self) -> Report {
        let report = self
            .world
            .sync(std::slice::from_ref(&self.store), &self.assets)
            .await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
        report
    }

    async fn audit(&self, deep: bool) -> Audit {
        audit::audit(self.store.as_ref(), deep).await.unwrap()
    }

    async fn repair(&self, deep: bool) -> Report {
        let audits = vec![self.audit(deep).await];
        let mirror = self.world.mirror(vec![self.store.clone()]);
        audit::repair(&mirror, audits, &CancellationToken::new())
            .await
            .unwrap()
    }

    /// Finds exactly this, repairs it for so many crossed bytes, and finds nothing afterwards.
    async fn mends(&self, deep: bool, found: &[String], crossed: u64) {
        let audit = self.audit(deep).await;
        let keys: Vec<&str> = audit
            .findings
            .keys()
            .map(kops_mirror::asset::Key::as_str)
            .collect();
        assert_eq!(keys, found, "{audit}");
        let before = self.crossed();
        let report = self.repair(deep).await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
        assert_eq!(self.crossed() - before, crossed);
        assert!(self.audit(true).await.is_clean());
        for n in 0..3 {
            self.check(n).await;
        }
        assert_eq!(self.sync().await.of(Kind::Skipped).count(), 3);
    }

    /// Bytes of files that have left the origin.
    fn crossed(&self) -> u64 {
        let log = self.world.origin.log();
        (0..3)
            .map(|n| log.bytes_sent(&format!("/{}", name(n))))
            .sum()
    }

    async fn check(&self, n: u64) {
        let there = read(&self.store, &name(n)).await.unwrap();
        assert!(there == self.content(n));
        let etag = self.server.bucket().object(&full(&name(n))).unwrap().etag;
        assert!(!etag.contains('-'), "{etag}");
    }

    fn content(&self, n: u64) -> bytes::Bytes {
        let file = self.world.origin.file(&format!("/{}", name(n))).unwrap();
        file.content.read(0..LENGTH)
    }
}

fn name(n: u64) -> String {
    format!("bin/{n}")
}

fn full(key: &str) -> String {
    format!("{PREFIX}/{key}")
}

#[tokio::test]
async fn a_missing_object_is_found_and_fetched() {
    let mirrored = Mirrored::new().await;
    mirrored.server.bucket().remove(&full("bin/1"));
    let audit = mirrored.audit(false).await;
    assert_eq!(audit.findings.values().next(), Some(&Finding::Missing));
    mirrored.mends(false, &[name(1)], LENGTH).await;
}

#[tokio::test]
async fn a_changed_object_is_found_and_fetched() {
    let mirrored = Mirrored::new().await;
    mirrored.server.bucket().insert(&full("bin/1"), "other");
    let audit = mirrored.audit(false).await;
    assert!(audit.to_string().contains("5 bytes"), "{audit}");
    mirrored.mends(false, &[name(1)], LENGTH).await;
}

#[tokio::test]
async fn a_multipart_object_is_mended_in_the_bucket_without_crossing() {
    let mirrored = Mirrored::new().await;
    let bucket = mirrored.server.bucket();
    bucket.insert_multipart(&full("bin/1"), mirrored.content(1), 300_000);
    let audit = mirrored.audit(false).await;
    assert!(audit.to_string().contains("-3' is not an MD5"), "{audit}");
    mirrored.server.0.log().clear();
    mirrored.mends(false, &[name(1)], 0).await;
    assert_eq!(mirrored.server.0.log().count("CopyObject"), 1);
    let puts = mirrored.server.0.log().of("PutObject");
    assert!(
        puts.iter().all(|put| put.key.ends_with(".sha256")),
        "{puts:?}"
    );
}

#[tokio::test]
async fn a_multipart_object_of_other_content_is_fetched() {
    let mirrored = Mirrored::new().await;
    let bucket = mirrored.server.bucket();
    bucket.insert_multipart(&full("bin/1"), mirrored.content(2), 300_000);
    mirrored.mends(false, &[name(1)], LENGTH).await;
}

#[tokio::test]
async fn where_a_copy_keeps_the_etag_the_buckets_own_bytes_are_put_again() {
    let mirrored = Mirrored::at(BucketServer::start_with(Options {
        imitation: Imitation {
            copy_keeps_multipart_etag: true,
            ..Imitation::default()
        },
        ..Options::default()
    }))
    .await;
    let bucket = mirrored.server.bucket();
    bucket.insert_multipart(&full("bin/1"), mirrored.content(1), 300_000);
    mirrored.mends(false, &[name(1)], 0).await;
}

#[tokio::test]
async fn a_rotten_object_is_found_only_by_reading_and_is_fetched() {
    let mirrored = Mirrored::new().await;
    assert!(mirrored.server.bucket().corrupt(&full("bin/1"), 12_345));
    assert!(mirrored.audit(false).await.is_clean());
    let audit = mirrored.audit(true).await;
    assert!(audit.to_string().contains("its bytes have"), "{audit}");
    mirrored.mends(true, &[name(1)], LENGTH).await;
}

#[tokio::test]
async fn damaged_sidecars_are_written_again_without_crossing() {
    let mirrored = Mirrored::new().await;
    let bucket = mirrored.server.bucket();
    bucket.remove(&full("bin/0.sha256"));
    bucket.insert(&full("bin/1.sha256"), "rubbish\n");
    let found = ["bin/0.sha256".to_owned(), "bin/1.sha256".to_owned()];
    mirrored.mends(false, &found, 0).await;
    let bucket = mirrored.server.bucket();
    assert!(bucket.corrupt(&full("bin/2.sha256"), 3));
    mirrored.mends(true, &["bin/2.sha256".to_owned()], 0).await;
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_by_the_next_sync_without_crossing() {
    let mirrored = Mirrored::new().await;
    let before = mirrored.server.bucket().object(&full(MARKER)).unwrap();
    mirrored.server.bucket().remove(&full(MARKER));
    let audit = mirrored.audit(false).await;
    assert!(audit.to_string().contains("othing could be checked"));
    let crossed = mirrored.crossed();
    mirrored.sync().await;
    assert_eq!(mirrored.crossed(), crossed);
    let after = mirrored.server.bucket().object(&full(MARKER)).unwrap();
    let files = |found: &kops_mirror::loopback::s3::Found| -> serde_json::Value {
        let bytes = found.bytes.clone().unwrap();
        let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        index["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["sha256"].clone())
            .collect()
    };
    assert_eq!(files(&before), files(&after));
    assert!(mirrored.audit(true).await.is_clean());
}

#[tokio::test]
async fn an_index_of_rubbish_is_told_and_rebuilt_by_the_next_sync() {
    for rubbish in ["", "{", "[]", "{\"format\":1}", "\u{1}\u{2}"] {
        let mirrored = Mirrored::new().await;
        mirrored.server.bucket().insert(&full(MARKER), rubbish);
        let audit = mirrored.audit(false).await;
        assert_eq!(audit.findings.len(), 1);
        assert!(audit.to_string().contains("kops-mirror sync"), "{audit}");
        let report = mirrored.repair(false).await;
        assert_eq!(
            report.exit(),
            Exit::SomeFailed,
            "repair can't make an index"
        );
        assert!(lines(&report, Kind::Failed)[0].contains("kops-mirror sync"));
        let crossed = mirrored.crossed();
        mirrored.sync().await;
        assert_eq!(mirrored.crossed(), crossed);
        assert!(mirrored.audit(true).await.is_clean());
    }
}

#[tokio::test]
async fn an_index_of_a_newer_format_is_left_alone() {
    let mirrored = Mirrored::new().await;
    let newer = mirrored.server.bucket().object(&full(MARKER)).unwrap();
    let newer = String::from_utf8(newer.bytes.unwrap().to_vec()).unwrap();
    let newer = newer.replacen("\"format\": 1", "\"format\": 99", 1);
    mirrored.server.bucket().insert(&full(MARKER), newer);
    let audit = mirrored.audit(false).await;
    assert!(audit.to_string().contains("update kops-mirror"), "{audit}");
}

#[tokio::test]
async fn lost_local_state_costs_nothing() {
    let mirrored = Mirrored::new().await;
    std::fs::remove_dir_all(mirrored.world.spool()).unwrap();
    let crossed = mirrored.crossed();
    let report = mirrored.sync().await;
    assert_eq!(report.of(Kind::Skipped).count(), 3);
    assert_eq!(mirrored.crossed(), crossed);
}

#[tokio::test]
async fn a_second_sync_costs_one_listing_and_the_index() {
    let mirrored = Mirrored::new().await;
    mirrored.server.0.log().clear();
    let asked = mirrored.world.origin.log().exchanges().len();
    mirrored.sync().await;
    let log = mirrored.server.0.log();
    assert_eq!(log.count("ListObjectsV2"), 1);
    assert_eq!(log.count("GetObject"), 1, "the release's own index");
    for operation in ["PutObject", "CopyObject", "DeleteObject", "HeadObject"] {
        assert_eq!(log.count(operation), 0, "{operation}");
    }
    // Digests that are known need no sidecar.
    let requests = mirrored.world.origin.log().exchanges().split_off(asked);
    assert_eq!(requests.len(), 0, "{requests:?}");
}

#[tokio::test]
async fn foreign_objects_are_counted_and_left_alone() {
    let mirrored = Mirrored::new().await;
    let bucket = mirrored.server.bucket();
    bucket.insert(&full("somebody/else's"), "content");
    bucket.insert("beside/the/prefix", "content");
    let audit = mirrored.audit(false).await;
    assert!(audit.is_clean());
    assert_eq!(audit.unindexed, 1);
    mirrored.repair(false).await;
    let kept = mirrored.server.bucket().keys();
    let kept: BTreeSet<&str> = kept.iter().map(String::as_str).collect();
    assert!(kept.contains("beside/the/prefix"));
    assert!(kept.contains(full("somebody/else's").as_str()));
}

#[tokio::test]
async fn what_cannot_be_fetched_any_more_is_told_and_the_rest_repaired() {
    let mirrored = Mirrored::new().await;
    let bucket = mirrored.server.bucket();
    bucket.remove(&full("bin/1"));
    bucket.remove(&full("bin/2"));
    mirrored.world.origin.withdraw("/bin/1");
    let report = mirrored.repair(false).await;
    assert_eq!(report.exit(), Exit::SomeFailed);
    let failed = lines(&report, Kind::Failed);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].starts_with("bin/1") && failed[0].contains("404"));
    mirrored.check(2).await;
}

#[tokio::test]
async fn two_targets_cost_one_crossing() {
    let world = World::new().await;
    let (one, two) = (BucketServer::start(), BucketServer::start());
    let targets = [one.store().await, two.store().await, world.folder("mirror")];
    let asset = world.asset("file", File::generated(1, LENGTH));
    let report = world.sync(&targets, std::slice::from_ref(&asset)).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    assert_eq!(world.origin.log().bytes_sent("/file"), LENGTH);
    assert_eq!(report.marked.len(), 3);
    for target in &targets {
        assert_eq!(read(target, "file").await.unwrap().len() as u64, LENGTH);
    }
}

#[tokio::test]
async fn a_target_that_is_added_later_is_filled_from_the_first() {
    let mirrored = Mirrored::new().await;
    let added = BucketServer::start();
    let targets = [mirrored.store.clone(), added.store().await];
    let crossed = mirrored.crossed();
    let report = mirrored.world.sync(&targets, &mirrored.assets).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    assert_eq!(mirrored.crossed(), crossed);
    assert!(
        audit::audit(targets[1].as_ref(), true)
            .await
            .unwrap()
            .is_clean()
    );
    assert_eq!(added.bucket().keys().len(), 7, "files, sidecars, index");
}

#[tokio::test]
async fn a_target_that_fails_does_not_hold_up_the_other() {
    use kops_mirror::loopback::s3::Fault;
    let world = World::new().await;
    let (good, bad) = (BucketServer::start(), BucketServer::start());
    // Something that has to be looked at first, and can't be.
    bad.bucket()
        .insert_multipart(&full("file"), vec![1; 999], 500);
    for operation in ["GetObject", "HeadObject", "PutObject"] {
        let fault = Fault::access_denied().on(operation).always();
        bad.0.faults().order(fault.key(&full("file")));
    }
    let targets = [bad.store().await, good.store().await];
    let asset = world.asset("file", File::generated(1, LENGTH));
    let report = world.sync(&targets, &[asset]).await;
    assert_eq!(report.exit(), Exit::SomeFailed);
    let failed = lines(&report, Kind::Failed);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("s3://mirror/k8s"), "{failed:?}");
    assert_eq!(good.commits_of("file"), 1);
    assert_eq!(good.commits_of(MARKER), 1, "the good target is complete");
    assert_eq!(bad.commits_of(MARKER), 0);
}

#[tokio::test]
async fn what_fails_for_every_target_is_told_once() {
    let world = World::new().await;
    let targets = [world.folder("one"), world.folder("two")];
    let asset = world.asset("file", File::generated(1, LENGTH));
    world
        .origin
        .order("/file", When::Always, Fault::status(404));
    let report = world.sync(&targets, &[asset]).await;
    let failed = lines(&report, Kind::Failed);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].matches("answered 404").count(), 1, "{failed:?}");
    assert!(
        !failed[0].contains("/one"),
        "no target is to blame: {failed:?}"
    );
}

#[tokio::test]
async fn a_rotten_first_target_does_not_spoil_the_second() {
    let mirrored = Mirrored::new().await;
    assert!(mirrored.server.bucket().corrupt(&full("bin/0"), 99));
    let added = BucketServer::start();
    let targets = [mirrored.store.clone(), added.store().await];
    let report = mirrored.world.sync(&targets, &mirrored.assets).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    assert!(
        audit::audit(targets[1].as_ref(), true)
            .await
            .unwrap()
            .is_clean()
    );
}
