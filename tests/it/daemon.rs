//! The service as an operator runs it: the program in a process of its own, upstreams on loopback that move, break and come back,
//! somebody who is told.

mod away;
mod crowd;
mod images;
mod renewal;
mod story;
mod upstream;

use std::time::{Duration, Instant};

use kops_mirror::loopback::origin::{Fault, When};
use rustix::process::Signal;
use serde_json::Value;

use self::upstream::{Told, Upstream};

#[tokio::test]
async fn it_follows_stable_and_ends_when_it_is_asked_to() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let service = upstream.start("schedule = \"every 1s\"").await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    assert_eq!(service.get("readyz").await.0, 200);
    upstream.release("1.34.9", "1.36.2");
    let both = service.until("both", |status| states(status) == ["complete", "complete"]);
    // `stable` moved on; what is kept by its channel of the minor is the new one as well.
    let _ = tokio::time::timeout(Duration::from_secs(1), both).await;
    service
        .until("the new one", |status| {
            names(status).contains(&"kops-1.36.2_kubernetes-1.34.9".to_owned())
                && states(status).iter().all(|state| state == "complete")
        })
        .await;
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn what_is_incomplete_goes_away_or_changes_is_told_and_made_good() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let told = Told::listen().await;
    upstream.break_off("*/kubelet", Fault::status(404));
    let service = upstream
        .start(&format!("schedule = \"every 1s\"\n{}", told.hook()))
        .await;
    service
        .until("failed", |status| states(status) == ["failed"])
        .await;
    told.until("run-failed").await;
    upstream.recover();
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    told.until("mirrored").await;

    upstream.break_off("*", Fault::status(503));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(service.get("healthz").await.0, 200);
    upstream.recover();

    let before = upstream.mirrored("kubelet");
    upstream.replace_kubelet("1.34.8");
    service
        .until("changed", |status| states(status) == ["changed"])
        .await;
    told.until("upstream").await;
    assert_eq!(
        upstream.mirrored("kubelet"),
        before,
        "what is mirrored stays as it is"
    );
    service.end(Signal::TERM).await;
}

#[tokio::test]
async fn bad_settings_are_refused_by_line_at_start_and_kept_out_at_reload() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let refused = upstream.refused("schedule = \"0 3 * *\"").await;
    assert!(refused.contains("mirror.toml, line "), "{refused}");
    assert!(refused.contains("no schedule"), "{refused}");
    let service = upstream.start("schedule = \"every 1s\"").await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    upstream.write_settings("schedule = \"0 3 * *\"");
    service.signal(Signal::HUP);
    tokio::time::sleep(Duration::from_millis(500)).await;
    upstream.write_settings("schedule = \"every 2s\"");
    service.signal(Signal::HUP);
    service
        .until("the new schedule", |status| {
            status["sets"][0]["schedule"] == "every 2s"
        })
        .await;
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the settings stay as they were"), "{said}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    upstream.origin.order(
        "*/kubelet",
        When::Always,
        Fault::Stall {
            after: 10,
            time: None,
        },
    );
    let service = upstream.start("schedule = \"every 1h\"").await;
    service
        .until("under way", |status| {
            status["sets"][0]["progress"]["files"]
                .as_array()
                .is_some_and(|files| !files.is_empty())
        })
        .await;
    service.signal(Signal::TERM);
    service
        .until("draining", |status| status["draining"] == true)
        .await;
    let begun = Instant::now();
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it did not wait for the drain's 30 s: {said}"
    );
}

#[tokio::test]
async fn an_upstream_that_was_never_reached_is_no_success() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    upstream.break_off("*", Fault::status(503));
    let service = upstream.start("schedule = \"every 1s\"").await;
    let status = service
        .until("failed", |status| {
            status["sets"][0]["last_run"]["end"] == "failed"
        })
        .await;
    let why = status["sets"][0]["last_run"]["why"].as_str().unwrap();
    assert!(why.contains("no Kubernetes version fits 'stable'"), "{why}");
    assert!(status["sets"][0]["last_success"].is_null());
    upstream.recover();
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
}

