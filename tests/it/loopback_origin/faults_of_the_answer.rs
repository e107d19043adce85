//! Shows each fault of status, headers, ranges and redirects.

use std::time::{Duration, Instant};

use kops_mirror::loopback::origin::{Content, Expiry, Fault, File, Origin, When};

use super::{LENGTH, ask, bytes, origin};
use crate::support::wire::{Ending, Wire};

const RANGE: &[&str] = &["Range: bytes=1000-1999"];

async fn statuses(origin: &Origin, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(ask(origin, &[]).await.head().await.status);
    }
    statuses
}

#[tokio::test]
async fn faults_come_as_often_as_ordered() {
    let origin = origin().await;
    for (when, expected) in [
        (When::Once, [503, 200, 200, 200]),
        (When::Times(2), [503, 503, 200, 200]),
        (When::Nth(3), [200, 200, 503, 200]),
        (When::From(3), [200, 200, 503, 503]),
        (When::Always, [503, 503, 503, 503]),
    ] {
        origin.order("/fi*", when, Fault::status(503));
        assert_eq!(statuses(&origin, 4).await, expected, "{when:?}");
        origin.recover();
    }
}

#[tokio::test]
async fn errors_have_their_status_and_retry_after_and_keep_the_connection() {
    let origin = origin().await;
    for code in [403, 404, 500, 503] {
        origin.order("/file", When::Once, Fault::status(code));
        assert_eq!(statuses(&origin, 2).await, [code, 200]);
    }
    let fault = Fault::Status {
        code: 429,
        retry_after: Some("7".to_owned()),
    };
    origin.order("/file", When::Once, fault);
    let mut wire = ask(&origin, &[]).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("retry-after")), (429, Some("7")));
    wire.body(head.header("content-length").unwrap().parse().unwrap())
        .await;
    wire.send("GET", "/file", &[]).await;
    assert_eq!(wire.head().await.status, 200);
    assert_eq!(origin.log().requests("/file").last().unwrap().connection, 9);
}

#[tokio::test]
async fn an_error_page_comes_with_status_200() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::HtmlPage);
    let mut wire = ask(&origin, RANGE).await;
    let head = wire.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let body = wire
        .body(head.header("content-length").unwrap().parse().unwrap())
        .await;
    assert!(body.starts_with(b"<!DOCTYPE html>"));
    // No byte of the file was sent.
    assert_eq!(origin.log().bytes_sent("/file"), 0);
}

#[tokio::test]
async fn the_first_byte_comes_late() {
    let origin = origin().await;
    let pause = Duration::from_millis(200);
    origin.order("/file", When::Once, Fault::SlowFirstByte(pause));
    let started = Instant::now();
    ask(&origin, &[]).await.head().await;
    assert!(started.elapsed() >= pause);
}

#[tokio::test]
async fn a_range_is_ignored() {
    let origin = origin().await;
    origin.order("/file", When::Once, Fault::IgnoreRange);
    // A request without a range is no occasion for it.
    assert_eq!(ask(&origin, &[]).await.head().await.status, 200);
    let mut wire = ask(&origin, RANGE).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("content-range")), (200, None));
    assert_eq!(wire.body(300_000).await, bytes(0..LENGTH));
    assert_eq!(ask(&origin, RANGE).await.head().await.status, 206);
}

#[tokio::test]
async fn another_range_than_asked_is_answered_honestly() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::ShiftRange(500));
    let mut wire = ask(&origin, RANGE).await;
    let head = wire.head().await;
    assert_eq!(head.status, 206);
    assert_eq!(head.header("content-range"), Some("bytes 1500-2499/300000"));
    assert_eq!(wire.body(1000).await, bytes(1500..2500));
    assert_eq!(origin.log().ranges_sent("/file"), [1500..2500]);
}

#[tokio::test]
async fn another_files_range_is_answered() {
    let origin = origin().await;
    let other = Content::generated(43, 250_000);
    origin.publish("/other", other.clone());
    origin.order("/file", When::Always, Fault::OtherFile("/other".to_owned()));
    let mut wire = ask(&origin, RANGE).await;
    let head = wire.head().await;
    assert_eq!(head.header("content-range"), Some("bytes 1000-1999/250000"));
    assert_eq!(wire.body(1000).await, other.read(1000..2000));
}

