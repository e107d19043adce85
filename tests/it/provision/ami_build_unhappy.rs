//! Builds that fail, are refused, or are killed.

use std::time::Duration;

use kops_mirror::ami::{AmiError, Kind, Pace, leftovers};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::ami_build::{NAME, Yard, imagebuilder};
use super::ami_command::command;
use super::world::{CHINA, PACE, UBUNTU_CHINA};
use crate::support::program::finish;

#[tokio::test]
async fn a_builder_that_never_lets_in_is_given_up_with_advice_and_terminated() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    std::fs::write(yard.path("closed"), "").unwrap();
    let mut order = yard.order();
    order.pace = Pace {
        deadline: Duration::from_millis(400),
        ..PACE
    };
    let error = yard.try_to_build(&order).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, AmiError::Builder { .. }), "{told}");
    for wanted in ["10.7.0.", "Connection refused", "port 22", &yard.subnet] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert_eq!(yard.instances().await, []);
    // Kept for a look, it is found among what is left.
    order.keeps_instance = true;
    yard.try_to_build(&order).await.unwrap_err();
    let left = leftovers(&yard.cloud, Some("prod.k8s.local"))
        .await
        .unwrap();
    let kinds: Vec<_> = left.iter().map(|left| (left.kind, left.role)).collect();
    assert_eq!(kinds, [(Kind::Instance, "way")]);
    // And the next run goes on with it.
    std::fs::remove_file(yard.path("closed")).unwrap();
    yard.built(&yard.order()).await;
    assert_eq!(yard.world.overlay.count("RunInstances"), 2);
    assert_eq!(yard.instances().await, []);
}

#[tokio::test]
async fn a_script_that_fails_makes_no_image() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    yard.script("#!/bin/sh\necho E: no package >&2\nexit 42\n");
    let error = yard.try_to_build(&yard.order()).await.unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, AmiError::Program { code: Some(42), .. }),
        "{told}"
    );
    assert!(told.contains("E: no package"), "{told}");
    assert_eq!(yard.instances().await, []);
    assert_eq!(yard.images().await, []);
    // As user data, too.
    yard.world.overlay.orders().runs_user_data = true;
    let error = yard.try_to_build(&yard.unattended()).await.unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, AmiError::Program { code: Some(42), .. }),
        "{told}"
    );
    assert!(told.contains("E: no package"), "{told}");
    assert_eq!(yard.instances().await, []);
    assert_eq!(yard.images().await, []);
    assert_eq!(yard.world.overlay.count("CreateImage"), 0);
}

#[tokio::test]
async fn a_builder_that_stops_without_a_word_is_no_image() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    yard.world.overlay.orders().runs_user_data = true;
    yard.world.overlay.orders().console = Some("Kernel panic".to_owned());
    let mut order = yard.unattended();
    order.pace = Pace {
        deadline: Duration::from_millis(900),
        ..PACE
    };
    let told = yard.try_to_build(&order).await.unwrap_err().to_string();
    assert!(
        told.contains("without saying how") && told.contains("Kernel panic"),
        "{told}"
    );
    assert_eq!(yard.world.overlay.count("CreateImage"), 0);
    assert_eq!(yard.instances().await, []);
}

#[tokio::test]
async fn an_image_that_fails_is_taken_away_and_the_next_run_makes_it() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    yard.world.overlay.fail_images_in(CHINA, "no room");
    let error = yard.try_to_build(&yard.order()).await.unwrap_err();
    assert!(matches!(error, AmiError::Dead { .. }), "{error}");
    assert_eq!(yard.instances().await, []);
    assert_eq!(yard.images().await, []);
    yard.world.overlay.heal();
    yard.built(&yard.order()).await;
}

#[tokio::test]
async fn a_name_that_something_else_has_is_refused() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    yard.built(&yard.order()).await;
    yard.script("#!/bin/sh\ntrue\n");
    let told = yard
        .try_to_build(&yard.order())
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("another base, script or template"), "{told}");
    let like = yard.cloud.image(UBUNTU_CHINA).await.unwrap().unwrap();
    let foreign = kops_mirror::cloud::RegisteredImage {
        name: "foreign",
        like: &like,
        devices: &like.devices,
        tags: &[],
    };
    yard.cloud.register_image(foreign).await.unwrap();
    for mut order in [yard.order(), imagebuilder(&yard)] {
        order.build.name = "foreign".to_owned();
        let told = yard.try_to_build(&order).await.unwrap_err().to_string();
        assert!(told.contains("was not built here"), "{told}");
    }
    assert_eq!(yard.world.overlay.count("RunInstances"), 1);
}

