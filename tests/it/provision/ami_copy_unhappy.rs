//! Copies that fail: what is said, and what is left.

use kops_mirror::ami::{AmiError, CopyOrder, copy};
use kops_mirror::cluster::CopyEngine;
use kops_mirror::events::Silent;

use super::ami_copy::Ends;
use super::world::GLOBAL;

#[tokio::test]
async fn a_task_that_fails_is_told_with_ec2_s_reason_and_the_next_try_begins_another() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.world.overlay.orders().storing_fails = Some("Snapshot is busy".to_owned());
    let order = ends.world.order(CopyEngine::StoreRestore);
    let error = ends.copy(&order).await.unwrap_err();
    assert!(matches!(error, AmiError::GaveUp { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("EC2 gave up: Snapshot is busy"),
        "{error}"
    );
    let left = ends.left().await;
    assert_eq!(
        left.len(),
        1,
        "the copy of one's own is there for the next try: {left:?}"
    );
    assert!(left[0].starts_with("way ami-"), "{left:?}");
    ends.world.overlay.orders().storing_fails = None;
    ends.copy(&order).await.unwrap();
    assert_eq!(ends.world.overlay.count("CopyImage"), 1);
    assert_eq!(ends.world.overlay.count("CreateStoreImageTask"), 2);
}

#[tokio::test]
async fn with_rollback_nothing_is_left() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = CopyOrder {
        rollback: true,
        ..ends.world.order(CopyEngine::StoreRestore)
    };
    let overlay = &ends.world.overlay;
    overlay.refuse("CreateRestoreImageTask", 400, "InvalidRequest");
    assert!(ends.copy(&order).await.is_err());
    assert_eq!(ends.left().await, Vec::<String>::new());
}

#[tokio::test]
async fn with_rollback_no_snapshot_is_left_half_written() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.disk(6);
    ends.world.overlay.orders().spoiled.insert(9);
    let order = CopyOrder {
        rollback: true,
        ..ends.world.order(CopyEngine::EbsDirect)
    };
    let error = ends.copy(&order).await.unwrap_err();
    assert!(
        error.to_string().starts_with("can't read block 9 of snap-"),
        "{error}"
    );
    assert_eq!(ends.left().await, Vec::<String>::new());
    assert_eq!(ends.world.overlay.count("CompleteSnapshot"), 0);
}

#[tokio::test]
async fn an_image_that_fails_in_its_new_region_goes_and_is_made_anew() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = ends.world.order(CopyEngine::StoreRestore);
    ends.world.overlay.fail_images_in("cn-north-1", "no room");
    let error = ends.copy(&order).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("in cn-north-1 is failed: no room"),
        "{error}"
    );
    let parts = ends.world.overlay.count("UploadPart");
    ends.world.overlay.heal();
    let copied = ends.copy(&order).await.unwrap();
    assert_eq!(ends.world.overlay.count("CreateRestoreImageTask"), 2);
    assert_eq!(
        ends.world.overlay.count("UploadPart"),
        parts,
        "the object was there"
    );
    assert_eq!(copied.carried_bytes, 0);
    assert_eq!(
        ends.left().await,
        [format!("image {}", copied.image.image_id)]
    );
}

#[tokio::test]
async fn without_buckets_an_object_has_no_way() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = CopyOrder {
        rollback: true,
        ..ends.world.order(CopyEngine::StoreRestore)
    };
    let error = copy(&ends.source, &ends.target, None, &order, &Silent)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("--from-bucket and --to-bucket, or use --engine ebs-direct"),
        "{error}"
    );
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_before_anything_is_made() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = CopyOrder {
        source: "ami-0123456789abcdef0".to_owned(),
        ..ends.world.order(CopyEngine::EbsDirect)
    };
    let error = ends.copy(&order).await.unwrap_err();
    assert!(matches!(error, AmiError::None { .. }), "{error:?}");
    let order = CopyOrder {
        source: "ami-0a240000000000003".to_owned(),
        ..order
    };
    let error = ends.copy(&order).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no image in {GLOBAL} is called ami-0a240000000000003: it is pending")
    );
    assert_eq!(ends.world.overlay.count("CopyImage"), 0);
}

/// Another object's parts may be on their way to the same key: the ETag of the whole tells.
#[tokio::test]
async fn parts_of_another_object_do_not_become_an_image() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let order = ends.world.order(CopyEngine::StoreRestore);
    let overlay = &ends.world.overlay;
    overlay.refuse("UploadPart", 403, "AccessDenied");
    assert!(ends.copy(&order).await.is_err());
    ends.world.overlay.orders().refused.clear();
    let key = ends
        .world
        .overlay
        .keys(ends.buckets.from.bucket())
        .await
        .remove(0);
    ends.world
        .overlay
        .put_strange_part(ends.buckets.to.bucket(), &key)
        .await;
    let error = ends.copy(&order).await.unwrap_err();
    assert!(matches!(error, AmiError::Corrupt(_)), "{error:?}");
    assert_eq!(ends.world.overlay.count("CreateRestoreImageTask"), 0);
    assert!(
        ends.world
            .overlay
            .keys(ends.buckets.to.bucket())
            .await
            .is_empty(),
        "what came out wrong is not left"
    );
    ends.copy(&order).await.unwrap();
}

#[tokio::test]
async fn throttling_everywhere_is_outlasted() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    for operation in [
        "CopyImage",
        "CreateStoreImageTask",
        "DescribeStoreImageTasks",
        "CreateRestoreImageTask",
        "DescribeImages",
    ] {
        ends.world
            .overlay
            .orders()
            .throttled
            .insert(operation.to_owned(), 2);
    }
    ends.world
        .overlay
        .orders()
        .html
        .insert("GetCallerIdentity".to_owned(), 1);
    ends.copy(&ends.world.order(CopyEngine::StoreRestore))
        .await
        .unwrap();
}

#[tokio::test]
async fn credentials_of_another_partition_are_named_before_anything_is_made() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    ends.world.overlay.orders().partition = Some("aws".to_owned());
    let error = ends
        .copy(&ends.world.order(CopyEngine::EbsDirect))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is of the partition aws, and cn-north-1 is in aws-cn"),
        "{error}"
    );
    assert_eq!(ends.world.overlay.count("CopyImage"), 0);
}
