//! A cluster's file, a mirror with what it asks for, a state store and kops, all at an account of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kops_mirror::asset::{Asset, Key};
use kops_mirror::cluster::ClusterFile;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::index::{Entry, FORMAT, Index, Release};
use kops_mirror::store::s3::{Keys, S3Options, S3Store};
use kops_mirror::store::{Attributes, Condition, Store};
use kops_mirror::verify::Verified;

use super::overlay::{Api, WayOut};
use super::real_kops::{self, RealKops};
use super::world::{CHINA, World};
use crate::support::program::{finish, program};

/// Canonical's image in moto (tests/servers/moto-amis.json).
const IMAGE: &str = "ami-0c240000000000002";

/// One that every kops reads, and that recommends nothing.
const CHANNEL: &str =
    "spec: {images: [], cluster: {kubernetesVersion: v1.8.7, networking: {kubenet: {}}}}\n";

/// One that every kops takes.
const PUBLIC_KEY: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDAeJdHtzN4CVT/OYHRgpXxkz8ODw5VdeAxwFxlNuYnbOan0fQ5bBAmqLY5UYJzKNqAbNffi24mSXgpymbDqrVLdrgz3J+GZQSWZExPs048b0G+4v/GbOfO/jFsju415miVRhT7NcS9CfnGxa4SsitZ5NADqInWPzOpH3YQRavl3V0wgQE8uYrtIAQ9u0eMibz1jY6YcFA6ha3AadRssADp4TXnP/Up4Nw8d08cQfbmmWB1OhhYrVsnGHBrDJai04YpjmBZ2E9CWb8MX0nonFxaj2I7IkqUEaIBPZRdsd9FnmvCGjur+p/gbsdJGypT1fFetKW/vg5vHZvm8Hw2ShWD tests\n";

pub(super) struct Site {
    pub(super) world: World,
    pub(super) mirror: S3Store,
    pub(super) state: S3Store,
    version: String,
    buckets: (String, String),
    way_out: WayOut,
}

impl Site {
    /// Of today's kops; None where no moto is named.
    pub(super) async fn today() -> Option<Self> {
        Self::of("1.36.2", "1.35.5").await
    }

    /// Of the recipe's.
    pub(super) async fn of_2018() -> Option<Self> {
        Self::of("1.8.1", "1.8.7").await
    }

    async fn of(kops: &str, kubernetes: &str) -> Option<Self> {
        let world = World::start().await?;
        // moto offers nothing in China.
        let offered = ("m5.large".to_owned(), vec![format!("{CHINA}a")]);
        world.overlay.orders().offerings.extend([offered]);
        let own = world.overlay.account_key().to_lowercase();
        let buckets = (format!("mirror-{own}"), format!("state-{own}"));
        for bucket in [&buckets.0, &buckets.1] {
            world.overlay.make_bucket(bucket, CHINA).await;
        }
        let mirror = store(&world, &buckets.0, "assets", Some("public-read")).await;
        let state = store(&world, &buckets.1, "", None).await;
        let way_out = world.overlay.way_out().await;
        std::fs::write(
            world.dir.path().join("authority.pem"),
            &way_out.authority_pem,
        )
        .unwrap();
        world.overlay.orders().api = Some(Api {
            cluster: "china.k8s.local".to_owned(),
            kubernetes: format!("v{kubernetes}"),
            state_store: buckets.1.clone(),
        });
        let site = Self {
            world,
            way_out,
            mirror,
            state,
            version: kops.to_owned(),
            buckets,
        };
        let text = site.text(kops, kubernetes);
        site.write(&text);
        site.fill_mirror(&ClusterFile::parse(&text).unwrap()).await;
        site.link_kops();
        Some(site)
    }

