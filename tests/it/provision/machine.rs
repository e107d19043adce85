//! The way to a cluster with the real program, an emulated AWS, and a kops that really asks the mirror for what a real one would.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kops_mirror::lease::{Lease, Name, Owner};
use kops_mirror::store::Store;
use kops_mirror::store::s3::{Keys, S3Options, S3Store};

use super::site::{Ran, Site, put};
use super::world::CHINA;
use crate::support::program::finish;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_an_apply_and_nothing_more_to_do() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["plan"])
        .await
        .ends(3)
        .says("will be created")
        .says("all there and verified")
        .says("Will create resources");
    assert!(
        site.state_keys().await.is_empty(),
        "a plan changed the state store"
    );
    assert_eq!(site.instances().await, 0);
    site.run(&["apply"])
        .await
        .ends(3)
        .says("'provision apply' will do this.")
        .says("give --yes");
    site.run(&["upgrade"])
        .await
        .ends(3)
        .says("'provision upgrade' will do this.")
        .says("give --yes");
    assert_eq!(site.instances().await, 0);
    site.run(&["apply", "--yes"])
        .await
        .ends(0)
        .says("the cluster answers and is well");
    assert_eq!(site.instances().await, 2);
    site.run(&["plan"])
        .await
        .ends(0)
        .says("Nothing is to be done.");
    site.run(&["validate"]).await.ends(0).says("is ready");
    site.run(&["status"])
        .await
        .ends(0)
        .says("resources      done");
    let ran = site.run(&["kubeconfig"]).await.ends(0);
    assert!(
        std::fs::read_to_string(ran.stdout.trim())
            .unwrap()
            .contains("china.k8s.local")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_a_destroy() {
    let Some(site) = Site::today().await else {
        return;
    };
    let before = site.world.overlay.census(CHINA).await;
    site.run(&["apply", "--yes"]).await.ends(0);
    assert_ne!(site.world.overlay.census(CHINA).await, before);
    site.run(&["destroy"]).await.ends(3).says("instance");
    assert_eq!(site.instances().await, 2);
    site.run(&["destroy", "--yes"]).await.ends(0);
    assert_eq!(site.world.overlay.census(CHINA).await, before);
    assert_eq!(site.state_keys().await, Vec::<String>::new());
    // Again, with nothing there.
    site.run(&["destroy", "--yes"]).await.ends(0);
    // And the name is free.
    site.run(&["plan"]).await.ends(3).says("will be created");
}

/// kops goes on at what it listed first, at what is gone meanwhile too.
#[tokio::test(flavor = "multi_thread")]
async fn a_kops_that_gets_no_further_lists_anew() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    // Of which a real one knows nothing.
    std::fs::write(site.path("stuck-once"), "").unwrap();
    site.run(&["destroy", "--yes"]).await.ends(0);
    let calls = site.calls();
    let deletions = calls.iter().filter(|call| call.contains("--yes --count"));
    let expected = if site.real_kops().is_some() { 1 } else { 2 };
    assert_eq!(deletions.count(), expected, "{calls:?}");
    assert_eq!(site.state_keys().await, Vec::<String>::new());
}

