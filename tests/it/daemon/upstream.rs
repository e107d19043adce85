//! Upstreams on loopback, a service that follows them, and somebody who is told by a webhook.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use kops_mirror::loopback::origin::{Fault, File, Origin, When};
use kops_mirror::loopback::releases::{Kind, Releases};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::program::program;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(90);

/// A token as settings of tests have it.
pub(super) const TOKEN: &str = "a-token-of-sixteen";

/// Everything that a service reads, and the folder where it lives.
pub(super) struct Upstream {
    pub(super) origin: Origin,
    pub(super) dir: TempDir,
}

impl Upstream {
    pub(super) async fn new(kubernetes: &str, kops: &str) -> Self {
        let upstream = Self {
            origin: Origin::start().unwrap(),
            dir: TempDir::new().unwrap(),
        };
        upstream.release(kubernetes, kops);
        upstream
    }

    /// A release comes out, and the channels name it.
    pub(super) fn release(&self, kubernetes: &str, kops: &str) {
        let releases = releases(kubernetes, kops);
        releases.publish_on(&self.origin);
        let channel = || File::text(format!("v{kubernetes}\n"));
        let minor = kubernetes.rsplit_once('.').unwrap().0;
        for name in ["stable".to_owned(), format!("stable-{minor}")] {
            let path = format!("/dl.k8s.io/release/{name}.txt");
            self.origin.publish(path, channel());
        }
    }

    /// The list of kops' releases, as its API has it.
    pub(super) fn list_kops(&self, versions: &[&str]) {
        let list = serde_json::json!(
            versions
                .iter()
                .map(|version| serde_json::json!({"tag_name": version}))
                .collect::<Vec<_>>()
        );
        let path = "/api.github.com/repos/kubernetes/kops/releases";
        let file = File::text(list.to_string()).with_content_type("application/json");
        self.origin.publish(path, file);
    }

    /// Upstream has another kubelet under the same name, with a checksum to it.
    pub(super) fn replace_kubelet(&self, kubernetes: &str) {
        let path = format!("/dl.k8s.io/release/v{kubernetes}/bin/linux/amd64/kubelet");
        let other = File::generated(99, 30_000);
        let sha = other.content.digests(&[]).sha256.hex();
        self.origin
            .publish(format!("{path}.sha256"), File::text(sha));
        self.origin.publish(path, other);
    }

    pub(super) fn break_off(&self, pattern: &str, fault: Fault) {
        self.origin.order(pattern, When::Always, fault);
    }

    pub(super) fn recover(&self) {
        self.origin.recover();
    }

    /// What the mirror has of a file, by the end of its name.
    pub(super) fn mirrored(&self, name: &str) -> Vec<u8> {
        let path = format!("mirror/release/v1.34.8/bin/linux/amd64/{name}");
        std::fs::read(self.dir.path().join(path)).unwrap()
    }

