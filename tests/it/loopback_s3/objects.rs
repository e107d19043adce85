use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use kops_mirror::loopback::s3::{Options, Storage};

use super::{BUCKET, Rig, client, is, md5_hex, quoted, refusal};

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    for storage in [Storage::Memory, Storage::Folder(folder.path().to_owned())] {
        let rig = Rig::new(Options {
            storage,
            ..Options::default()
        });
        for length in [0, 1, 65_536, 300_001] {
            let content: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[0]).collect();
            let put = rig.s3.put_object().bucket(BUCKET).key("a/b");
            let put = put
                .content_type("application/gzip")
                .metadata("sha256", "0123")
                .body(content.clone().into());
            let put = put.send().await.unwrap();
            assert_eq!(put.e_tag().unwrap(), quoted(&md5_hex(&content)));

            let head = rig.s3.head_object().bucket(BUCKET).key("a/b");
            let head = head.send().await.unwrap();
            assert_eq!(head.content_length(), Some(i64::from(length)));
            assert_eq!(head.e_tag(), put.e_tag());
            assert_eq!(head.content_type(), Some("application/gzip"));
            assert_eq!(head.metadata().unwrap()["sha256"], "0123");

            let get = rig.s3.get_object().bucket(BUCKET).key("a/b");
            let get = get.send().await.unwrap();
            assert_eq!(get.body.collect().await.unwrap().to_vec(), content);
            assert_eq!(rig.stored("a/b").unwrap(), content);
        }
    }
}

#[tokio::test]
async fn ranges_are_served_as_asked() {
    let rig = Rig::default();
    rig.bucket().insert("k", "0123456789");
    let get = |range: &str| {
        let get = rig.s3.get_object().bucket(BUCKET).key("k").range(range);
        get.send()
    };
    for (range, expected, told) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let part = get(range).await.unwrap();
        assert_eq!(part.content_range(), Some(told));
        assert_eq!(
            part.body.collect().await.unwrap().to_vec(),
            expected.as_bytes()
        );
    }
    assert_eq!(refusal(get("bytes=10-").await), is(416, "InvalidRange"));
}

#[tokio::test]
async fn reads_keep_their_conditions() {
    let rig = Rig::default();
    rig.bucket().insert("k", "x");
    let etag = quoted(&md5_hex("x"));
    let get = || rig.s3.get_object().bucket(BUCKET).key("k");
    assert!(get().if_match(&etag).send().await.is_ok());
    let other = get().if_match("\"other\"").send().await;
    assert_eq!(refusal(other), is(412, "PreconditionFailed"));
    let known = get().if_none_match(&etag).send().await;
    assert_eq!(refusal(known).0, 304);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let rig = Rig::default();
    let get = rig.s3.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), is(404, "NoSuchKey"));
    let head = rig.s3.head_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(head), is(404, "NotFound"));
    let put = rig.s3.put_object().bucket("elsewhere").key("k");
    assert_eq!(refusal(put.send().await), is(404, "NoSuchBucket"));
}

#[tokio::test]
async fn deleting_takes_objects_away_and_does_not_mind_missing_ones() {
    let rig = Rig::default();
    for key in ["a", "b", "c/d e"] {
        rig.bucket().insert(key, "x");
    }
    let delete = rig.s3.delete_object().bucket(BUCKET).key("a");
    delete.clone().send().await.unwrap();
    delete.send().await.unwrap();
    let named =
        ["b", "c/d e", "never"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let list = Delete::builder()
        .set_objects(Some(named.to_vec()))
        .build()
        .unwrap();
    let deleted = rig.s3.delete_objects().bucket(BUCKET).delete(list);
    let deleted = deleted.send().await.unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    assert!(rig.bucket().keys().is_empty());
}

#[tokio::test]
async fn contents_kept_nowhere_leave_their_digests() {
    let rig = Rig::new(Options {
        storage: Storage::Nowhere,
        ..Options::default()
    });
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    put.body(ByteStream::from_static(b"content"))
        .send()
        .await
        .unwrap();
    let found = rig.bucket().object("k").unwrap();
    assert_eq!((found.length, found.bytes), (7, None));
    assert_eq!(found.etag, md5_hex("content"));
    let get = rig.s3.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), is(501, "NotImplemented"));
}

#[tokio::test]
async fn corruption_behind_the_servers_back_shows_in_the_bytes_only() {
    let rig = Rig::default();
    rig.bucket().insert("k", "abc");
    assert!(rig.bucket().corrupt("k", 1));
    let get = rig
        .s3
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(get.e_tag().unwrap(), quoted(&md5_hex("abc")));
    assert_eq!(get.body.collect().await.unwrap().to_vec(), b"acc");
    assert!(!rig.bucket().corrupt("k", 3));
}

#[tokio::test]
async fn the_log_tells_what_was_asked_and_answered() {
    let rig = Rig::default();
    let put = rig
        .s3
        .put_object()
        .bucket(BUCKET)
        .key("a")
        .if_none_match("*");
    put.body(ByteStream::from_static(b"12345"))
        .send()
        .await
        .unwrap();
    let _ = rig.s3.head_object().bucket(BUCKET).key("b").send().await;
    let log = rig.server.log().all();
    let told: Vec<_> = log
        .iter()
        .map(|e| (e.operation.as_str(), e.key.as_str(), e.status, e.body_bytes))
        .collect();
    assert_eq!(
        told,
        [
            ("PutObject", "a", Some(200), 5),
            ("HeadObject", "b", Some(404), 0)
        ]
    );
    assert_eq!(log[0].headers["if-none-match"], "*");
    assert_eq!(log[0].headers["x-amz-content-sha256"].len(), 64);
    assert_eq!(rig.server.log().count("PutObject"), 1);
}

#[tokio::test]
async fn commits_keep_their_order() {
    let rig = Rig::default();
    for key in ["b", "a", "b"] {
        let put = rig.s3.put_object().bucket(BUCKET).key(key);
        put.send().await.unwrap();
    }
    assert_eq!(rig.bucket().commits(), ["b", "a", "b"]);
}

#[tokio::test]
async fn stopping_and_dropping_both_free_the_port() {
    let rig = Rig::default();
    let address = rig.server.address();
    rig.s3.head_bucket().bucket(BUCKET).send().await.unwrap();
    rig.server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());

    let rig = Rig::default();
    let s3 = client(&rig.server, rig.server.region());
    s3.head_bucket().bucket(BUCKET).send().await.unwrap();
    drop(rig);
    assert!(s3.head_bucket().bucket(BUCKET).send().await.is_err());
}
