//! Mirrors that are read again, in portions, and what is found there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kops_mirror::audit::{self, Finding};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::origin::File;
use kops_mirror::report::{Exit, Kind};
use kops_mirror::scrub::{self, Budget, Position, Scrubbed};
use kops_mirror::store::Store;
use kops_mirror::store::folder::FolderStore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::prune::{Troubled, put, release};
use crate::store_contract::key;
use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::world::World;

const RELEASE: &str = "kops-1.36.2_kubernetes-1.34.8";
const FILES: [&str; 4] = ["a", "b/1", "b/2", "c"];
/// A sidecar has 64 digits and a newline, and each file its key.
const BYTES: u64 = 4 * 65 + 1 + 3 + 3 + 1;

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

async fn portion(store: &Arc<dyn Store>, position: Position, budget: Budget) -> Scrubbed {
    let stop = CancellationToken::new();
    let scrubbed = scrub::scrub(store.as_ref(), position, &budget, now(), &stop);
    // The service has them as tasks.
    let scrubbed: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(scrubbed);
    scrubbed.await.unwrap()
}

async fn pass(store: &Arc<dyn Store>) -> Scrubbed {
    let scrubbed = portion(store, Position::default(), Budget::default()).await;
    assert!(scrubbed.complete, "{scrubbed}");
    scrubbed
}

fn folder(root: &Path) -> Arc<dyn Store> {
    Arc::new(FolderStore::new(root))
}

async fn filled(root: &Path) -> Arc<dyn Store> {
    let store = folder(root);
    release(&store, RELEASE, "v1.34.8", &FILES).await;
    store
}

/// Turns the first byte of a file as a disk does: nothing tells of it, and least of all the remembered MD5. Returns the store anew.
async fn rot(root: &Path, at: &str) -> Arc<dyn Store> {
    let path = root.join(at);
    let before = fs::read(&path).unwrap();
    let mut after = before.clone();
    after[0] ^= 1;
    fs::write(&path, &after).unwrap();
    folder(root).list().await.unwrap();
    let remembered = root.join(".kops-mirror-etags");
    let md5 = |content: &[u8]| Digest::of(Algorithm::Md5, content).hex();
    let lines = fs::read_to_string(&remembered).unwrap();
    fs::write(&remembered, lines.replace(&md5(&after), &md5(&before))).unwrap();
    folder(root)
}

#[tokio::test]
async fn a_pass_reads_all_that_the_indexes_name_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    put(&store, "somebody/else's", "content").await;
    let scrubbed = pass(&store).await;
    assert_eq!((scrubbed.objects, scrubbed.bytes), (8, BYTES));
    assert!(scrubbed.position.damaged.is_empty());
    assert!(scrubbed.to_string().contains("All is right."), "{scrubbed}");
    assert_eq!(scrubbed.position.began, Some(now()));
}

#[tokio::test]
async fn nothing_is_a_whole_pass_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let scrubbed = pass(&folder(dir.path())).await;
    assert_eq!(scrubbed.objects, 0);
}

#[tokio::test]
async fn rot_in_a_folder_is_found_by_reading_alone_and_stays_known_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let store = rot(dir.path(), "b/1").await;
    assert!(
        audit::audit(store.as_ref(), false)
            .await
            .unwrap()
            .is_clean()
    );
    let first = pass(&store).await;
    let found: Vec<_> = first.damaged.iter().collect();
    assert!(
        matches!(found[..], [(at, Finding::Rotten { .. })] if *at == key("b/1")),
        "{first}"
    );
    // It is told once.
    let second = portion(&store, first.position, Budget::default()).await;
    assert!(second.complete && second.damaged.is_empty(), "{second}");
    assert_eq!(second.position.damaged.len(), 1);
    put(&store, "b/1", "b/1").await;
    let third = portion(&store, second.position, Budget::default()).await;
    assert!(third.position.damaged.is_empty(), "{third}");
}

