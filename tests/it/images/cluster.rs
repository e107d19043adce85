//! All that a cluster needs, by the catalogue: files and images are mirrored, and `env` says where both are.

use std::process::{Command, Output};

use kops_mirror::image::{Naming, Reference, media};
use kops_mirror::loopback::origin::Origin;
use kops_mirror::loopback::registry::{LoopbackRegistry, Options};
use kops_mirror::loopback::releases::Releases;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::gallery::told;
use crate::support::program::{finish, program};

const VERSIONS: [&str; 6] = [
    "--kubernetes",
    "v1.34.8",
    "--kops",
    "1.36.2",
    "--arch",
    "amd64",
];

struct Cluster {
    origin: Origin,
    source: LoopbackRegistry,
    target: LoopbackRegistry,
    dir: TempDir,
    hosts: Vec<String>,
    images: Vec<Reference>,
}

/// An image of one layer, of which only the name matters.
fn publish(source: &LoopbackRegistry, image: &Reference) {
    let repository = image.repository();
    let described = |content: String| {
        let length = content.len();
        let digest = source.add_blob(repository, content);
        json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": length})
    };
    let config = described(json!({"os": "linux", "of": image.to_string()}).to_string());
    let layer = described(format!("the files of {image}").repeat(100));
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [layer]});
    source.add_manifest(
        repository,
        image.tag(),
        media::MANIFEST,
        manifest.to_string(),
    );
}

impl Cluster {
    async fn new() -> Self {
        let releases = Releases::scaled_down(1024)
            .with_modern(&"1.34.8".parse().unwrap(), &"1.36.2".parse().unwrap());
        let registry = || LoopbackRegistry::start(Options::default()).unwrap();
        let mut cluster = Self {
            origin: Origin::start().unwrap(),
            source: registry(),
            target: registry(),
            dir: TempDir::new().unwrap(),
            hosts: releases.hosts().into_iter().map(str::to_owned).collect(),
            images: Vec::new(),
        };
        releases.publish_on(&cluster.origin);
        let output = cluster.run("assets", &["--images", "-o", "json"]).await;
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        for image in list["images"].as_array().unwrap() {
            let image: Reference = image["canonical"].as_str().unwrap().parse().unwrap();
            publish(&cluster.source, &image);
            cluster.images.push(image);
        }
        assert!(cluster.images.len() > 15, "{:?}", cluster.images);
        cluster
    }

    fn place(&self) -> String {
        format!("{}/k8s", self.target.address())
    }

    /// A subcommand for the versions of the cluster, with this machine's folder as the mirror.
    async fn run(&self, subcommand: &str, arguments: &[&str]) -> Output {
        let mut command: Command = program(self.dir.path());
        command.current_dir(self.dir.path());
        command.arg(subcommand).args(VERSIONS).args(arguments);
        finish(command).await
    }

    async fn sync(&self) -> Output {
        let place = self.place();
        let mut arguments = vec!["--images", "--to", "mirror", "--to-registry", &place];
        let of_files = |host: &String| format!("{host}={}", self.origin.host_url(host));
        let of_images = ["registry.k8s.io", "public.ecr.aws", "quay.io"]
            .map(|host| format!("{host}=http://{}/", self.source.address()));
        let origins: Vec<String> = self.hosts.iter().map(of_files).chain(of_images).collect();
        for origin in &origins {
            arguments.extend(["--origin", origin]);
        }
        self.run("sync", &arguments).await
    }

    async fn env(&self, more: &[&str]) -> String {
        let base = ["--to", "mirror", "--base-url", "http://10.0.0.1/m"];
        let arguments = [&base, more].concat();
        told(&self.run("env", &arguments).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn env_says_where_the_images_are_that_a_cluster_pulls() {
    let cluster = Cluster::new().await;
    let place = cluster.place();
    let registry = format!("containerRegistry: \"{place}\"");
    let before = cluster
        .env(&["--to-registry", &place, "--as", "spec"])
        .await;
    // Nobody has brought anything, so what is typed is believed, with a warning.
    assert!(before.contains("is not complete there"), "{before}");
    assert!(before.contains(&registry), "{before}");

    let output = cluster.sync().await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    for image in &cluster.images {
        let name = Naming::ContainerRegistry.repository(image).unwrap();
        let there = cluster.target.find(&format!("k8s/{name}")).unwrap();
        assert!(there.tags.contains_key(image.tag().unwrap()), "{image}");
    }
    // By the index alone, and by the registry that is typed.
    for more in [vec![], vec!["--to-registry", place.as_str()]] {
        let spec = cluster.env(&[&more[..], &["--as", "spec"]].concat()).await;
        assert!(spec.contains(&registry), "{spec}");
        assert!(!spec.contains("is not complete"), "{spec}");
    }
    let flags = cluster.env(&["--as", "flags"]).await;
    assert!(flags.contains(&place), "{flags}");
    // Where they are not, nobody is sent.
    let other = cluster
        .env(&["--to-registry", "registry.example.cn/k8s", "--as", "spec"])
        .await;
    assert!(!other.contains("containerRegistry"), "{other}");
    let why = format!("are at {place}, and not at registry.example.cn/k8s");
    assert!(other.contains(&why), "{other}");
}
