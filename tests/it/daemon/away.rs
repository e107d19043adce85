//! One of a set's two regions is away, or takes no lease, or goes away in the middle of a run: the other gets all that comes out, with
//! its pointers, and what is not known of the first is not said to be complete.

use kops_mirror::loopback::origin::Fault;
use kops_mirror::loopback::s3;
use rustix::process::Signal;
use serde_json::Value;

use super::story::{Region, until};
use super::upstream::{Service, Told, Upstream};
use crate::support::gate::Gate;

/// Two regions, and a gate on the way to the second.
struct China {
    north: Region,
    northwest: Region,
    gate: Gate,
    upstream: Upstream,
    told: Told,
}

impl China {
    async fn new() -> Self {
        let northwest = Region::start("cn-northwest-1", "mirror-zhy");
        Self {
            north: Region::start("cn-north-1", "mirror-bjs"),
            gate: Gate::before(northwest.server.address()).await,
            northwest,
            upstream: Upstream::new("1.34.8", "1.36.2").await,
            told: Told::listen().await,
        }
    }

    /// A service with these settings of its set and of itself.
    async fn serve(&self, of_set: &str, of_service: &str) -> Service {
        let settings = format!(
            "to = [\"{}\", \"{}\"]\n{of_set}\n{of_service}\n[s3]\n{}[s3.buckets.{}]\n{}{}",
            self.north.place(),
            self.northwest.place(),
            self.north
                .settings_at(self.north.server.endpoint().as_str()),
            self.northwest.bucket,
            self.northwest.settings_at(&self.gate.url()),
            self.told.hook(),
        );
        let keys = self.north.server.credentials();
        let variables = [
            ("AWS_ACCESS_KEY_ID", keys.access_key.as_str()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key.as_str()),
        ];
        self.upstream.start_in(&settings, &variables).await
    }

    fn stable(region: &Region) -> String {
        let bucket = region.server.bucket(region.bucket);
        let found = bucket.object("k8s/release/stable.txt").unwrap();
        String::from_utf8(found.bytes.unwrap().to_vec()).unwrap()
    }

    fn assert_each_file_crossed_once(&self, version: &str) {
        let crossings = self.upstream.crossings(version);
        assert!(crossings.len() >= 10, "{crossings:?}");
        for (file, times) in crossings {
            assert!((times - 1.0).abs() < f64::EPSILON, "{file}: {times} times");
        }
    }

    fn failures_told(&self) -> Vec<String> {
        let messages = self.told.messages().into_iter();
        messages
            .filter(|message| message["occasion"] == "run-failed")
            .map(|message| message.to_string())
            .collect()
    }
}

/// Waits until so many more runs have ended.
async fn runs_later(service: &Service, runs: usize) {
    for _ in 0..runs {
        let last = service.status().await["sets"][0]["last_run"]["id"].clone();
        let is_next = |status: &Value| status["sets"][0]["last_run"]["id"] != last;
        service.until("another run", is_next).await;
    }
}

#[tokio::test]
async fn a_region_that_can_not_be_reached_holds_up_no_other_and_is_filled_when_it_is_back() {
    let mut china = China::new().await;
    let service = china.serve("schedule = \"every 1s\"", "").await;
    until(&service, "1.34.8", ["complete", "complete"]).await;

    china.gate.shut().await;
    // What was complete there before is not known to be.
    until(&service, "1.34.8", ["complete", "unknown"]).await;
    china.upstream.release("1.34.9", "1.36.2");
    let status = until(&service, "1.34.9", ["complete", "unknown"]).await;
    let run = &status["sets"][0]["last_run"];
    assert_eq!(run["end"], "some-failed", "{run}");
    let why = run["why"].as_str().unwrap();
    assert!(why.contains("s3://mirror-zhy/k8s is left out: "), "{why}");
    assert_eq!(run["failed"], 0, "{run}");
    assert_eq!(China::stable(&china.north), "v1.34.9\n");
    assert_eq!(China::stable(&china.northwest), "v1.34.8\n");
    check_metrics(&service).await;
    china.told.until("is left out").await;
    runs_later(&service, 1).await;
    let failures = china.failures_told();
    runs_later(&service, 3).await;
    assert_eq!(china.failures_told(), failures, "it is told once");

    china.gate.open().await;
    until(&service, "1.34.9", ["complete", "complete"]).await;
    china.told.until("kubernetes-1.34.9").await;
    assert_eq!(China::stable(&china.northwest), "v1.34.9\n");
    china.assert_each_file_crossed_once("1.34.9");
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
}

