//! Images that a registry has lost: what `verify` finds, and that `repair` brings back that and nothing else.

use std::collections::BTreeMap;
use std::process::Output;

use kops_mirror::digest::Digest;
use kops_mirror::image::media;
use kops_mirror::loopback::origin::File;
use kops_mirror::loopback::registry::{Found, LoopbackRegistry, Operation, Options};
use serde_json::{Value, json};

use crate::store_contract::bytes;
use crate::support::list::{Desk, told};

const IMAGE: &str = "registry.k8s.io/team/app:v1";
/// What it is called at the source, and where kops looks for it at the mirror.
const SOURCE: &str = "team/app";
const MIRRORED: &str = "k8s/team-app";
const LAYER: usize = 60_000;

/// A mirror in a folder and a registry, of one file and an image of two platforms.
struct Mirrored {
    desk: Desk,
    source: LoopbackRegistry,
    target: LoopbackRegistry,
    index: Digest,
    layers: [Digest; 2],
    /// What the registry had when it was whole.
    whole: Found,
}

fn described(digest: Digest, length: usize, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": length})
}

/// Pushes an index of two platforms, a layer each; `seed` makes it another one.
fn push(source: &LoopbackRegistry, seed: u64) -> (Digest, [Digest; 2]) {
    let mut layers = Vec::new();
    let children = [("amd64", 0), ("arm64", 1)].map(|(architecture, n)| {
        let layer = source.add_blob(SOURCE, bytes(LAYER, seed + n));
        layers.push(layer);
        let config = json!({"architecture": architecture, "os": "linux", "seed": seed}).to_string();
        let length = config.len();
        let config = source.add_blob(SOURCE, config);
        let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": described(config, length, "application/vnd.oci.image.config.v1+json"),
            "layers": [described(layer, LAYER, "application/vnd.oci.image.layer.v1.tar")]});
        let manifest = manifest.to_string();
        let length = manifest.len();
        let digest = source.add_manifest(SOURCE, None, media::MANIFEST, manifest);
        let mut child = described(digest, length, media::MANIFEST);
        child["platform"] = json!({"os": "linux", "architecture": architecture});
        child
    });
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": children});
    let index = source.add_manifest(SOURCE, Some("v1"), media::INDEX, index.to_string());
    (index, layers.try_into().unwrap())
}

