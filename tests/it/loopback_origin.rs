//! Shows that the loopback origin is right when nothing is ordered.

use std::time::Duration;

use kops_mirror::loopback::origin::{Content, File, Origin};

use crate::support::tls::TlsFront;
use crate::support::wire::Wire;

mod faults_of_the_answer;
mod faults_of_the_body;
mod faults_of_the_connection;

const LENGTH: u64 = 300_000;

fn content() -> Content {
    Content::generated(42, LENGTH)
}

/// An origin with one generated file at `/file`.
async fn origin() -> Origin {
    let origin = Origin::start().unwrap();
    origin.publish("/file", content());
    origin
}

/// Asks for `/file` on a new connection.
async fn ask(origin: &Origin, headers: &[&str]) -> Wire {
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("GET", "/file", headers).await;
    wire
}

fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    content().read(range).to_vec()
}

#[tokio::test]
async fn serves_whole_files_over_one_kept_connection() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    for _ in 0..3 {
        wire.send("GET", "/file", &[]).await;
        let head = wire.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some("300000"));
        assert_eq!(head.header("accept-ranges"), Some("bytes"));
        assert_eq!(
            head.header("content-type"),
            Some("application/octet-stream")
        );
        assert_eq!(wire.body(300_000).await, bytes(0..LENGTH));
    }
    assert_eq!(origin.log().connections().total, 1);
    assert_eq!(origin.log().requests("/file").len(), 3);
}

/// Linux has all of 127.0.0.0/8 on its loopback interface, others one address.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn serves_on_the_address_that_it_is_given() {
    let address = std::net::Ipv4Addr::new(127, 0, 0, 2);
    let origin = Origin::start_on(address).unwrap();
    origin.publish("/file", content());
    assert_eq!(origin.address().ip(), address);
    assert_eq!(origin.signed_address().ip(), address);
    assert_eq!(ask(&origin, &[]).await.head().await.status, 200);
}

#[tokio::test]
async fn serves_each_form_of_range_exactly() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    for (asked, range) in [
        ("0-0", 0..1),
        ("4095-8192", 4095..8193),
        ("299999-", 299_999..LENGTH),
        ("299990-400000", 299_990..LENGTH),
        ("-5", 299_995..LENGTH),
        ("-999999", 0..LENGTH),
    ] {
        wire.send("GET", "/file", &[&format!("Range: bytes={asked}")])
            .await;
        let head = wire.head().await;
        assert_eq!(head.status, 206, "{asked}");
        let expected = format!("bytes {}-{}/300000", range.start, range.end - 1);
        assert_eq!(head.header("content-range"), Some(expected.as_str()));
        let length = range.end - range.start;
        assert_eq!(
            head.header("content-length"),
            Some(length.to_string().as_str())
        );
        let body = wire.body(usize::try_from(length).unwrap()).await;
        assert_eq!(body, bytes(range), "{asked}");
    }
}

#[tokio::test]
async fn refuses_ranges_beyond_the_end_and_ignores_those_that_are_none() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("GET", "/file", &["Range: bytes=300000-"]).await;
    let head = wire.head().await;
    assert_eq!(head.status, 416);
    assert_eq!(head.header("content-range"), Some("bytes */300000"));
    let length = head.header("content-length").unwrap().parse().unwrap();
    wire.body(length).await;

    wire.send("GET", "/file", &["Range: bytes=0-1,5-6"]).await;
    assert_eq!(wire.head().await.status, 200);
}

#[tokio::test]
async fn head_tells_the_same_without_a_body() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("HEAD", "/file", &[]).await;
    assert_eq!(wire.head().await.header("content-length"), Some("300000"));
    // Were there a body, it would be read as the next head.
    wire.send("HEAD", "/none", &[]).await;
    assert_eq!(wire.head().await.status, 404);
    assert_eq!(origin.log().bytes_sent("/file"), 0);
}

