use std::collections::BTreeSet;

use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder;
use aws_sdk_s3::types::EncodingType;
use kops_mirror::loopback::s3::Options;

use super::{BUCKET, Rig, is, md5_hex, quoted, refusal};

/// All pages of a listing: its keys and common prefixes in order, and how many requests they took.
async fn pages(list: ListObjectsV2FluentBuilder) -> (Vec<String>, usize) {
    let mut entries = Vec::new();
    let mut requests = 0;
    let mut token = None;
    loop {
        let page = list
            .clone()
            .set_continuation_token(token)
            .send()
            .await
            .unwrap();
        requests += 1;
        let keys = page.contents().iter().map(|o| o.key().unwrap());
        let prefixes = page.common_prefixes().iter().map(|p| p.prefix().unwrap());
        let both: BTreeSet<_> = keys.chain(prefixes).map(str::to_owned).collect();
        assert_eq!(page.key_count(), i32::try_from(both.len()).ok());
        entries.extend(both);
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            return (entries, requests);
        }
    }
}

#[tokio::test]
async fn pages_hold_a_thousand_keys() {
    let rig = Rig::default();
    let expected: Vec<_> = (0..2001).map(|i| format!("k{i:04}")).collect();
    for key in &expected {
        rig.bucket().insert(key, "x");
    }
    let list = || rig.s3.list_objects_v2().bucket(BUCKET);
    assert_eq!(pages(list()).await, (expected.clone(), 3));
    assert_eq!(pages(list().max_keys(5000)).await, (expected.clone(), 3));
    let after = list().start_after("k1999").max_keys(1);
    assert_eq!(pages(after).await, (expected[2000..].to_vec(), 1));
    assert_eq!(pages(list().max_keys(0)).await, (Vec::new(), 1));
    let negative = list().max_keys(-1).send().await;
    assert_eq!(refusal(negative), is(400, "InvalidArgument"));
}

#[tokio::test]
async fn delimited_listings_are_the_same_on_pages_of_any_size() {
    let keys = ["a", "a/1", "a/2", "b//c", "b/x", "c", "c/d/e", "c/f", "d"];
    for page_keys_max in 1..6 {
        let rig = Rig::new(Options {
            page_keys_max,
            ..Options::default()
        });
        for key in keys {
            rig.bucket().insert(key, "x");
        }
        let list = || rig.s3.list_objects_v2().bucket(BUCKET).delimiter("/");
        let check = async |list, expected: &[&str]| {
            let (entries, requests) = pages(list).await;
            assert_eq!(entries, expected, "pages of {page_keys_max}");
            assert_eq!(requests, expected.len().div_ceil(page_keys_max).max(1));
        };
        check(list(), &["a", "a/", "b/", "c", "c/", "d"]).await;
        check(list().prefix("b/"), &["b//", "b/x"]).await;
        check(list().prefix("c"), &["c", "c/"]).await;
        check(list().prefix("c/"), &["c/d/", "c/f"]).await;
        check(list().prefix("never"), &[]).await;
    }
}

#[tokio::test]
async fn listings_show_size_and_etag() {
    let rig = Rig::default();
    rig.bucket().insert("k", "12345");
    rig.bucket().insert_multipart("m", "12345", 3);
    let page = rig
        .s3
        .list_objects_v2()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let [single, multipart] = page.contents() else {
        panic!("{page:?}");
    };
    assert_eq!(single.size(), Some(5));
    assert_eq!(single.e_tag().unwrap(), quoted(&md5_hex("12345")));
    assert!(multipart.e_tag().unwrap().ends_with("-2\""));
}

#[tokio::test]
async fn odd_keys_can_be_listed_encoded() {
    let rig = Rig::default();
    rig.bucket().insert("a b/ü+&%", "x");
    let list = rig.s3.list_objects_v2().bucket(BUCKET);
    let page = list.clone().send().await.unwrap();
    assert_eq!(page.contents()[0].key(), Some("a b/ü+&%"));
    let encoded = list
        .encoding_type(EncodingType::Url)
        .prefix("a ")
        .send()
        .await
        .unwrap();
    assert_eq!(encoded.contents()[0].key(), Some("a+b/%C3%BC%2B%26%25"));
    assert_eq!(encoded.prefix(), Some("a+"));
}
