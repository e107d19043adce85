//! A life of troubles, in real time: one set is fed from one crossing into a bucket in each region of China, while `stable` moves, a
//! release comes out piece by piece, upstream goes away and one of the buckets takes nothing.

use kops_mirror::loopback::origin::Fault;
use kops_mirror::loopback::s3::{self, LoopbackS3, Options};
use rustix::process::Signal;
use serde_json::Value;

use super::upstream::{Service, Told, Upstream};

/// A region's server with one bucket.
pub(super) struct Region {
    pub(super) server: LoopbackS3,
    pub(super) bucket: &'static str,
}

impl Region {
    pub(super) fn start(region: &str, bucket: &'static str) -> Self {
        let server = LoopbackS3::start(Options {
            region: region.to_owned(),
            ..Options::default()
        })
        .unwrap();
        server.bucket(bucket);
        Self { server, bucket }
    }

    pub(super) fn place(&self) -> String {
        format!("s3://{}/k8s", self.bucket)
    }

    fn settings(&self) -> String {
        self.settings_at(self.server.endpoint().as_str())
    }

    /// Where it is reached by another URL.
    pub(super) fn settings_at(&self, endpoint: &str) -> String {
        let region = self.server.region();
        format!("region = \"{region}\"\nendpoint = \"{endpoint}\"\n")
    }

    pub(super) fn has_kubelet(&self, version: &str) -> bool {
        let key = format!("k8s/release/v{version}/bin/linux/amd64/kubelet");
        let commits = self.server.bucket(self.bucket).commits();
        commits.contains(&key)
    }
}

#[tokio::test]
async fn troubles_come_and_go_and_two_regions_end_complete_from_one_crossing() {
    let north = Region::start("cn-north-1", "mirror-bjs");
    let northwest = Region::start("cn-northwest-1", "mirror-zhy");
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let told = Told::listen().await;
    let settings = format!(
        "to = [\"{}\", \"{}\"]\nschedule = \"every 1s\"\n[s3]\n{}[s3.buckets.{}]\n{}{}",
        north.place(),
        northwest.place(),
        north.settings(),
        northwest.bucket,
        northwest.settings(),
        told.hook(),
    );
    let keys = north.server.credentials();
    let variables = [
        ("AWS_ACCESS_KEY_ID", keys.access_key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_key.as_str()),
    ];
    let service = upstream.start_in(&settings, &variables).await;
    until(&service, "1.34.8", ["complete", "complete"]).await;
    told.until("kubernetes-1.34.8").await;

    upstream.break_off("*/v1.34.9/*/kubelet", Fault::status(404));
    upstream.release("1.34.9", "1.36.2");
    until(&service, "1.34.9", ["failed", "failed"]).await;
    told.until("404").await;
    upstream.recover();
    until(&service, "1.34.9", ["complete", "complete"]).await;
    told.until("kubernetes-1.34.9").await;

    let denied = s3::Fault::access_denied().on("PutObject");
    northwest
        .server
        .faults()
        .order(denied.key("*/v1.34.10/*").always());
    upstream.release("1.34.10", "1.36.2");
    until(&service, "1.34.10", ["complete", "failed"]).await;
    told.until("AccessDenied").await;
    assert!(north.has_kubelet("1.34.10") && !northwest.has_kubelet("1.34.10"));
    check_metrics(&service, [&north, &northwest], [1, 0]).await;

    upstream.break_off("*", Fault::HangUp);
    service
        .until("away", |status| as_of(status).is_some())
        .await;
    told.until("nobody vouches for it").await;
    assert_eq!(service.get("healthz").await.0, 200);
    northwest.server.faults().clear();
    upstream.recover();
    let status = until(&service, "1.34.10", ["complete", "complete"]).await;
    told.until("kubernetes-1.34.10").await;
    check_metrics(&service, [&north, &northwest], [1, 1]).await;
    assert_eq!(as_of(&status), None);
    assert!(northwest.has_kubelet("1.34.10"));

    for version in ["1.34.8", "1.34.9", "1.34.10"] {
        let crossings = upstream.crossings(version);
        assert!(crossings.len() >= 10, "{crossings:?}");
        for (file, times) in crossings {
            assert!((times - 1.0).abs() < f64::EPSILON, "{file}: {times} times");
        }
    }
    let messages = told.messages();
    let mirrored = |message: &&Value| message["occasion"] == "mirrored";
    let names: Vec<&Value> = messages
        .iter()
        .filter(mirrored)
        .map(|message| &message["release"])
        .collect();
    let each = ["8", "9", "10"].map(|patch| format!("kops-1.36.2_kubernetes-1.34.{patch}"));
    assert_eq!(names, each.each_ref(), "each is told once: {messages:#?}");
    let upstreams = |message: &Value| message["occasion"] == "upstream";
    assert!(
        !messages.iter().any(upstreams),
        "silence is no change: {messages:#?}"
    );
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
}

/// Waits until the one release that is followed is of this version and stands so at the two targets.
pub(super) async fn until(service: &Service, version: &str, states: [&str; 2]) -> Value {
    let is_so = |status: &Value| {
        let release = &status["sets"][0]["releases"][0];
        let at = |target: usize| release["targets"][target]["state"].as_str();
        release["kubernetes"] == version && [at(0), at(1)] == states.map(Some)
    };
    let what = format!("{version}: {states:?}");
    service.until(&what, is_so).await
}

/// What is said of upstream while it does not answer.
fn as_of(status: &Value) -> Option<&str> {
    let notes = status["sets"][0]["notes"].as_array()?;
    let mut notes = notes.iter().filter_map(Value::as_str);
    notes.find(|note| note.contains("stable is taken for Kubernetes 1.34.10, as it was at "))
}

/// Whether the newest release is complete at each of the regions, as Prometheus reads it.
async fn check_metrics(service: &Service, regions: [&Region; 2], complete: [u8; 2]) {
    let metrics = service.get("metrics").await.1;
    for (region, complete) in regions.into_iter().zip(complete) {
        let value = |name: &str, labels: &[&str]| {
            let target = format!("target=\"{}\"", region.place());
            let line = metrics.lines().find(|line| {
                line.starts_with(&format!("{name}{{"))
                    && line.contains(&target)
                    && labels.iter().all(|label| line.contains(label))
            });
            let line = line.unwrap_or_else(|| panic!("{name} {labels:?}: {metrics}"));
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        let release = "release=\"kops-1.36.2_kubernetes-1.34.10\"";
        let whole = value("kops_mirror_release_complete", &[release]);
        let missing = value("kops_mirror_release_missing_files", &[release]);
        let failed = value("kops_mirror_releases", &["state=\"failed\""]);
        assert_eq!(whole, complete.to_string(), "{}", region.place());
        assert_eq!(missing == "0", complete == 1, "{}", region.place());
        assert_eq!(failed, (1 - complete).to_string(), "{}", region.place());
    }
}
