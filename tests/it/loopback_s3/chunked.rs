//! The two aws-chunked forms that the SDK does not send over plain HTTP, signed by hand.

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BUCKET, Rig};

const UNSIGNED_WITH_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new().chain_update(block.map(|b| b ^ 0x5c));
    outer.chain_update(inner).finalize().into()
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What signs one request and its chunks.
struct Signer {
    key: [u8; 32],
    access_key: String,
    time: String,
    scope: String,
}

impl Signer {
    fn new(rig: &Rig) -> Self {
        let time = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let (date, region) = (&time[..8], rig.server.region());
        let keys = rig.server.credentials();
        let secret = format!("AWS4{}", keys.secret_key);
        let steps = [date, region, "s3", "aws4_request"];
        let key = steps
            .iter()
            .fold(secret.into_bytes(), |key, step| hmac(&key, step).to_vec());
        Self {
            key: key.try_into().unwrap(),
            access_key: keys.access_key.clone(),
            scope: steps.join("/"),
            time,
        }
    }

    fn sign(&self, what: &str, rest: &str) -> String {
        let text = format!("{what}\n{}\n{}\n{rest}", self.time, self.scope);
        hex::encode(hmac(&self.key, &text))
    }

    fn sign_chunk(&self, before: &str, chunk: &str) -> String {
        let rest = format!("{before}\n{}\n{}", sha256_hex(""), sha256_hex(chunk));
        self.sign("AWS4-HMAC-SHA256-PAYLOAD", &rest)
    }
}

/// Puts a body of this form, made with the signature of the head, and returns the answer.
async fn put(
    rig: &Rig,
    form: &str,
    length: usize,
    body: impl Fn(&Signer, String) -> String,
) -> String {
    let signer = Signer::new(rig);
    let mut headers = vec![
        format!("host:{}", rig.server.address()),
        format!("x-amz-content-sha256:{form}"),
        format!("x-amz-date:{}", signer.time),
        format!("x-amz-decoded-content-length:{length}"),
    ];
    if form == UNSIGNED_WITH_TRAILER {
        headers.push("x-amz-trailer:x-amz-checksum-crc32".to_owned());
    }
    let names: Vec<_> = headers
        .iter()
        .map(|h| h.split_once(':').unwrap().0)
        .collect();
    let names = names.join(";");
    let canonical = format!(
        "PUT\n/{BUCKET}/k\n\n{}\n\n{names}\n{form}",
        headers.join("\n")
    );
    let signature = signer.sign("AWS4-HMAC-SHA256", &sha256_hex(&canonical));
    let (access_key, scope) = (&signer.access_key, &signer.scope);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    let body = body(&signer, signature);
    let head = format!(
        "PUT /{BUCKET}/k HTTP/1.1\r\n{}\r\nauthorization: {authorization}\r\ncontent-encoding: aws-chunked\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        headers.join("\r\n"),
        body.len()
    );
    let mut socket = TcpStream::connect(rig.server.address()).await.unwrap();
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn put_unsigned(rig: &Rig, trailer: &'static str) -> String {
    put(rig, UNSIGNED_WITH_TRAILER, 9, |_, _| {
        format!("4\r\n1234\r\n5\r\n56789\r\n0\r\n{trailer}\r\n")
    })
    .await
}

#[tokio::test]
async fn a_checksum_after_the_body_is_checked_before_anything_is_replaced() {
    let rig = Rig::default();
    rig.bucket().insert("k", "old");
    let wrong = put_unsigned(&rig, "x-amz-checksum-crc32:AAAAAA==\r\n").await;
    assert!(wrong.starts_with("HTTP/1.1 400"), "{wrong}");
    assert!(wrong.contains("BadDigest"), "{wrong}");
    let missing = put_unsigned(&rig, "").await;
    assert!(missing.starts_with("HTTP/1.1 400"), "{missing}");
    assert_eq!(rig.stored("k").unwrap(), b"old");
    // CRC-32 of "123456789" is CBF43926, the check value of every catalogue of CRCs.
    let right = put_unsigned(&rig, "x-amz-checksum-crc32:y/Q5Jg==\r\n").await;
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
    assert_eq!(rig.stored("k").unwrap(), b"123456789");
}

#[tokio::test]
async fn every_chunk_must_be_signed() {
    let rig = Rig::default();
    let body = |sent: &'static str| {
        move |signer: &Signer, seed: String| {
            let first = signer.sign_chunk(&seed, "1234");
            let second = signer.sign_chunk(&first, "56789");
            let end = signer.sign_chunk(&second, "");
            format!(
                "4;chunk-signature={first}\r\n1234\r\n5;chunk-signature={second}\r\n{sent}\r\n0;chunk-signature={end}\r\n\r\n"
            )
        }
    };
    let wrong = put(&rig, SIGNED_CHUNKS, 9, body("56780")).await;
    assert!(wrong.starts_with("HTTP/1.1 403"), "{wrong}");
    assert!(wrong.contains("SignatureDoesNotMatch"), "{wrong}");
    assert_eq!(rig.stored("k"), None);
    let right = put(&rig, SIGNED_CHUNKS, 9, body("56789")).await;
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
    assert_eq!(rig.stored("k").unwrap(), b"123456789");
}

#[tokio::test]
async fn a_chunked_body_that_ends_early_leaves_nothing() {
    let rig = Rig::default();
    let short = put(&rig, UNSIGNED_WITH_TRAILER, 9, |_, _| {
        "4\r\n1234\r\n".to_owned()
    })
    .await;
    assert!(short.starts_with("HTTP/1.1 400"), "{short}");
    assert!(short.contains("IncompleteBody"), "{short}");
    assert_eq!(rig.stored("k"), None);
}
