//! A cluster's file in a folder, and the program beside it with a profile for AWS China.

use std::path::PathBuf;
use std::process::{Command, Output};

use kops_mirror::cluster::ClusterFile;
use kops_mirror::store::s3::{Bucket, S3Options};
use serde_json::Value;

use super::world::{CHINA, World};
use crate::support::program::{finish, program};

pub(super) struct Desk {
    pub(super) world: World,
    /// Of the state store; another test has another.
    pub(super) bucket: String,
    text: String,
}

impl Desk {
    /// Lets the region offer a type, and no other.
    pub(super) fn offer(&self, machine_type: &str) {
        let zones = vec![format!("{CHINA}a")];
        let offered = [(machine_type.to_owned(), zones)];
        self.world.overlay.orders().offerings = offered.into();
    }

    /// None where no moto is named. The mirror's bucket is read at the overlay.
    pub(super) async fn start() -> Option<Self> {
        let world = World::start().await?;
        let id = world.overlay.account_key().to_lowercase();
        let bucket = format!("state-{id}");
        let endpoint = world.overlay.url();
        let text = format!(
            "apiVersion: kops-mirror/v1\nname: prod.k8s.local\nregion: {CHINA}\nprofile: china\nkopsVersion: 1.36.2\n\
             kubernetesVersion: 1.35.5\nmirror: {{at: s3://mirror-{id}/k8s, endpoint: '{endpoint}'}}\n\
             stateStore: {{bucket: {bucket}}}\nnetwork: {{}}\nimage: {{use: ami-0c240000000000002}}\n\
             controlPlane: {{zones: [cn-north-1a], machineType: m5.large}}\n\
             nodes: [{{name: nodes, machineType: m5.large, min: 2}}]\n"
        );
        Some(Self {
            world,
            bucket,
            text,
        })
    }

    pub(super) fn mirror_bucket(&self) -> String {
        self.bucket.replace("state-", "mirror-")
    }

    /// Replaces a part of the file that must be there.
    pub(super) fn change(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replacen(from, to, 1);
    }

    pub(super) fn file(&self) -> ClusterFile {
        ClusterFile::parse(&self.text).unwrap()
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.world.dir.path().join("work")
    }

    fn command(&self, words: &str) -> Command {
        let home = self.world.dir.path();
        let keys = &self.world.keys;
        let profile = format!(
            "[profile china]\nendpoint_url = {}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            self.world.overlay.url(),
            keys.access_key,
            keys.secret_key
        );
        std::fs::write(home.join("config"), profile).unwrap();
        std::fs::write(home.join("cluster.yaml"), &self.text).unwrap();
        let mut command = program(home);
        command
            .env("AWS_CONFIG_FILE", home.join("config"))
            .arg("provision")
            .args(words.split_whitespace())
            .arg("--file")
            .arg(home.join("cluster.yaml"))
            .arg("--folder")
            .arg(self.folder());
        command
    }

    pub(super) async fn run(&self, words: &str) -> Output {
        finish(self.command(words)).await
    }

    /// How it ended, and what it said in all.
    pub(super) async fn said(&self, words: &str) -> (Option<i32>, String) {
        let output = self.run(words).await;
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// What it printed as JSON, however it ended.
    pub(super) async fn json(&self, words: &str) -> (Option<i32>, Value) {
        let output = self.run(&format!("{words} -o json")).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let value = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            value.unwrap_or_else(|error| panic!("{words}: {error}: {said}")),
        )
    }

    pub(super) async fn state_bucket(&self) -> Bucket {
        let options = S3Options {
            region: Some(CHINA.to_owned()),
            endpoint: Some(self.world.overlay.url().clone()),
            keys: Some(self.world.keys.clone()),
            ..S3Options::new(&self.bucket, "")
        };
        Bucket::connect(&options).await.unwrap()
    }
}
