//! Whole runs of the program, as a user types them: both eras, into a bucket and into a folder. The bucket is on the S3 server
//! that KOPS_MIRROR_TEST_S3 names, or else on the server of the demo.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use kops_mirror::loopback::origin::Origin;
use kops_mirror::loopback::releases::Releases;
use kops_mirror::loopback::s3::{LoopbackS3, Options};
use semver::Version;
use serde_json::Value;
use tempfile::TempDir;

/// A bucket to mirror into, and how the program gets to it.
struct Bucket {
    endpoint: String,
    environment: Vec<(String, String)>,
    _server: Option<LoopbackS3>,
}

impl Bucket {
    fn new() -> Self {
        if let Ok(endpoint) = std::env::var("KOPS_MIRROR_TEST_S3") {
            let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"];
            let value = |name: &str| {
                std::env::var(name)
                    .ok()
                    .map(|value| (name.to_owned(), value))
            };
            let environment = names.into_iter().filter_map(value).collect();
            return Self {
                endpoint,
                environment,
                _server: None,
            };
        }
        let server = LoopbackS3::start(Options::default()).unwrap();
        let keys = server.credentials();
        let environment = vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), keys.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), keys.secret_key.clone()),
            ("AWS_REGION".to_owned(), server.region().to_owned()),
        ];
        Self {
            endpoint: server.endpoint().to_string(),
            environment,
            _server: Some(server),
        }
    }
}

/// A machine with the program, the upstreams that it is redirected to, and a target.
struct Site {
    origin: Origin,
    releases: Releases,
    bucket: Bucket,
    dir: TempDir,
}

