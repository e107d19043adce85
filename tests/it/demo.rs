//! Plays the demo as a stranger would: no environment, no home, no network.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// The program with nothing of this machine's environment in it but a folder for temporary files.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::cargo_bin("kops-mirror").unwrap();
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("TMPDIR", temporary)
        .arg("demo");
    command
}

/// The figures of a step.
fn figures<'a>(story: &'a Value, step: &str) -> &'a Value {
    let mut steps = story["steps"].as_array().unwrap().iter();
    let found = steps.find(|found| found["name"] == step);
    &found.unwrap_or_else(|| panic!("no step {step} in {story:#}"))["figures"]
}

/// A figure of a step.
fn figure(story: &Value, step: &str, name: &str) -> u64 {
    let figure = &figures(story, step)[name];
    figure
        .as_u64()
        .unwrap_or_else(|| panic!("no figure {name} in step {step} of {story:#}"))
}

#[test]
fn the_story_is_told_by_figures_and_leaves_nothing_behind() {
    let temporary = TempDir::new().unwrap();
    let output = demo(temporary.path())
        .args(["--output", "json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let story: Value = serde_json::from_slice(&output.stdout).expect(&errors);
    assert_eq!(story["failed"], Value::Null, "{story:#}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(errors, "");
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    let of = |step: &str, name: &str| figure(&story, step, name);
    let refused = of("corrupt", "length");
    assert_eq!(
        of("mirror", "bytes_sent"),
        of("mirror", "bytes_wanted") + refused
    );
    assert_eq!(of("mirror", "bytes_refetched"), refused);
    assert!(of("mirror", "vouched_for_twice") > 4);
    assert_eq!(of("cut", "bytes_sent"), of("cut", "length"));
    assert!(of("cut", "requests") >= 2);
    assert_eq!(of("corrupt", "bytes_sent"), 2 * refused);
    // Both sources brought parts of it; which was wrong nobody knows, so all of it came anew from the second.
    let from_first = of("corrupt", "bytes_from_first_source");
    assert!((234_568..=refused).contains(&from_first), "{from_first}");
    assert_eq!(of("corrupt", "puts"), 1);
    assert_eq!(of("busy", "puts_of_busy"), 3);
    assert!(of("stop", "bytes_arrived") > 1_000_000);
    assert!(of("stop", "bytes_arrived") < of("stop", "bytes_wanted"));
    assert_eq!(
        of("resume", "bytes_sent") + of("stop", "bytes_arrived"),
        of("resume", "bytes_wanted")
    );
    assert_eq!(of("order", "markers"), 2);
    assert!(of("order", "sidecars") >= of("order", "files"));
    let objects = ["files", "sidecars", "markers", "pointers"].map(|kind| of("order", kind));
    assert_eq!(of("etags", "objects"), objects.iter().sum::<u64>());
    assert_eq!(of("unchanged", "file_bytes_sent"), 0);
    assert_eq!(of("unchanged", "listings"), 2);
    assert_eq!(of("damage", "found_from_listing"), 2);
    assert_eq!(of("damage", "found_by_reading"), 3);
    assert_eq!(of("repair", "copies_inside"), 1);
}

#[test]
fn it_is_told_to_a_person_and_kept_when_asked_for() {
    let temporary = TempDir::new().unwrap();
    let kept = temporary.path().join("kept");
    let output = demo(Path::new("/nonexistent"))
        // Nobody is there. A proxy knows nothing of this machine's own addresses anyway.
        .env("http_proxy", "http://127.0.0.1:9")
        .env("AWS_PROFILE", "nobody")
        .arg("--keep")
        .arg(&kept)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{output:?}");
    for words in [
        "A connection breaks",
        "refused: ",
        "The same command again",
        "kops-mirror repair",
        "saw what they must",
    ] {
        assert!(told.contains(words), "no '{words}' in:\n{told}");
    }
    // Nobody can say how long the name of the folder is.
    let lines = told
        .lines()
        .filter(|line| !line.contains("kops-mirror serve"));
    let longest = lines.map(|line| line.chars().count()).max();
    assert!(longest < Some(120), "{told}");
    for (era, file) in [
        ("today", "release/v1.34.8/bin/linux/amd64/kubelet"),
        ("2018", "kubernetes/release/v1.8.15/bin/linux/amd64/kubelet"),
    ] {
        assert!(kept.join(era).join(file).is_file(), "{era}/{file}");
    }
}

#[test]
fn what_can_not_be_played_is_a_failed_step() {
    let output = demo(Path::new("/nonexistent")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("Step 1 ('stage')"), "{told}");
    assert!(told.contains("--keep DIR"), "{told}");
}
