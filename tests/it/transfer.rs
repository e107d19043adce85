//! The engine between a loopback origin and real stores.

use kops_mirror::asset::{Asset, Role};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::events::Event;
use kops_mirror::index::Release;
use kops_mirror::loopback::origin::File;
use kops_mirror::report::{Exit, Kind};
use kops_mirror::sync::{self, Wanted};
use tokio_util::sync::CancellationToken;

use crate::support::world::{World, lines, read};

#[tokio::test]
async fn a_file_arrives_with_its_sidecar_and_the_release_is_marked() {
    let world = World::new().await;
    let asset = world.asset(
        "release/v1.34.8/bin/linux/amd64/kubelet",
        File::generated(1, 9_000_000),
    );
    let store = world.folder("mirror");
    let report = world.sync(&[store.clone()], &[asset.clone()]).await;
    assert_eq!(lines(&report, Kind::Failed), Vec::<String>::new());
    assert_eq!(report.of(Kind::Transferred).count(), 1);
    let bytes = read(&store, asset.key.as_str()).await.unwrap();
    assert_eq!(
        bytes,
        world
            .origin
            .file("/release/v1.34.8/bin/linux/amd64/kubelet")
            .unwrap()
            .content
            .read(0..9_000_000)
    );
    let sidecar = read(&store, "release/v1.34.8/bin/linux/amd64/kubelet.sha256")
        .await
        .unwrap();
    assert_eq!(sidecar.len(), 65);
    assert!(read(&store, "releases/test.json").await.is_some());
    assert_eq!(
        (report.bytes_fetched, report.bytes_refetched),
        (9_000_000, 0)
    );
    let marked = |event: &Event| matches!(event, Event::Marked { release } if release == "test");
    assert!(world.heard.events().iter().any(marked));
}

#[tokio::test]
async fn a_second_run_transfers_nothing() {
    let world = World::new().await;
    let assets: Vec<_> = (0..20)
        .map(|n| world.asset(&format!("files/{n}"), File::generated(n, 1000 * n)))
        .collect();
    let store = world.folder("mirror");
    world.sync(&[store.clone()], &assets).await;
    let requests = world.origin.log().exchanges().len();
    let report = world.sync(&[store.clone()], &assets).await;
    assert_eq!(report.of(Kind::Skipped).count(), 20, "{report:?}");
    assert_eq!(world.origin.log().exchanges().len(), requests);
}

#[tokio::test]
async fn what_a_stopped_run_did_not_come_to_has_not_failed() {
    let world = World::new().await;
    let file = world.asset("file", File::generated(1, 1000));
    world.origin.publish("/stable.txt", File::text("v1.34.8"));
    let pointer = Asset {
        unvouched: Some("it changes".to_owned()),
        role: Role::Pointer,
        sidecars: Vec::new(),
        witnesses: Vec::new(),
        ..World::wanting("stable.txt", Digest::of(Algorithm::Sha256, b""))
    };
    let store = world.folder("mirror");
    store.prepare(true).await.unwrap();
    let mirror = world.mirror(vec![store]);
    let wanted = vec![Wanted {
        release: Release::default(),
        assets: vec![file, pointer],
        ..Wanted::default()
    }];
    let stop = CancellationToken::new();
    let prepared = sync::prepare(&mirror, wanted, &stop).await.unwrap();
    stop.cancel();
    let report = sync::carry_out(&mirror, prepared, &stop).await;
    assert_eq!(report.exit(), Exit::Interrupted);
    assert_eq!(lines(&report, Kind::Failed), Vec::<String>::new());
    assert_eq!(report.of(Kind::Left).count(), 1, "{report:?}");
}
