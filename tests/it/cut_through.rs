//! Files that are put while they arrive: seen from both ends of the wire.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::loopback::s3::{Exchanged, Fault as S3Fault, Trouble};
use kops_mirror::report::{Kind, Report};
use kops_mirror::store::Store;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::{Program, Running, finish};
use crate::support::world::{World, lines, read};

const PATH: &str = "release/v1.34.8/bin/linux/amd64/kubelet";
const LENGTH: u64 = 9_000_000;
const MOMENT: Duration = Duration::from_millis(5);

/// A file whose MD5 the origin's transport tells.
fn foretold(seed: u64) -> File {
    File::generated(seed, LENGTH).with_goog_hash()
}

fn puts(server: &BucketServer, exchanges: Vec<Exchanged>) -> Vec<Exchanged> {
    let of_the_file =
        |exchange: &Exchanged| exchange.operation == "PutObject" && exchange.key.ends_with(PATH);
    assert_eq!(server.bucket().unfinished_uploads(), [""; 0]);
    exchanges.into_iter().filter(of_the_file).collect()
}

/// Waits until bytes of the file have come to the server in a request that is under way.
async fn put_has_begun(server: &BucketServer) {
    let has_bytes = |put: &Exchanged| put.body_bytes > 0;
    while !puts(server, server.0.log().under_way())
        .iter()
        .any(has_bytes)
    {
        tokio::time::sleep(MOMENT).await;
    }
}

/// Waits for a draft with bytes in it.
async fn draft_has_bytes(folder: &Path) {
    let is_draft = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(".kops-mirror-") && entry.metadata().is_ok_and(|file| file.len() > 0)
    };
    let begun = || {
        Some(
            std::fs::read_dir(folder)
                .ok()?
                .flatten()
                .any(|e| is_draft(&e)),
        )
    };
    while begun() != Some(true) {
        tokio::time::sleep(MOMENT).await;
    }
}

/// An origin that takes a second or two over the file.
async fn slow_world() -> World {
    let world = World::new().await;
    world.origin.order("*", When::Always, Fault::Rate(700_000));
    world
}

fn transferred(report: &Report) {
    assert_eq!(lines(report, Kind::Failed), Vec::<String>::new());
    assert_eq!(report.of(Kind::Transferred).count(), 1);
    assert_eq!((report.bytes_fetched, report.bytes_refetched), (LENGTH, 0));
}

