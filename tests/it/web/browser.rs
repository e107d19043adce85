//! What other programs make of the server: a browser, a fuzzer of APIs, Prometheus' own linter. Each where the environment names
//! it; `tests/page/run.sh` and `tests/api/run.sh` install and name them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Lab, SECRET};

/// As many as the page must show at once.
const RELEASES: usize = 500;

/// What the environment calls a program, if it names one.
fn program(variable: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    if named.is_none() {
        eprintln!("skipped: {variable} names no program");
    }
    named
}

/// Where a run leaves what somebody may want to look at.
fn keepsakes(of: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(of);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program to its end while the service's run goes on.
async fn run_beside(lab: &Lab, mut command: Command) {
    let ended = tokio::task::spawn_blocking(move || command.status().unwrap());
    let ticking = async {
        for step in 0.. {
            lab.office.advance(step);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        () = ticking => unreachable!("it ticks without end"),
        ended = ended => assert!(ended.unwrap().success()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lives_in_a_browser() {
    let Some(chromium) = program("KOPS_MIRROR_TEST_CHROMIUM") else {
        return;
    };
    let lab = Lab::with(RELEASES, Some(SECRET)).await;
    let mut command = Command::new("python3");
    command
        .arg(script("tests/page/drive.py"))
        .args([&chromium, &lab.url("/"), SECRET])
        .arg(keepsakes("page"));
    run_beside(&lab, command).await;
    let asked = lab.office.asked();
    assert!(asked.contains(&"start stable sync".to_owned()), "{asked:?}");
    let cancelled = asked.iter().any(|asked| asked.starts_with("cancel "));
    assert!(cancelled, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_it_is_described() {
    let Some(schemathesis) = program("KOPS_MIRROR_TEST_SCHEMATHESIS") else {
        return;
    };
    let lab = Lab::start().await;
    let mut command = Command::new(script("tests/api/fuzz.sh"));
    command
        .current_dir(keepsakes("api"))
        .args([&schemathesis, &lab.url(""), SECRET]);
    run_beside(&lab, command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_nothing_to_say_against_the_metrics() {
    let Some(promtool) = program("KOPS_MIRROR_TEST_PROMTOOL") else {
        return;
    };
    let lab = Lab::start().await;
    let metrics = keepsakes("api").join("metrics.txt");
    let text = lab.get("/metrics").await.text().await.unwrap();
    std::fs::write(&metrics, text).unwrap();
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]);
    command.stdin(std::fs::File::open(metrics).unwrap());
    run_beside(&lab, command).await;
}