#[tokio::test]
async fn content_range_tells_a_wrong_total_or_is_missing() {
    let origin = origin().await;
    origin.order("/file", When::Nth(1), Fault::WrongTotal(77));
    origin.order("/file", When::Nth(2), Fault::NoContentRange);
    for expected in [Some("bytes 1000-1999/77"), None] {
        let mut wire = ask(&origin, RANGE).await;
        let head = wire.head().await;
        assert_eq!((head.status, head.header("content-range")), (206, expected));
        assert_eq!(wire.body(1000).await, bytes(1000..2000));
    }
}

#[tokio::test]
async fn a_file_becomes_another_one_in_the_middle() {
    let origin = origin().await;
    let changed = File::generated(99, LENGTH);
    origin.order("/file", When::From(2), Fault::Changed(changed.clone()));
    let mut wire = ask(&origin, RANGE).await;
    let etag = wire.head().await.header("etag").unwrap().to_owned();

    let mut wire = ask(&origin, RANGE).await;
    let head = wire.head().await;
    assert_ne!(head.header("etag"), Some(etag.as_str()));
    assert_eq!(wire.body(1000).await, changed.content.read(1000..2000));

    let condition = format!("If-Range: {etag}");
    let mut wire = ask(&origin, &[RANGE[0], &condition]).await;
    assert_eq!(wire.head().await.status, 200);
}

#[tokio::test]
async fn a_signed_url_is_good_for_so_many_uses_on_its_own_port() {
    let origin = origin().await;
    let expiry = Expiry {
        uses: Some(2),
        after: None,
    };
    origin.order("/file", When::Always, Fault::RedirectSigned(expiry));
    let head = ask(&origin, RANGE).await.head().await;
    assert_eq!(head.status, 302);
    let location = head.header("location").unwrap();
    let (base, target) = location.split_at(location.find("/file").unwrap());
    assert_eq!(base, format!("http://{}", origin.signed_address()));
    assert_ne!(origin.signed_address(), origin.address());

    let mut statuses = Vec::new();
    for target in [
        target,
        target,
        target,
        "/file",
        "/file?X-Amz-Signature=guess",
    ] {
        let mut wire = Wire::connect(origin.signed_address()).await;
        wire.send("GET", target, RANGE).await;
        statuses.push(wire.head().await.status);
    }
    assert_eq!(statuses, [206, 206, 403, 403, 403]);
    assert_eq!(origin.log().ranges_sent("/file"), [1000..2000, 1000..2000]);
}

#[tokio::test]
async fn a_signed_url_expires_and_a_new_one_is_good() {
    let origin = origin().await;
    let expiry = Expiry {
        uses: None,
        after: Some(Duration::from_millis(300)),
    };
    origin.order("/file", When::Always, Fault::RedirectSigned(expiry));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(origin.url("/file")).send().await.unwrap();
    let signed = answer.url().clone();
    assert_eq!(answer.bytes().await.unwrap(), bytes(0..LENGTH));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(client.get(signed).send().await.unwrap().status(), 403);
    let again = client.get(origin.url("/file")).send().await.unwrap();
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn a_redirect_leads_anywhere() {
    let origin = origin().await;
    let url = origin.url("/elsewhere").to_string();
    origin.order("/file", When::Always, Fault::RedirectTo(url.clone()));
    let head = ask(&origin, &[]).await.head().await;
    assert_eq!(
        (head.status, head.header("location")),
        (302, Some(url.as_str()))
    );
}

#[tokio::test]
async fn faults_that_befall_one_answer_add_up() {
    let origin = origin().await;
    origin.order("/file", When::Once, Fault::IgnoreRange);
    origin.order("/file", When::Once, Fault::Corrupt(5));
    origin.order("/file", When::Once, Fault::cut(10));
    let mut wire = ask(&origin, &["Range: bytes=4-20"]).await;
    assert_eq!(wire.head().await.status, 200);
    let mut expected = bytes(0..10);
    expected[5] ^= 0xff;
    assert_eq!(wire.rest().await, (expected, Ending::Closed));
}
