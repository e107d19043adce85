//! What some fields of a cluster's file lead to, by the program.

use super::site::Site;
use super::world::UBUNTU_CHINA;

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_is_looked_at_and_made_like_any_host() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "ssh: {publicKey: id.pub}",
        "bastion: {}\nssh: {access: [10.0.0.0/8], publicKey: id.pub}",
    );
    site.run(&["plan"])
        .await
        .ends(1)
        .says("t3.micro, for the bastion, is not offered in cn-north-1a");
    site.edit("bastion: {}", "bastion: {machineType: m5.large}");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    assert_eq!(site.instances().await, 3);
    let group = "china.k8s.local/instancegroup/bastions".to_owned();
    assert!(site.state_keys().await.contains(&group));
    site.run(&["plan"]).await.ends(0);
    // Shown with the stand-in alone: a real kops does not end its bastions at the emulator in time.
    if site.real_kops().is_some() {
        return;
    }
    site.edit("bastion: {machineType: m5.large}\n", "");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    assert!(!site.state_keys().await.contains(&group));
}

/// Both regions are of one partition: no buckets, and no task that stores an image.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_the_same_partition_comes_by_copy_image_alone() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        &format!("image: {{use: {UBUNTU_CHINA}}}"),
        &format!(
            "image: {{copy: {{fromRegion: cn-northwest-1, source: {UBUNTU_CHINA}, name: own}}}}"
        ),
    );
    site.run(&["plan"])
        .await
        .ends(3)
        .says("will be copied from cn-northwest-1 as own");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    assert_eq!(site.world.overlay.count("CopyImage"), 1);
    assert_eq!(site.world.overlay.count("CreateStoreImageTask"), 0);
    // It is found by its tag, whatever it is called.
    site.edit("name: own", "name: another");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    assert_eq!(site.world.overlay.count("CopyImage"), 1);
    let destroy = ["destroy", "--yes", "--include", "image"];
    site.run(&destroy).await.ends(0);
    assert_eq!(site.instances().await, 0);
}
