//! Which image a query comes to, from what the region has.

use kops_mirror::ami::{AmiError, How, resolve};
use kops_mirror::asset::Arch;
use kops_mirror::cluster::ImageQuery;

use super::world::{CHINA, UBUNTU, UBUNTU_CHINA, World};

const PARAMETER: &str =
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id";

fn distribution(name: &str) -> ImageQuery {
    ImageQuery {
        distribution: Some(name.to_owned()),
        ..ImageQuery::default()
    }
}

fn named(owner: Option<&str>, name: &str) -> ImageQuery {
    ImageQuery {
        owner: owner.map(str::to_owned),
        name: Some(name.to_owned()),
        ..ImageQuery::default()
    }
}

#[tokio::test]
async fn the_publisher_s_parameter_is_asked_first() {
    let Some(world) = World::start().await else {
        return;
    };
    let older = "ami-0c240000000000001".to_owned();
    let parameter = (CHINA.to_owned(), PARAMETER.to_owned());
    world
        .overlay
        .orders()
        .parameters
        .insert(parameter, older.clone());
    let cloud = world.cloud(CHINA).await;
    let found = resolve(&cloud, &distribution("ubuntu-24.04"), Arch::Amd64)
        .await
        .unwrap();
    assert_eq!(found.image.image_id, older);
    assert_eq!(found.how, How::Parameter(PARAMETER.to_owned()));
    assert_eq!(
        found.pinned,
        "837727238323/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250115"
    );
}

/// Nothing proves that the parameters are filled in China. The newest there is still pending, another owner's is newer.
#[tokio::test]
async fn without_a_parameter_the_newest_available_of_the_publisher_s_account_is_taken() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let found = resolve(&cloud, &distribution("ubuntu-24.04"), Arch::Amd64)
        .await
        .unwrap();
    assert_eq!(found.image.image_id, UBUNTU_CHINA);
    assert_eq!(found.image.owner, "837727238323");
    assert!(matches!(found.how, How::Listed { .. }));
    assert_eq!(world.overlay.count("GetParameter"), 1);
    let arm = resolve(&cloud, &distribution("ubuntu-24.04"), Arch::Arm64)
        .await
        .unwrap();
    assert_eq!(arm.image.image_id, "ami-0c240000000000004");
    let amazon = resolve(&cloud, &distribution("amazon-linux-2023"), Arch::Amd64)
        .await
        .unwrap();
    assert_eq!(amazon.image.image_id, "ami-0d230000000000001");
}

#[tokio::test]
async fn a_parameter_that_names_nothing_of_use_is_passed_over() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    for useless in [
        "ami-0123456789abcdef0",
        "ami-0c240000000000004",
        "ami-0c240000000000003",
        "nonsense",
    ] {
        let parameter = (CHINA.to_owned(), PARAMETER.to_owned());
        world
            .overlay
            .orders()
            .parameters
            .insert(parameter, useless.to_owned());
        let found = resolve(&cloud, &distribution("ubuntu-24.04"), Arch::Amd64)
            .await
            .unwrap();
        assert_eq!(found.image.image_id, UBUNTU_CHINA, "{useless}");
    }
    let overlay = &world.overlay;
    overlay.refuse("GetParameter", 400, "AccessDeniedException");
    let found = resolve(&cloud, &distribution("ubuntu-24.04"), Arch::Amd64)
        .await
        .unwrap();
    assert_eq!(
        found.image.image_id, UBUNTU_CHINA,
        "who may not ask SSM may still list"
    );
}

#[tokio::test]
async fn a_parameter_that_was_asked_for_must_be_there() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let query = ImageQuery {
        ssm: Some("/mine/image".to_owned()),
        ..ImageQuery::default()
    };
    let error = resolve(&cloud, &query, Arch::Amd64).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no image in cn-north-1 is named by the parameter /mine/image: SSM has no parameter of that name there"
    );
    world.overlay.orders().parameters.insert(
        (CHINA.to_owned(), "/mine/image".to_owned()),
        UBUNTU_CHINA.to_owned(),
    );
    let found = resolve(&cloud, &query, Arch::Amd64).await.unwrap();
    assert_eq!(found.image.image_id, UBUNTU_CHINA);
    let error = resolve(&cloud, &query, Arch::Arm64)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("is for x86_64"), "{error}");
}

/// kops' channel names an account that has nothing in China.
#[tokio::test]
async fn a_name_of_kops_channel_is_looked_for_with_the_partition_s_owner() {
    let Some(world) = World::start().await else {
        return;
    };
    let name = "099720109477/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250530";
    let china = resolve(&world.cloud(CHINA).await, &named(None, name), Arch::Amd64)
        .await
        .unwrap();
    assert_eq!(china.image.image_id, UBUNTU_CHINA);
    let global = resolve(
        &world.cloud("us-east-1").await,
        &named(None, name),
        Arch::Amd64,
    )
    .await
    .unwrap();
    assert_eq!(global.image.image_id, UBUNTU);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_its_reason() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let error = resolve(
        &cloud,
        &named(Some("837727238323"), "ubuntu/none-*"),
        Arch::Amd64,
    )
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("copy one from elsewhere with kops-mirror provision ami copy"),
        "{error}"
    );
    let pending = named(Some("837727238323"), "ubuntu/images/hvm-ssd-gp3/*-20250610");
    let error = resolve(&cloud, &pending, Arch::Amd64).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("of 1 there none is fit; the first is pending"),
        "{error}"
    );
    let error = resolve(&cloud, &distribution("debian-12"), Arch::Amd64)
        .await
        .unwrap_err();
    assert!(matches!(error, AmiError::Refused(_)), "{error}");
}