#[tokio::test]
async fn of_two_services_one_runs_at_a_time_and_each_file_crosses_once() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    upstream
        .origin
        .order("*/kubelet", When::Always, Fault::Rate(40_000));
    let one = upstream.start("schedule = \"every 3s\"").await;
    let other = upstream.start_beside("other").await;
    for service in [&one, &other] {
        service
            .until("complete", |status| states(status) == ["complete"])
            .await;
    }
    let kubelet = "/dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet";
    let length = upstream.origin.file(kubelet).unwrap().content.length();
    assert_eq!(upstream.origin.log().bytes_sent(kubelet), length);
    let runs: Value = serde_json::from_str(&other.get("api/v1/runs?limit=200").await.1).unwrap();
    let ends: Vec<&str> = runs["runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|run| run["end"].as_str())
        .collect();
    assert!(ends.contains(&"held-by-other"), "{ends:?}");
}

#[tokio::test]
async fn what_a_killed_service_held_is_taken_over_before_the_next_time_is_due() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let stall = Fault::Stall {
        after: 10,
        time: None,
    };
    upstream.origin.order("*/kubelet", When::Always, stall);
    let hourly = "schedule = \"every 1h\"\n[service]\nlisten = \"127.0.0.1:0\"\nlease = \"2s\"";
    let killed = upstream.start(hourly).await;
    let is_under_way = |status: &Value| {
        let files = status["sets"][0]["progress"]["files"].as_array();
        files.is_some_and(|files| !files.is_empty())
    };
    killed.until("under way", is_under_way).await;
    drop(killed);
    upstream.recover();
    let next = upstream.start_beside("next").await;
    next.until("complete", |status| states(status) == ["complete"])
        .await;
}

#[tokio::test]
async fn what_upstream_takes_back_is_told_whoever_notices_it_and_stays() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let told = Told::listen().await;
    upstream.list_kops(&["v1.36.2", "v1.35.0", "v1.34.0"]);
    let token = upstream.dir.path().join("token");
    std::fs::write(&token, "a-token-of-sixteen").unwrap();
    let rules = "kops = \">=1.36, latest 1 patches\"\nschedule = \"every 1h\"\n[service]\n\
                 listen = \"127.0.0.1:0\"\ntoken_file = \"token\"\n";
    let service = upstream.start(&format!("{rules}{}", told.hook())).await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    upstream.list_kops(&["v1.36.1", "v1.35.0", "v1.34.0"]);
    // A plan is the first to see it, and tells nobody.
    let planned = service.ask("GET", "api/v1/sets/all/plan").await;
    assert_ne!(planned, 401);
    assert_eq!(service.ask("POST", "api/v1/sets/all/runs").await, 202);
    told.until("withdrawn").await;
    assert!(!upstream.mirrored("kubelet").is_empty());
}

#[tokio::test]
async fn a_history_that_is_lost_is_taken_from_the_targets() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let service = upstream.start("schedule = \"every 1h\"").await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    service.end(Signal::TERM).await;
    let state = upstream.dir.path().join(".local/state/kops-mirror");
    std::fs::remove_dir_all(&state).unwrap();
    let service = upstream.start("schedule = \"every 1h\"").await;
    service
        .until("looked", |status| !status["sets"][0]["last_run"].is_null())
        .await;
    let runs = service.get("api/v1/runs").await.1;
    let runs: Value = serde_json::from_str(&runs).unwrap();
    let marked = |run: &Value| {
        run["marked"]
            .to_string()
            .contains("kops-1.36.2_kubernetes-1.34.8")
    };
    assert!(
        runs["runs"].as_array().unwrap().iter().any(marked),
        "{runs:#}"
    );
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_and_when_it_ends() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let socket = upstream.dir.path().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let service = upstream.start_under(&socket).await;
    let systemd = std::sync::Arc::new(systemd);
    let heard = || {
        let systemd = std::sync::Arc::clone(&systemd);
        tokio::task::spawn_blocking(move || {
            let mut message = [0; 256];
            let length = systemd.recv(&mut message).unwrap();
            String::from_utf8_lossy(&message[..length]).into_owned()
        })
    };
    assert!(heard().await.unwrap().contains("READY=1"));
    assert!(heard().await.unwrap().contains("WATCHDOG=1"));
    service.signal(Signal::TERM);
    while !heard().await.unwrap().contains("STOPPING=1") {}
}

fn states(status: &Value) -> Vec<String> {
    let releases = status["sets"][0]["releases"].as_array();
    let state = |release: &Value| release["targets"][0]["state"].as_str().unwrap().to_owned();
    releases.into_iter().flatten().map(state).collect()
}

fn names(status: &Value) -> Vec<String> {
    let releases = status["sets"][0]["releases"].as_array();
    let name = |release: &Value| release["name"].as_str().unwrap().to_owned();
    releases.into_iter().flatten().map(name).collect()
}
