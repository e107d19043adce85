//! The real program in a process of its own, bringing images from one loopback registry to another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::{Naming, Reference, media};
use kops_mirror::loopback::registry::{Auth, LoopbackRegistry, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{finish, program};
use crate::store_contract::bytes;

/// Where the images are published.
pub(crate) const HOST: &str = "registry.k8s.io";

/// What they come below at the target.
pub(crate) const PATH: &str = "mirror";

pub(crate) const APP: &str = "registry.k8s.io/team/app:v1";
pub(crate) const TOOL: &str = "registry.k8s.io/team/tool:v2";

/// Two registries, and a folder to work in.
pub(crate) struct Gallery {
    pub(crate) source: LoopbackRegistry,
    pub(crate) target: LoopbackRegistry,
    pub(crate) dir: TempDir,
    /// Of all blobs, each once.
    pub(crate) total: u64,
    /// Of the layer that both images have.
    pub(crate) common: Digest,
    /// Of the first platform's layers.
    pub(crate) layers: Vec<Digest>,
    /// Of the images' roots, by name.
    pub(crate) roots: BTreeMap<&'static str, Digest>,
}

/// Publishes blobs and manifests at one repository.
struct Publisher<'a> {
    registry: &'a LoopbackRegistry,
    repository: &'a str,
}