    pub(super) fn write_settings(&self, of_set: &str) {
        let hosts = releases("1.34.8", "1.36.2");
        let hosts = hosts.hosts();
        let mut origins = String::new();
        for host in hosts {
            let url = self.origin.host_url(host);
            let _ = write!(origins, "[origins.\"{host}\"]\nsources = [\"{url}\"]\n");
        }
        let (of_set, hooks) = of_set.split_once("[hooks").map_or_else(
            || (of_set, String::new()),
            |(of_set, hooks)| (of_set, format!("[hooks{hooks}")),
        );
        let service = match of_set.contains("[service]") {
            true => "",
            false => "[service]\nlisten = \"127.0.0.1:0\"\n",
        };
        let kops = match of_set.contains("kops = ") {
            true => "",
            false => "kops = \"1.36.2\"\n",
        };
        let text = format!(
            "to = [\"mirror\"]\narch = [\"amd64\"]\n[retry]\nattempts = 1\n{service}\
             [sets.all]\nkubernetes = [\"stable\"]\n{kops}{of_set}\n{hooks}\n{origins}"
        );
        std::fs::write(self.dir.path().join("mirror.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = program(self.dir.path());
        command.current_dir(self.dir.path());
        command.args(["daemon", "--config", "mirror.toml"]);
        command
    }

    /// What it says when it refuses to begin.
    pub(super) async fn refused(&self, of_set: &str) -> String {
        self.write_settings(of_set);
        self.refused_as_it_is().await
    }

    /// The same by the settings that are there.
    pub(super) async fn refused_as_it_is(&self) -> String {
        let output = crate::support::program::finish(self.command()).await;
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Another service on another machine, by the same settings.
    pub(super) async fn start_beside(&self, name: &str) -> Service {
        let home = self.dir.path().join(name);
        let mut command = self.command();
        command.arg("--state").arg(home.join("state"));
        command.arg("--spool").arg(home.join("spool"));
        Service::start(command).await
    }

    /// A service that systemd looks after, with a watchdog.
    pub(super) async fn start_under(&self, socket: &Path) -> Service {
        self.write_settings("schedule = \"every 1h\"");
        let mut command = self.command();
        command
            .env("NOTIFY_SOCKET", socket)
            .env("WATCHDOG_USEC", "1000000");
        Service::start(command).await
    }

    pub(super) async fn start(&self, of_set: &str) -> Service {
        self.start_in(of_set, &[]).await
    }

    /// With variables in its environment.
    pub(super) async fn start_in(&self, of_set: &str, variables: &[(&str, &str)]) -> Service {
        self.write_settings(of_set);
        let mut command = self.command();
        command.envs(variables.iter().copied());
        Service::start(command).await
    }

    /// How often each file of a release crossed, in bytes that came for each byte that it has; without those that nobody asked for.
    pub(super) fn crossings(&self, kubernetes: &str) -> Vec<(String, f64)> {
        let releases = releases(kubernetes, "1.36.2");
        let assets = releases
            .files()
            .filter(|(_, published)| published.kind == Kind::Asset);
        let crossings = assets.map(|(url, published)| {
            let path = format!("/{}{}", url.host_str().unwrap(), url.path());
            let sent = self.origin.log().bytes_sent(&path);
            (path, sent as f64 / published.file.content.length() as f64)
        });
        crossings.filter(|(_, times)| *times > 0.0).collect()
    }
}

fn releases(kubernetes: &str, kops: &str) -> Releases {
    let (kubernetes, kops) = (kubernetes.parse().unwrap(), kops.parse().unwrap());
    Releases::scaled_down(1024).with_modern(&kubernetes, &kops)
}

/// A service under way; killed when it is dropped.
pub(super) struct Service {
    child: Option<Child>,
    base: String,
    client: reqwest::Client,
    said: Arc<Mutex<String>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Service {
    pub(super) async fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let heard = Arc::clone(&said);
        let reading = tokio::task::spawn_blocking(move || {
            for line in BufReader::new(stderr).lines() {
                *heard.lock().unwrap() += &format!("{}\n", line.unwrap());
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        let base = line
            .trim()
            .strip_prefix("listening at ")
            .unwrap_or_else(|| panic!("{line:?}"));
        Self {
            base: base.to_owned(),
            child: Some(child),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            said,
            reading,
        }
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Asks for something that needs the token, which is [`TOKEN`].
    pub(super) async fn ask(&self, method: &str, path: &str) -> u16 {
        self.ask_as(TOKEN, method, path).await.0
    }

    /// Asks for something that needs a token, with this one.
    pub(super) async fn ask_as(&self, token: &str, method: &str, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.base);
        let request = self.client.request(method.parse().unwrap(), url);
        let request = request.bearer_auth(token);
        let request = match method {
            "POST" => request
                .header("content-type", "application/json")
                .body("{\"purpose\": \"sync\"}"),
            _ => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until it has said something on standard error.
    pub(super) async fn until_said(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.contains(what) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not say '{what}': {said}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn status(&self) -> Value {
        serde_json::from_str(&self.get("api/v1/status").await.1).unwrap()
    }

    /// Waits until the status is as wanted, and panics with it when it does not come to that.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}: {status:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Its exit code, and all that it said.
    pub(super) async fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let mut child = self.child.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let code = ended.await.unwrap().code();
        let reading = std::mem::replace(&mut self.reading, tokio::spawn(async {}));
        reading.await.unwrap();
        (code, self.said.lock().unwrap().clone())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A webhook's other end.
pub(super) struct Told {
    address: String,
    messages: Arc<Mutex<Vec<Value>>>,
    _serving: JoinSet<()>,
}

impl Told {
    pub(super) async fn listen() -> Self {
        let messages: Arc<Mutex<Vec<Value>>> = Arc::default();
        let take = |State(messages): State<Arc<Mutex<Vec<Value>>>>, body: String| async move {
            messages
                .lock()
                .unwrap()
                .push(serde_json::from_str(&body).unwrap());
        };
        let router = Router::new()
            .route("/secret-path", post(take))
            .with_state(Arc::clone(&messages));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            messages,
            _serving: serving,
        }
    }

    /// The settings of a hook that tells it.
    pub(super) fn hook(&self) -> String {
        format!(
            "[hooks.test]\nkind = \"json\"\nurl = \"http://{}/secret-path\"\n",
            self.address
        )
    }

    /// Everything so far.
    pub(super) fn messages(&self) -> Vec<Value> {
        self.messages.lock().unwrap().clone()
    }

    /// Waits until it was told of an occasion.
    pub(super) async fn until(&self, occasion: &str) {
        let begun = Instant::now();
        loop {
            let messages = self.messages();
            if messages
                .iter()
                .any(|message| message.to_string().contains(occasion))
            {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "not told of {occasion}: {messages:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
