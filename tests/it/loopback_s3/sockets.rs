//! What happens when bodies end early, on raw sockets, and ways of addressing that the SDK does not use here.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::{BUCKET, Rig};

/// How a client leaves before its body is whole.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    Closed,
    Reset,
    HalfClosed,
}

/// Sends all of a presigned put but its last byte, leaves, and returns what was answered.
async fn put_short(rig: &Rig, length: usize, leaving: Leaving) -> String {
    let url = Url::parse(&rig.presigned_put("k").await).unwrap();
    let mut socket = TcpStream::connect(rig.server.address()).await.unwrap();
    let path = &url[url::Position::BeforePath..];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let head = format!("PUT {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&vec![b'n'; length - 1]).await.unwrap();
    let mut answer = String::new();
    match leaving {
        Leaving::Closed => drop(socket),
        Leaving::Reset => {
            socket.set_zero_linger().unwrap();
            drop(socket);
        }
        Leaving::HalfClosed => {
            socket.shutdown().await.unwrap();
            socket.read_to_string(&mut answer).await.unwrap();
        }
    }
    answer
}

#[tokio::test]
async fn an_aborted_put_leaves_nothing_and_keeps_what_was_there() {
    for leaving in [Leaving::Closed, Leaving::Reset, Leaving::HalfClosed] {
        for length in [2_000, 100_000, 3_000_000] {
            for old in [None, Some("old")] {
                let rig = Rig::default();
                if let Some(old) = old {
                    rig.bucket().insert("k", old);
                }
                let answer = put_short(&rig, length, leaving).await;
                if matches!(leaving, Leaving::HalfClosed) {
                    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
                    assert!(answer.contains("IncompleteBody"), "{answer}");
                }
                // The request has ended when it is in the log; only then can it no longer store anything.
                while rig.server.log().count("PutObject") == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let stored = rig.stored("k");
                let expected = old.map(|old| old.as_bytes().to_vec());
                assert_eq!(stored, expected, "{leaving:?} {length}");
                assert!(rig.bucket().commits().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_visible_while_a_body_is_under_way() {
    let rig = Rig::default();
    let url = Url::parse(&rig.presigned_put("k").await).unwrap();
    let mut socket = TcpStream::connect(rig.server.address()).await.unwrap();
    let path = &url[url::Position::BeforePath..];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbod"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.stored("k"), None);
    socket.write_all(b"y").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(rig.stored("k").unwrap(), b"body");
}

#[tokio::test]
async fn a_presigned_url_opens_its_key_and_no_other() {
    let rig = Rig::default();
    let url = rig.presigned_put("k").await;
    let http = reqwest::Client::new();
    let put = |url: String| http.put(url).body("body").send();
    assert_eq!(put(url.clone()).await.unwrap().status(), 200);
    assert_eq!(rig.stored("k").unwrap(), b"body");
    let other = url.replacen("/k?", "/other?", 1);
    assert_eq!(put(other).await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_bucket_is_found_in_the_host_name() {
    let rig = Rig::default();
    let _ = rig.bucket().public_read();
    rig.bucket().insert("a/k", "content");
    for host in [
        format!("{BUCKET}.localhost"),
        format!("{BUCKET}.s3.us-east-1.amazonaws.com"),
    ] {
        let http = reqwest::Client::builder()
            .resolve(&host, rig.server.address())
            .build()
            .unwrap();
        let url = format!("http://{host}:{}/a/k", rig.server.address().port());
        let answer = http.get(url).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "content");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_refused() {
    let rig = Rig::default();
    let url = Url::parse(&rig.presigned_put("k").await).unwrap();
    let body = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("x")]));
    let put = reqwest::Client::new()
        .put(url)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 411);
    assert_eq!(rig.stored("k"), None);
}

/// Linux has all of 127.0.0.0/8 on its loopback interface, others one address.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn serves_on_the_address_that_it_is_given() {
    use kops_mirror::loopback::s3::{LoopbackS3, Options};
    let address = std::net::Ipv4Addr::new(127, 0, 0, 2);
    let server = LoopbackS3::start_on(address, Options::default()).unwrap();
    assert_eq!(server.endpoint().host_str(), Some("127.0.0.2"));
    TcpStream::connect(server.address()).await.unwrap();
}
