//! The engine between a loopback origin and real stores.

use kops_mirror::events::Event;
use kops_mirror::loopback::origin::File;
use kops_mirror::report::Kind;

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
