//! What the engine does about a link that is slow: shares between sources, connections sent after late ones, numbers kept.

use std::time::Duration;

use kops_mirror::asset::Asset;
use kops_mirror::loopback::origin::{Fault, File, Origin, When};
use kops_mirror::report::{Kind, Link, Report};

use crate::support::world::{HOST, World, lines};

const PATH: &str = "release/v1.34.8/bin/linux/amd64/kubelet";
const PATH_PATTERN: &str = "*kubelet";
const LENGTH: u64 = 9_000_000;

/// Bytes a second of each connection: the whole file takes two or three seconds.
const USUAL: Fault = Fault::Rate(500_000);

/// An origin with one file, which each of eight connections brings slowly.
async fn slow_world() -> (World, Asset) {
    let world = World::new().await;
    let asset = world.asset(PATH, File::generated(1, LENGTH));
    world.origin.order("*", When::Always, USUAL);
    (world, asset)
}

async fn sync(world: &World, asset: &Asset) -> Report {
    let store = world.folder("mirror");
    let report = world.sync(&[store], std::slice::from_ref(asset)).await;
    assert_eq!(lines(&report, Kind::Failed), Vec::<String>::new());
    assert_eq!(report.of(Kind::Transferred).count(), 1);
    report
}

fn link(world: &World, report: &Report) -> Link {
    let address = world.origin.address();
    report.links[&format!("{}:{}", address.ip(), address.port())]
}

#[tokio::test]
async fn sources_of_one_file_bring_shares_of_it_by_their_speed() {
    let (mut world, asset) = slow_world().await;
    let second = Origin::start().unwrap();
    second.publish(format!("/{PATH}"), File::generated(1, LENGTH));
    second.order("*", When::Always, Fault::Rate(100_000));
    let host = world.settings.hosts.get_mut(HOST).unwrap();
    host.sources.push(second.url(""));
    world.settings.hedge_after = Duration::from_millis(400);
    world.settings.stall_window = Duration::from_secs(20);
    sync(&world, &asset).await;
    let path = format!("/{PATH}");
    let fast = world.origin.log().bytes_sent(&path);
    let slow = second.log().bytes_sent(&path);
    assert!(slow > 0, "the second source brought nothing");
    assert!(
        fast > 2 * slow,
        "{fast} bytes of the fast one, {slow} of the slow one"
    );
}

#[tokio::test]
async fn another_connection_is_sent_after_one_that_fell_silent() {
    let (mut world, asset) = slow_world().await;
    world.settings.hedge_after = Duration::from_millis(400);
    world.settings.stall_window = Duration::from_hours(1);
    // The last part is asked for by the tenth request or so; whichever this befalls would wait for ever.
    let silent = Fault::Stall {
        after: 50_000,
        time: None,
    };
    world.origin.order(PATH_PATTERN, When::Nth(4), silent);
    let report = sync(&world, &asset).await;
    let link = link(&world, &report);
    assert!(link.hedges > 0, "{link:?}");
    assert_eq!(link.stalls, 0);
    assert!(
        report.bytes_refetched <= LENGTH / 50,
        "{}",
        report.bytes_refetched
    );
}

#[tokio::test]
async fn the_rest_of_a_slow_part_is_taken_over() {
    let (mut world, asset) = slow_world().await;
    world.settings.hedge_after = Duration::from_millis(400);
    world.settings.stall_window = Duration::from_hours(1);
    world
        .origin
        .order(PATH_PATTERN, When::Nth(3), Fault::Rate(20_000));
    let report = sync(&world, &asset).await;
    let link = link(&world, &report);
    assert!(link.hedges > 0, "{link:?}");
    // By itself it would have taken fifty seconds.
    assert!(
        report.elapsed < Duration::from_secs(25),
        "{:?}",
        report.elapsed
    );
}

#[tokio::test]
async fn nothing_is_late_where_a_rate_holds_everything_back() {
    let mut world = World::new().await;
    let asset = world.asset(PATH, File::generated(1, LENGTH));
    world.settings.hedge_after = Duration::from_millis(1);
    world.rate = Some(6_000_000);
    let report = sync(&world, &asset).await;
    assert_eq!(report.bytes_refetched, 0);
    assert!(report.limit_used.unwrap() > 0.5, "{:?}", report.limit_used);
}

#[tokio::test]
async fn a_host_that_refuses_is_asked_for_less() {
    let (world, asset) = slow_world().await;
    world
        .origin
        .order(PATH_PATTERN, When::Nth(3), Fault::status(429));
    let report = sync(&world, &asset).await;
    let link = link(&world, &report);
    assert_eq!(link.refusals, 1);
    assert_eq!((link.connections_max, link.connections), (8, 4));
}

#[tokio::test]
async fn a_run_begins_with_the_connections_that_the_last_one_came_to() {
    let (world, asset) = slow_world().await;
    world
        .origin
        .order(PATH_PATTERN, When::Nth(3), Fault::status(429));
    sync(&world, &asset).await;
    world.origin.recover();
    let next = world.asset("another", File::generated(2, LENGTH));
    let report = sync(&world, &next).await;
    let link = link(&world, &report);
    assert_eq!(link.connections_max, 4, "{link:?}");
}
