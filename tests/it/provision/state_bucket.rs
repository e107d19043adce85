//! The bucket that kops keeps its state in.

use kops_mirror::partition::Partition;
use serde_json::Value;

use super::desk::Desk;
use super::world::{CHINA, GLOBAL};

fn journal(site: &Desk) -> Value {
    let text = std::fs::read(site.folder().join("state.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn it_is_made_once_with_everything_set_and_noted() {
    let Some(site) = Desk::start().await else {
        return;
    };
    let (code, said) = site.said("state-bucket check").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no bucket"), "{said}");
    let (code, told) = site.json("state-bucket ensure").await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told["lacks"], serde_json::json!([]));
    let bucket = site.state_bucket().await;
    let settings = bucket.settings().await.unwrap();
    assert!(settings.is_versioned && settings.is_private, "{settings:?}");
    assert_eq!(settings.encryption.as_ref().unwrap().algorithm, "AES256");
    let policy = settings.policy.clone().unwrap();
    assert!(
        policy.contains(&format!("arn:aws-cn:s3:::{}/*", site.bucket)),
        "{policy}"
    );
    assert_eq!(
        settings.lacks(Partition::of_region(CHINA), &site.bucket, None),
        []
    );
    let tags = bucket.tags().await.unwrap();
    assert_eq!(tags["kops-mirror/cluster"], "prod.k8s.local");
    assert_eq!(journal(&site)["made"][0]["id"], site.bucket.as_str());
    let created = site.world.overlay.asked("CreateBucket");
    let body = String::from_utf8_lossy(&created[0].body).into_owned();
    assert!(body.contains("<LocationConstraint>cn-north-1<"), "{body}");
    // Again: nothing is set.
    let before = site.world.overlay.count("PutBucketPolicy");
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    assert_eq!(site.world.overlay.count("CreateBucket"), 1);
    assert_eq!(site.world.overlay.count("PutBucketPolicy"), before);
    assert_eq!(site.json("state-bucket check").await.0, Some(0));
}

#[tokio::test]
async fn one_that_was_there_keeps_its_policy_and_is_nobody_s_to_remove() {
    let Some(site) = Desk::start().await else {
        return;
    };
    site.world.overlay.make_bucket(&site.bucket, CHINA).await;
    let theirs = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Sid": "Theirs", "Effect": "Allow", "Principal": {{"AWS": "123456789012"}}, "Action": "s3:ListBucket", "Resource": "arn:aws-cn:s3:::{}"}}]}}"#,
        site.bucket
    );
    site.world.overlay.put_policy(&site.bucket, &theirs);
    let (code, told) = site.json("state-bucket check").await;
    assert_eq!(code, Some(1));
    assert_eq!(told["lacks"].as_array().unwrap().len(), 4, "{told}");
    assert_eq!(
        site.world.overlay.count("PutBucketVersioning"),
        0,
        "a check changes nothing"
    );
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    let bucket = site.state_bucket().await;
    let policy = bucket.policy().await.unwrap().unwrap();
    assert!(
        policy.contains("Theirs") && policy.contains("RefuseWithoutTls"),
        "{policy}"
    );
    assert!(bucket.tags().await.unwrap().is_empty());
    assert_eq!(journal(&site)["made"], Value::Null);
}

#[tokio::test]
async fn a_run_that_ended_in_between_is_gone_on_with() {
    let Some(site) = Desk::start().await else {
        return;
    };
    let overlay = &site.world.overlay;
    overlay.refuse("PutBucketVersioning", 403, "AccessDenied");
    let (code, said) = site.said("state-bucket ensure").await;
    assert_ne!(code, Some(0));
    assert!(said.contains("can't have versions kept in"), "{said}");
    site.world.overlay.orders().refused.clear();
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    assert_eq!(site.world.overlay.count("CreateBucket"), 1);
    let tags = site.state_bucket().await.tags().await.unwrap();
    assert_eq!(tags["kops-mirror/made-by"], "kops-mirror");
}

#[tokio::test]
async fn a_key_of_kms_is_set_where_one_is_wanted() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let key = "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let bucket = site.bucket.clone();
    site.change(
        &format!("{{bucket: {bucket}}}"),
        &format!("{{bucket: {bucket}, kmsKey: '{key}'}}"),
    );
    assert_eq!(site.json("state-bucket ensure").await.0, Some(0));
    let encryption = site
        .state_bucket()
        .await
        .settings()
        .await
        .unwrap()
        .encryption
        .unwrap();
    assert_eq!(
        (encryption.algorithm.as_str(), encryption.key.as_deref()),
        ("aws:kms", Some(key))
    );
}

#[tokio::test]
async fn what_can_t_be_is_said_with_its_reason() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    // Somebody else's.
    let orders = [
        (
            "CreateBucket",
            409,
            "BucketAlreadyExists",
            "somebody else has a bucket of that name",
        ),
        (
            "CreateBucket",
            400,
            "IllegalLocationConstraintException",
            "IllegalLocationConstraint",
        ),
        (
            "GetBucketLocation",
            403,
            "AccessDenied",
            "s3:GetBucketLocation is missing",
        ),
        ("GetBucketLocation", 403, "InvalidAccessKeyId", "no good"),
    ];
    for (operation, status, code, part) in orders {
        site.world.overlay.refuse(operation, status, code);
        let (exit, said) = site.said("state-bucket ensure").await;
        assert_ne!(exit, Some(0), "{said}");
        assert!(
            said.contains(part) || said.contains("does not know this access key"),
            "{code}: {said}"
        );
        site.world.overlay.orders().refused.clear();
    }
    // Nothing of it is ours to remove.
    assert_eq!(journal(&site)["made"], Value::Null);
    let bucket = site.bucket.clone();
    site.change(
        &format!("{{bucket: {bucket}}}"),
        &format!("{{bucket: {bucket}, create: false}}"),
    );
    let (_, said) = site.said("state-bucket ensure").await;
    assert!(said.contains("stateStore.create is false"), "{said}");
    assert_eq!(site.world.overlay.count("CreateBucket"), 2);
    site.world.overlay.make_bucket(&bucket, GLOBAL).await;
    let (code, said) = site.said("state-bucket check").await;
    assert_ne!(code, Some(0));
    assert!(
        said.contains("it is in us-east-1, not in cn-north-1"),
        "{said}"
    );
}
