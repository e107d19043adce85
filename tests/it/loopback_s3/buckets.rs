use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, ServerSideEncryption,
};
use kops_mirror::loopback::s3::Options;

use super::{BUCKET, Rig, client, is, md5_hex, quoted, refusal};

fn in_region(region: &str) -> Rig {
    Rig::new(Options {
        region: region.to_owned(),
        ..Options::default()
    })
}

async fn create(rig: &Rig, name: &str, constraint: Option<&str>) -> Result<(), (u16, String)> {
    let configuration = constraint.map(|region| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(region))
            .build()
    });
    let create = rig.s3.create_bucket().bucket(name);
    let created = create.set_create_bucket_configuration(configuration);
    match created.send().await {
        Ok(_) => Ok(()),
        refused => Err(refusal(refused)),
    }
}

#[tokio::test]
async fn the_first_region_makes_buckets_everywhere_but_by_its_own_name() {
    let rig = in_region("us-east-1");
    assert_eq!(create(&rig, "here", None).await, Ok(()));
    assert_eq!(create(&rig, "here", None).await, Ok(()));
    assert_eq!(create(&rig, "there", Some("eu-west-1")).await, Ok(()));
    assert_eq!(rig.server.bucket("there").region(), "eu-west-1");
    let refused = create(&rig, "named", Some("us-east-1")).await;
    assert_eq!(refused, Err(is(400, "InvalidLocationConstraint")));
    let refused = create(&rig, "No", None).await;
    assert_eq!(refused, Err(is(400, "InvalidBucketName")));
}

#[tokio::test]
async fn other_regions_make_buckets_by_their_own_name_only() {
    let rig = in_region("cn-north-1");
    let unfit = Err(is(400, "IllegalLocationConstraintException"));
    assert_eq!(create(&rig, "made", None).await, unfit);
    assert_eq!(create(&rig, "made", Some("cn-northwest-1")).await, unfit);
    assert_eq!(create(&rig, "made", Some("cn-north-1")).await, Ok(()));
    let again = create(&rig, "made", Some("cn-north-1")).await;
    assert_eq!(again, Err(is(409, "BucketAlreadyOwnedByYou")));
    let listed = rig.s3.list_buckets().send().await.unwrap();
    assert_eq!(listed.buckets().len(), 2);
}

#[tokio::test]
async fn a_bucket_says_where_it_is() {
    for (region, constraint) in [("us-east-1", None), ("cn-north-1", Some("cn-north-1"))] {
        let rig = in_region(region);
        let head = rig.s3.head_bucket().bucket(BUCKET).send().await.unwrap();
        assert_eq!(head.bucket_region(), Some(region));
        let location = rig.s3.get_bucket_location().bucket(BUCKET);
        let location = location.send().await.unwrap();
        let told = location
            .location_constraint()
            .map(BucketLocationConstraint::as_str);
        assert_eq!(told.filter(|c| !c.is_empty()), constraint);
    }
    let rig = Rig::default();
    let missing = rig.s3.head_bucket().bucket("never").send().await;
    assert_eq!(refusal(missing), is(404, "NotFound"));
}

#[tokio::test]
async fn a_bucket_elsewhere_redirects_with_its_region() {
    let rig = in_region("cn-north-1");
    let _ = rig.server.bucket_elsewhere("far", "cn-northwest-1");
    let put = rig.s3.put_object().bucket("far").key("k").send().await;
    assert_eq!(refusal(put), is(301, "PermanentRedirect"));
    let head = rig.s3.head_bucket().bucket("far").send().await.unwrap_err();
    let answer = head.raw_response().unwrap();
    assert_eq!(answer.status().as_u16(), 301);
    let told = answer.headers().get("x-amz-bucket-region");
    assert_eq!(told, Some("cn-northwest-1"));
    let location = rig.s3.get_bucket_location().bucket("far").send().await;
    let location = location.unwrap().location_constraint.unwrap();
    assert_eq!(location.as_str(), "cn-northwest-1");
}

#[tokio::test]
async fn a_request_signed_for_another_region_is_malformed() {
    let rig = in_region("cn-north-1");
    let astray = client(&rig.server, "us-east-1");
    let get = astray.list_objects_v2().bucket(BUCKET).send().await;
    assert_eq!(refusal(get), is(400, "AuthorizationHeaderMalformed"));
    let head = astray
        .head_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap_err();
    let answer = head.raw_response().unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let told = answer.headers().get("x-amz-bucket-region");
    assert_eq!(told, Some("cn-north-1"));
}

#[tokio::test]
async fn wrong_keys_open_nothing() {
    let rig = Rig::default();
    let with = |access: &str, secret: &str| {
        let keys = aws_sdk_s3::config::Credentials::new(access, secret, None, None, "wrong");
        let settings = super::settings(&rig.server, rig.server.region());
        aws_sdk_s3::Client::from_conf(settings.credentials_provider(keys).build())
    };
    let known = &rig.server.credentials().access_key;
    let list = |s3: aws_sdk_s3::Client| async move {
        refusal(s3.list_objects_v2().bucket(BUCKET).send().await)
    };
    assert_eq!(
        list(with("UNKNOWN", "x")).await,
        is(403, "InvalidAccessKeyId")
    );
    assert_eq!(
        list(with(known, "x")).await,
        is(403, "SignatureDoesNotMatch")
    );
}

#[tokio::test]
async fn kms_makes_etags_that_are_no_md5() {
    let rig = Rig::default();
    let _ = rig.bucket().encrypt_with_kms();
    let rules = rig
        .s3
        .get_bucket_encryption()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let rule = &rules
        .server_side_encryption_configuration()
        .unwrap()
        .rules()[0];
    let default = rule.apply_server_side_encryption_by_default().unwrap();
    assert_eq!(default.sse_algorithm(), &ServerSideEncryption::AwsKms);
    let put = || rig.s3.put_object().bucket(BUCKET).key("k");
    let encrypted = put().send().await.unwrap();
    assert_eq!(
        encrypted.server_side_encryption(),
        Some(&ServerSideEncryption::AwsKms)
    );
    assert_ne!(encrypted.e_tag().unwrap(), quoted(&md5_hex("")));
    assert_eq!(encrypted.e_tag().unwrap().len(), 34);
    let plain = put().server_side_encryption(ServerSideEncryption::Aes256);
    let plain = plain.send().await.unwrap();
    assert_eq!(
        plain.server_side_encryption(),
        Some(&ServerSideEncryption::Aes256)
    );
    assert_eq!(plain.e_tag().unwrap(), quoted(&md5_hex("")));
}
