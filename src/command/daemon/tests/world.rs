//! What is around the service: upstream and a webhook's other end, on a thread and in a time of their own, and a folder for the rest.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use semver::Version;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;
use crate::loopback::origin::{Fault, File, Origin, When};
use crate::loopback::releases::{Kind, Releases};

const KOPS: Version = Version::new(1, 36, 2);

#[derive(Debug)]
pub(super) struct World {
    origin: Origin,
    hook: String,
    messages: Arc<Mutex<Vec<Value>>>,
    dir: TempDir,
    /// The last to go.
    _elsewhere: Runtime,
}

impl World {
    /// With one release.
    pub(super) fn new() -> Self {
        let elsewhere = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = elsewhere.enter();
        let messages: Arc<Mutex<Vec<Value>>> = Arc::default();
        let world = Self {
            origin: Origin::start().unwrap(),
            hook: listen(&elsewhere, Arc::clone(&messages)),
            messages,
            dir: folder(),
            _elsewhere: {
                drop(entered);
                elsewhere
            },
        };
        world.release("1.34.8");
        world
    }

    /// One set with two targets.
    pub(super) fn config(&self) -> Config {
        let dir = self.dir.path().display();
        let mut text = format!(
            r#"
            to = ["{dir}/north", "{dir}/northwest"]
            arch = ["amd64"]
            [spool]
            dir = "{dir}/spool"
            [fetch]
            connect_timeout = "10m"
            stall_window = "10m"
            hedge_after = "1h"
            [retry]
            attempts = 2
            [service]
            state = "{dir}/state"
            [sets.cn]
            kubernetes = ["stable"]
            kops = "{KOPS}"
            schedule = "every 1h"
            keep = ["followed"]
            prune = "45 3 * * * UTC"
            grace = "40h"
            [hooks.test]
            kind = "json"
            url = "{}"
            "#,
            self.hook
        );
        for host in releases("1.34.8").hosts() {
            let url = self.origin.host_url(host);
            let _ = write!(text, "[origins.\"{host}\"]\nsources = [\"{url}\"]\n");
        }
        toml::from_str(&text).unwrap()
    }

    /// A release comes out, and `stable` names it.
    pub(super) fn release(&self, kubernetes: &str) {
        releases(kubernetes).publish_on(&self.origin);
        let stable = File::text(format!("v{kubernetes}\n"));
        self.origin.publish("/dl.k8s.io/release/stable.txt", stable);
    }

    pub(super) fn break_off(&self, pattern: &str, fault: Fault) {
        self.origin.order(pattern, When::Always, fault);
    }

    pub(super) fn recover(&self) {
        self.origin.recover();
    }

    /// Nothing can be put there: a file is where the release's folder should be.
    pub(super) fn obstruct(&self, target: &str, kubernetes: &str) {
        fs::write(self.folder_of(target, kubernetes), "in the way").unwrap();
    }

    pub(super) fn clear(&self, target: &str, kubernetes: &str) {
        fs::remove_file(self.folder_of(target, kubernetes)).unwrap();
    }

    /// A target is not there at all: a file is where its folder was.
    pub(super) fn take_away(&self, target: &str) {
        fs::rename(self.dir.path().join(target), self.aside(target)).unwrap();
        fs::write(self.dir.path().join(target), "in the way").unwrap();
    }

    pub(super) fn bring_back(&self, target: &str) {
        fs::remove_file(self.dir.path().join(target)).unwrap();
        fs::rename(self.aside(target), self.dir.path().join(target)).unwrap();
    }

    fn aside(&self, target: &str) -> PathBuf {
        self.dir.path().join(format!("{target}-aside"))
    }

    /// Whether a release's kubelet is at a target.
    pub(super) fn has(&self, target: &str, kubernetes: &str) -> bool {
        self.kubelet(target, kubernetes).is_file()
    }

    pub(super) fn kubelet(&self, target: &str, kubernetes: &str) -> PathBuf {
        let folder = self.folder_of(target, kubernetes);
        folder.join("bin/linux/amd64/kubelet")
    }

    /// Whether something there is marked to go.
    pub(super) fn has_mark(&self, target: &str) -> bool {
        self.dir
            .path()
            .join(target)
            .join(crate::prune::MARK)
            .is_file()
    }

    /// The version that a target's pointer names.
    pub(super) fn stable(&self, target: &str) -> String {
        let pointer = self.dir.path().join(target).join("release/stable.txt");
        fs::read_to_string(pointer).unwrap().trim().to_owned()
    }

    fn folder_of(&self, target: &str, kubernetes: &str) -> PathBuf {
        let target = self.dir.path().join(target);
        target.join(format!("release/v{kubernetes}"))
    }

    /// What the webhook was sent.
    pub(super) fn messages(&self) -> Vec<Value> {
        self.messages.lock().unwrap().clone()
    }

    /// How often the bytes of each file of a release crossed that crossed at all.
    pub(super) fn crossings(&self, kubernetes: &str) -> Vec<(String, f64)> {
        let releases = releases(kubernetes);
        let assets = releases
            .files()
            .filter(|(_, file)| file.kind == Kind::Asset);
        let crossings = assets.map(|(url, file)| {
            let path = format!("/{}{}", url.host_str().unwrap(), url.path());
            let sent = self.origin.log().bytes_sent(&path);
            (path, sent as f64 / file.file.content.length() as f64)
        });
        crossings.filter(|(_, times)| *times > 0.0).collect()
    }
}

/// In memory where that can be had: what is put down is synced a thousand times a week.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

fn releases(kubernetes: &str) -> Releases {
    Releases::scaled_down(1024).with_modern(&kubernetes.parse().unwrap(), &KOPS)
}

/// The address of somebody who takes messages.
fn listen(elsewhere: &Runtime, messages: Arc<Mutex<Vec<Value>>>) -> String {
    let take = move |body: String| async move {
        let message = serde_json::from_str(&body).unwrap();
        messages.lock().unwrap().push(message);
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = Router::new().route("/hook", post(take));
        axum::serve(listener, router).await.unwrap();
    };
    elsewhere.spawn(serving);
    format!("http://{address}/hook")
}