    fn text(&self, kops: &str, kubernetes: &str) -> String {
        let (mirror, state) = &self.buckets;
        let endpoint = self.world.overlay.url().as_str().trim_end_matches('/');
        format!(
            "apiVersion: kops-mirror/v1
name: china.k8s.local
region: {CHINA}
kopsVersion: {kops}
kubernetesVersion: {kubernetes}
mirror: {{at: s3://{mirror}/assets, url: \"{endpoint}/{mirror}/assets\", endpoint: \"{endpoint}\"}}
stateStore: {{bucket: {state}}}
network: {{}}
image: {{use: {IMAGE}}}
controlPlane: {{count: 1, zones: [{CHINA}a], machineType: m5.large}}
nodes:
  - {{name: nodes, machineType: m5.large, min: 1}}
networking: calico
ssh: {{publicKey: id.pub}}
acknowledge: [P04]
"
        )
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    pub(super) fn write(&self, text: &str) {
        std::fs::write(self.path("cluster.yaml"), text).unwrap();
        std::fs::write(self.path("id.pub"), PUBLIC_KEY).unwrap();
    }

    /// Changes a word of the cluster's file.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let path = self.path("cluster.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// What kops and the nodes will ask for, and a channel, marked as a whole release.
    async fn fill_mirror(&self, file: &ClusterFile) {
        let mut selection = file.selection();
        selection.pointers = true;
        let wanted = kops_mirror::catalogue::Catalogue::builtin()
            .assets(&selection)
            .unwrap();
        let mut files = Vec::new();
        for asset in &wanted.assets {
            files.push(self.put_asset(asset).await);
        }
        self.mark("tests", files).await;
    }

    /// Marks files as a whole release.
    async fn mark(&self, name: &str, mut files: Vec<Entry>) {
        files.sort_by(|one, other| one.key.cmp(&other.key));
        let index = Index {
            format: FORMAT,
            release: Release {
                name: name.to_owned(),
                ..Release::default()
            },
            written_by: "tests".to_owned(),
            completed_at: "2026-11-28T00:00:00Z".to_owned(),
            files,
            pointers: Vec::new(),
        };
        let text = serde_json::to_vec(&index).unwrap();
        put(&self.mirror, &index.release.key(), text).await;
    }

    async fn put_asset(&self, asset: &Asset) -> Entry {
        let content = match asset.key.as_str().ends_with("channels/stable") {
            true => CHANNEL.to_owned(),
            false => format!("what {} has in it", asset.key),
        };
        let content = content.into_bytes();
        for algorithm in &asset.sidecars {
            let hex = Digest::of(*algorithm, &content).hex();
            let sidecar: Key = format!(
                "{}.{}",
                asset.key,
                algorithm.to_string().to_lowercase().replace('-', "")
            )
            .parse()
            .unwrap();
            put(&self.mirror, &sidecar, hex.into_bytes()).await;
        }
        put(&self.mirror, &asset.key, content.clone()).await;
        entry(&asset.key, asset.canonical.as_str(), &content)
    }

    /// The program that is called for kops: the stand-in under a name that says which release it is, or a real one.
    fn link_kops(&self) {
        let stand_in = std::env::current_exe().unwrap();
        let stand_in = stand_in
            .ancestors()
            .nth(2)
            .unwrap()
            .join("examples/kops-stand-in");
        let Some(real) = self.real_kops() else {
            std::os::unix::fs::symlink(stand_in, self.kops()).unwrap();
            return;
        };
        // Which names its environment has is told by the stand-in itself.
        let script = format!(
            "#!/bin/sh\nenv | cut -d= -f1 >\"$HOME/environment.txt\"\nexec {} \"$@\"\n",
            real.program.display()
        );
        std::fs::write(self.kops(), script).unwrap();
        std::fs::set_permissions(self.kops(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The real kops, if one of this cluster's release is named.
    pub(super) fn real_kops(&self) -> Option<&'static RealKops> {
        real_kops::named().filter(|real| real.version == self.version)
    }

    pub(super) fn kops(&self) -> PathBuf {
        self.path(&format!("kops-{}", self.version))
    }

    /// Puts a program into the mirror as kops' own for this machine, marked as a release of its own.
    pub(super) async fn mirror_program(&self, content: &str) {
        let arch = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let path = format!("binaries/kops/{}/linux/{arch}/kops", self.version);
        let key: Key = path.parse().unwrap();
        let entry = entry(
            &key,
            &format!("https://artifacts.k8s.io/{path}"),
            content.as_bytes(),
        );
        put(&self.mirror, &key, content.into()).await;
        self.mark("program", vec![entry]).await;
    }

    /// `kops-mirror provision …` for this cluster, with the kops that lies beside it.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_without_kops(arguments);
        command.arg("--kops").arg(self.kops());
        command
    }

    pub(super) fn command_without_kops(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.world.dir.path());
        let endpoint = self.world.overlay.url().as_str();
        // Kops of the first SDK have no variables for addresses: they come by the proxy, the state store's too.
        let keys = &self.world.keys;
        command
            .arg("provision")
            .args(arguments)
            .args(["-f", "cluster.yaml", "--folder", "work"])
            .current_dir(self.world.dir.path())
            .env("PATH", std::env::var("PATH").unwrap())
            .env("A_SECRET_OF_THE_CALLER", "secret")
            .env("AWS_ACCESS_KEY_ID", &keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret_key)
            .env("HTTPS_PROXY", self.way_out.url.as_str())
            .env("NO_PROXY", "127.0.0.1")
            .env("SSL_CERT_FILE", self.path("authority.pem"));
        if self.real_kops().is_none_or(|real| real.version != "1.8.1") {
            command
                .env("S3_ENDPOINT", endpoint)
                .env("S3_REGION", CHINA)
                .env("S3_ACCESS_KEY_ID", &keys.access_key)
                .env("S3_SECRET_ACCESS_KEY", &keys.secret_key);
        }
        for service in [
            "S3",
            "EC2",
            "STS",
            "IAM",
            "SSM",
            "AUTO_SCALING",
            "ELASTIC_LOAD_BALANCING",
            "ELASTIC_LOAD_BALANCING_V2",
            "SQS",
            "EVENTBRIDGE",
            "ROUTE_53",
            "KMS",
            "PRICING",
            "SERVICE_QUOTAS",
            "ECR",
        ] {
            command.env(format!("AWS_ENDPOINT_URL_{service}"), endpoint);
        }
        command
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(finish(self.command(arguments)).await)
    }

    /// The keys in the state store, sorted.
    pub(super) async fn state_keys(&self) -> Vec<String> {
        let listing = self.state.list().await.unwrap();
        listing
            .objects
            .iter()
            .map(|object| object.key.to_string())
            .collect()
    }

    /// Instances of the cluster that are not ending.
    pub(super) async fn instances(&self) -> usize {
        let cloud = self.world.cloud(CHINA).await;
        let filters = [kops_mirror::cloud::Filter::tag(
            "KubernetesCluster",
            "china.k8s.local",
        )];
        let instances = cloud.instances(&[], &filters).await.unwrap();
        let is_there = |state: &str| matches!(state, "pending" | "running");
        instances
            .iter()
            .filter(|instance| is_there(instance.state()))
            .count()
    }

    /// What kops was called for, in order: `update cluster china.k8s.local --yes`.
    pub(super) fn calls(&self) -> Vec<String> {
        let mut records: BTreeMap<String, String> = BTreeMap::new();
        for entry in std::fs::read_dir(self.path("work/calls"))
            .unwrap()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "txt")
            {
                records.insert(name, std::fs::read_to_string(entry.path()).unwrap());
            }
        }
        let first = |text: &String| {
            text.lines()
                .next()
                .unwrap()
                .split_once(" kops ")
                .unwrap()
                .1
                .to_owned()
        };
        records.values().map(first).collect()
    }
}

/// How a command ended.
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(super) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(super) fn says(self, words: &str) -> Self {
        let is_said = self.stdout.contains(words) || self.stderr.contains(words);
        assert!(
            is_said,
            "'{words}' is not in\n{}\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// What an index says of a file.
fn entry(key: &Key, canonical: &str, content: &[u8]) -> Entry {
    Entry {
        key: key.clone(),
        length: content.len() as u64,
        md5: Digest::of(Algorithm::Md5, content),
        sha256: Digest::of(Algorithm::Sha256, content),
        sha1: None,
        sha512: None,
        canonical: canonical.to_owned(),
        sources: Vec::new(),
        vouched_by: vec!["tests".to_owned()],
        sidecars: Vec::new(),
    }
}

async fn store(world: &World, bucket: &str, prefix: &str, acl: Option<&str>) -> S3Store {
    let options = S3Options {
        region: Some(CHINA.to_owned()),
        endpoint: Some(world.overlay.url().clone()),
        path_style: Some(true),
        keys: Some(Keys {
            access_key: world.keys.access_key.clone(),
            secret_key: world.keys.secret_key.clone(),
        }),
        acl: acl.map(str::to_owned),
        ..S3Options::new(bucket, prefix)
    };
    let store = S3Store::connect(options).await.unwrap();
    store.prepare(false).await.unwrap();
    store
}

pub(super) async fn put(store: &S3Store, key: &Key, content: Vec<u8>) {
    let content = Verified::composed(content);
    let attributes = Attributes {
        content_type: "application/octet-stream".to_owned(),
        ..Attributes::default()
    };
    store
        .put(key, &content, &attributes, &Condition::Any)
        .await
        .unwrap();
}