impl Site {
    fn new(releases: Releases) -> Self {
        let origin = Origin::start().unwrap();
        releases.publish_on(&origin);
        Self {
            origin,
            releases,
            bucket: Bucket::new(),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Runs the program with nothing of this machine's environment but what the target needs.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kops-mirror"));
        command
            .env_clear()
            .envs(self.bucket.environment.iter().cloned());
        command
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// The flags that send every canonical host to the loopback origin.
    fn origins(&self) -> Vec<String> {
        let redirect = |host| {
            [
                "--origin".to_owned(),
                format!("{host}={}", self.origin.host_url(host)),
            ]
        };
        self.releases
            .hosts()
            .into_iter()
            .flat_map(redirect)
            .collect()
    }

    /// A run with a JSON result.
    async fn json(&self, exit: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Syncs twice, verifies, damages nothing: what every target must allow.
    async fn mirror_and_check(&self, versions: &[&str], target: &[&str]) {
        let origins = self.origins();
        let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
        let sync = [&["sync"], versions, target, &["--create-bucket"], &origins].concat();
        let first = self.json(0, &sync).await;
        assert!(
            first["totals"]["transferred"].as_u64().unwrap() > 5,
            "{first}"
        );
        assert_eq!(first["totals"]["failed"], 0);
        assert_eq!(first["totals"]["bytes_refetched"], 0);
        let second = self.json(0, &sync).await;
        assert_eq!(second["totals"]["transferred"], 0, "{second}");
        assert_eq!(second["totals"]["bytes_fetched"], 0);
        let plan = self
            .json(0, &[&["plan"], versions, target, &origins].concat())
            .await;
        assert_eq!(plan["totals"]["transfer"], 0, "{plan}");
        assert_eq!(plan["releases"], serde_json::json!([]), "{plan}");
        for deep in [&[][..], &["--deep"]] {
            let audits = self.json(0, &[&["verify"], target, deep].concat()).await;
            assert_eq!(audits[0]["findings"], serde_json::json!({}));
            assert_eq!(audits[0]["unindexed"], 0, "{audits}");
        }
    }
}

fn modern() -> Releases {
    Releases::scaled_down(64).with_modern(&Version::new(1, 34, 8), &Version::new(1, 36, 2))
}

fn legacy() -> Releases {
    Releases::scaled_down(64).with_legacy(&Version::new(1, 8, 10), &Version::new(1, 8, 1))
}

const MODERN: &[&str] = &["--kubernetes", "v1.34.8", "--kops", "1.36.2"];
const LEGACY: &[&str] = &[
    "--kubernetes",
    "v1.8.10",
    "--kops",
    "1.8.1",
    "--networking",
    "weave",
];

/// The legacy CNI archive has no sidecar anywhere, and generated bytes can't have its digest.
const BUT_CNI: &[&str] = &["--exclude", "**/network-plugins/**"];

fn prefix() -> String {
    format!("s3://kops-mirror-runs/run-{}", std::process::id())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modern_release_reaches_a_bucket() {
    let site = Site::new(modern());
    let to = format!("{}-modern", prefix());
    site.mirror_and_check(MODERN, &["--to", &to, "--endpoint", &site.bucket.endpoint])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_release_reaches_a_bucket_in_the_offline_layout() {
    let site = Site::new(legacy());
    let to = format!("{}-legacy", prefix());
    let target = ["--to", &to, "--endpoint", &site.bucket.endpoint];
    site.mirror_and_check(&[LEGACY, BUT_CNI].concat(), &target)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_move_are_resolved_and_a_folder_holds_what_kops_asks_for() {
    let site = Site::new(modern());
    let names = ["--kubernetes", "stable-1.34", "--kops", "latest"];
    let target = ["--to", "mirror"];
    site.mirror_and_check(&names, &target).await;
    let mirror = site.dir.path().join("mirror");
    for file in [
        "release/v1.34.8/bin/linux/amd64/kubelet",
        "release/v1.34.8/bin/linux/arm64/kubelet.sha256",
        "binaries/kops/1.36.2/linux/amd64/nodeup.sha256",
        "binaries/kops/1.36.2/linux/amd64/protokube",
        "containerd/containerd/releases/download/v2.2.4/containerd-2.2.4-linux-amd64.tar.gz",
        "releases/kops-1.36.2_kubernetes-1.34.8.json",
    ] {
        assert!(mirror.join(file).is_file(), "{file}");
    }
    assert_sidecar(&mirror, "binaries/kops/1.36.2/linux/amd64/nodeup");
}

/// The program serving a folder, until it is dropped.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kops-mirror"));
        command.env_clear().env("HOME", folder).arg("serve");
        command.arg(folder).args(["--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap().to_owned();
        Self { process, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The folder crosses an air gap by hand: behind it there is no other upstream, and no sidecar in its publisher's own form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_folder_is_all_the_upstream_that_the_next_mirror_needs() {
    let site = Site::new(modern());
    let origins = site.origins();
    let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    let outside = [&["sync"], MODERN, &["--to", "outside"], &origins].concat();
    site.json(0, &outside).await;
    let served = Served::start(&site.dir.path().join("outside"));
    let hosts = site.releases.hosts();
    let redirects: Vec<String> = hosts
        .into_iter()
        .flat_map(|host| ["--origin".to_owned(), format!("{host}={}", served.address)])
        .collect();
    let redirects: Vec<&str> = redirects.iter().map(String::as_str).collect();
    let inside = [&["sync"], MODERN, &["--to", "inside"], &redirects].concat();
    let report = site.json(0, &inside).await;
    assert!(report["totals"]["transferred"].as_u64().unwrap() > 5);
    assert_eq!(report["totals"]["bytes_refetched"], 0, "{report}");
}

/// Bare hexadecimal and a newline, of what is there.
fn assert_sidecar(mirror: &Path, file: &str) {
    use kops_mirror::digest::{Algorithm, Digest};
    let content = std::fs::read(mirror.join(file)).unwrap();
    let sidecar = std::fs::read_to_string(mirror.join(format!("{file}.sha256"))).unwrap();
    assert_eq!(
        sidecar,
        format!("{}\n", Digest::of(Algorithm::Sha256, &content).hex())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legacy_cni_archive_with_a_wrong_digest_is_refused_and_the_rest_is_there() {
    let site = Site::new(legacy());
    let origins = site.origins();
    let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    let report = site
        .json(
            1,
            &[&["sync"], LEGACY, &["--to", "mirror"], &origins].concat(),
        )
        .await;
    let assets = report["assets"].as_array().unwrap();
    let failed: Vec<&str> = assets
        .iter()
        .filter(|a| a["kind"] == "failed")
        .map(|a| a["key"].as_str().unwrap())
        .collect();
    let cni = "kubernetes/network-plugins/cni-0799f5732f2a11b329d9e3d51b9c8f2e3759f2ff.tar.gz";
    assert!(failed.contains(&cni), "{failed:?}");
    let mirror = site.dir.path().join("mirror");
    assert!(!mirror.join(cni).exists());
    assert!(
        mirror
            .join("kubernetes/release/v1.8.10/bin/linux/amd64/kubelet.sha1")
            .is_file()
    );
    assert!(
        !mirror.join("releases").exists(),
        "an incomplete release is not marked"
    );
}
