use std::time::Duration;

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use kops_mirror::loopback::s3::{Fault, Imitation, Options, Trouble};

use super::{BUCKET, Rig, is, md5_hex, quoted, refusal};

fn put(rig: &Rig, content: &'static str) -> PutObjectFluentBuilder {
    let put = rig.s3.put_object().bucket(BUCKET).key("k");
    put.body(ByteStream::from_static(content.as_bytes()))
}

#[tokio::test]
async fn a_put_if_absent_does_not_replace() {
    let rig = Rig::default();
    put(&rig, "first").if_none_match("*").send().await.unwrap();
    let second = put(&rig, "second").if_none_match("*").send().await;
    assert_eq!(refusal(second), is(412, "PreconditionFailed"));
    assert_eq!(rig.stored("k").unwrap(), b"first");
}

#[tokio::test]
async fn a_put_if_unchanged_replaces_that_object_only() {
    let rig = Rig::default();
    let of_first = quoted(&md5_hex("first"));
    let missing = put(&rig, "second").if_match(&of_first).send().await;
    assert_eq!(refusal(missing), is(404, "NoSuchKey"));
    put(&rig, "first").send().await.unwrap();
    put(&rig, "second")
        .if_match(&of_first)
        .send()
        .await
        .unwrap();
    let third = put(&rig, "third").if_match(&of_first).send().await;
    assert_eq!(refusal(third), is(412, "PreconditionFailed"));
    assert_eq!(rig.stored("k").unwrap(), b"second");
}

/// Starts a conditional put that is slow enough for something to happen before it commits.
async fn race(rig: &Rig, put: PutObjectFluentBuilder, meanwhile: impl FnOnce()) -> (u16, String) {
    let trouble = Trouble::Slow {
        bytes_per_second: 20,
    };
    rig.server
        .faults()
        .order(Fault::new(trouble).on("PutObject"));
    let (put, ()) = tokio::join!(put.send(), async {
        // The fault is taken when the request has begun; its six bytes take 300 ms from then.
        while rig.server.faults().outstanding() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        meanwhile();
    });
    refusal(put)
}

#[tokio::test]
async fn of_two_writers_at_once_the_first_to_end_wins() {
    let rig = Rig::default();
    let late = put(&rig, "slower").if_none_match("*");
    let refused = race(&rig, late, || rig.bucket().insert("k", "faster")).await;
    assert_eq!(refused, is(412, "PreconditionFailed"));
    assert_eq!(rig.stored("k").unwrap(), b"faster");
}

#[tokio::test]
async fn a_delete_during_a_conditional_put_is_a_conflict() {
    let rig = Rig::default();
    rig.bucket().insert("k", "old");
    let late = put(&rig, "slower").if_match(quoted(&md5_hex("old")));
    let refused = race(&rig, late, || assert!(rig.bucket().remove("k"))).await;
    assert_eq!(refused, is(409, "ConditionalRequestConflict"));
    assert_eq!(rig.stored("k"), None);
}

#[tokio::test]
async fn a_server_that_ignores_conditions_overwrites_silently() {
    let imitation = Imitation {
        ignores_conditions: true,
        ..Imitation::default()
    };
    let rig = Rig::new(Options {
        imitation,
        ..Options::default()
    });
    put(&rig, "first").send().await.unwrap();
    put(&rig, "second").if_none_match("*").send().await.unwrap();
    put(&rig, "third").if_match("\"0\"").send().await.unwrap();
    assert_eq!(rig.stored("k").unwrap(), b"third");
}