#[tokio::test]
async fn what_the_listing_shows_is_found_with_every_portion() {
    let server = BucketServer::start();
    let store = server.store().await;
    release(&store, RELEASE, "v1.34.8", &FILES).await;
    let bucket = server.bucket();
    let little = Budget {
        bytes: Some(1),
        ..Budget::default()
    };
    let first = portion(&store, Position::default(), little).await;
    assert!(first.damaged.is_empty() && !first.complete);
    // The first is behind the position already.
    bucket.remove(&format!("{PREFIX}/a"));
    bucket.insert(&format!("{PREFIX}/b/1"), "other");
    bucket.insert_multipart(&format!("{PREFIX}/c"), "c", 1);
    let second = portion(&store, first.position, little).await;
    let found: Vec<&str> = second
        .damaged
        .keys()
        .map(kops_mirror::asset::Key::as_str)
        .collect();
    assert_eq!(found, ["a", "b/1", "c"], "{second}");
    assert_eq!(second.position.after, Some(key("a.sha256")));
    release(&store, RELEASE, "v1.34.8", &FILES).await;
    let third = portion(&store, second.position, little).await;
    assert!(third.position.damaged.is_empty(), "{third}");
}

#[tokio::test]
async fn a_pass_goes_on_after_restarts_and_reads_each_object_once() {
    let server = BucketServer::start();
    let store = server.store().await;
    release(&store, RELEASE, "v1.34.8", &FILES).await;
    server.bucket().corrupt(&format!("{PREFIX}/a"), 0);
    server.0.log().clear();
    let budget = Budget {
        bytes: Some(100),
        ..Budget::default()
    };
    let mut kept = String::from("{}");
    let mut portions = 0;
    loop {
        // Nothing lives on but the text.
        let store = server.store().await;
        let scrubbed = portion(&store, serde_json::from_str(&kept).unwrap(), budget).await;
        portions += 1;
        assert!(scrubbed.bytes <= 100, "{scrubbed}");
        assert_eq!(scrubbed.damaged.len(), usize::from(portions == 1));
        kept = serde_json::to_string(&scrubbed.position).unwrap();
        if scrubbed.complete {
            assert_eq!(scrubbed.position.damaged.len(), 1);
            assert_eq!(
                (scrubbed.position.objects, scrubbed.position.bytes),
                (8, BYTES)
            );
            break;
        }
    }
    assert_eq!(portions, 4, "a file and its sidecar each");
    let log = server.0.log();
    let read = log.of("GetObject").into_iter().map(|get| get.key);
    let mut read: Vec<String> = read.filter(|key| !key.contains("releases/")).collect();
    let all: BTreeSet<String> = read.iter().cloned().collect();
    read.sort_unstable();
    assert_eq!(read, Vec::from_iter(all), "none twice");
}

#[tokio::test]
async fn an_object_larger_than_the_budget_is_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let budget = Budget {
        bytes: Some(1),
        ..Budget::default()
    };
    let mut position = Position::default();
    for objects in 1..=8 {
        let scrubbed = portion(&store, position, budget).await;
        assert_eq!(scrubbed.objects, 1);
        assert_eq!(scrubbed.complete, objects == 8);
        position = scrubbed.position;
    }
}

#[tokio::test]
async fn new_objects_are_met_in_this_pass_or_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let half = Budget {
        bytes: Some(135),
        ..Budget::default()
    };
    let first = portion(&store, Position::default(), half).await;
    assert_eq!(first.position.after, Some(key("b/1.sha256")));
    let more = ["a", "a-new", "b/1", "b/2", "c", "d-new"];
    release(&store, RELEASE, "v1.34.8", &more).await;
    let second = portion(&store, first.position, Budget::default()).await;
    assert!(second.complete);
    assert_eq!(second.objects, 6, "all behind the position, d-new too");
    let third = portion(&store, second.position, Budget::default()).await;
    assert_eq!(third.objects, 12);
}

