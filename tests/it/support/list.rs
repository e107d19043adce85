//! A user with a list of files: runs the program on it against a loopback origin, as from a shell.

use std::process::{Command, Output};

use kops_mirror::loopback::origin::{File, Origin};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder to work in, an origin, and a list of what it publishes.
pub(crate) struct Desk {
    pub(crate) origin: Origin,
    pub(crate) dir: TempDir,
    files: Vec<Value>,
    images: Vec<Value>,
    environment: Vec<(String, String)>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            origin: Origin::start().unwrap(),
            dir: TempDir::new().unwrap(),
            files: Vec::new(),
            images: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Publishes a file below the origin's folder for the URL's host, and lists it.
    pub(crate) fn publish(&mut self, url: &str, file: File) {
        let sha = file.content.digests(&[]).sha256.hex();
        let path = url.split_once("://").unwrap().1;
        self.origin.publish(format!("/{path}"), file);
        self.files
            .push(json!({"canonical": url, "download": url, "sha": sha}));
    }

    /// Lists an image.
    pub(crate) fn image(&mut self, name: &str) {
        self.images
            .push(json!({"canonical": name, "download": name}));
    }

    /// The flags that take a host's files from the origin.
    pub(crate) fn origin_of(&self, host: &str) -> [String; 2] {
        let url = self.origin.host_url(host);
        ["--origin".to_owned(), format!("{host}={url}")]
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Writes a file beside the list, a configuration say.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join(name)).ok()
    }

    /// Runs a subcommand on the list, with nothing of this machine's environment.
    pub(crate) async fn run<S: AsRef<str>>(&self, subcommand: &str, arguments: &[S]) -> Output {
        let list = json!({"files": self.files, "images": self.images});
        self.write("list.json", &list.to_string());
        let list = ["--assets", "list.json"];
        let arguments = arguments.iter().map(AsRef::as_ref);
        self.bare(subcommand, list.into_iter().chain(arguments))
            .await
    }

    /// Runs a subcommand with these arguments alone.
    pub(crate) async fn bare<'a>(
        &self,
        subcommand: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kops-mirror"));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .envs(self.environment.iter().cloned())
            .current_dir(self.dir.path())
            .arg(subcommand)
            .args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }
}

/// What was written to standard error, for messages of failed assertions and for looking into it.
pub(crate) fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