impl Publisher<'_> {
    fn blob(&self, content: Vec<u8>, media_type: &str) -> Value {
        let size = content.len();
        let digest = self.registry.add_blob(self.repository, content);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    }

    fn manifest(&self, tag: Option<&str>, media_type: &str, document: &Value) -> (Digest, Value) {
        // Not as this program would write it: bytes are kept, not documents.
        let text = serde_json::to_string_pretty(document).unwrap() + "\n";
        let size = text.len();
        let digest = self
            .registry
            .add_manifest(self.repository, tag, media_type, text);
        let described =
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
        (digest, described)
    }

    fn image(&self, tag: Option<&str>, name: &str, layers: &[Value]) -> (Digest, Value) {
        let config = json!({"architecture": name, "os": "linux"}).to_string();
        let config = self.blob(
            config.into_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let document = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
        self.manifest(tag, media::MANIFEST, &document)
    }
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Gallery {
    /// An image of two platforms with three layers each and an attestation, and another one with one of these layers. `length`
    /// is that of a layer.
    pub(crate) fn new(source: Options, target: Options, length: usize) -> Self {
        let source = LoopbackRegistry::start(source).unwrap();
        let target = LoopbackRegistry::start(target).unwrap();
        let app = Publisher {
            registry: &source,
            repository: "team/app",
        };
        let mut layers = Vec::new();
        let children: Vec<Value> = ["amd64", "arm64"]
            .iter()
            .zip([10, 20])
            .map(|(architecture, seed)| {
                let of = |n| app.blob(bytes(length + n, seed + n as u64), LAYER);
                let own = [of(1), of(2), of(3)];
                layers.extend(own.clone());
                let (_, mut child) = app.image(None, architecture, &own);
                child["platform"] = json!({"os": "linux", "architecture": architecture});
                child
            })
            .collect();
        let statement = app.blob(bytes(2000, 30), "application/vnd.in-toto+json");
        let (_, mut attestation) = app.image(None, "unknown", &[statement]);
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": children[0]["digest"]});
        let manifests = [children, vec![attestation]].concat();
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests});
        let (root, _) = app.manifest(Some("v1"), media::INDEX, &index);

        let tool = Publisher {
            registry: &source,
            repository: "team/tool",
        };
        let common = tool.blob(bytes(length + 1, 11), LAYER);
        assert_eq!(common, layers[0]);
        let own = tool.blob(bytes(length / 2, 40), LAYER);
        let (other, _) = tool.image(Some("v2"), "riscv64", &[common.clone(), own]);
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().parse().unwrap();
        let mut gallery = Self {
            common: digest(&common),
            layers: layers[..3].iter().map(digest).collect(),
            roots: [(APP, root), (TOOL, other)].into(),
            source,
            target,
            dir: TempDir::new().unwrap(),
            total: 0,
        };
        gallery.total = gallery.blobs().values().map(|blob| blob.len() as u64).sum();
        let patience = "[retry]\npause_min = \"10ms\"\npause_max = \"100ms\"\n";
        let mut settings = format!("{patience}[fetch]\nmemory = \"0B\"\n");
        let options = gallery.target.options();
        let at = gallery.target.address();
        if options.auth == Auth::Ecr {
            settings += &format!(
                "[registry.ecr]\nendpoint = \"http://{at}\"\nregion = \"{}\"\n",
                options.region
            );
        }
        gallery.write("settings.toml", &settings);
        let login = BASE64.encode(format!("{}:{}", options.user, options.password));
        let login = json!({"auth": login});
        let logins = json!({"auths": {at.to_string(): login}}).to_string();
        std::fs::create_dir(gallery.path(".docker")).unwrap();
        gallery.write(".docker/config.json", &logins);
        gallery
    }

    pub(crate) fn open(length: usize) -> Self {
        Self::new(Options::default(), Options::default(), length)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Every blob of the source.
    pub(crate) fn blobs(&self) -> BTreeMap<Digest, Bytes> {
        let repositories = self.source.repositories().into_iter();
        let found = repositories.map(|repository| self.source.find(&repository).unwrap());
        found.flat_map(|found| found.blobs).collect()
    }

    /// `sync` with the source's images at hand, and a spool of its own.
    pub(crate) fn sync(&self) -> Command {
        self.command("sync")
    }

    /// The same of another subcommand.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = program(self.dir.path());
        let keys = &self.target.options().credentials;
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.path("settings.toml"))
            .arg("--spool")
            .arg(self.path("spool"))
            .args([
                "--origin",
                &format!("{HOST}=http://{}/", self.source.address()),
            ])
            .env("AWS_ACCESS_KEY_ID", &keys.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret_key);
        command
    }

    pub(crate) fn place(&self) -> String {
        format!("{}/{PATH}", self.target.address())
    }

    /// `sync` of these images to the target.
    pub(crate) fn bring(&self, images: &[&str]) -> Command {
        let mut command = self.sync();
        command.args(["--to-registry", &self.place()]);
        for image in images {
            command.args(["--image", image]);
        }
        command
    }

    /// Brings both images, and sees that all is as it is at the source.
    pub(crate) async fn brings_both(&self) -> Output {
        let output = finish(self.bring(&[APP, TOOL])).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        self.assert_same(&[APP, TOOL]);
        output
    }

    pub(crate) fn assert_same(&self, images: &[&str]) {
        for image in images {
            let reference: Reference = image.parse().unwrap();
            let name = Naming::ContainerRegistry.repository(&reference).unwrap();
            let there = self.target.find(&format!("{PATH}/{name}"));
            let there = there.unwrap_or_else(|| panic!("{name} is not there"));
            let here = self.source.find(reference.repository()).unwrap();
            assert_eq!(there.manifests, here.manifests, "{image}");
            assert_eq!(there.tags, here.tags, "{image}");
            assert!(there.blobs == here.blobs, "{image}");
            for (digest, content) in &there.blobs {
                assert_eq!(Digest::of(Algorithm::Sha256, content), *digest);
            }
        }
    }

    /// Names of repositories at the target without manifests.
    pub(crate) fn unnamed(&self) -> BTreeSet<String> {
        let mut names = self.target.repositories();
        names.retain(|name| self.target.find(name).unwrap().manifests.is_empty());
        names
    }

    /// That no more than a twentieth of all blobs came twice, and so many bytes besides.
    pub(crate) fn assert_fetched_once(&self, besides: u64) {
        let sent = self.source.log().blob_bytes_sent();
        let most = self.total + self.total / 20 + besides;
        assert!(sent <= most, "{sent} bytes came of {}", self.total);
        assert!(sent >= self.total, "{sent} bytes came of {}", self.total);
    }
}

/// What was written to standard error and to standard output.
pub(crate) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stderr), text(&output.stdout))
}

/// What is in a folder, by name.
pub(crate) fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}
