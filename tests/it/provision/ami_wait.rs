//! Waiting for an image (kube-deploy#293: the newly registered one was asked for once, was not there, and that was the end).

use std::time::Duration;

use kops_mirror::ami::{AmiError, Pace, Which, available};
use kops_mirror::cloud::{Cloud, ImageState, RegisteredImage};
use kops_mirror::events::Silent;

use super::world::{CHINA, PACE, UBUNTU_CHINA, World};

async fn registered(cloud: &Cloud, name: &str) -> String {
    let like = cloud.image(UBUNTU_CHINA).await.unwrap().unwrap();
    let new = RegisteredImage {
        name,
        like: &like,
        devices: &like.devices,
        tags: &[],
    };
    cloud.register_image(new).await.unwrap()
}

#[tokio::test]
async fn not_found_and_pending_are_not_yet() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    (
        world.overlay.orders().hidden,
        world.overlay.orders().pending,
    ) = (3, 4);
    let id = registered(&cloud, "by-id").await;
    let before = world.overlay.count("DescribeImages");
    let image = available(&cloud, Which::Id(&id), PACE, &Silent)
        .await
        .unwrap();
    assert_eq!((image.image_id, image.state), (id, ImageState::Available));
    assert_eq!(world.overlay.count("DescribeImages") - before, 8);
}

/// By name nothing is an error: the list is only empty.
#[tokio::test]
async fn an_empty_list_is_not_yet() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    (
        world.overlay.orders().hidden,
        world.overlay.orders().pending,
    ) = (3, 2);
    let id = registered(&cloud, "by-name").await;
    let image = available(&cloud, Which::Name("by-name"), PACE, &Silent)
        .await
        .unwrap();
    assert_eq!(image.image_id, id);
}

#[tokio::test]
async fn an_image_that_failed_is_an_error_at_once_with_its_reason() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    world.overlay.orders().pending = 1;
    world.overlay.fail_images_in(CHINA, "Client.VolumeInUse");
    let id = registered(&cloud, "bad").await;
    let error = available(&cloud, Which::Id(&id), PACE, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            AmiError::Dead {
                state: ImageState::Failed,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("the image {id} in cn-north-1 is failed: Client.VolumeInUse")
    );
}

#[tokio::test]
async fn the_deadline_ends_it_and_says_what_to_do() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let pace = Pace {
        deadline: Duration::from_millis(400),
        ..PACE
    };
    let error = available(&cloud, Which::Id("ami-0123456789abcdef0"), pace, &Silent)
        .await
        .unwrap_err();
    assert!(matches!(error, AmiError::TooLate { .. }), "{error}");
    assert!(error.to_string().contains("provision ami wait"), "{error}");
    assert!(world.overlay.count("DescribeImages") >= 3);
}

#[tokio::test]
async fn throttling_is_outlasted_and_a_lack_of_rights_is_not() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    world
        .overlay
        .orders()
        .throttled
        .insert("DescribeImages".to_owned(), 9);
    available(&cloud, Which::Id(UBUNTU_CHINA), PACE, &Silent)
        .await
        .unwrap();
    let overlay = &world.overlay;
    overlay.refuse("DescribeImages", 403, "UnauthorizedOperation");
    let before = world.overlay.count("DescribeImages");
    assert!(
        available(&cloud, Which::Id(UBUNTU_CHINA), PACE, &Silent)
            .await
            .is_err()
    );
    assert_eq!(world.overlay.count("DescribeImages") - before, 1);
}
