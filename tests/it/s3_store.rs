//! What the S3 store sends, and what it makes of a server that goes wrong, on the S3 server of the demo.

use std::time::Duration;

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::s3::{Fault, LoopbackS3, Options, Trouble};
use kops_mirror::retry::Class;
use kops_mirror::store::s3::{Keys, S3Options, S3Store};
use kops_mirror::store::{Attributes, Condition, ETag, Store, StoreError, StoreErrorKind};
use kops_mirror::verify::Verified;

use crate::store_contract::{attributes, bytes, key};

fn server() -> LoopbackS3 {
    LoopbackS3::start(Options {
        region: "cn-north-1".to_owned(),
        ..Options::default()
    })
    .unwrap()
}

fn options(server: &LoopbackS3) -> S3Options {
    S3Options {
        endpoint: Some(server.endpoint()),
        region: Some("cn-north-1".to_owned()),
        keys: Some(Keys {
            access_key: server.credentials().access_key.clone(),
            secret_key: server.credentials().secret_key.clone(),
        }),
        ..S3Options::new("mirror", "prefix")
    }
}

async fn store(server: &LoopbackS3) -> S3Store {
    server.bucket("mirror");
    S3Store::connect(options(server)).await.unwrap()
}

async fn put(store: &S3Store, content: &Verified) -> Result<ETag, StoreError> {
    store
        .put(&key("file"), content, &attributes(), &Condition::Any)
        .await
}

#[tokio::test]
async fn a_put_is_one_request_in_the_form_that_every_server_takes() {
    let server = server();
    let store = store(&server).await;
    let content = Verified::composed(bytes(3 << 20, 1));
    let etag = put(&store, &content).await.unwrap();
    assert_eq!(etag, ETag::from(content.digests().md5));
    let all = server.log().all();
    assert_eq!(all.len(), 1, "{all:?}");
    let headers = &all[0].headers;
    assert_eq!(headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
    assert_eq!(all[0].body_bytes, 3 << 20, "no framing");
    assert!(headers.contains_key("content-md5"), "{headers:?}");
    assert!(!headers.contains_key("x-amz-trailer"), "{headers:?}");
    assert!(!headers.contains_key("x-amz-acl"), "{headers:?}");
}

#[tokio::test]
async fn ten_thousand_objects_are_ten_requests() {
    let server = server();
    let store = store(&server).await;
    let bucket = server.bucket("mirror");
    for n in 0..10_000 {
        bucket.insert(&format!("prefix/f{n:05}"), "content");
    }
    let listing = store.list().await.unwrap();
    assert_eq!(listing.objects.len(), 10_000);
    assert_eq!(listing.requests, 10);
    assert_eq!(server.log().all().len(), 10);
}

#[tokio::test]
async fn attributes_reach_the_object() {
    let server = server();
    let store = store(&server).await;
    let attributes = Attributes {
        content_type: "application/gzip".to_owned(),
        metadata: [("sha256".to_owned(), "abc".to_owned())].into(),
    };
    let content = Verified::composed("content");
    let put = store
        .put(&key("file"), &content, &attributes, &Condition::Absent)
        .await;
    put.unwrap();
    let there = server.bucket("mirror").object("prefix/file").unwrap();
    assert_eq!(there.content_type.as_deref(), Some("application/gzip"));
    assert_eq!(there.metadata["sha256"], "abc");
}

#[tokio::test]
async fn an_etag_that_is_not_the_md5_is_found_out() {
    let server = server();
    let store = store(&server).await;
    server
        .faults()
        .order(Fault::new(Trouble::WrongEtag).on("PutObject"));
    let error = put(&store, &Verified::composed("content"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::EtagMismatch);
    assert_eq!(error.class(), Class::Transient);
    let md5 = Digest::of(Algorithm::Md5, b"content").hex();
    assert!(error.what.contains(&md5), "{error}");
    assert!(put(&store, &Verified::composed("content")).await.is_ok());
}

#[tokio::test]
async fn an_object_that_came_out_encrypted_is_removed_again() {
    let server = server();
    let store = store(&server).await;
    let bucket = server.bucket("mirror").encrypt_with_kms();
    let error = put(&store, &Verified::composed("content"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Encryption);
    assert!(error.what.contains("SSE-S3"), "{error}");
    assert_eq!(bucket.keys(), [""; 0]);
}

#[tokio::test]
async fn a_bucket_with_kms_is_found_before_any_byte_moves() {
    let server = server();
    let store = store(&server).await;
    let _kms = server.bucket("mirror").encrypt_with_kms();
    let error = store.prepare(false).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Encryption);
    assert!(error.what.contains("aws:kms"), "{error}");
    assert!(server.log().all().iter().all(|e| e.body_bytes == 0));
}

#[tokio::test]
async fn a_missing_bucket_is_made_when_asked_for() {
    let server = server();
    let store = S3Store::connect(options(&server)).await.unwrap();
    let error = store.prepare(false).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket);
    assert!(error.what.contains("s3://mirror"), "{error}");
    assert!(error.what.contains("--create-bucket"), "{error}");
    store.prepare(true).await.unwrap();
    assert!(put(&store, &Verified::composed("content")).await.is_ok());
}

#[tokio::test]
async fn a_bucket_elsewhere_is_told_with_its_region() {
    let server = server();
    server.bucket_elsewhere("mirror", "cn-northwest-1");
    let store = S3Store::connect(options(&server)).await.unwrap();
    let error = store.prepare(true).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::ElsewhereRegion);
    assert!(error.what.contains("--region cn-northwest-1"), "{error}");
}

