//! The small client against moto: typed answers, throttling, broken answers, refusals.

use kops_mirror::cloud::{CloudErrorKind, Filter, Images, Tag};
use kops_mirror::retry::Class;

use super::world::{CHINA, GLOBAL, UBUNTU_CHINA, World};

#[tokio::test]
async fn each_call_of_the_region_is_answered() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let identity = cloud.identity().await.unwrap();
    assert!(identity.partition.unwrap().is_china(), "{identity:?}");
    assert_eq!(identity.account.len(), 12);

    let zones: Vec<_> = cloud
        .zones()
        .await
        .unwrap()
        .into_iter()
        .map(|zone| zone.zone_name)
        .collect();
    assert!(zones.contains(&"cn-north-1a".to_owned()), "{zones:?}");

    let vpcs = cloud.vpcs(&[]).await.unwrap();
    let vpc = vpcs.iter().find(|vpc| vpc.is_default).unwrap();
    assert_eq!(vpc.cidrs[0].cidr_block, vpc.cidr_block);
    assert!(cloud.vpc_dns(&vpc.vpc_id).await.unwrap().0);
    let of_vpc = [Filter::new("vpc-id", &vpc.vpc_id)];
    let subnets = cloud.subnets(&of_vpc).await.unwrap();
    assert!(
        subnets.len() >= 2
            && subnets
                .iter()
                .all(|subnet| subnet.available_ip_address_count > 0)
    );
    let tables = cloud.route_tables(&of_vpc).await.unwrap();
    assert!(
        tables
            .iter()
            .any(|table| table.associations.iter().any(|a| a.main)),
        "{tables:?}"
    );
    assert!(cloud.vpc_endpoints(&of_vpc).await.unwrap().is_empty());
    assert!(cloud.instance_types(&["m5.large"]).await.unwrap()[0].vcpus() == Some(2));
}

#[tokio::test]
async fn an_instance_goes_from_running_to_terminated_and_is_never_public() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let subnet = cloud.subnets(&[]).await.unwrap().remove(0).subnet_id;
    let tags = [Tag::new("kops-mirror/made-by", "kops-mirror")];
    let new = kops_mirror::cloud::NewInstance {
        image: UBUNTU_CHINA,
        machine_type: "t3.medium",
        subnet: &subnet,
        security_group: None,
        key_name: None,
        user_data: Some("#!/bin/sh\necho 你好\n"),
        profile: None,
        token: "one",
        tags: &tags,
    };
    let started = cloud.run_instance(&new).await.unwrap();
    let asked = world.overlay.asked("RunInstances").remove(0);
    assert_eq!(
        asked.field("NetworkInterface.1.AssociatePublicIpAddress"),
        Some("false")
    );
    assert_eq!(asked.field("ClientToken"), Some("one"));
    assert_eq!(asked.field("MetadataOptions.HttpTokens"), Some("required"));
    let id = started.instance_id.as_str();
    let found = cloud.instances(&[id], &[]).await.unwrap().remove(0);
    assert!(found.private_ip_address.is_some(), "{found:?}");
    assert_eq!(found.tags, tags);
    cloud.stop_instance(id).await.unwrap();
    assert_eq!(
        cloud.instances(&[id], &[]).await.unwrap()[0].state(),
        "stopped"
    );
    let image = kops_mirror::cloud::NewImage {
        instance: id,
        name: "made",
        description: None,
        tags: &tags,
    };
    let image = cloud.create_image(image).await.unwrap();
    assert_eq!(
        cloud
            .image(&image)
            .await
            .unwrap()
            .unwrap()
            .tag("kops-mirror/made-by"),
        Some("kops-mirror")
    );
    cloud.terminate_instance(id).await.unwrap();
    assert_eq!(
        cloud.instances(&[id], &[]).await.unwrap()[0].state(),
        "terminated"
    );
    cloud
        .terminate_instance("i-0123456789abcdef0")
        .await
        .unwrap();
}

