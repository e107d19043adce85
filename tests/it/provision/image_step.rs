//! The image on the way to a cluster: looked for by plan and render, made by apply, rendered with what it is then.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::ami_build::NAME;
use super::ground::Ground;
use super::world::{GLOBAL, UBUNTU, UBUNTU_CHINA};

#[tokio::test]
async fn an_image_that_is_used_must_be_there_and_fit() {
    let Some(place) = Ground::open(&format!("use: {UBUNTU_CHINA}")).await else {
        return;
    };
    let said = place.done("render").await;
    assert!(
        said.out.contains(&format!("image: {UBUNTU_CHINA}")),
        "{}",
        said.out
    );
    // Not there, and for other processors.
    for (image, why) in [
        ("ami-0123456789abcdef0", "sees none"),
        ("ami-0c240000000000004", "is for arm64"),
    ] {
        place.write_file(&format!("use: {image}"), "1.34.8");
        let said = place.run("render").await;
        assert_ne!(said.code, Some(0));
        assert!(said.err.contains(why), "{why}: {}", said.err);
    }
    // Asked for offline, it is believed.
    place.done("render --offline").await;
}

#[tokio::test]
async fn an_image_that_is_resolved_is_pinned() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    let said = place.done("render").await;
    let pinned = "837727238323/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250530";
    assert!(
        said.out.contains(&format!("image: {pinned}")),
        "{}",
        said.out
    );
    place.done("apply --yes --no-wait").await;
    assert!(place.journal().contains(pinned), "{}", place.journal());
}

#[tokio::test]
async fn an_image_that_is_to_be_built_is_a_change_and_has_its_id_after_apply() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    place.write_file(&Ground::build_of(&place.yard), "1.34.8");
    let said = place.done("render").await;
    assert!(
        said.out.contains(&format!("image: not-built-yet/{NAME}")),
        "{}",
        said.out
    );
    assert!(said.err.contains("will be built"), "{}", said.err);
    let said = place.run("plan").await;
    assert_eq!(said.code, Some(3), "{}\n{}", said.out, said.err);
    assert!(
        said.out
            .contains(&format!("Changes      the image {NAME} will be built")),
        "{}",
        said.out
    );
    assert_eq!(place.yard.world.overlay.count("RunInstances"), 0);

    place.done("apply --yes --no-wait").await;
    let image = place.yard.images().await.remove(0);
    let kept = std::fs::read_to_string(place.path("cluster")).unwrap();
    assert!(
        kept.contains(&format!("image: {}", image.image_id)),
        "{kept}"
    );
    assert!(!kept.contains("not-built-yet"), "{kept}");
    let journal = place.journal();
    assert!(journal.contains(&image.image_id), "{journal}");
    assert_eq!(place.yard.instances().await, []);
    // And nothing is left to do.
    place.done("plan").await;
    place.done("apply --yes --no-wait").await;
    assert_eq!(place.yard.world.overlay.count("RunInstances"), 1);
}

#[tokio::test]
async fn an_image_is_copied_once() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    let buckets = place.yard.world.buckets().await;
    let copy = format!(
        "copy: {{fromRegion: {GLOBAL}, fromProfile: global, source: {UBUNTU}, name: noble, fromBucket: {}, toBucket: {}}}",
        buckets.from.bucket(),
        buckets.to.bucket()
    );
    place.write_file(&copy, "1.34.8");
    let said = place.run("plan").await;
    assert!(
        said.out.contains("will be copied from us-east-1 as noble"),
        "{}\n{}",
        said.out,
        said.err
    );
    place.done("apply --yes --no-wait").await;
    let copied = place.yard.images().await.remove(0);
    let kept = std::fs::read_to_string(place.path("cluster")).unwrap();
    assert!(
        kept.contains(&format!("image: {}", copied.image_id)),
        "{kept}"
    );
    assert!(place.journal().contains(&copied.image_id));
    place.done("apply --yes --no-wait").await;
    assert_eq!(place.yard.world.overlay.count("CreateStoreImageTask"), 1);
}

/// kill -9 while the builder is not reached yet.
#[tokio::test]
async fn an_apply_that_was_killed_goes_on_with_its_builder() {
    let Some(place) = Ground::open("resolve: {distribution: ubuntu-24.04}").await else {
        return;
    };
    place.write_file(&Ground::build_of(&place.yard), "1.34.8");
    std::fs::write(place.path("closed"), "").unwrap();
    let mut child = place.command("apply --yes --no-wait").spawn().unwrap();
    while !place.yard.argv().contains("true\n") {
        sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    let (builder, _) = place.yard.instances().await.remove(0);
    assert!(place.journal().contains(&builder), "{}", place.journal());
    std::fs::remove_file(place.path("closed")).unwrap();
    place.done("apply --yes --no-wait").await;
    assert_eq!(place.yard.world.overlay.count("RunInstances"), 1);
    assert_eq!(place.yard.instances().await, []);
}

#[tokio::test]
async fn kubernetes_goes_one_minor_release_on_and_never_back() {
    let Some(place) = Ground::open(&format!("use: {UBUNTU_CHINA}")).await else {
        return;
    };
    place.done("apply --yes --no-wait").await;
    for (version, why) in [("1.33.9", "is older"), ("1.36.0", "2 minor releases on")] {
        place.write_file(&format!("use: {UBUNTU_CHINA}"), version);
        place.write_mirror();
        let said = place.run("upgrade --yes --no-wait").await;
        assert_ne!(said.code, Some(0));
        assert!(said.err.contains(why), "{why}: {}", said.err);
        // The plan is shown first.
        assert!(said.out.contains("in the way: see above"), "{}", said.out);
    }
    assert!(!place.kops_calls().contains("reconcile"));
    place.write_file(&format!("use: {UBUNTU_CHINA}"), "1.35.5");
    place.write_mirror();
    place.done("upgrade --yes --no-wait").await;
    let kept = std::fs::read_to_string(place.path("cluster")).unwrap();
    assert!(kept.contains("kubernetesVersion: 1.35.5"), "{kept}");
}