/// A real kops tries again and again; its time ends that.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_takes_back_what_kops_had_made() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit("acknowledge:", "timeouts: {kops: 40s}\nacknowledge:");
    let before = site.world.overlay.census(CHINA).await;
    for operation in ["RunInstances", "CreateAutoScalingGroup"] {
        let overlay = &site.world.overlay;
        overlay.refuse(operation, 403, "UnauthorizedOperation");
    }
    site.run(&["apply", "--yes", "--no-wait", "--rollback"])
        .await
        .ends(2)
        .says("kops update cluster china.k8s.local --yes")
        .says("rolled back");
    assert_eq!(site.world.overlay.census(CHINA).await, before);
    assert_eq!(site.state_keys().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_mirror_lacks_stops_it_before_anything_is_changed() {
    let Some(site) = Site::today().await else {
        return;
    };
    let missing = "release/v1.35.5/bin/linux/arm64/kubelet".parse().unwrap();
    site.mirror.delete(&missing).await.unwrap();
    site.run(&["plan"])
        .await
        .ends(1)
        .says("release/v1.35.5/bin/linux/arm64/kubelet: it is missing");
    site.run(&["apply", "--yes"])
        .await
        .ends(2)
        .says("stands in the way")
        .says("kubelet");
    assert!(site.state_keys().await.is_empty());
    put(&site.mirror, &missing, b"another content".to_vec()).await;
    site.run(&["plan"])
        .await
        .ends(1)
        .says("it is another content");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kops_itself_lists_must_be_in_the_mirror_too() {
    let Some(site) = Site::today().await else {
        return;
    };
    if site.real_kops().is_some() {
        eprintln!("skipped: a real kops can't be told what to list");
        return;
    }
    let list = |path: &str| {
        let url = format!("https://dl.k8s.io/{path}");
        let list = serde_json::json!({ "files": [{ "canonical": url, "download": url, "sha": "0".repeat(64) }] });
        std::fs::write(site.path("assets.json"), list.to_string()).unwrap();
    };
    list("release/v1.35.5/bin/linux/amd64/kubelet");
    site.run(&["plan"])
        .await
        .ends(3)
        .says("all there and verified");
    list("release/v1.35.5/bin/linux/amd64/kube-new-thing");
    site.run(&["plan"])
        .await
        .ends(1)
        .says("kube-new-thing: no complete release has it")
        .says("kops-mirror sync --kops 1.36.2 --kubernetes v1.35.5 --networking")
        .says("1 thing stands in the way");
    site.run(&["apply", "--yes"])
        .await
        .ends(2)
        .says("kube-new-thing");
    assert_eq!(site.instances().await, 0);
    std::fs::write(site.path("assets.json"), "no list").unwrap();
    site.run(&["plan"]).await.ends(2).says("kops' own list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_sights_have_moved_is_refused() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    site.edit("min: 1", "min: 2");
    site.run(&["plan", "--out", "plan.json"])
        .await
        .ends(3)
        .says("spec.minSize is 1");
    put(
        &site.state,
        &"china.k8s.local/addons/strange".parse().unwrap(),
        b"kind: x".to_vec(),
    )
    .await;
    site.run(&["apply", "--plan", "plan.json"])
        .await
        .ends(2)
        .says("addons/strange was added to kops' state store");
    site.state
        .delete(&"china.k8s.local/addons/strange".parse().unwrap())
        .await
        .unwrap();
    site.edit("min: 2", "min: 3");
    site.run(&["apply", "--plan", "plan.json"])
        .await
        .ends(2)
        .says("file has been edited");
    site.edit("min: 3", "min: 2");
    site.run(&["apply", "--plan", "plan.json", "--no-wait"])
        .await
        .ends(0);
    assert_eq!(site.instances().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_do_not_work_at_once() {
    let Some(site) = Site::today().await else {
        return;
    };
    let keys = Keys {
        access_key: site.world.keys.access_key.clone(),
        secret_key: site.world.keys.secret_key.clone(),
    };
    let options = S3Options {
        region: Some(CHINA.to_owned()),
        endpoint: Some(site.world.overlay.url().clone()),
        keys: Some(keys),
        ..S3Options::new(
            site.state.place().trim_start_matches("s3://"),
            "_provision/china.k8s.local",
        )
    };
    let store = S3Store::connect(options).await.unwrap();
    store.prepare(false).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let now = Timestamp::now();
    let taken = Lease::take(
        &store,
        Name::Whole,
        &Owner::this_process(),
        Duration::from_secs(60),
        now,
    )
    .await
    .unwrap();
    site.run(&["apply", "--yes"])
        .await
        .ends(2)
        .says("is being worked on by process");
    assert_eq!(site.instances().await, 0);
    drop(taken);
}

/// Killed with -9 at each step in turn; the next run goes on, and nothing is made twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_was_killed_goes_on() {
    let Some(site) = Site::today().await else {
        return;
    };
    for step in [
        "configuration:",
        "keys:",
        "resources:",
        "kubeconfig:",
        "ready:",
    ] {
        let command = site.command(&["apply", "--yes"]);
        let killed = tokio::task::spawn_blocking(move || kill_at(command, step));
        assert!(killed.await.unwrap(), "it never came to {step}");
    }
    site.run(&["apply", "--yes"]).await.ends(0);
    assert_eq!(site.instances().await, 2);
    site.run(&["plan"]).await.ends(0);
}

/// By Ctrl-C: the lock is let go, and the next run does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_is_interrupted_says_so_and_goes_on() {
    let Some(site) = Site::today().await else {
        return;
    };
    let command = site.command(&["apply", "--yes"]);
    let interrupted = tokio::task::spawn_blocking(move || interrupt_at(command, "resources:"));
    let (code, said) = interrupted.await.unwrap();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("stopped: the same command goes on"), "{said}");
    let lock = "_provision/china.k8s.local/.service/lease.json".to_owned();
    assert!(!site.state_keys().await.contains(&lock));
    site.run(&["apply", "--yes"]).await.ends(0);
    assert_eq!(site.instances().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_is_interrupted_says_so_and_goes_on() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    // A real one is slow by itself.
    std::fs::write(site.path("slow-deletion"), "").unwrap();
    let command = site.command(&["destroy", "--yes"]);
    let interrupted = tokio::task::spawn_blocking(move || interrupt_at(command, "destroy:"));
    let (code, said) = interrupted.await.unwrap();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("stopped: the same command goes on"), "{said}");
    std::fs::remove_file(site.path("slow-deletion")).unwrap();
    site.run(&["destroy", "--yes"]).await.ends(0);
    assert_eq!(site.instances().await, 0);
}

/// The code that it ends with, and what it says after.
fn interrupt_at(mut command: std::process::Command, step: &str) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines
        .find(|line| line.as_ref().unwrap().starts_with(step))
        .unwrap()
        .unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let said: Vec<_> = lines.map_while(Result::ok).collect();
    (child.wait().unwrap().code(), said.join("\n"))
}

fn kill_at(mut command: std::process::Command, step: &str) -> bool {
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_there = lines
        .map_while(Result::ok)
        .any(|line| line.starts_with(step));
    child.kill().unwrap();
    child.wait().unwrap();
    is_there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_kops_drops_is_found_when_it_is_read_back() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "acknowledge:",
        "overrides: {cluster: {bogusField: x}}\nacknowledge:",
    );
    site.run(&["plan"])
        .await
        .says("does not keep this: Cluster spec.bogusField is gone");
    site.run(&["apply", "--yes"])
        .await
        .ends(2)
        .says("spec.bogusField is gone");
    assert_eq!(site.instances().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_wanted_any_more_is_removed() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "networking: calico",
        "  - {name: second, machineType: m5.large, min: 1}\nnetworking: calico",
    );
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    site.edit("  - {name: second, machineType: m5.large, min: 1}\n", "");
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    let keys = site.state_keys().await;
    assert!(
        !keys.iter().any(|key| key.ends_with("instancegroup/second")),
        "{keys:?}"
    );
    assert!(
        site.calls()
            .iter()
            .any(|call| call.starts_with("delete ig second"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kops_gets_an_environment_of_its_own() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    let names = std::fs::read_to_string(site.path("work/home/environment.txt")).unwrap();
    let names: Vec<_> = names.lines().collect();
    for wanted in [
        "AWS_REGION",
        "KOPS_STATE_STORE",
        "HOME",
        "KUBECONFIG",
        "PATH",
        "NAME",
    ] {
        assert!(names.contains(&wanted), "{wanted}: {names:?}");
    }
    assert!(!names.contains(&"A_SECRET_OF_THE_CALLER"));
    let folders = ["work/calls", "work/preview/calls"].map(|folder| site.path(folder));
    let recorded = folders.map(|folder| std::fs::read_dir(folder).unwrap());
    for record in recorded.into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(record.path()).unwrap();
        assert!(
            !text.contains(&site.world.keys.secret_key),
            "{record:?} has a secret"
        );
    }
    site.run(&["env"])
        .await
        .ends(0)
        .says("export AWS_REGION=cn-north-1")
        .says("export KOPS_STATE_STORE=s3://state-");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kops_than_the_wanted_one_is_refused() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit("kopsVersion: 1.36.2", "kopsVersion: 1.36.1");
    site.run(&["validate"])
        .await
        .ends(2)
        .says("is kops 1.36.2, and the cluster wants 1.36.1");
    let mut command = site.command_without_kops(&["validate"]);
    command.args(["--kops", "nowhere/kops"]);
    let ran = Ran::from(finish(command).await);
    ran.ends(2).says("nowhere/kops");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_named_kops_the_mirrored_one_is_brought_and_verified() {
    let Some(site) = Site::today().await else {
        return;
    };
    let run = async |words: &[&str]| Ran::from(finish(site.command_without_kops(words)).await);
    run(&["plan"])
        .await
        .ends(2)
        .says("has no program of kops 1.36.2");
    let program = format!("#!/bin/sh\nexec {} \"$@\"\n", site.kops().display());
    site.mirror_program(&program).await;
    run(&["plan"]).await.ends(3).says("Will create resources");
    run(&["apply", "--yes", "--no-wait"]).await.ends(0);
    // What lies here is looked at each time.
    std::fs::write(site.path("work/kops-1.36.2"), "#!/bin/sh\nexit 9\n").unwrap();
    run(&["plan"]).await.ends(0);
    // And so is what comes.
    std::fs::remove_file(site.path("work/kops-1.36.2")).unwrap();
    let key = "binaries/kops/1.36.2/linux/amd64/kops".replace(
        "amd64",
        match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        },
    );
    put(
        &site.mirror,
        &key.parse().unwrap(),
        b"#!/bin/sh\nexit 0\n".to_vec(),
    )
    .await;
    run(&["plan"])
        .await
        .ends(2)
        .says("is not what the mirror's index says");
    assert!(!site.path("work/kops-1.36.2").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_told_before_anything_is_done() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit("ami-0c240000000000002", "ami-0000000000000dead");
    site.run(&["plan"])
        .await
        .ends(2)
        .says("ami-0000000000000dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_gets_files_and_nothing_is_made() {
    let Some(site) = Site::today().await else {
        return;
    };
    site.edit(
        "acknowledge:",
        "target: {type: terraform, folder: tf}\nacknowledge:",
    );
    site.run(&["apply", "--yes"])
        .await
        .ends(0)
        .says("terraform's files are written");
    assert!(site.path("tf/kubernetes.tf").exists());
    assert_eq!(site.instances().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_of_2018_comes_up_by_its_variables() {
    let Some(site) = Site::of_2018().await else {
        return;
    };
    let before = site.world.overlay.census(CHINA).await;
    site.run(&["plan"])
        .await
        .ends(3)
        .says("gossip")
        .says("the only check there is");
    site.run(&["apply", "--yes"]).await.ends(0);
    assert_eq!(site.instances().await, 2);
    site.run(&["env"])
        .await
        .ends(0)
        .says("export KOPS_BASE_URL=")
        .says("export CNI_VERSION_URL=");
    let calls = site.calls();
    assert!(
        calls
            .iter()
            .any(|call| call.starts_with("create secret sshpublickey admin")),
        "{calls:?}"
    );
    site.run(&["destroy", "--yes"]).await.ends(0);
    assert_eq!(site.world.overlay.census(CHINA).await, before);
}
