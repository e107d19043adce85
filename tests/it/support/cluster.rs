//! All that a cluster needs, by the catalogue, at loopback: where its files and images are published, and a registry to bring them to.

use std::process::{Command, Output};

use kops_mirror::image::{Naming, Reference, media};
use kops_mirror::loopback::origin::Origin;
use kops_mirror::loopback::registry::{Found, LoopbackRegistry, Options};
use kops_mirror::loopback::releases::Releases;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::gallery::told;
use super::program::{finish, program};

const VERSIONS: [&str; 6] = [
    "--kubernetes",
    "v1.34.8",
    "--kops",
    "1.36.2",
    "--arch",
    "amd64",
];

/// A folder to work in, and what is around it.
pub(crate) struct Cluster {
    origin: Origin,
    source: LoopbackRegistry,
    pub(crate) target: LoopbackRegistry,
    pub(crate) dir: TempDir,
    hosts: Vec<String>,
    pub(crate) images: Vec<Reference>,
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
    pub(crate) async fn new() -> Self {
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

    pub(crate) fn place(&self) -> String {
        format!("{}/k8s", self.target.address())
    }

    /// A subcommand for the versions of the cluster, with this machine's folder as the mirror.
    pub(crate) async fn run(&self, subcommand: &str, arguments: &[&str]) -> Output {
        let mut command: Command = program(self.dir.path());
        command.current_dir(self.dir.path());
        command.arg(subcommand).args(VERSIONS).args(arguments);
        finish(command).await
    }

    /// Each host, and where it is asked in its place.
    pub(crate) fn origins(&self) -> Vec<(String, String)> {
        let of_files = |host: &String| (host.clone(), self.origin.host_url(host).to_string());
        let of_images = ["registry.k8s.io", "public.ecr.aws", "quay.io"].map(|host| {
            (
                host.to_owned(),
                format!("http://{}/", self.source.address()),
            )
        });
        self.hosts.iter().map(of_files).chain(of_images).collect()
    }

    /// What the target has of an image.
    pub(crate) fn find(&self, image: &Reference) -> Option<Found> {
        let name = Naming::ContainerRegistry.repository(image).unwrap();
        self.target.find(&format!("k8s/{name}"))
    }

    /// To the folder `mirror` and the registry.
    pub(crate) async fn sync(&self) -> Output {
        let place = self.place();
        let mut arguments = vec!["--images", "--to", "mirror", "--to-registry", &place];
        let origins = self.origins().into_iter();
        let origins: Vec<String> = origins.map(|(host, url)| format!("{host}={url}")).collect();
        for origin in &origins {
            arguments.extend(["--origin", origin]);
        }
        self.run("sync", &arguments).await
    }

    pub(crate) async fn env(&self, more: &[&str]) -> String {
        let base = ["--to", "mirror", "--base-url", "http://10.0.0.1/m"];
        let arguments = [&base, more].concat();
        told(&self.run("env", &arguments).await)
    }
}
