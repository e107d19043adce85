//! Several runs at once, and runs that are stopped.

use std::sync::Arc;
use std::time::Duration;

use kops_mirror::asset::Asset;
use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::report::Exit;
use kops_mirror::spool::{SpoolFolder, SpoolFolderError};
use tokio_util::sync::CancellationToken;

use super::{LENGTH, Trial, VICTIM};
use crate::support::bucket::BucketServer;
use crate::support::world::World;

#[tokio::test]
async fn two_runs_with_one_spool_are_told_apart() {
    let trial = Trial::new().await;
    let _first = SpoolFolder::open(&trial.world.spool(), 1 << 30).unwrap();
    let second = SpoolFolder::open(&trial.world.spool(), 1 << 30);
    assert!(matches!(second, Err(SpoolFolderError::Busy { .. })));
}

#[tokio::test]
async fn two_runs_on_one_target_both_succeed() {
    let server = BucketServer::start();
    for bucket in [true, false] {
        let (mut one, mut two) = (Trial::new().await, Trial::new().await);
        if bucket {
            one.store = server.store().await;
            two.store = server.store().await;
        } else {
            let folder = one.world.dir.path().join("mirror");
            two.store = Arc::new(kops_mirror::store::folder::FolderStore::new(folder));
        }
        let rate = Fault::Rate(5_000_000);
        one.order(When::Always, rate.clone());
        two.order(When::Always, rate);
        tokio::join!(one.survives_beside(), two.survives_beside());
        one.survives().await;
    }
    assert!(server.commits_of(VICTIM) <= 2);
}

#[tokio::test]
async fn two_keys_of_one_content_share_one_crossing() {
    let trial = Trial::new().await;
    let twin = Asset {
        key: "twin".parse().unwrap(),
        ..trial.victim.clone()
    };
    let assets = [trial.victim.clone(), twin];
    for round in 0..2 {
        let report = trial
            .world
            .sync(std::slice::from_ref(&trial.store), &assets)
            .await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
        let crossed = if round == 0 { LENGTH } else { 0 };
        assert_eq!(report.bytes_fetched, crossed);
    }
    for key in [VICTIM, "twin"] {
        let there = super::read(&trial.store, key).await.unwrap();
        assert_eq!(there.len() as u64, LENGTH);
    }
}

#[tokio::test]
async fn a_stopped_run_ends_at_once_and_the_next_goes_on() {
    let trial = Trial::of_length(20_000_000).await;
    trial.order(When::Always, Fault::Rate(3_000_000));
    let stop = CancellationToken::new();
    let assets = [trial.victim.clone()];
    let targets = [trial.store.clone()];
    let run = trial.world.try_sync(&targets, &assets, &stop);
    let stopped = async {
        let path = format!("/{VICTIM}");
        let log = trial.world.origin.log();
        log.until(|log| log.bytes_sent(&path) > 5_000_000).await;
        stop.cancel();
        std::time::Instant::now()
    };
    let (report, stopped) = tokio::join!(run, stopped);
    assert!(stopped.elapsed() < Duration::from_millis(500));
    let report = report.unwrap();
    assert_eq!(report.exit(), Exit::Interrupted);
    assert_eq!(super::read(&trial.store, VICTIM).await, None);
    trial.world.origin.recover();
    let kept = report.bytes_fetched;
    assert!(kept > 1_000_000, "{report:?}");
    let report = trial.survives().await;
    assert!(report.bytes_fetched <= 20_100_000 - kept, "{report:?}");
}

#[tokio::test]
async fn a_file_of_the_mirror_that_another_run_replaces_is_replaced_again() {
    let server = BucketServer::start();
    let world = World::new().await;
    let asset = world.asset("file", File::generated(1, 400_000));
    let key = format!("{}/file", crate::support::bucket::PREFIX);
    server.bucket().insert(&key, "somebody else's");
    let store = server.store().await;
    world
        .origin
        .order("/file", When::Always, Fault::Rate(1_000_000));
    let meddle = async {
        let log = world.origin.log();
        log.until(|log| log.bytes_sent("/file") > 100_000).await;
        server.bucket().insert(&key, "and again");
    };
    let targets = [store];
    let assets = [asset];
    let (report, ()) = tokio::join!(world.sync(&targets, &assets), meddle);
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    let there = server.bucket().object(&key).unwrap();
    assert_eq!(there.length, 400_000);
}
