//! What a user sees of runs that only look, and of runs that tell more than usual.

use kops_mirror::loopback::origin::{Fault, File, When};
use serde_json::Value;

use crate::support::list::{Desk, told};

fn desk() -> (Desk, [String; 2]) {
    let mut desk = Desk::new();
    desk.publish("https://far.test/bin/large", File::generated(1, 700_000));
    desk.publish("https://far.test/bin/small", File::generated(2, 300_000));
    let far = desk.origin_of("far.test");
    (desk, far)
}

#[tokio::test]
async fn a_plan_tells_the_bytes_that_are_to_come_and_changes_nothing() {
    let (desk, far) = desk();
    let output = desk.run("plan", &[&far[0], &far[1], "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["totals"]["bytes_known"], 1_000_000);
    assert_eq!(plan["totals"]["lengths_unknown"], 0);
    assert_eq!(plan["files"][0]["key"], "bin/small", "the smaller first");
    let releases = plan["releases"].as_array().unwrap();
    assert_eq!(releases.len(), 1, "{plan:#}");
    assert_eq!(releases[0]["files"], 2);
    assert_eq!(releases[0]["bytes_known"], 1_000_000);
    assert!(!desk.dir.path().join("mirror").exists());
    let log = desk.origin.log();
    assert_eq!(log.bytes_sent("/far.test/bin/large"), 0);
}

#[tokio::test]
async fn a_plan_of_a_share_has_no_more_than_the_share() {
    let (desk, far) = desk();
    let mut files = 0;
    for shard in ["0/2", "1/2"] {
        let arguments = [far[0].as_str(), &far[1], "--shard", shard, "-o", "json"];
        let output = desk.run("plan", &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        files += plan["files"].as_array().unwrap().len();
    }
    assert_eq!(files, 2, "each file is in one share");
}

#[tokio::test]
async fn a_length_that_nobody_tells_or_that_is_wrong_stops_nothing() {
    for fault in [Fault::status(405), Fault::Longer(5), Fault::HtmlPage] {
        let (desk, far) = desk();
        desk.origin.order("*/large", When::Nth(1), fault);
        let output = desk.run("sync", &far).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(desk.read("mirror/bin/large").unwrap().len(), 700_000);
    }
}

#[tokio::test]
async fn each_step_is_told_with_v_and_each_request_with_vv() {
    let (desk, far) = desk();
    let silent = desk.run("sync", &[&far[0], &far[1], "-q"]).await;
    assert_eq!(told(&silent), "");
    let (desk, far) = self::desk();
    let steps = told(&desk.run("sync", &[&far[0], &far[1], "-v"]).await);
    assert!(steps.contains("verified bin/large"), "{steps}");
    assert!(!steps.contains("GET http://"), "{steps}");
    let (desk, far) = self::desk();
    let requests = told(&desk.run("sync", &[&far[0], &far[1], "-vv"]).await);
    let line = requests.lines().find(|line| line.contains("GET http://"));
    assert!(line.unwrap().contains("status=206"), "{requests}");
}

#[tokio::test]
async fn whoever_only_looks_makes_no_folder() {
    let (desk, _) = desk();
    let verified = desk.bare("verify", ["--to", "nowhere"]).await;
    assert_eq!(verified.status.code(), Some(1));
    let repaired = desk.bare("repair", ["--to", "nowhere"]).await;
    assert_eq!(repaired.status.code(), Some(2));
    assert!(told(&repaired).contains("no release is marked as ready at nowhere"));
    assert!(!desk.dir.path().join("nowhere").exists());
}

#[tokio::test]
async fn an_error_says_its_innermost_cause_once() {
    let (desk, _) = desk();
    desk.write("mirror.toml", "[retry]\nattempts = 1\n");
    let closed = [
        "--origin",
        "far.test=http://127.0.0.1:1",
        "--config",
        "mirror.toml",
    ];
    let output = desk.run("sync", &closed).await;
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    let line = told
        .lines()
        .find(|line| line.starts_with("failed"))
        .unwrap();
    let wanted = "http://127.0.0.1:1/bin/small can't be reached: Connection refused (os error 111)";
    assert!(
        line.ends_with(wanted) || line.ends_with(&wanted.replace("small", "large")),
        "{line}"
    );
}

#[tokio::test]
async fn names_that_move_are_refused_where_nobody_is_asked() {
    let (desk, _) = desk();
    let versions = ["--kubernetes", "stable", "--kops", "1.36.2"];
    let output = desk.bare("assets", versions).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("'stable' is today is known to the network alone"));
}

#[tokio::test]
async fn what_cannot_be_served_is_not_said_to_be() {
    let (desk, _) = desk();
    let output = desk
        .bare("serve", ["nowhere", "--listen", "127.0.0.1:0"])
        .await;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn a_kops_without_a_flag_for_it_gets_the_spec_to_put_in() {
    let (desk, _) = desk();
    let release = [
        "--kubernetes",
        "v1.10.12",
        "--kops",
        "1.10.1",
        "--arch",
        "amd64",
    ];
    let base = ["--base-url", "http://10.0.0.1/m"];
    let output = desk.bare("env", release.into_iter().chain(base)).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    let spec = "#   spec:\n#     assets:\n#       fileRepository: \"http://10.0.0.1/m\"\n";
    assert!(printed.contains(spec), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_of_several_releases_are_one_document() {
    let desk = Desk::new();
    let words = "--kubernetes v1.34.8 --kubernetes v1.33.9 --kops 1.36.2 --base-url http://10.0.0.1/m -o json";
    let output = desk.bare("env", words.split(' ')).await;
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed.as_array().unwrap().len(), 2, "{printed}");
}