#[tokio::test]
async fn conditions_are_judged_by_a_strong_etag() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("HEAD", "/file", &[]).await;
    let etag = wire.head().await.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    for (condition, status) in [
        (format!("If-Match: {etag}"), 206),
        ("If-Match: \"other\"".to_owned(), 412),
        (format!("If-None-Match: {etag}"), 304),
        ("If-None-Match: \"other\"".to_owned(), 206),
        (format!("If-Range: {etag}"), 206),
        ("If-Range: \"other\"".to_owned(), 200),
        (format!("If-Range: W/{etag}"), 200),
    ] {
        let mut wire = ask(&origin, &["Range: bytes=0-9", &condition]).await;
        assert_eq!(wire.head().await.status, status, "{condition}");
    }
}

#[tokio::test]
async fn hash_headers_are_those_of_the_content() {
    let origin = Origin::start().unwrap();
    let file = File::new("hello world").with_md5_etag().with_goog_hash();
    origin.publish("/hello", file);
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("HEAD", "/hello", &[]).await;
    let head = wire.head().await;
    assert_eq!(
        head.header("etag"),
        Some("\"5eb63bbbe01eeed093cb22bb8f5acdc3\"")
    );
    // As Google's documentation and tools give them for this text.
    let hashes: Vec<&str> = head.all("x-goog-hash").collect();
    assert_eq!(hashes, ["crc32c=yZRlqg==", "md5=XrY7u+Ae7tCTyyK7j1rNww=="]);
}

#[tokio::test]
async fn the_log_tells_what_was_sent_and_what_was_sent_twice() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    for range in ["0-99", "100-199", "150-159"] {
        wire.send("GET", "/file", &[&format!("Range: bytes={range}")])
            .await;
        let length = wire
            .head()
            .await
            .header("content-length")
            .unwrap()
            .parse()
            .unwrap();
        wire.body(length).await;
    }
    let log = origin.log();
    assert_eq!(log.ranges_sent("/file"), [0..100, 100..200, 150..160]);
    assert_eq!(log.bytes_sent("/file"), 210);
    assert_eq!(log.served_twice("/file"), [150..160]);
    assert_eq!(log.paths().into_iter().collect::<Vec<_>>(), ["/file"]);
    let last = log.requests("/file").pop().unwrap();
    assert_eq!(last.header("range"), Some("bytes=150-159"));
    assert_eq!(
        (last.status, last.complete, last.connection),
        (206, true, 1)
    );
}

#[tokio::test]
async fn counts_open_connections_and_their_peak() {
    let origin = origin().await;
    let mut wires = Vec::new();
    for _ in 0..4 {
        wires.push(Wire::connect(origin.address()).await);
    }
    let log = origin.log();
    let limit = Duration::from_secs(5);
    let four = log.until(|log| log.connections().open == 4);
    tokio::time::timeout(limit, four).await.unwrap();
    drop(wires);
    let none = log.until(|log| log.connections().open == 0);
    tokio::time::timeout(limit, none).await.unwrap();
    let connections = log.connections();
    assert_eq!((connections.peak, connections.total), (4, 4));
}

#[tokio::test]
async fn serves_as_an_http_proxy_for_the_hosts_that_it_plays() {
    let origin = Origin::start().unwrap();
    origin.publish("/dl.k8s.io/release/stable.txt", File::text("v1.34.8"));
    let proxy = reqwest::Proxy::http(origin.url("/")).unwrap();
    let client = reqwest::Client::builder().proxy(proxy).build().unwrap();
    let answer = client
        .get("http://dl.k8s.io/release/stable.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "v1.34.8");
}

#[tokio::test]
async fn a_tls_front_is_trusted_for_its_own_names_only() {
    let origin = origin().await;
    let fetch = async |front: &TlsFront| {
        let root = reqwest::Certificate::from_pem(front.certificate_pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        client.build().unwrap().get(front.url("/file")).send().await
    };
    let right = TlsFront::start(origin.address(), &["127.0.0.1"]).await;
    let body = fetch(&right).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, bytes(0..LENGTH));

    let wrong = TlsFront::start(origin.address(), &["dl.k8s.example"]).await;
    assert!(fetch(&wrong).await.unwrap_err().is_connect());
    assert_eq!(origin.log().requests("/file").len(), 1);
}
