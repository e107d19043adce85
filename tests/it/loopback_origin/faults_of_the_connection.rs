//! Shows each fault that befalls a connection as a whole.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kops_mirror::loopback::origin::{Fault, When};
use tokio::net::TcpStream;

use super::{ask, origin};
use crate::support::wire::{Ending, Wire};

#[tokio::test]
async fn a_connection_ends_without_an_answer() {
    let origin = origin().await;
    origin.order("/file", When::Once, Fault::HangUp);
    let mut wire = ask(&origin, &[]).await;
    assert_eq!(wire.rest().await, (Vec::new(), Ending::Closed));
    assert_eq!(ask(&origin, &[]).await.head().await.status, 200);
    let statuses: Vec<u16> = origin
        .log()
        .requests("/file")
        .iter()
        .map(|e| e.status)
        .collect();
    assert_eq!(statuses[0], 0);
}

#[tokio::test]
async fn connections_are_refused_and_taken_again_on_the_same_port() {
    let origin = origin().await;
    let mut open = Wire::connect(origin.address()).await;
    // Answered once, it is accepted and no longer waits to be.
    open.send("HEAD", "/file", &[]).await;
    open.head().await;
    for _ in 0..3 {
        origin.refuse_connections().await;
        let error = TcpStream::connect(origin.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // What was open stays.
        open.send("HEAD", "/file", &[]).await;
        assert_eq!(open.head().await.status, 200);
        origin.accept_connections().await;
        assert_eq!(ask(&origin, &[]).await.head().await.status, 200);
    }
}

#[tokio::test]
async fn each_connection_is_reset_when_it_is_old() {
    let origin = origin().await;
    origin.order("/file", When::Always, Fault::Rate(100_000));
    let life = Duration::from_millis(300);
    origin.reset_connections_after(Some(life));
    for _ in 0..2 {
        let started = Instant::now();
        let mut wire = ask(&origin, &[]).await;
        wire.head().await;
        let (body, ending) = wire.rest().await;
        assert_eq!(ending, Ending::Reset);
        assert!(body.len() < 100_000, "{} bytes", body.len());
        assert!(started.elapsed() >= life);
    }
}

#[tokio::test]
async fn what_is_not_http_is_hung_up_on() {
    let origin = origin().await;
    let mut wire = Wire::connect(origin.address()).await;
    wire.send("\u{16}\u{3}", "", &[]).await;
    let (answer, _) = wire.rest().await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_dropped_origin_ends_its_connections() {
    let origin = origin().await;
    let mut wire = ask(&origin, &[]).await;
    wire.head().await;
    wire.body(300_000).await;
    drop(origin);
    let (rest, ending) = wire.rest().await;
    assert_eq!(rest, b"");
    assert_ne!(ending, Ending::Silent);
}

#[tokio::test]
async fn the_lot_chooses_the_one_open_connection_that_is_reset() {
    let origin = origin().await;
    assert!(!origin.reset_one(0), "none is open");
    origin.order("/file", When::Always, Fault::Rate(300_000));
    let mut first = ask(&origin, &[]).await;
    first.head().await;
    let mut second = ask(&origin, &[]).await;
    second.head().await;
    // 3 is the second of two.
    assert!(origin.reset_one(3));
    let (body, ending) = second.rest().await;
    assert_eq!(ending, Ending::Reset);
    assert!(body.len() < 300_000, "{} bytes", body.len());
    origin.recover();
    assert_eq!(first.body(300_000).await, super::bytes(0..300_000));
}
