//! The command line, with profiles as people have them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::ami_copy::Ends;
use super::world::{CHINA, GLOBAL, UBUNTU, UBUNTU_CHINA, World};
use crate::support::program::{finish, program};

/// The program with two profiles, one for each partition, whose endpoint is the overlay.
fn command(world: &World, words: &str) -> Command {
    let home = world.dir.path();
    let url = world.overlay.url();
    let keys = &world.keys;
    let profile = |name: &str| {
        format!(
            "[profile {name}]\nendpoint_url = {url}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.access_key, keys.secret_key
        )
    };
    let file = home.join("config");
    std::fs::write(&file, profile("china") + &profile("global")).unwrap();
    let mut command = program(home);
    command
        .env("AWS_CONFIG_FILE", &file)
        .args(words.split_whitespace());
    command
}

async fn json(world: &World, words: &str) -> Value {
    let output = finish(command(world, &format!("{words} -o json"))).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn cluster_file(folder: &Path) -> String {
    let file = "apiVersion: kops-mirror/v1\nname: prod.k8s.local\nregion: cn-north-1\nprofile: china\nkopsVersion: 1.36.2\n\
                kubernetesVersion: v1.34.8\nmirror: {at: s3://mirror/k8s}\nstateStore: {bucket: state-store}\n\
                network: {}\nimage: {resolve: {distribution: ubuntu-24.04}}\n\
                controlPlane: {zones: [cn-north-1a], machineType: m6g.large}\n\
                nodes: [{name: nodes, machineType: m6g.large, min: 1}]\n";
    let path = folder.join("cluster.yaml");
    std::fs::write(&path, file).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn an_image_is_resolved_by_flags_and_by_the_cluster_s_file() {
    let Some(world) = World::start().await else {
        return;
    };
    let by_flags = format!(
        "provision ami resolve --region {CHINA} --profile china --distribution ubuntu-24.04"
    );
    let told = json(&world, &by_flags).await;
    assert_eq!(told["id"], UBUNTU_CHINA);
    assert_eq!(
        told["use"],
        "837727238323/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20250530"
    );
    // The machines of the file are arm64.
    let by_file = format!(
        "provision ami resolve -f {}",
        cluster_file(world.dir.path())
    );
    let told = json(&world, &by_file).await;
    assert_eq!(told["id"], "ami-0c240000000000004");
    let output = finish(command(
        &world,
        &format!("provision ami wait --region {CHINA} --profile china {UBUNTU_CHINA}"),
    ))
    .await;
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("use: 837727238323/"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_named() {
    let Some(world) = World::start().await else {
        return;
    };
    let output = finish(command(
        &world,
        "provision ami list --region cn-north-1 --profile nobody",
    ))
    .await;
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("the profile nobody has no credentials"),
        "{told}"
    );
}

/// kill -9 in the middle of the crossing: the second run brings what is missing.
#[tokio::test]
async fn a_killed_copy_is_taken_up() {
    let Some(ends) = Ends::start().await else {
        return;
    };
    let (from, to) = (ends.buckets.from.bucket(), ends.buckets.to.bucket());
    let words = format!(
        "provision ami copy --region {CHINA} --profile china --source {UBUNTU} --from-region {GLOBAL} --from-profile global \
         --from-bucket {from} --to-bucket {to} --name noble"
    );
    ends.world
        .overlay
        .orders()
        .silent_after
        .insert("UploadPart".to_owned(), 1);
    let mut child = command(&ends.world, &words).spawn().unwrap();
    for _ in 0..3000 {
        if ends.world.overlay.count("UploadPart") >= 2 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    sleep(Duration::from_millis(500)).await;
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    ends.world.overlay.orders().silent_after.clear();
    let told = json(&ends.world, &words).await;
    assert!(told["resumed_bytes"].as_u64().unwrap() >= 12_345, "{told}");
    let list = json(
        &ends.world,
        &format!("provision ami list --region {CHINA} --profile china"),
    )
    .await;
    assert_eq!(list[0]["id"], told["id"]);
    assert_eq!(ends.left().await.len(), 1);
    let gc = format!(
        "provision ami gc --region {CHINA} --profile china --images --older-than 1ms --delete"
    );
    assert_eq!(json(&ends.world, &gc).await[0]["id"], told["id"]);
    assert_eq!(ends.left().await, Vec::<String>::new());
}
