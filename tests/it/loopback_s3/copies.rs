use std::fmt::Debug;

use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::types::MetadataDirective;
use kops_mirror::loopback::s3::{Imitation, Options, Storage};

use super::{BUCKET, Rig, is, md5_hex, quoted, refusal};

fn copy(rig: &Rig, from: &str, to: &str) -> CopyObjectFluentBuilder {
    let copy = rig.s3.copy_object().bucket(BUCKET).key(to);
    copy.copy_source(format!("{BUCKET}/{from}"))
}

fn etag<E: Debug>(copied: Result<CopyObjectOutput, E>) -> String {
    let result = copied.unwrap().copy_object_result.unwrap();
    result.e_tag.unwrap()
}

#[tokio::test]
async fn the_copy_of_a_multipart_object_is_single_part() {
    for storage in [Storage::Memory, Storage::Nowhere] {
        let rig = Rig::new(Options {
            storage,
            ..Options::default()
        });
        rig.bucket().insert_multipart("staged", "0123456789", 4);
        let staged = rig.bucket().object("staged").unwrap().etag;
        assert!(staged.ends_with("-3"), "{staged}");
        let copied = copy(&rig, "staged", "final").copy_source_if_match(&staged);
        assert_eq!(etag(copied.send().await), quoted(&md5_hex("0123456789")));
        assert_eq!(rig.stored("final").unwrap(), b"0123456789");
    }
}

#[tokio::test]
async fn a_server_of_the_other_kind_keeps_the_multipart_etag() {
    let imitation = Imitation {
        copy_keeps_multipart_etag: true,
        ..Imitation::default()
    };
    let rig = Rig::new(Options {
        imitation,
        ..Options::default()
    });
    rig.bucket().insert_multipart("staged", "0123456789", 4);
    let staged = rig.bucket().object("staged").unwrap().etag;
    assert_eq!(
        etag(copy(&rig, "staged", "final").send().await),
        quoted(&staged)
    );
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let rig = Rig::default();
    rig.bucket().insert_multipart("k", "0123456789", 4);
    let unchanged = copy(&rig, "k", "k").send().await;
    assert_eq!(refusal(unchanged), is(400, "InvalidRequest"));
    let replaced = copy(&rig, "k", "k")
        .metadata_directive(MetadataDirective::Replace)
        .content_type("text/plain")
        .metadata("md5", "abc");
    assert_eq!(etag(replaced.send().await), quoted(&md5_hex("0123456789")));
    let found = rig.bucket().object("k").unwrap();
    assert_eq!(found.content_type.as_deref(), Some("text/plain"));
    assert_eq!(found.metadata["md5"], "abc");
}

#[tokio::test]
async fn metadata_goes_with_the_copy_unless_replaced() {
    let rig = Rig::default();
    let put = rig.s3.put_object().bucket(BUCKET).key("a b/ü");
    let put = put.metadata("canonical-url", "https://dl.k8s.io/x");
    put.content_type("application/gzip").send().await.unwrap();
    let from = "a%20b/%C3%BC";
    etag(copy(&rig, from, "kept").send().await);
    let kept = rig.bucket().object("kept").unwrap();
    assert_eq!(kept.metadata["canonical-url"], "https://dl.k8s.io/x");
    assert_eq!(kept.content_type.as_deref(), Some("application/gzip"));
    let replace = copy(&rig, from, "replaced");
    etag(
        replace
            .metadata_directive(MetadataDirective::Replace)
            .send()
            .await,
    );
    assert!(rig.bucket().object("replaced").unwrap().metadata.is_empty());
}

#[tokio::test]
async fn copies_keep_conditions_on_both_ends() {
    let rig = Rig::default();
    rig.bucket().insert("from", "new");
    rig.bucket().insert("to", "old");
    let failed = is(412, "PreconditionFailed");
    let other_source = copy(&rig, "from", "to").copy_source_if_match("\"other\"");
    assert_eq!(refusal(other_source.send().await), failed);
    let not_absent = copy(&rig, "from", "to").if_none_match("*");
    assert_eq!(refusal(not_absent.send().await), failed);
    let changed = copy(&rig, "from", "to").if_match("\"other\"");
    assert_eq!(refusal(changed.send().await), failed);
    assert_eq!(rig.stored("to").unwrap(), b"old");
    let unchanged = copy(&rig, "from", "to").if_match(quoted(&md5_hex("old")));
    etag(unchanged.send().await);
    assert_eq!(rig.stored("to").unwrap(), b"new");
    let missing = copy(&rig, "never", "to").send().await;
    assert_eq!(refusal(missing), is(404, "NoSuchKey"));
}
