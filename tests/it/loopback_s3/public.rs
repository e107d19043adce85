use aws_sdk_s3::types::ObjectCannedAcl;
use kops_mirror::loopback::s3::{Imitation, Options};

use super::{BUCKET, Rig, is, refusal};

async fn anonymous(rig: &Rig, key: &str) -> u16 {
    reqwest::get(rig.url(key)).await.unwrap().status().as_u16()
}

async fn put(rig: &Rig, key: &str, acl: Option<ObjectCannedAcl>) -> Result<(), (u16, String)> {
    let put = rig.s3.put_object().bucket(BUCKET).key(key).set_acl(acl);
    match put.send().await {
        Ok(_) => Ok(()),
        refused => Err(refusal(refused)),
    }
}

#[tokio::test]
async fn a_bucket_refuses_acls_unless_told_otherwise() {
    let rig = Rig::default();
    let refused = put(&rig, "k", Some(ObjectCannedAcl::PublicRead)).await;
    assert_eq!(refused, Err(is(400, "AccessControlListNotSupported")));
    assert_eq!(rig.stored("k"), None);
    let owner = put(&rig, "k", Some(ObjectCannedAcl::BucketOwnerFullControl)).await;
    assert_eq!(owner, Ok(()));
    assert_eq!(anonymous(&rig, "k").await, 403);
}

#[tokio::test]
async fn an_acl_opens_its_object_and_no_other() {
    let rig = Rig::default();
    let _ = rig.bucket().accept_acls();
    put(&rig, "open", Some(ObjectCannedAcl::PublicRead))
        .await
        .unwrap();
    put(&rig, "closed", None).await.unwrap();
    assert_eq!(anonymous(&rig, "open").await, 200);
    assert_eq!(anonymous(&rig, "closed").await, 403);
    assert_eq!(anonymous(&rig, "missing").await, 403);
    assert_eq!(anonymous(&rig, "?list-type=2").await, 403);
    let copy = rig.s3.copy_object().bucket(BUCKET).key("copy");
    copy.copy_source(format!("{BUCKET}/open"))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous(&rig, "copy").await, 403, "a copy starts private");
    let unknown = put(&rig, "k", Some(ObjectCannedAcl::from("public"))).await;
    assert_eq!(unknown, Err(is(400, "InvalidArgument")));
}

#[tokio::test]
async fn a_policy_opens_all_objects_for_reading_only() {
    let rig = Rig::default();
    put(&rig, "k", None).await.unwrap();
    let _ = rig.bucket().public_read();
    assert_eq!(anonymous(&rig, "k").await, 200);
    assert_eq!(anonymous(&rig, "missing").await, 403);
    assert_eq!(anonymous(&rig, "?list-type=2").await, 403);
    let write = reqwest::Client::new().put(rig.url("k")).body("x");
    assert_eq!(write.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_server_that_ignores_acls_says_nothing_and_opens_nothing() {
    let imitation = Imitation {
        ignores_acls: true,
        ..Imitation::default()
    };
    let rig = Rig::new(Options {
        imitation,
        ..Options::default()
    });
    put(&rig, "k", Some(ObjectCannedAcl::PublicRead))
        .await
        .unwrap();
    assert_eq!(anonymous(&rig, "k").await, 403);
}
