//! Measures loopback links with the real program: what it costs, what it finds, and that it leaves nothing.

use std::process::{Command, Output};
use std::time::Duration;

use kops_mirror::config::{Config, Environment, Layer};
use kops_mirror::loopback::origin::{Fault, File, Origin, When};
use kops_mirror::loopback::s3::{Fault as S3Fault, Trouble};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::list::{Desk, told};
use crate::support::program::{Running, at_bucket, finish, program};

/// What a connection has in its buffers when it is dropped, at most: loopback's are large.
const IN_SOCKETS: u64 = 1 << 20;

const KIB: u64 = 1 << 10;

fn bench(home: &TempDir, flags: &[&str]) -> Command {
    let mut command = program(home.path());
    command.arg("bench").args(flags);
    command
}

fn bench_store(home: &TempDir, server: &BucketServer, flags: &[&str]) -> Command {
    let mut command = bench(home, &["--only", "store", "--connections", "4"]);
    at_bucket(&mut command, server);
    command.args(["--congestion", "system"]).args(flags);
    command
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn connections(end: &Value) -> Vec<u64> {
    let readings = end["readings"].as_array().unwrap();
    let connections = readings.iter().map(|it| it["connections"].as_u64());
    connections.map(Option::unwrap).collect()
}

/// The files that a bench puts, by the bucket's own memory of them.
fn put(server: &BucketServer) -> Vec<String> {
    let commits = server.bucket().commits().into_iter();
    commits.filter(|key| key.contains(".bench")).collect()
}

#[tokio::test]
async fn it_reads_every_number_of_connections_and_keeps_to_its_budget() {
    let origin = Origin::start().unwrap();
    origin.publish("/large", File::generated(1, 64_000_000));
    let home = TempDir::new().unwrap();
    let url = origin.url("/large");
    let flags = ["--url", url.as_str(), "--budget", "2MiB", "-o", "json"];
    let output = finish(bench(
        &home,
        &[&flags[..], &["--connections", "8"]].concat(),
    ))
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    let end = &document["measured"][0];
    assert_eq!(connections(end), [1, 2, 4, 8]);
    let measured = end["bytes"].as_u64().unwrap();
    let sent = origin.log().bytes_sent("/large");
    assert!(
        (1 << 20..=2 * KIB * KIB + 8 * 64 * KIB).contains(&measured),
        "{measured}"
    );
    assert!(sent <= measured + 8 * IN_SOCKETS, "{sent} of {measured}");
    assert!(origin.log().connections().peak >= 8);
    assert!(!home.path().join(".cache").exists(), "nothing is kept");
}

#[tokio::test]
async fn its_settings_can_be_pasted_into_a_file() {
    let origin = Origin::start().unwrap();
    origin.publish("/large", File::generated(1, 8_000_000));
    let home = TempDir::new().unwrap();
    let server = BucketServer::start();
    let url = origin.url("/large");
    let mut command = bench(
        &home,
        &["--url", url.as_str(), "--budget", "4MiB", "-o", "json"],
    );
    at_bucket(&mut command, &server);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    assert!(document["measured"].as_array().unwrap().len() >= 2);
    let settings = document["advice"]["settings"].as_str().unwrap();
    let file = home.path().join("mirror.toml");
    std::fs::write(&file, settings).unwrap();
    let config = Config::load(Some(&file), &Environment::default(), Layer::default()).unwrap();
    let advised =
        &document["advice"]["hosts"]["127.0.0.1:".to_owned() + &url.port().unwrap().to_string()];
    let connections = config.fetch.connections.get() as u64;
    assert_eq!(advised["connections"], connections, "{settings}");
    assert!(settings.contains("publish = "), "{settings}");
}

#[tokio::test]
async fn every_host_of_a_release_is_measured_by_its_largest_file() {
    let mut desk = Desk::new();
    desk.publish("https://far.test/small", File::generated(1, 1_100_000));
    desk.publish("https://far.test/large", File::generated(2, 3_000_000));
    desk.publish("https://tiny.test/sums", File::generated(3, 1000));
    let (far, tiny) = (desk.origin_of("far.test"), desk.origin_of("tiny.test"));
    let flags = [&far[0], &far[1], &tiny[0], &tiny[1]].map(String::as_str);
    let more = ["--budget", "1MiB", "--connections", "2", "-v", "-o", "json"];
    let output = desk.run("bench", &[&flags[..], &more].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    let measured = document["measured"].as_array().unwrap();
    assert_eq!(measured.len(), 1, "{document}");
    assert_eq!(measured[0]["host"], "far.test");
    assert!(told(&output).contains("tiny.test has no file of 1 MiB or more"));
    let log = desk.origin.log();
    assert!(log.bytes_sent("/far.test/large") > 0);
    assert_eq!(
        log.bytes_sent("/far.test/small") + log.bytes_sent("/tiny.test/sums"),
        0
    );
    assert_eq!(document["advice"]["release"]["bytes"], 4_101_000);
}

#[tokio::test]
async fn a_host_that_fails_stops_no_other_and_is_told_with_its_reason() {
    let mut desk = Desk::new();
    desk.publish("https://far.test/a", File::generated(1, 3_000_000));
    desk.publish("https://gone.test/b", File::generated(2, 3_000_000));
    desk.origin.withdraw("/gone.test/b");
    let (far, gone) = (desk.origin_of("far.test"), desk.origin_of("gone.test"));
    // Two servers, as far as anybody can tell.
    let gone = gone[1].replace("127.0.0.1", "localhost");
    let flags = [
        &far[0],
        &far[1],
        "--origin",
        &gone,
        "--budget",
        "1MiB",
        "--connections",
        "2",
    ];
    let output = desk.run("bench", &flags).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let table = text(&output);
    let failure = table
        .lines()
        .find(|line| line.contains("failed: "))
        .unwrap();
    assert!(failure.contains("/gone.test/b answered 404"), "{table}");
    assert!(table.contains("far.test: "), "{table}");
}

#[tokio::test]
async fn a_host_that_wants_no_more_connections_is_not_pressed() {
    let origin = Origin::start().unwrap();
    origin.publish("/large", File::generated(1, 8_000_000));
    // One request for the length, and one for each of the first two connections.
    origin.order("/large", When::From(4), Fault::status(429));
    origin.order("/large", When::Always, Fault::Rate(400_000));
    let home = TempDir::new().unwrap();
    let url = origin.url("/large");
    let flags = ["--url", url.as_str(), "--seconds", "1", "-o", "json"];
    let output = finish(bench(&home, &flags)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    let end = &document["measured"][0];
    assert_eq!(connections(end), [1, 2, 4], "{end}");
    assert!(end["ended"].as_str().unwrap().contains("429"), "{end}");
}

#[tokio::test]
async fn what_is_silent_and_what_breaks_is_counted() {
    let origin = Origin::start().unwrap();
    origin.publish("/large", File::generated(1, 8_000_000));
    let silence = Fault::Stall {
        after: 1000,
        time: Some(Duration::from_millis(1500)),
    };
    origin.order("/large", When::Nth(1), silence);
    origin.order("/large", When::Nth(1), Fault::cut(2000));
    let home = TempDir::new().unwrap();
    let url = origin.url("/large");
    let flags = [
        "--url",
        url.as_str(),
        "--connections",
        "1",
        "--budget",
        "4MiB",
        "-o",
        "json",
    ];
    let output = finish(bench(&home, &flags)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let end = &document(&output)["measured"][0];
    assert!(end["broke"].as_str().unwrap().contains("broke"), "{end}");
    let reading = &end["readings"][0];
    assert_eq!(
        (&reading["silences"], &reading["breaks"]),
        (&1.into(), &1.into()),
        "{reading}"
    );
}

#[tokio::test]
async fn nothing_stays_in_the_bucket() {
    let server = BucketServer::start();
    server
        .bucket()
        .insert(&format!("{PREFIX}/kubelet"), "theirs");
    let home = TempDir::new().unwrap();
    let output = finish(bench_store(
        &home,
        &server,
        &["--budget", "2MiB", "-o", "json"],
    ))
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    let end = &document["measured"][0];
    assert_eq!(connections(end), [1, 2, 4]);
    let put = put(&server);
    let puts = server.0.log().of("PutObject");
    let sent: u64 = puts.iter().map(|it| it.body_bytes).sum();
    assert!((1 << 20..=2 << 20).contains(&sent), "{sent}");
    let folder = format!("{PREFIX}/.bench/");
    assert!(put.iter().all(|key| key.starts_with(&folder)), "{put:?}");
    assert_eq!(server.bucket().keys(), [format!("{PREFIX}/kubelet")]);
}

#[tokio::test]
async fn each_congestion_control_that_can_be_chosen_is_measured() {
    let proc = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let Ok(system) = proc("tcp_congestion_control") else {
        return; // Another system than Linux: there is no choice.
    };
    let allowed = proc("tcp_allowed_congestion_control").unwrap();
    let mut wanted = vec![system.trim()];
    wanted.extend(allowed.split_whitespace().filter(|name| *name != "reno"));
    let server = BucketServer::start();
    let home = TempDir::new().unwrap();
    let flags = ["--only", "store", "--connections", "2", "--budget", "2MiB"];
    let mut command = bench(&home, &[&flags[..], &["-o", "json"]].concat());
    at_bucket(&mut command, &server);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let document = document(&output);
    let ends = document["measured"].as_array().unwrap();
    let measured: Vec<&str> = ends
        .iter()
        .map(|end| end["congestion"].as_str().unwrap())
        .collect();
    for name in &wanted {
        let count = measured.iter().filter(|it| *it == name).count();
        assert_eq!(count, 1, "{name} of {measured:?}");
    }
    assert_eq!(measured[0], wanted[0], "the system's own is the first");
    assert_eq!(server.bucket().keys(), [""; 0]);
}

#[tokio::test]
async fn nothing_stays_after_an_error_in_the_middle() {
    let server = BucketServer::start();
    let denied = S3Fault::access_denied().on("PutObject").key("*/000005");
    server.0.faults().order(denied);
    let home = TempDir::new().unwrap();
    let output = finish(bench_store(&home, &server, &["--budget", "4MiB"])).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(text(&output).contains("failed: can't put s3://mirror/k8s/.bench/"));
    assert!(put(&server).len() >= 5, "{:?}", put(&server));
    assert_eq!(server.bucket().keys(), [""; 0]);
}

#[tokio::test]
async fn what_can_not_be_removed_is_named() {
    let server = BucketServer::start();
    let denied = S3Fault::access_denied().on("DeleteObject").key("*/000002");
    server.0.faults().order(denied.always());
    let home = TempDir::new().unwrap();
    let output = finish(bench_store(&home, &server, &["--budget", "2MiB"])).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let left = server.bucket().keys();
    assert_eq!(left.len(), 1, "{left:?}");
    let line = format!("left behind: can't remove s3://mirror/{}", left[0]);
    assert_eq!(text(&output).matches(&line).count(), 1, "{}", text(&output));
}

/// Interrupts a bench while this many puts are under way.
async fn interrupted(server: &BucketServer, trouble: Trouble) -> Output {
    let puts = S3Fault::new(trouble).on("PutObject").always();
    server.0.faults().order(puts);
    let home = TempDir::new().unwrap();
    let running = Running::start(bench_store(&home, server, &["--seconds", "1"]));
    let is_under_way = || {
        let puts = server.0.log().under_way();
        puts.iter().filter(|it| it.operation == "PutObject").count() >= 2
    };
    while !is_under_way() {
        sleep(Duration::from_millis(5)).await;
    }
    running.signal(Signal::INT);
    running.ended().await.0
}

#[tokio::test]
async fn nothing_stays_after_an_interrupt() {
    let server = BucketServer::start();
    let late = Trouble::Late(Duration::from_millis(300));
    let output = interrupted(&server, late).await;
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    assert!(!put(&server).is_empty());
    assert_eq!(server.bucket().keys(), [""; 0]);
    assert!(
        told(&output).contains("so that nothing stays there"),
        "{}",
        told(&output)
    );
    assert!(text(&output).contains("Interrupted"), "{}", text(&output));
}

#[tokio::test]
async fn what_is_given_up_on_its_way_does_not_arrive_after_all() {
    let server = BucketServer::start();
    // The server is still reading what the sockets hold when nobody waits for its answer any more.
    let slow = Trouble::Slow {
        bytes_per_second: 40_000,
    };
    let output = interrupted(&server, slow).await;
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !server.0.log().under_way().is_empty() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the server is still reading"
        );
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.bucket().keys(), [""; 0]);
}

#[tokio::test]
async fn what_a_killed_run_left_long_ago_is_removed_and_what_another_run_has_is_not() {
    let server = BucketServer::start();
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = |second: u64| format!("{PREFIX}/.bench/{second}-0a1b2c3d/000000");
    let (old, new) = (key(seconds - 24 * 3600), key(seconds - 60));
    server.bucket().insert(&old, "noise");
    server.bucket().insert(&new, "noise");
    let home = TempDir::new().unwrap();
    let output = finish(bench_store(&home, &server, &["--budget", "1MiB"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(server.bucket().keys(), [new]);
}

#[tokio::test]
async fn the_picture_is_well_formed_and_has_a_line_for_each_end() {
    let origin = Origin::start().unwrap();
    origin.publish("/a<&>b", File::generated(1, 3_000_000));
    let home = TempDir::new().unwrap();
    let picture = home.path().join("link.svg");
    let url = origin.url("/a<&>b");
    let flags = [
        "--url",
        url.as_str(),
        "--budget",
        "1MiB",
        "--connections",
        "4",
    ];
    let svg = ["--svg", picture.to_str().unwrap()];
    let output = finish(bench(&home, &[&flags[..], &svg].concat())).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let picture = std::fs::read_to_string(picture).unwrap();
    let mut reader = quick_xml::Reader::from_str(&picture);
    let mut lines = 0;
    let mut texts = String::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Empty(it) if it.name().as_ref() == b"polyline" => lines += 1,
            quick_xml::events::Event::Text(text) => texts += &text.decode().unwrap(),
            _ => {}
        }
    }
    assert!(lines > 0, "{picture}");
    for word in ["Mbit/s", "connections", "127.0.0.1"] {
        assert!(texts.contains(word), "{word}: {texts}");
    }
}

#[tokio::test]
async fn a_picture_that_has_no_place_is_refused_before_anything_is_measured() {
    let origin = Origin::start().unwrap();
    origin.publish("/large", File::generated(1, 3_000_000));
    let home = TempDir::new().unwrap();
    let url = origin.url("/large");
    let flags = ["--url", url.as_str(), "--svg", "/nowhere/link.svg"];
    let output = finish(bench(&home, &flags)).await;
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("can't write /nowhere/link.svg"));
    assert!(origin.log().exchanges().is_empty());
}
