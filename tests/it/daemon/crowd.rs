//! Services and shards that all want to fill one bucket, and are killed at random.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::index::Index;
use kops_mirror::loopback::origin::{Fault, When};
use kops_mirror::loopback::releases::Releases;
use kops_mirror::store::ETag;
use rustix::process::Signal;

use super::states;
use super::upstream::{Service, Upstream};
use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::program;

const KUBERNETES: &str = "1.34.8";
const KOPS: &str = "1.36.2";
const SERVICES: usize = 2;
const SHARDS: usize = 4;
const KILLS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(120);

/// Upstream, the bucket, and what those who fill it are started with.
struct Scene {
    upstream: Upstream,
    server: BucketServer,
    releases: Releases,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::new(KUBERNETES, KOPS).await;
        let (kubernetes, kops) = (KUBERNETES.parse().unwrap(), KOPS.parse().unwrap());
        let releases = Releases::scaled_down(100).with_modern(&kubernetes, &kops);
        releases.publish_on(&upstream.origin);
        // So slow that there is somebody to kill.
        let slow = Fault::Rate(250_000);
        upstream.origin.order("*", When::Always, slow);
        let scene = Self {
            upstream,
            server: BucketServer::start(),
            releases,
        };
        scene.write_settings();
        scene
    }

    fn write_settings(&self) {
        let mut text = format!(
            "to = [\"s3://mirror/{PREFIX}\"]\narch = [\"amd64\", \"arm64\"]\n[fetch]\nconnections = 4\n\
             [s3]\nendpoint = \"{}\"\nregion = \"{}\"\n\
             [service]\nlisten = \"127.0.0.1:0\"\nlease = \"2s\"\n\
             [sets.all]\nkubernetes = [\"stable\"]\nkops = \"{KOPS}\"\nschedule = \"every 1s\"\n",
            self.server.0.endpoint(),
            self.server.0.region(),
        );
        for host in self.releases.hosts() {
            let url = self.upstream.origin.host_url(host);
            let _ = write!(text, "[origins.\"{host}\"]\nsources = [\"{url}\"]\n");
        }
        std::fs::write(self.upstream.dir.path().join("mirror.toml"), text).unwrap();
    }

    /// The program, as on a machine of its own.
    fn command(&self, name: &str, subcommand: &str) -> Command {
        let home = self.upstream.dir.path().join(name);
        let keys = self.server.options().keys.unwrap();
        let mut command = program(self.upstream.dir.path());
        command
            .current_dir(self.upstream.dir.path())
            .env("AWS_ACCESS_KEY_ID", keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", keys.secret_key)
            .args([subcommand, "--config", "mirror.toml", "--spool"])
            .arg(home.join("spool"));
        command
    }

    async fn service(&self, number: usize) -> Service {
        let name = format!("service-{number}");
        let mut command = self.command(&name, "daemon");
        let state = self.upstream.dir.path().join(&name).join("state");
        command.arg("--state").arg(state);
        Service::start(command).await
    }

    fn shard(&self, number: usize) -> Child {
        let mut command = self.command(&format!("shard-{number}"), "sync");
        command.args(["--kubernetes", KUBERNETES, "--kops", KOPS]);
        command.args(["--shard", &format!("{number}/{SHARDS}")]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn marker() -> String {
        format!("{PREFIX}/releases/kops-{KOPS}_kubernetes-{KUBERNETES}.json")
    }

    fn index(&self) -> Index {
        let object = self.server.bucket().object(&Self::marker()).unwrap();
        let key = Self::marker()[PREFIX.len() + 1..].parse().unwrap();
        Index::parse(&key, &object.bytes.unwrap()).unwrap()
    }

    fn moment(&self) -> Moment {
        let log = self.upstream.origin.log();
        let paths = log.paths().into_iter();
        Moment {
            begun: paths.filter(|path| log.bytes_sent(path) > 0).collect(),
            committed: self.server.bucket().commits().into_iter().collect(),
        }
    }
}

/// How far all had come when somebody was killed.
struct Moment {
    begun: BTreeSet<String>,
    committed: BTreeSet<String>,
}

/// Who works at the bucket.
struct Crowd {
    services: Vec<Service>,
    /// None once it has done its share.
    shards: Vec<Option<Child>>,
}

impl Crowd {
    async fn gather(scene: &Scene) -> Self {
        let mut services = Vec::new();
        for number in 0..SERVICES {
            services.push(scene.service(number).await);
        }
        Self {
            services,
            shards: (0..SHARDS)
                .map(|number| Some(scene.shard(number)))
                .collect(),
        }
    }

    /// One of them is killed and begins anew.
    async fn kill(&mut self, number: usize, scene: &Scene) {
        match number.checked_sub(SERVICES) {
            None => {
                drop(self.services.remove(number));
                self.services.insert(number, scene.service(number).await);
            }
            Some(number) => {
                if let Some(mut shard) = self.shards[number].take() {
                    shard.kill().unwrap();
                    shard.wait().unwrap();
                }
                self.shards[number] = Some(scene.shard(number));
            }
        }
    }

    /// Looks who has ended. A shard that was not killed ends well.
    fn look(&mut self) {
        for shard in &mut self.shards {
            let ended = shard.as_mut().and_then(|shard| shard.try_wait().unwrap());
            if let Some(status) = ended {
                assert!(status.success(), "{status}");
                *shard = None;
            }
        }
    }

    async fn until_all_is_there(&mut self) {
        let begun = Instant::now();
        while self.shards.iter().any(Option::is_some) {
            self.look();
            assert!(begun.elapsed() < PATIENCE, "a shard does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for service in &self.services {
            let is_complete = |status: &serde_json::Value| states(status) == ["complete"];
            service.until("complete", is_complete).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_shards_that_are_killed_at_random_bring_each_file_once() {
    let scene = Scene::new().await;
    let mut crowd = Crowd::gather(&scene).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(50..900))).await;
        crowd.look();
        kills.push(scene.moment());
        crowd.kill(random.usize(0..SERVICES + SHARDS), &scene).await;
    }
    let came_before_the_end = !kills[0].begun.is_empty();
    assert!(
        came_before_the_end,
        "nobody was killed in the middle of anything"
    );
    crowd.until_all_is_there().await;
    all_is_whole(&scene);
    each_crossed_once(&scene, &kills);
    for service in crowd.services {
        assert_eq!(service.end(Signal::TERM).await.0, Some(0));
    }
    let left = scene.server.bucket().keys().into_iter();
    let left: Vec<String> = left.filter(|key| key.contains("/.")).collect();
    assert_eq!(left, [""; 0], "leases are given back");
}

fn all_is_whole(scene: &Scene) {
    let index = scene.index();
    assert!(index.files.len() > 15, "{}", index.files.len());
    for file in &index.files {
        let object = scene
            .server
            .bucket()
            .object(&format!("{PREFIX}/{}", file.key));
        let object = object.unwrap_or_else(|| panic!("{} is missing", file.key));
        let bytes = object.bytes.unwrap();
        assert_eq!(
            Digest::of(Algorithm::Sha256, &bytes),
            file.sha256,
            "{}",
            file.key
        );
        let md5 = Digest::of(Algorithm::Md5, &bytes);
        assert_eq!(ETag::new(&object.etag), ETag::from(md5), "{}", file.key);
    }
}

/// And once more for each time that somebody was killed while it was on its way.
fn each_crossed_once(scene: &Scene, kills: &[Moment]) {
    let log = scene.upstream.origin.log();
    let mut allowed_bytes = 0;
    for file in &scene.index().files {
        let path = file.canonical.trim_start_matches("https:/");
        let key = format!("{PREFIX}/{}", file.key);
        let in_flight =
            |kill: &&Moment| kill.begun.contains(path) && !kill.committed.contains(&key);
        let crossings = 1 + kills.iter().filter(in_flight).count() as u64;
        let sent = log.bytes_sent(path);
        assert!(
            sent <= crossings * file.length,
            "{path}: {sent} of {}, {crossings} times",
            file.length
        );
        allowed_bytes += crossings * file.length;
    }
    // Checksums, lists and pointers are asked for again by each run, and are small.
    let large = |path: &String| {
        scene
            .upstream
            .origin
            .file(path)
            .is_some_and(|f| f.content.length() > 10_000)
    };
    let sent: u64 = log
        .paths()
        .iter()
        .filter(|path| large(path))
        .map(|path| log.bytes_sent(path))
        .sum();
    assert!(sent <= allowed_bytes, "{sent} of {allowed_bytes}");
    println!(
        "{sent} bytes crossed where once is {}",
        scene.index().files.iter().map(|f| f.length).sum::<u64>()
    );
}