async fn is_whole(store: &Arc<dyn Store>, seed: u64) {
    let bytes = read(store, PATH).await.unwrap();
    assert!(bytes == File::generated(seed, LENGTH).content.read(0..LENGTH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_begins_before_the_file_has_arrived_at_every_target() {
    let world = slow_world().await;
    let asset = world.asset(PATH, foretold(1));
    let server = BucketServer::start();
    let (bucket, folder) = (server.store().await, world.folder("mirror"));
    let place = world
        .dir
        .path()
        .join("mirror/release/v1.34.8/bin/linux/amd64");
    let watching = async {
        put_has_begun(&server).await;
        draft_has_bytes(&place).await;
        world.origin.log().bytes_sent(&format!("/{PATH}"))
    };
    let targets = [bucket, folder];
    let syncing = world.sync(&targets, std::slice::from_ref(&asset));
    let (report, sent) = tokio::join!(syncing, watching);
    assert!(sent < LENGTH, "the origin had sent all {sent} bytes before");
    transferred(&report);
    for target in &targets {
        is_whole(target, 1).await;
    }
    let puts = puts(&server, server.0.log().all());
    assert_eq!(puts.len(), 1, "{puts:?}");
    let found = server.bucket().object(&format!("{PREFIX}/{PATH}")).unwrap();
    let digests = foretold(1).content.digests(&[]);
    assert_eq!(found.metadata["sha256"], digests.sha256.hex());
    assert_eq!(found.metadata["md5"], digests.md5.hex());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_last_byte_leaves_what_was_there() {
    let world = slow_world().await;
    let asset = world.asset(PATH, foretold(2));
    let last = Fault::Corrupt(LENGTH - 1);
    world.origin.order("*", When::Always, last);
    let server = BucketServer::start();
    let bucket = server.store().await;
    let folder = world.folder("mirror");
    let old = bytes::Bytes::from_static(b"what was there");
    let key = format!("{PREFIX}/{PATH}");
    server.bucket().insert(&key, old.clone());
    let targets = [bucket, folder.clone()];
    let report = world.sync(&targets, &[asset]).await;
    assert_eq!(report.of(Kind::Failed).count(), 1, "{report:?}");
    assert_eq!(server.bucket().object(&key).unwrap().bytes, Some(old));
    assert_eq!(server.commits_of(PATH), 0);
    assert_eq!(folder.list().await.unwrap().objects, []);
    let puts = puts(&server, server.0.log().all());
    assert!(!puts.is_empty());
    for put in puts {
        assert!(put.body_bytes > 0 && put.body_bytes < LENGTH, "{put:?}");
        assert_eq!(put.status, Some(400), "it ended short: {put:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_breaks_is_repeated_from_the_spool() {
    let world = slow_world().await;
    let asset = world.asset(PATH, foretold(3));
    let server = BucketServer::start();
    let cut = Trouble::Cut {
        after_bytes: 1_000_000,
    };
    server.0.faults().order(S3Fault::new(cut).on("PutObject"));
    let bucket = server.store().await;
    let report = world.sync(&[bucket.clone()], &[asset]).await;
    transferred(&report);
    is_whole(&bucket, 3).await;
    assert_eq!(server.0.faults().outstanding(), 0);
    assert_eq!(world.origin.log().bytes_sent(&format!("/{PATH}")), LENGTH);
    assert_eq!(puts(&server, server.0.log().all()).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_starves_is_dropped_and_comes_when_the_file_is_whole() {
    let mut world = World::new().await;
    world.settings.stall_window = Duration::from_mins(1);
    let asset = world.asset(PATH, foretold(4));
    // S3 itself would wait for less than twice as long as this.
    let stall = Fault::Stall {
        after: 500_000,
        time: Some(Duration::from_secs(12)),
    };
    world.origin.order("*", When::Nth(2), stall);
    let server = BucketServer::start();
    let bucket = server.store().await;
    let report = world.sync(&[bucket.clone()], &[asset]).await;
    transferred(&report);
    is_whole(&bucket, 4).await;
    let puts = puts(&server, server.0.log().all());
    let lengths: Vec<bool> = puts.iter().map(|put| put.body_bytes == LENGTH).collect();
    assert_eq!(lengths, [false, true], "{puts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_md5_nobody_foretells_is_put_when_it_is_whole() {
    let world = slow_world().await;
    let asset = world.asset(PATH, File::generated(5, LENGTH));
    let server = BucketServer::start();
    let bucket = server.store().await;
    let watching = async {
        put_has_begun(&server).await;
        world.origin.log().bytes_sent(&format!("/{PATH}"))
    };
    let targets = [bucket];
    let syncing = world.sync(&targets, std::slice::from_ref(&asset));
    let (report, sent) = tokio::join!(syncing, watching);
    assert_eq!(sent, LENGTH);
    transferred(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_foretells_a_wrong_md5_costs_nothing_but_the_early_put() {
    let world = slow_world().await;
    let mut file = File::generated(6, LENGTH);
    file.goog_hashes = vec!["md5=kAFQmDzST7DWlj99KOF/cg==".to_owned()];
    let asset = world.asset(PATH, file);
    let server = BucketServer::start();
    let bucket = server.store().await;
    let report = world.sync(&[bucket.clone()], &[asset]).await;
    transferred(&report);
    is_whole(&bucket, 6).await;
    let puts = puts(&server, server.0.log().all());
    assert_eq!(puts.len(), 2, "{puts:?}");
    assert!(puts[0].body_bytes < LENGTH, "{puts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_middle_of_a_put_leaves_nothing_visible() {
    let program = Program::with_foretold_files(1, LENGTH);
    let server = BucketServer::start();
    program
        .origin
        .order("*", When::Always, Fault::Rate(700_000));
    let running = Running::start(program.to_bucket(&server));
    let has_begun =
        |exchange: &Exchanged| exchange.operation == "PutObject" && exchange.body_bytes > 1_000_000;
    while !server.0.log().under_way().iter().any(has_begun) {
        tokio::time::sleep(MOMENT).await;
    }
    running.kill().await;
    while !server.0.log().under_way().is_empty() {
        tokio::time::sleep(MOMENT).await;
    }
    assert!(program.sent() < LENGTH, "it was killed in the middle");
    assert_eq!(server.visible(), [""; 0]);
    program.origin.recover();
    let next = finish(program.to_bucket(&server)).await;
    assert_eq!(next.status.code(), Some(0));
    let key = format!("{PREFIX}/{}", program.keys[0]);
    let found = server.bucket().object(&key).unwrap();
    assert!(found.bytes.unwrap() == program.content(&program.keys[0]));
    assert_eq!(server.commits_of(&program.keys[0]), 1);
}