async fn check_metrics(service: &Service) {
    let metrics = service.get("metrics").await.1;
    let of_northwest = |name: &str| {
        let lines = metrics.lines();
        let lines = lines.filter(|line| {
            line.starts_with(&format!("{name}{{")) && line.contains("s3://mirror-zhy/k8s")
        });
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let complete = of_northwest("kops_mirror_release_complete");
    assert!(
        complete.len() == 1 && complete[0].ends_with(" 0"),
        "{complete:?}"
    );
    assert_eq!(
        of_northwest("kops_mirror_release_completed_timestamp_seconds"),
        [""; 0]
    );
    assert_eq!(of_northwest("kops_mirror_release_missing_files"), [""; 0]);
    let states = of_northwest("kops_mirror_releases");
    let unknown = states
        .iter()
        .find(|line| line.contains("state=\"unknown\""));
    assert!(
        unknown.is_some_and(|line| line.ends_with(" 1")),
        "{states:?}"
    );
}

#[tokio::test]
async fn a_region_that_takes_no_lease_holds_up_no_other() {
    let china = China::new().await;
    let denied = s3::Fault::access_denied()
        .on("PutObject")
        .key("*/.service/*");
    china.northwest.server.faults().order(denied.always());
    let service = china.serve("schedule = \"every 1s\"", "").await;
    let status = until(&service, "1.34.8", ["complete", "unknown"]).await;
    let why = status["sets"][0]["last_run"]["why"].as_str().unwrap();
    assert!(
        why.contains("s3://mirror-zhy/k8s is left out: ") && why.contains("AccessDenied"),
        "{why}"
    );
    assert!(!china.northwest.has_kubelet("1.34.8"));
    china.northwest.server.faults().clear();
    until(&service, "1.34.8", ["complete", "complete"]).await;
    china.assert_each_file_crossed_once("1.34.8");
    service.end(Signal::TERM).await;
}

#[tokio::test]
async fn with_both_regions_away_nothing_is_said_to_be_complete() {
    let mut china = China::new().await;
    let denied = s3::Fault::access_denied().on("HeadBucket");
    let service = china.serve("schedule = \"every 1s\"", "").await;
    until(&service, "1.34.8", ["complete", "complete"]).await;
    china.gate.shut().await;
    china.north.server.faults().order(denied.always());
    china
        .north
        .server
        .faults()
        .order(s3::Fault::access_denied().on("ListObjectsV2").always());
    let status = until(&service, "1.34.8", ["unknown", "unknown"]).await;
    let run = &status["sets"][0]["last_run"];
    assert_eq!(run["end"], "failed", "{run}");
    let why = run["why"].as_str().unwrap();
    assert!(
        why.contains("s3://mirror-bjs/k8s: ") && why.contains("s3://mirror-zhy/k8s: "),
        "{why}"
    );
    service.end(Signal::TERM).await;
}

#[tokio::test]
async fn a_region_that_goes_away_in_the_middle_stops_one_run_and_the_next_begins_at_once() {
    let mut china = China::new().await;
    // Some seconds for a kubelet.
    china.upstream.break_off("*/kubelet", Fault::Rate(10_000));
    let of_service = "[service]\nlisten = \"127.0.0.1:0\"\nlease = \"2s\"";
    let service = china.serve("schedule = \"every 1h\"", of_service).await;
    let is_fetching = |status: &Value| status["sets"][0]["progress"]["phase"] == "fetching";
    service.until("under way", is_fetching).await;
    china.gate.shut().await;
    let is_lost = |status: &Value| status["sets"][0]["last_run"]["end"] == "interrupted";
    let status = service.until("stopped", is_lost).await;
    let why = status["sets"][0]["last_run"]["why"].as_str().unwrap();
    assert!(
        why.contains("s3://mirror-zhy/k8s/.service/") && why.contains("could not be renewed"),
        "{why}"
    );
    until(&service, "1.34.8", ["complete", "unknown"]).await;
    assert_eq!(China::stable(&china.north), "v1.34.8\n");
    china.told.until("is left out").await;
    service.end(Signal::TERM).await;
}