impl Mirrored {
    async fn new(platform: Option<&str>) -> Self {
        let (source, target) = (registry(), registry());
        let (index, layers) = push(&source, 1);
        let mut desk = Desk::new();
        desk.publish(
            "https://dl.k8s.io/files/kubectl",
            File::generated(7, 40_000),
        );
        desk.image(IMAGE);
        let mut mirrored = Self {
            desk,
            source,
            target,
            index,
            layers,
            whole: Found::default(),
        };
        let origin = mirrored.desk.origin_of("dl.k8s.io");
        let mut arguments: Vec<&str> = origin.iter().map(String::as_str).collect();
        arguments.push("--images");
        arguments.extend(
            platform
                .iter()
                .flat_map(|platform| ["--platform", platform]),
        );
        let (registry, image_origin) = (mirrored.registry(), mirrored.image_origin());
        arguments.extend(["--to", "mirror", "--to-registry", &registry]);
        arguments.extend(["--origin", &image_origin]);
        let output = mirrored.desk.run("sync", &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        mirrored.whole = mirrored.target.find(MIRRORED).unwrap();
        mirrored
    }

    fn registry(&self) -> String {
        format!("{}/k8s", self.target.address())
    }

    fn image_origin(&self) -> String {
        format!("registry.k8s.io=http://{}/", self.source.address())
    }

    async fn verify(&self, more: &[&str]) -> Output {
        let registry = self.registry();
        let place = ["--to", "mirror", "--to-registry", &registry];
        let arguments = place.into_iter().chain(more.iter().copied());
        self.desk.bare("verify", arguments).await
    }

    /// The findings of each image, by kind; what verify exits with must agree.
    async fn found(&self, more: &[&str]) -> BTreeMap<String, Vec<String>> {
        let more: Vec<&str> = ["-o", "json"].iter().chain(more).copied().collect();
        let output = self.verify(&more).await;
        let document: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document.len(), 2, "{document:#?}");
        assert_eq!(document[0]["findings"], json!({}));
        assert_eq!(
            (&document[1]["images"], &document[1]["place"]),
            (&json!(1), &json!(self.registry()))
        );
        let findings = document[1]["findings"].as_object().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())));
        let kinds = |findings: &Value| {
            let all = findings.as_array().unwrap().iter();
            let mut kinds: Vec<String> = all
                .map(|one| one["finding"].as_str().unwrap().to_owned())
                .collect();
            kinds.sort_unstable();
            kinds
        };
        findings
            .iter()
            .map(|(image, findings)| (image.clone(), kinds(findings)))
            .collect()
    }

    async fn repair(&self, more: &[&str]) -> Output {
        let (registry, origin) = (self.registry(), self.image_origin());
        let place = [
            "--to",
            "mirror",
            "--to-registry",
            &registry,
            "--origin",
            &origin,
        ];
        let arguments = place.into_iter().chain(more.iter().copied());
        self.desk.bare("repair", arguments).await
    }

    /// Finds exactly this, mends it for so many bytes of blobs, and finds nothing afterwards.
    async fn mends(&self, kinds: &[&str], crossed: usize) {
        let kinds: Vec<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
        assert_eq!(
            self.found(&[]).await,
            BTreeMap::from([(IMAGE.to_owned(), kinds)])
        );
        let table = self.verify(&[]).await;
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(
            table.contains(&format!("wrong     {IMAGE}: its ")),
            "{table}"
        );
        self.source.log().clear();
        self.target.log().clear();
        let output = self.repair(&[]).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(self.source.log().blob_bytes_sent(), crossed as u64);
        assert_eq!(self.target.log().blob_bytes_received(), crossed as u64);
        assert!(self.found(&["--deep"]).await.is_empty());
        let there = self.target.find(MIRRORED).unwrap();
        assert_eq!(there.tags, self.whole.tags);
        for (digest, blob) in &self.whole.blobs {
            assert_eq!(there.blobs.get(digest), Some(blob));
        }
        for (digest, manifest) in &self.whole.manifests {
            assert_eq!(there.manifests.get(digest), Some(manifest));
        }
    }
}

