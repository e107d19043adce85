//! The real program in a process of its own, mirroring an exact list from a loopback origin.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kops_mirror::loopback::origin::{File, Origin};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::bucket::{BucketServer, PREFIX};

const HOST: &str = "dl.k8s.io";

/// An origin with files, a list of them, and where the program is to put them.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) origin: Origin,
    pub(crate) dir: TempDir,
    pub(crate) keys: Vec<String>,
}

impl Program {
    /// So many files of this length.
    pub(crate) fn with_files(count: u64, length: u64) -> Self {
        Self::with(count, |n| File::generated(n, length))
    }

    /// The same files from an origin that tells their MD5.
    pub(crate) fn with_foretold_files(count: u64, length: u64) -> Self {
        Self::with(count, |n| File::generated(n, length).with_goog_hash())
    }

    fn with(count: u64, file: impl Fn(u64) -> File) -> Self {
        // Small buffers, so that the log runs little ahead of what has arrived.
        let origin = Origin::start_with_send_buffer(Some(16 << 10)).unwrap();
        let dir = TempDir::new().unwrap();
        let mut keys = Vec::new();
        let mut files = Vec::new();
        for n in 0..count {
            let (key, file) = (format!("files/{n}.tgz"), file(n));
            files.push(serde_json::json!({
                "canonical": format!("https://{HOST}/{key}"),
                "download": format!("https://{HOST}/{key}"),
                "sha": file.content.digests(&[]).sha256.hex(),
            }));
            origin.publish(format!("/{key}"), file);
            keys.push(key);
        }
        let list = serde_json::json!({ "files": files });
        std::fs::write(dir.path().join("list.json"), list.to_string()).unwrap();
        Self { origin, dir, keys }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that mirrors the list to a folder below, with nothing of this machine's environment.
    pub(crate) fn to_folder(&self) -> Command {
        self.to(&self.path("mirror"))
    }

    pub(crate) fn to(&self, folder: &Path) -> Command {
        let mut command = self.sync();
        command.arg("--to").arg(folder);
        command
    }

    /// The command that mirrors the list to a bucket.
    pub(crate) fn to_bucket(&self, server: &BucketServer) -> Command {
        let mut command = self.sync();
        at_bucket(&mut command, server);
        command
    }

    /// As [`Program::to_bucket`], where the server is reached by another URL.
    pub(crate) fn to_bucket_behind(&self, server: &BucketServer, endpoint: &str) -> Command {
        let mut command = self.sync();
        at_bucket_behind(&mut command, server, endpoint);
        command
    }

    fn sync(&self) -> Command {
        let mut command = program(&self.path(""));
        command.arg("sync");
        command.arg("--assets").arg(self.path("list.json"));
        command.arg("--spool").arg(self.path("spool"));
        command.args(["--connections", "4"]);
        command.args(["--origin", &format!("{HOST}={}", self.origin.url(""))]);
        command
    }

    /// Bytes of the files that the origin has written.
    pub(crate) fn sent(&self) -> u64 {
        let log = self.origin.log();
        let sent = |key: &String| log.bytes_sent(&format!("/{key}"));
        self.keys.iter().map(sent).sum()
    }

    pub(crate) fn content(&self, key: &str) -> bytes::Bytes {
        let content = self.origin.file(&format!("/{key}")).unwrap().content;
        content.read(0..content.length())
    }
}

/// Has a command work at the server's bucket.
pub(crate) fn at_bucket(command: &mut Command, server: &BucketServer) {
    at_bucket_behind(command, server, server.0.endpoint().as_str());
}

fn at_bucket_behind(command: &mut Command, server: &BucketServer, endpoint: &str) {
    let options = server.options();
    let keys = options.keys.unwrap();
    command
        .args(["--to", &format!("s3://{}/{PREFIX}", options.bucket)])
        .args(["--endpoint", endpoint])
        .args(["--region", server.0.region()])
        .env("AWS_ACCESS_KEY_ID", keys.access_key)
        .env("AWS_SECRET_ACCESS_KEY", keys.secret_key);
}

/// The same command with the spool that its environment names: the flag goes before the variable.
pub(crate) fn without_spool_flag(whose: &Program, command: &Command) -> Command {
    without_spool_flag_at(&whose.path(""), command)
}

/// The same for who lives in this folder.
pub(crate) fn without_spool_flag_at(home: &Path, command: &Command) -> Command {
    let arguments: Vec<_> = command.get_args().collect();
    let at = arguments.iter().position(|a| *a == "--spool").unwrap();
    let mut other = program(home);
    other.args(arguments[..at].iter().chain(&arguments[at + 2..]));
    let environment = command.get_envs();
    other.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    other
}

/// The program itself, with nothing of this machine's environment.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kops-mirror"));
    command
        .env_clear()
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end.
pub(crate) async fn finish(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

/// A process that a test ends; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    /// Kill -9.
    pub(crate) async fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        tokio::task::spawn_blocking(move || child.wait())
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.0.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// What it said in the end, and how long that took.
    pub(crate) async fn ended(mut self) -> (Output, Duration) {
        let started = Instant::now();
        let child = self.0.take().unwrap();
        let output = tokio::task::spawn_blocking(move || child.wait_with_output());
        (output.await.unwrap().unwrap(), started.elapsed())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.0.as_mut().unwrap();
        child.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