#[tokio::test(start_paused = true)]
async fn reading_takes_as_long_as_the_rate_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let began = Instant::now();
    let budget = Budget {
        rate: Some(10),
        ..Budget::default()
    };
    let scrubbed = portion(&store, Position::default(), budget).await;
    assert!(scrubbed.complete);
    let wanted = Duration::from_secs(BYTES) / 10;
    let took = began.elapsed();
    assert!(took.abs_diff(wanted) < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_portion_ends_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let budget = Budget {
        rate: Some(10),
        time: Some(Duration::from_secs(1)),
        ..Budget::default()
    };
    let scrubbed = portion(&store, Position::default(), budget).await;
    assert!(!scrubbed.complete);
    // Those that were begun are read to their end.
    assert!((1..8).contains(&scrubbed.objects), "{scrubbed}");
}

#[tokio::test(start_paused = true)]
async fn stopping_keeps_what_was_read_and_drops_what_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let budget = Budget {
        rate: Some(10),
        ..Budget::default()
    };
    let stop = CancellationToken::new();
    let scrubbing = scrub::scrub(store.as_ref(), Position::default(), &budget, now(), &stop);
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        stop.cancel();
    };
    let (stopped, ()) = tokio::join!(scrubbing, stopping);
    let stopped = stopped.unwrap();
    assert!(!stopped.complete && stopped.objects < 8, "{stopped}");
    let rest = portion(&store, stopped.position, Budget::default()).await;
    assert_eq!(stopped.objects + rest.objects, 8);
    assert!(rest.complete);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_tried_again_before_it_counts_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let inner = filled(dir.path()).await;
    for (times, is_damaged) in [(2, false), (usize::MAX, true)] {
        let store = Troubled::unreadable(&inner, "b/1", times, false);
        let scrubbed = pass(&store).await;
        assert_eq!(scrubbed.damaged.contains_key(&key("b/1")), is_damaged);
        assert_eq!(scrubbed.objects, 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_ends_the_portion_and_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let inner = filled(dir.path()).await;
    let store = Troubled::unreadable(&inner, "b/1", usize::MAX, true);
    let scrubbed = portion(&store, Position::default(), Budget::default()).await;
    assert_eq!(scrubbed.held_up.as_deref(), Some("the line broke"));
    assert!(
        scrubbed.damaged.is_empty() && !scrubbed.complete,
        "{scrubbed}"
    );
    assert_eq!(scrubbed.position.after, Some(key("a.sha256")));
    let rest = portion(&inner, scrubbed.position, Budget::default()).await;
    assert!(rest.complete);
    assert_eq!(rest.objects, 6);
}

#[tokio::test]
async fn rot_is_repaired_at_the_target_that_has_it() {
    const LENGTH: u64 = 300_000;
    let world = World::new().await;
    let server = BucketServer::start();
    let targets = [server.store().await, world.folder("mirror")];
    let assets: Vec<_> = (0..3)
        .map(|n| world.asset(&format!("bin/{n}"), File::generated(n, LENGTH)))
        .collect();
    let report = world.sync(&targets, &assets).await;
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    let bucket = server.bucket();
    assert!(bucket.corrupt(&format!("{PREFIX}/bin/1"), 12_345));
    assert!(bucket.corrupt(&format!("{PREFIX}/bin/2.sha256"), 3));
    let mut positions = Vec::new();
    for target in &targets {
        positions.push(pass(target).await.position);
    }
    let damaged: Vec<BTreeMap<_, _>> = positions.iter().map(|p| p.damaged.clone()).collect();
    assert_eq!((damaged[0].len(), damaged[1].len()), (2, 0));

    let crossed = world.origin.log().bytes_sent("/bin/1");
    let mirror = world.mirror(targets.to_vec());
    let report = scrub::repair(&mirror, &damaged, &CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    assert_eq!(report.of(Kind::Skipped).count(), 1);
    assert!(world.origin.log().bytes_sent("/bin/1") - crossed <= LENGTH);
    positions[0].mended(&report);
    assert!(positions[0].damaged.is_empty());
    for target in &targets {
        assert!(pass(target).await.position.damaged.is_empty());
    }
}