fn registry() -> LoopbackRegistry {
    LoopbackRegistry::start(Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_image_is_clean_and_a_repair_of_it_asks_no_source() {
    let mirrored = Mirrored::new(None).await;
    assert!(mirrored.found(&[]).await.is_empty());
    assert!(mirrored.found(&["--deep"]).await.is_empty());
    mirrored.source.log().clear();
    let output = mirrored.repair(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(mirrored.source.log().all().is_empty());
    // Without a registry they are not forgotten.
    let output = mirrored.desk.bare("verify", ["--to", "mirror"]).await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("Not checked  1 images"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_lost_comes_back_alone() {
    let mirrored = Mirrored::new(None).await;
    mirrored.target.lose(MIRRORED, &mirrored.layers[1]);
    mirrored.mends(&["blob-missing"], LAYER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_and_tags_come_back_for_no_blob() {
    let mirrored = Mirrored::new(None).await;
    mirrored.target.untag(MIRRORED, "v1");
    mirrored.mends(&["tag-missing"], 0).await;
    let mut children = mirrored
        .whole
        .manifests
        .keys()
        .filter(|digest| **digest != mirrored.index);
    mirrored.target.lose(MIRRORED, children.next().unwrap());
    mirrored.mends(&["manifest-missing"], 0).await;
    let child = mirrored.target.find(MIRRORED).unwrap();
    let (digest, child) = child
        .manifests
        .iter()
        .find(|(digest, _)| **digest != mirrored.index)
        .unwrap();
    mirrored.target.add_manifest(
        MIRRORED,
        Some("v1"),
        &child.media_type,
        child.content.clone(),
    );
    assert_ne!(*digest, mirrored.index);
    mirrored.mends(&["tag-moved"], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tag_upstream_leads_to_by_now_changes_nothing() {
    let mirrored = Mirrored::new(None).await;
    let (newer, _) = push(&mirrored.source, 100);
    assert_ne!(newer, mirrored.index);
    mirrored.target.lose(MIRRORED, &mirrored.index);
    mirrored.target.untag(MIRRORED, "v1");
    mirrored.target.lose(MIRRORED, &mirrored.layers[0]);
    // Below a manifest that is missing nothing can be seen, and the repair looks by itself.
    mirrored
        .mends(&["manifest-missing", "tag-missing"], LAYER)
        .await;
    assert_eq!(
        mirrored.target.find(MIRRORED).unwrap().tags["v1"],
        mirrored.index
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thinned_index_is_mended_though_no_source_has_it() {
    let mirrored = Mirrored::new(Some("linux/arm64")).await;
    let thinned = mirrored.whole.tags["v1"];
    assert_ne!(thinned, mirrored.index);
    mirrored.target.lose(MIRRORED, &mirrored.layers[1]);
    mirrored.mends(&["blob-missing"], LAYER).await;
    // Where it is lost itself it must be made again, for which the platforms must be known.
    mirrored.target.lose(MIRRORED, &thinned);
    let output = mirrored.repair(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("'kops-mirror sync' of its release"),
        "{table}"
    );
    mirrored.desk.write(
        "kops-mirror.toml",
        "[registry]\nplatforms = [\"linux/arm64\"]\n",
    );
    let output = mirrored.repair(&["--config", "kops-mirror.toml"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(mirrored.found(&["--deep"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_has_rotted_is_found_by_reading_and_left_to_its_owner() {
    let mirrored = Mirrored::new(None).await;
    let blob = mirrored.layers[0];
    mirrored.target.rot(MIRRORED, &blob, bytes(LAYER, 99));
    assert!(mirrored.found(&[]).await.is_empty());
    let found = mirrored.found(&["--deep"]).await;
    assert_eq!(found[IMAGE], ["blob-rotten"]);
    let output = mirrored.repair(&["--deep"]).await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(
        table.contains("remove it there, then repair again"),
        "{table}"
    );
    mirrored.target.lose(MIRRORED, &blob);
    mirrored.mends(&["blob-missing"], LAYER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_refuses_manifests_is_not_said_to_be_mended() {
    let mirrored = Mirrored::new(None).await;
    mirrored.target.untag(MIRRORED, "v1");
    let denied = kops_mirror::loopback::registry::Fault::unavailable();
    mirrored
        .target
        .faults()
        .order(denied.on(Operation::PutManifest).always());
    mirrored
        .desk
        .write("kops-mirror.toml", "[retry]\nattempts = 1\n");
    let output = mirrored.repair(&["--config", "kops-mirror.toml"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    mirrored.target.faults().clear();
    mirrored.mends(&["tag-missing"], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_images_is_audited_and_mended_alike() {
    let mirrored = Mirrored::new(None).await;
    let origin = mirrored.image_origin();
    let place = [
        "--to",
        "mirror",
        "--to-layout",
        "images",
        "--origin",
        &origin,
    ];
    // No image is in the folder yet: repair brings all of it.
    std::fs::create_dir(mirrored.desk.dir.path().join("images")).unwrap();
    let verify = ["--to", "mirror", "--to-layout", "images", "--deep"];
    let output = mirrored.desk.bare("verify", verify).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let output = mirrored.desk.bare("repair", place).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let output = mirrored.desk.bare("verify", verify).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let blob = format!("images/blobs/sha256/{}", mirrored.layers[0].hex());
    std::fs::remove_file(mirrored.desk.dir.path().join(blob)).unwrap();
    let output = mirrored.desk.bare("verify", verify).await;
    assert_eq!(output.status.code(), Some(1));
    mirrored.source.log().clear();
    let output = mirrored.desk.bare("repair", place).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(mirrored.source.log().blob_bytes_sent(), LAYER as u64);
    let output = mirrored.desk.bare("verify", verify).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}
