//! Shows each fault that happens while a body is written.

use std::time::{Duration, Instant};

use kops_mirror::loopback::origin::{End, Fault, When};

use super::{LENGTH, ask, bytes, content, origin};
use crate::support::wire::{Ending, Wire};

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    for after in [0, 1, 4096, 150_001, LENGTH - 1] {
        let origin = origin().await;
        origin.order("/file", When::Once, Fault::cut(after));
        let mut wire = ask(&origin, &[]).await;
        assert_eq!(wire.head().await.header("content-length"), Some("300000"));
        assert_eq!(wire.rest().await, (bytes(0..after), Ending::Closed));
        assert_eq!(origin.log().bytes_sent("/file"), after);
        assert!(!origin.log().requests("/file")[0].complete);
    }
}

#[tokio::test]
async fn a_cut_waits_for_a_body_that_is_long_enough() {
    let origin = origin().await;
    origin.order("/file", When::Once, Fault::cut(1000));
    let mut wire = ask(&origin, &["Range: bytes=0-999"]).await;
    wire.head().await;
    assert_eq!(wire.body(1000).await, bytes(0..1000));
    let mut wire = ask(&origin, &["Range: bytes=1000-2000"]).await;
    wire.head().await;
    assert_eq!(wire.rest().await, (bytes(1000..2000), Ending::Closed));
}

#[tokio::test]
async fn a_reset_is_a_reset_after_exactly_so_many_bytes() {
    let origin = origin().await;
    let end = End::Reset;
    origin.order("/file", When::Once, Fault::Cut { after: 5000, end });
    let mut wire = ask(&origin, &[]).await;
    wire.head().await;
    assert_eq!(wire.rest().await, (bytes(0..5000), Ending::Reset));
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_goes() {
    let origin = origin().await;
    let fault = Fault::Stall {
        after: 5000,
        time: None,
    };
    origin.order("/file", When::Once, fault);
    let mut wire = ask(&origin, &[]).await;
    wire.head().await;
    let silence = Duration::from_millis(300);
    assert_eq!(
        wire.rest_for(silence).await,
        (bytes(0..5000), Ending::Silent)
    );
    drop(wire);
    let gone = origin.log().until(|log| log.connections().open == 0);
    tokio::time::timeout(Duration::from_secs(5), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stall_for_a_time_goes_on_afterwards() {
    let origin = origin().await;
    let time = Duration::from_millis(200);
    let fault = Fault::Stall {
        after: 5000,
        time: Some(time),
    };
    origin.order("/file", When::Once, fault);
    let mut wire = ask(&origin, &[]).await;
    wire.head().await;
    let started = Instant::now();
    assert_eq!(wire.body(5000).await, bytes(0..5000));
    assert!(started.elapsed() < time);
    assert_eq!(wire.body(295_000).await, bytes(5000..LENGTH));
    assert!(started.elapsed() >= time);
}

#[tokio::test]
async fn a_trickle_gives_a_few_bytes_at_a_time() {
    let origin = origin().await;
    let every = Duration::from_millis(50);
    origin.order("/file", When::Always, Fault::Trickle { bytes: 10, every });
    let started = Instant::now();
    let mut wire = ask(&origin, &["Range: bytes=0-49"]).await;
    wire.head().await;
    assert_eq!(wire.body(50).await, bytes(0..50));
    // Five steps, the first at once.
    let took = started.elapsed();
    assert!(took >= every * 4 && took < every * 20, "{took:?}");
}

#[tokio::test]
async fn a_rate_limit_holds_for_each_connection() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::Rate(600_000));
    let started = Instant::now();
    let one = async {
        let mut wire = ask(&origin, &[]).await;
        wire.head().await;
        assert_eq!(wire.body(300_000).await, bytes(0..LENGTH));
    };
    let other = async {
        let mut wire = ask(&origin, &[]).await;
        wire.head().await;
        wire.body(300_000).await;
    };
    tokio::join!(one, other);
    let took = started.elapsed().as_secs_f64();
    assert!(
        (0.4..0.9).contains(&took),
        "half a second each, at once: {took}"
    );
}

#[tokio::test]
async fn a_body_ends_before_its_length() {
    let origin = origin().await;
    origin.order("/file", When::Once, Fault::Shorter(7));
    let mut wire = ask(&origin, &["Range: bytes=0-99"]).await;
    assert_eq!(wire.head().await.header("content-length"), Some("100"));
    assert_eq!(wire.rest().await, (bytes(0..93), Ending::Closed));
}

#[tokio::test]
async fn a_body_and_its_length_are_longer_than_the_file() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::Longer(10));
    let mut wire = ask(&origin, &[]).await;
    assert_eq!(wire.head().await.header("content-length"), Some("300010"));
    let body = wire.body(300_010).await;
    assert_eq!(body[..300_000], bytes(0..LENGTH));
    wire.send("GET", "/file", &["Range: bytes=5-9"]).await;
    let head = wire.head().await;
    assert_eq!(head.header("content-range"), Some("bytes 5-9/300000"));
    assert_eq!(head.header("content-length"), Some("15"));
}

#[tokio::test]
async fn one_byte_is_corrupt_wherever_it_is_asked_for() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::Corrupt(200_000));
    let mut expected = bytes(0..LENGTH);
    expected[200_000] ^= 0xff;
    for (range, first, last) in [
        ("0-", 0, 299_999),
        ("200000-200000", 200_000, 200_000),
        ("199999-250000", 199_999, 250_000),
        ("0-199999", 0, 199_999),
    ] {
        let mut wire = ask(&origin, &[&format!("Range: bytes={range}")]).await;
        wire.head().await;
        let body = wire.body(last - first + 1).await;
        assert!(body == expected[first..=last], "{range}");
    }
}

#[tokio::test]
async fn a_length_may_be_missing() {
    let origin = origin().await;
    origin.order("/file", When::Nth(1), Fault::CloseDelimited);
    let mut wire = ask(&origin, &[]).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert_eq!(wire.rest().await, (bytes(0..LENGTH), Ending::Closed));

    origin.order("/file", When::Always, Fault::Chunked);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(origin.url("/file")).send().await.unwrap();
    assert_eq!(answer.content_length(), None);
    assert_eq!(answer.headers()["transfer-encoding"], "chunked");
    assert_eq!(answer.bytes().await.unwrap(), bytes(0..LENGTH));
}

#[tokio::test]
async fn a_cut_in_chunks_is_seen_as_a_cut() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::Chunked);
    origin.order("/file", When::Always, Fault::cut(5000));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(origin.url("/file")).send().await.unwrap();
    assert!(answer.bytes().await.is_err());
    assert_eq!(origin.log().bytes_sent("/file"), 5000);
}

#[tokio::test]
async fn huge_files_are_served_from_a_seed() {
    let origin = origin().await;
    let length = 64 << 30;
    let huge = kops_mirror::loopback::origin::Content::generated(1, length);
    origin.publish("/huge", huge.clone());
    let mut wire = Wire::connect(origin.address()).await;
    let from = length - 100_000;
    wire.send("GET", "/huge", &[&format!("Range: bytes={from}-")])
        .await;
    wire.head().await;
    assert_eq!(wire.body(100_000).await, huge.read(from..length));
    assert_ne!(huge.read(0..4096), content().read(0..4096));
}