#[tokio::test]
async fn throttling_and_pages_of_html_are_outlasted() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    world
        .overlay
        .orders()
        .throttled
        .insert("DescribeVpcs".to_owned(), 2);
    world
        .overlay
        .orders()
        .html
        .insert("DescribeVpcs".to_owned(), 1);
    assert!(!cloud.vpcs(&[]).await.unwrap().is_empty());
    assert_eq!(world.overlay.count("DescribeVpcs"), 4);
    world
        .overlay
        .orders()
        .throttled
        .insert("DescribeVpcs".to_owned(), 99);
    let error = cloud.vpcs(&[]).await.unwrap_err();
    assert_eq!(
        (error.kind, error.class()),
        (CloudErrorKind::Throttled, Class::Transient)
    );
    assert_eq!(
        world.overlay.count("DescribeVpcs"),
        8,
        "the policy has four attempts"
    );
}

/// Registering twice would make two images: who gets no answer looks first whether it was done.
#[tokio::test]
async fn what_would_be_done_twice_is_not_repeated_after_a_broken_answer() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let like = cloud.image(UBUNTU_CHINA).await.unwrap().unwrap();
    let new = kops_mirror::cloud::RegisteredImage {
        name: "twice",
        like: &like,
        devices: &like.devices,
        tags: &[],
    };
    world
        .overlay
        .orders()
        .html
        .insert("RegisterImage".to_owned(), 1);
    assert!(cloud.register_image(new).await.is_err());
    assert_eq!(world.overlay.count("RegisterImage"), 1);
    // A refusal to take it at all is another matter.
    world
        .overlay
        .orders()
        .throttled
        .insert("RegisterImage".to_owned(), 1);
    cloud.register_image(new).await.unwrap();
    assert_eq!(world.overlay.count("RegisterImage"), 3);
}

#[tokio::test]
async fn refusals_say_what_to_do_and_show_no_secret() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let overlay = &world.overlay;
    overlay.refuse("DescribeImages", 401, "AuthFailure");
    let error = cloud.images(&Images::default()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::Credentials);
    let told = error.to_string();
    assert!(
        told.contains("cn-north-1 takes accounts of AWS China and never those of AWS"),
        "{told}"
    );
    overlay.refuse("DescribeImages", 403, "UnauthorizedOperation");
    let told = cloud
        .images(&Images::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("allow ec2:DescribeImages"), "{told}");
    let shown = format!("{cloud:?} {told}");
    assert!(
        !shown.contains(&world.keys.secret_key) && !shown.contains(&world.keys.access_key),
        "{shown}"
    );
}

#[tokio::test]
async fn offerings_and_quotas_are_none_where_the_region_tells_none() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    assert!(cloud.offerings(&["m5.large"]).await.unwrap().is_empty());
    assert_eq!(cloud.quota("ec2", "L-1216C47A").await.unwrap(), None);
    let zones = vec!["cn-north-1a".to_owned(), "cn-north-1b".to_owned()];
    world
        .overlay
        .orders()
        .offerings
        .insert("m5.large".to_owned(), zones);
    world
        .overlay
        .orders()
        .quotas
        .insert("L-1216C47A".to_owned(), 32.0);
    let offered = cloud.offerings(&["m5.large", "m9.large"]).await.unwrap();
    assert_eq!(offered.len(), 2);
    assert_eq!(cloud.quota("ec2", "L-1216C47A").await.unwrap(), Some(32.0));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_query() {
    let settings = kops_mirror::cloud::CloudSettings {
        endpoint: Some("http://127.0.0.1:9/".parse().unwrap()),
        keys: Some(kops_mirror::cloud::Keys {
            access_key: "a".into(),
            secret_key: "s".into(),
        }),
        retry: kops_mirror::retry::Policy {
            attempts: 1,
            ..Default::default()
        },
        ..kops_mirror::cloud::CloudSettings::new(GLOBAL)
    };
    let cloud = kops_mirror::cloud::Cloud::connect(settings).await.unwrap();
    let error = cloud.zones().await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(
        error.to_string(),
        "can't list the zones in us-east-1: EC2 can't be reached"
    );
}

#[tokio::test]
async fn a_list_comes_whole_whatever_the_number_of_pages() {
    let Some(world) = World::start().await else {
        return;
    };
    let cloud = world.cloud(CHINA).await;
    let whole = cloud.images(&Images::default()).await.unwrap();
    assert!(whole.len() >= 12);
    world.overlay.orders().page = Some(5);
    let before = world.overlay.count("DescribeImages");
    assert_eq!(cloud.images(&Images::default()).await.unwrap(), whole);
    assert_eq!(
        world.overlay.count("DescribeImages") - before,
        whole.len().div_ceil(5)
    );
}