#[tokio::test]
async fn wrong_keys_are_told_and_never_shown() {
    let server = server();
    server.bucket("mirror");
    for (access_key, secret_key, told) in [
        (
            "AKIANOBODYKNOWSME",
            "hush-hush",
            "does not know this access key",
        ),
        (
            "LOOPBACKACCESSKEY",
            "hush-hush",
            "secret key does not belong",
        ),
    ] {
        let options = S3Options {
            keys: Some(Keys {
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
            }),
            ..options(&server)
        };
        assert!(!format!("{options:?}").contains("hush"));
        let store = S3Store::connect(options).await.unwrap();
        let error = store.prepare(false).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Credentials);
        assert!(error.what.contains(told), "{error}");
        let shown = format!("{store:?} {error:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[tokio::test]
async fn a_refused_acl_names_what_serves_instead() {
    let server = server();
    let bucket = server.bucket("mirror");
    let options = S3Options {
        acl: Some("public-read".to_owned()),
        ..options(&server)
    };
    let store = S3Store::connect(options).await.unwrap();
    let content = Verified::composed("content");
    let error = put(&store, &content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::AclRefused, "{error}");
    assert!(error.what.contains("kops-mirror bucket-policy"), "{error}");
    let _open = bucket.accept_acls();
    store.prepare(false).await.unwrap();
    put(&store, &content).await.unwrap();
    let there = server.bucket("mirror").object("prefix/file").unwrap();
    assert!(there.public);
}

#[tokio::test]
async fn a_put_is_one_attempt_and_small_requests_are_several() {
    let server = server();
    let store = store(&server).await;
    server.faults().order(Fault::slow_down().on("PutObject"));
    let error = put(&store, &Verified::composed("content"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Busy);
    assert_eq!(server.log().count("PutObject"), 1);
    server
        .faults()
        .order(Fault::slow_down().on("HeadObject").times(2));
    assert_eq!(store.stat(&key("file")).await.unwrap(), None);
    assert_eq!(server.log().count("HeadObject"), 3);
}

#[tokio::test]
async fn a_lost_answer_is_worth_another_attempt() {
    let server = server();
    let store = store(&server).await;
    let content = Verified::composed(bytes(1 << 20, 2));
    for trouble in [
        Trouble::AnswerLost,
        Trouble::Failed { stored: false },
        Trouble::Cut { after_bytes: 4096 },
    ] {
        server
            .faults()
            .order(Fault::new(trouble.clone()).on("PutObject"));
        let error = put(&store, &content).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{trouble:?}: {error}");
        assert!(error.what.contains("s3://mirror/prefix/file"), "{error}");
    }
    assert!(put(&store, &content).await.is_ok());
}

#[tokio::test]
async fn a_put_that_gets_nowhere_is_cut_and_leaves_nothing() {
    let server = server();
    server.bucket("mirror");
    let options = S3Options {
        stall_timeout: Duration::from_millis(400),
        ..options(&server)
    };
    let store = S3Store::connect(options).await.unwrap();
    let slow = Trouble::Slow {
        bytes_per_second: 1,
    };
    server.faults().order(Fault::new(slow).on("PutObject"));
    // More than the socket's buffers take.
    let error = put(&store, &Verified::composed(bytes(64 << 20, 3)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient);
    assert!(error.what.contains("of 67108864 bytes"), "{error}");
    assert_eq!(server.bucket("mirror").keys(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_a_put() {
    let server = server();
    server.bucket("mirror");
    let options = S3Options {
        answer_timeout: Duration::from_millis(300),
        ..options(&server)
    };
    let store = S3Store::connect(options).await.unwrap();
    let late = Trouble::Late(Duration::from_secs(600));
    server.faults().order(Fault::new(late).on("PutObject"));
    let error = put(&store, &Verified::composed("content"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient);
    assert!(error.what.contains("no answer came"), "{error}");
}

#[tokio::test]
async fn a_server_without_conditions_is_asked_once() {
    let server = server();
    let store = store(&server).await;
    let unknown = Trouble::Refused {
        status: 501,
        code: "NotImplemented",
    };
    server.faults().order(Fault::new(unknown).on("PutObject"));
    for _put in 0..3 {
        let content = Verified::composed("content");
        let put = store
            .put(&key("file"), &content, &attributes(), &Condition::Absent)
            .await;
        put.unwrap();
    }
    let puts = server.log().of("PutObject");
    let asked: Vec<_> = puts
        .iter()
        .map(|put| put.headers.contains_key("if-none-match"))
        .collect();
    assert_eq!(asked, [true, false, false, false]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let options = S3Options {
        endpoint: Some(format!("http://{address}").parse().unwrap()),
        ..options(&server())
    };
    let store = S3Store::connect(options).await.unwrap();
    let error = store.prepare(false).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient);
    assert!(error.what.contains(&address.to_string()), "{error}");
    assert!(error.what.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_endpoint_with_a_password_is_refused_without_showing_it() {
    let options = S3Options {
        endpoint: Some("https://me:hush@s3.example".parse().unwrap()),
        ..S3Options::new("mirror", "")
    };
    assert!(!format!("{options:?}").contains("hush"));
    let error = S3Store::connect(options).await.unwrap_err();
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    assert!(error.what.contains("https://s3.example"), "{error}");
}
