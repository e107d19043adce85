//! What SIGHUP renews in a process that runs, and what runs that wait are told as.

use kops_mirror::loopback::origin::{Fault, When};
use rustix::process::Signal;
use serde_json::Value;

use super::states;
use super::upstream::{Service, TOKEN, Told, Upstream};

const OTHER_TOKEN: &str = "another-token-of-more";

/// With `[service]`, whose token is in a file.
fn settings(service: &str) -> String {
    format!(
        "schedule = \"every 1h\"\n[service]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n{service}\n"
    )
}

fn write_token(upstream: &Upstream, token: &str) {
    std::fs::write(upstream.dir.path().join("token"), token).unwrap();
}

/// Has a run begun; its id.
async fn order(service: &Service, token: &str) -> String {
    let (code, told) = service.ask_as(token, "POST", "api/v1/sets/all/runs").await;
    assert_eq!(code, 202, "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    told["run"].as_str().unwrap().to_owned()
}

async fn state_of(service: &Service, run: &str) -> String {
    let (code, told) = service.get(&format!("api/v1/runs/{run}")).await;
    assert_eq!(code, 200, "{run}: {told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    told["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn hooks_and_the_token_are_renewed_and_what_is_not_is_named() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    write_token(&upstream, TOKEN);
    let service = upstream.start(&settings("")).await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    assert_eq!(
        service
            .ask_as(OTHER_TOKEN, "GET", "api/v1/sets/all/plan")
            .await
            .0,
        401
    );

    // A bad hook keeps out the token that comes with it.
    write_token(&upstream, OTHER_TOKEN);
    let bad = "[hooks.test]\nkind = \"json\"\nurl_file = \"none\"\n";
    upstream.write_settings(&format!("{}{bad}", settings("")));
    service.signal(Signal::HUP);
    service.until_said("the settings stay as they were").await;
    assert_eq!(
        service
            .ask_as(OTHER_TOKEN, "GET", "api/v1/sets/all/plan")
            .await
            .0,
        401
    );

    let told = Told::listen().await;
    upstream.write_settings(&format!(
        "{}{}",
        settings("drain = \"1s\"").replace("127.0.0.1:0", "127.0.0.2:0"),
        told.hook()
    ));
    service.signal(Signal::HUP);
    service.until_said("the settings were read again").await;
    assert_eq!(
        service.ask_as(TOKEN, "GET", "api/v1/sets/all/plan").await.0,
        401
    );
    upstream.replace_kubelet("1.34.8");
    order(&service, OTHER_TOKEN).await;
    told.until("upstream").await;
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
    let warned: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("take effect when the service is started again"))
        .collect();
    assert_eq!(warned.len(), 1, "{said}");
    assert!(warned[0].ends_with(": service.listen"), "{warned:?}");
    assert!(
        said.contains("limit=1s"),
        "the drain is the new one: {said}"
    );
}

#[tokio::test]
async fn a_run_that_waits_is_known_until_it_has_ended() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    write_token(&upstream, TOKEN);
    let stall = Fault::Stall {
        after: 10,
        time: None,
    };
    upstream.origin.order("*/kubelet", When::Always, stall);
    let service = upstream.start(&settings("")).await;
    let status = service
        .until("under way", |status| {
            !status["sets"][0]["progress"].is_null()
        })
        .await;
    let first = status["sets"][0]["progress"]["run"].as_str().unwrap();
    assert_eq!(state_of(&service, first).await, "running");

    let cancelled = order(&service, TOKEN).await;
    assert_eq!(state_of(&service, &cancelled).await, "waiting");
    let path = format!("api/v1/runs/{cancelled}");
    assert_eq!(service.ask_as(TOKEN, "DELETE", &path).await.0, 202);
    assert_eq!(state_of(&service, &cancelled).await, "ended");

    let ordered = order(&service, TOKEN).await;
    assert_eq!(state_of(&service, &ordered).await, "waiting");
    let status = service.status().await;
    assert_eq!(status["sets"][0]["queued"], 1, "{status:#}");
    assert_eq!(status["sets"][0]["waiting"][0]["run"], *ordered);
    upstream.recover();
    let path = format!("api/v1/runs/{first}");
    assert_eq!(service.ask_as(TOKEN, "DELETE", &path).await.0, 202);
    // At no moment it is unknown.
    let mut seen = vec!["waiting".to_owned()];
    while seen.last().unwrap() != "ended" {
        let state = state_of(&service, &ordered).await;
        if seen.last() != Some(&state) {
            seen.push(state);
        }
    }
    assert!(
        seen == ["waiting", "running", "ended"] || seen == ["waiting", "ended"],
        "{seen:?}"
    );
    assert_eq!(service.status().await["sets"][0]["queued"], 0);
}