#[tokio::test]
async fn what_can_t_go_well_is_refused_before_anything_is_made() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let refused = async |order: &kops_mirror::ami::BuildOrder, wanted: &str| {
        let told = yard.try_to_build(order).await.unwrap_err().to_string();
        assert!(told.contains(wanted), "{wanted}: {told}");
    };
    let mut order = yard.order();
    order.build.machine_type = "m6g.large".to_owned();
    refused(&order, "is for x86_64").await;
    let mut order = imagebuilder(&yard);
    order.build.name = "other".to_owned();
    refused(&order, "give both the same name").await;
    yard.script(&"#".repeat(17 << 10));
    refused(&yard.unattended(), "too long for user data").await;
    let mut order = yard.order();
    order.build.script = Some(yard.path("nowhere.sh"));
    refused(&order, "nowhere.sh").await;
    let mut order = yard.order();
    order.build.base = "ubuntu/noble".to_owned();
    refused(&order, "is no owner of images").await;
    assert_eq!(yard.world.overlay.count("RunInstances"), 0);
}

#[tokio::test]
async fn imagebuilder_s_failure_and_another_s_builder_are_told() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let order = imagebuilder(&yard);
    std::fs::write(yard.path("broken"), "").unwrap();
    let told = yard.try_to_build(&order).await.unwrap_err().to_string();
    assert!(
        told.contains("no debootstrap") && told.contains("imagebuilder.log"),
        "{told}"
    );
    assert_eq!(yard.instances().await, []);
    let fields = [
        ("Action", "RunInstances"),
        ("ImageId", UBUNTU_CHINA),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", yard.subnet.as_str()),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "k8s.io/role/imagebuilder"),
        ("TagSpecification.1.Tag.1.Value", "1"),
    ];
    yard.world.overlay.moto_ec2(CHINA, &fields).await;
    let told = yard.try_to_build(&order).await.unwrap_err().to_string();
    assert!(told.contains("imagebuilder takes any"), "{told}");
    assert_eq!(yard.instances().await.len(), 1);
}

fn words(yard: &Yard, rest: &str) -> String {
    let script = yard.path("harden.sh").display().to_string();
    format!(
        "provision ami build --region {CHINA} --profile china --base {UBUNTU_CHINA} --name {NAME} --subnet {} --script {script} {rest}",
        yard.subnet
    )
}

/// kill -9 while the script runs by itself: the next run waits for the same builder.
#[tokio::test]
async fn a_killed_build_is_taken_up() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    let words = words(&yard, "");
    let mut child = command(&yard.world, &words).spawn().unwrap();
    while yard.world.overlay.count("DescribeInstances") < 4 {
        sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(yard.instances().await.len(), 1);
    yard.world.overlay.orders().runs_user_data = true;
    let output = finish(command(&yard.world, &words)).await;
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("/{NAME}")), "{told}");
    assert_eq!(yard.world.overlay.count("RunInstances"), 1);
    assert_eq!(yard.instances().await, []);
}

/// kill -9 in the middle of a script that somebody watched: what it left is nobody's to guess, so it begins anew.
#[tokio::test]
async fn a_builder_whose_script_was_cut_off_is_replaced() {
    let Some(yard) = Yard::open().await else {
        return;
    };
    std::fs::write(yard.path("dead"), "").unwrap();
    let rest = format!(
        "--private-key {} --ssh {}",
        yard.path("key.pem").display(),
        yard.path("bin/ssh").display()
    );
    let words = words(&yard, &rest);
    let mut child = command(&yard.world, &words).spawn().unwrap();
    while !yard.argv().contains("mktemp") {
        sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    let (first, _) = yard.instances().await.remove(0);
    std::fs::remove_file(yard.path("dead")).unwrap();
    let output = finish(command(&yard.world, &words)).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(yard.world.overlay.count("RunInstances"), 2);
    let asked = yard.world.overlay.asked("TerminateInstances");
    assert_eq!(asked[0].field("InstanceId.1"), Some(first.as_str()));
    assert_eq!(yard.instances().await, []);
}
