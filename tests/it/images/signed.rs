//! Images that come only if they are signed as a policy asks for.

use kops_mirror::digest::Digest;
use kops_mirror::image::media;
use kops_mirror::loopback::origin::{File, Origin};
use kops_mirror::loopback::registry::{Fault, LoopbackRegistry, Operation, Options, Trouble};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::finish;
use crate::support::sigstore::{BUNDLE, Claim, SIGNED, Sigstore, bundle_by_key, key, statement};

const LENGTH: usize = 200_000;
const ROBOT: &str = "robot@releng.example";
const ISSUER: &str = "https://accounts.example";

/// Says in the settings by whom images must be signed.
fn ask(gallery: &Gallery, images: &str, by: &str) {
    let before = std::fs::read_to_string(gallery.path("settings.toml")).unwrap();
    let policy = format!("\n[[registry.policies]]\nimages = \"{images}\"\n{by}\n");
    gallery.write("settings.toml", &(before + &policy));
}

fn ask_for_key(gallery: &Gallery, images: &str, key: &KeyPair) {
    gallery.write("cosign.pub", &key.public_key_pem());
    let file = gallery.path("cosign.pub");
    ask(gallery, images, &format!("key = \"{}\"", file.display()));
}

fn ask_for_robot(gallery: &Gallery, images: &str, sigstore: &Sigstore) {
    gallery.write("trusted_root.json", &sigstore.trust_root());
    let root = gallery.path("trusted_root.json");
    let by = format!(
        "identity = \"{ROBOT}\"\nissuer = \"{ISSUER}\"\ntrust_root = \"{}\"",
        root.display()
    );
    ask(gallery, images, &by);
}

fn described(digest: Digest, length: usize, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": length})
}

/// Puts signatures beside an image, as cosign does first: at a tag.
fn sign_by_tag(registry: &LoopbackRegistry, repository: &str, image: Digest, claims: &[Claim]) {
    let config = registry.add_blob(repository, "{}");
    let config = described(config, 2, "application/vnd.oci.image.config.v1+json");
    for claim in claims {
        registry.add_blob(repository, claim.payload.clone());
    }
    let layers: Vec<Value> = claims.iter().map(Claim::layer).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
    let tag = format!("sha256-{}.sig", image.hex());
    registry.add_manifest(
        repository,
        Some(&tag),
        media::MANIFEST,
        manifest.to_string(),
    );
}

/// Puts a bundle beside an image, as cosign does by now: as a referrer, which is in a list at a tag too.
fn sign_by_subject(registry: &LoopbackRegistry, repository: &str, image: Digest, bundle: &Value) {
    let bundle = bundle.to_string();
    let blob = described(
        registry.add_blob(repository, bundle.clone()),
        bundle.len(),
        BUNDLE,
    );
    let config = registry.add_blob(repository, "{}");
    let config = described(config, 2, "application/vnd.oci.empty.v1+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "artifactType": BUNDLE,
        "config": config, "layers": [blob], "subject": described(image, 7, media::INDEX)})
    .to_string();
    let digest = registry.add_manifest(repository, None, media::MANIFEST, manifest.clone());
    let list = json!({"schemaVersion": 2, "mediaType": media::INDEX,
        "manifests": [described(digest, manifest.len(), media::MANIFEST)]});
    let tag = format!("sha256-{}", image.hex());
    registry.add_manifest(repository, Some(&tag), media::INDEX, list.to_string());
}

/// That nothing of an image is at the target, and none of its blobs was asked for.
fn assert_kept_out(gallery: &Gallery, repository: &str) {
    let there = gallery
        .target
        .find(&format!("mirror/{}", repository.replace('/', "-")));
    let is_empty = there.is_none_or(|there| there.manifests.is_empty() && there.tags.is_empty());
    assert!(is_empty, "{repository} is at the target");
}

/// How often a layer was asked for at the repository of the first image.
fn layers_asked_for(gallery: &Gallery) -> usize {
    let log = gallery.source.log().all();
    let layers: Vec<String> = gallery.layers.iter().map(ToString::to_string).collect();
    let asked = log
        .iter()
        .filter(|one| one.repository == "team/app" && layers.contains(&one.reference));
    asked.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_image_comes_and_an_unsigned_one_does_not() {
    let gallery = Gallery::open(LENGTH);
    let key = key();
    ask_for_key(&gallery, "registry.k8s.io/**", &key);
    let root = gallery.roots[TOOL];
    sign_by_tag(
        &gallery.source,
        "team/tool",
        root,
        &[Claim::by_key(root, &key)],
    );
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why = format!(
        "{APP} ({}) is not brought: no signature of it",
        gallery.roots[APP]
    );
    assert!(said.contains(&why), "{said}");
    assert!(said.contains("its registry has none"), "{said}");
    assert_kept_out(&gallery, "team/app");
    let there = gallery.target.find("mirror/team-tool").unwrap();
    assert_eq!(there.tags["v2"], root);
    // The signature does not come along unless it is asked to.
    assert_eq!(there.manifests.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_signature_stops_an_image_before_its_blobs() {
    let gallery = Gallery::open(LENGTH);
    let sigstore = Sigstore::new();
    ask_for_robot(&gallery, "registry.k8s.io/team/app", &sigstore);
    let root = gallery.roots[APP];
    let stranger = sigstore.certify("someone@else.example", ISSUER);
    let robot = sigstore.certify(ROBOT, ISSUER);
    let claims = [
        sigstore.claim(root, &stranger),
        sigstore.claim(gallery.roots[TOOL], &robot),
        Claim::by_key(root, &key()),
    ];
    sign_by_tag(&gallery.source, "team/app", root, &claims);
    // No policy fits the other one.
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let another = format!("it is of another image, {}", gallery.roots[TOOL]);
    for why in [
        "it is by someone@else.example (https://accounts.example says)",
        another.as_str(),
        "it has no certificate",
        "change the policy in [[registry.policies]]",
    ] {
        assert!(said.contains(why), "{why}: {said}");
    }
    assert_kept_out(&gallery, "team/app");
    gallery.assert_same(&[TOOL]);
    assert_eq!(layers_asked_for(&gallery), 0, "{said}");

    // One good signature is enough, wherever it stands.
    let good = sigstore.claim(root, &robot);
    sign_by_tag(
        &gallery.source,
        "team/app",
        root,
        &[&claims[..], &[good]].concat(),
    );
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let there = gallery.target.find("mirror/team-app").unwrap();
    assert_eq!(there.tags["v1"], root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_found_by_its_subject() {
    for referrers in [true, false] {
        let source = Options {
            referrers,
            redirects_blobs: referrers,
            ..Options::default()
        };
        let gallery = Gallery::new(source, Options::default(), LENGTH);
        let sigstore = Sigstore::new();
        ask_for_robot(&gallery, "registry.k8s.io/**", &sigstore);
        let robot = sigstore.certify(ROBOT, ISSUER);
        let of = |image: &str, predicate: &str| {
            sigstore.bundle(&statement(gallery.roots[image], predicate), &robot)
        };
        let (app, tool) = (of(APP, SIGNED), of(TOOL, "https://slsa.dev/provenance/v1"));
        sign_by_subject(&gallery.source, "team/app", gallery.roots[APP], &app);
        sign_by_subject(&gallery.source, "team/tool", gallery.roots[TOOL], &tool);
        let output = finish(gallery.bring(&[APP, TOOL])).await;
        let said = told(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let there = gallery.target.find("mirror/team-app").unwrap();
        assert_eq!(there.tags["v1"], gallery.roots[APP]);
        assert!(said.contains("it attests something"), "{said}");
        assert_kept_out(&gallery, "team/tool");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_that_fits_must_be_satisfied() {
    let gallery = Gallery::open(LENGTH);
    let (sigstore, key) = (Sigstore::new(), key());
    ask_for_key(&gallery, "registry.k8s.io/**", &key);
    ask_for_robot(&gallery, "registry.k8s.io/team/app:v1", &sigstore);
    for image in [APP, TOOL] {
        let root = gallery.roots[image];
        let repository = image.split(':').next().unwrap();
        let repository = repository.strip_prefix("registry.k8s.io/").unwrap();
        let claims = [Claim::by_key(root, &key)];
        sign_by_tag(&gallery.source, repository, root, &claims);
    }
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the policy for registry.k8s.io/team/app:v1 (by robot@releng.example of https://accounts.example) asks for"),
        "{said}"
    );
    assert_kept_out(&gallery, "team/app");
    let root = gallery.roots[APP];
    let robot = sigstore.certify(ROBOT, ISSUER);
    let bundle = sigstore.bundle(&statement(root, SIGNED), &robot);
    sign_by_subject(&gallery.source, "team/app", root, &bundle);
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thinned_image_is_checked_by_the_digest_at_its_source() {
    let gallery = Gallery::open(LENGTH);
    let key = key();
    ask_for_key(&gallery, "registry.k8s.io/**", &key);
    let root = gallery.roots[APP];
    let claims = [Claim::by_key(root, &key)];
    sign_by_tag(&gallery.source, "team/app", root, &claims);
    let mut command = gallery.bring(&[APP]);
    command.args(["--platform", "linux/amd64"]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let there = gallery.target.find("mirror/team-app").unwrap();
    assert_ne!(there.tags["v1"], root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_can_t_be_read_is_not_a_missing_one() {
    let gallery = Gallery::open(LENGTH);
    let key = key();
    ask_for_key(&gallery, "registry.k8s.io/**", &key);
    let root = gallery.roots[APP];
    let claim = Claim::by_key(root, &key);
    sign_by_tag(&gallery.source, "team/app", root, &[claim.clone()]);
    gallery.source.lose("team/app", &claim.digest());
    let output = finish(gallery.bring(&[APP])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why = format!("whether {APP} is signed can't be told");
    assert!(said.contains(&why), "{said}");
    assert_kept_out(&gallery, "team/app");
    // What was damaged on the way comes again.
    gallery
        .source
        .rot("team/app", &claim.digest(), "other bytes");
    let output = finish(gallery.bring(&[APP])).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_kept_out(&gallery, "team/app");
    gallery.source.add_blob("team/app", claim.payload);
    let busy = Trouble::Refused {
        status: 503,
        code: "UNAVAILABLE",
        retry_after: None,
    };
    let busy = Fault::new(busy).on(Operation::GetBlob).at("team/app");
    gallery.source.faults().order(busy);
    let output = finish(gallery.bring(&[APP])).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

/// A folder with both images, and with what is attached to them if a test wants that.
async fn filled(gallery: &Gallery, signatures: bool) {
    let mut command = gallery.sync();
    command.env("KOPS_MIRROR_REGISTRY_SIGNATURES", signatures.to_string());
    command.arg("--to-layout").arg(gallery.path("layout"));
    command.args(["--image", APP, "--image", TOOL]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

fn bring_from_folder(gallery: &Gallery, images: &[&str]) -> std::process::Command {
    let mut command = gallery.bring(images);
    command.arg("--from-layout").arg(gallery.path("layout"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_folder_has_is_checked_by_the_signatures_in_it() {
    let gallery = Gallery::open(LENGTH);
    let (sigstore, key) = (Sigstore::new(), key());
    let robot = sigstore.certify(ROBOT, ISSUER);
    let (app, tool) = (gallery.roots[APP], gallery.roots[TOOL]);
    let bundle = sigstore.bundle(&statement(app, SIGNED), &robot);
    sign_by_subject(&gallery.source, "team/app", app, &bundle);
    let foreign = [Claim::by_key(tool, &key)];
    sign_by_tag(&gallery.source, "team/tool", tool, &foreign);
    filled(&gallery, true).await;
    let asked = gallery.source.log().all().len();
    ask_for_robot(&gallery, "registry.k8s.io/**", &sigstore);
    for images in [&[][..], &[APP, TOOL]] {
        let output = finish(bring_from_folder(&gallery, images)).await;
        let said = told(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("it has no certificate"), "{said}");
        assert_kept_out(&gallery, "team/tool");
        let there = gallery.target.find("mirror/team-app").unwrap();
        assert_eq!(there.tags["v1"], app);
    }
    // What is attached to an image went with it, and nothing was asked but the folder.
    let there = gallery.target.find("mirror/team-app").unwrap();
    let signature = there.manifests.values().find(|kept| {
        let manifest: Value = serde_json::from_slice(&kept.content).unwrap();
        manifest["subject"]["digest"] == app.to_string()
    });
    assert!(signature.is_some());
    assert_eq!(gallery.source.log().all().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_without_signatures_is_told_how_to_be_filled() {
    let gallery = Gallery::open(LENGTH);
    let key = key();
    let tool = gallery.roots[TOOL];
    sign_by_tag(
        &gallery.source,
        "team/tool",
        tool,
        &[Claim::by_key(tool, &key)],
    );
    filled(&gallery, false).await;
    ask_for_key(&gallery, "registry.k8s.io/team/tool*", &key);
    let output = finish(bring_from_folder(&gallery, &[])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("fill it with 'signatures = true'"), "{said}");
    assert_kept_out(&gallery, "team/tool");
    gallery.assert_same(&[APP]);
}

/// An image that pretends to be attached to a signed one is asked for its own signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_is_no_pass() {
    let gallery = Gallery::open(LENGTH);
    let key = key();
    let app = gallery.roots[APP];
    sign_by_tag(
        &gallery.source,
        "team/app",
        app,
        &[Claim::by_key(app, &key)],
    );
    let config = gallery.source.add_blob("team/app", "{}");
    let config = described(config, 2, "application/vnd.oci.image.config.v1+json");
    let evil = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [],
        "subject": described(app, 7, media::INDEX)});
    let registry = &gallery.source;
    registry.add_manifest("team/app", Some("v9"), media::MANIFEST, evil.to_string());
    let evil = "registry.k8s.io/team/app:v9";
    let mut command = gallery.sync();
    command.env("KOPS_MIRROR_REGISTRY_SIGNATURES", "true");
    command.arg("--to-layout").arg(gallery.path("layout"));
    command.args(["--image", APP, "--image", evil]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    ask_for_key(&gallery, "registry.k8s.io/**", &key);
    for command in [
        gallery.bring(&[APP, evil]),
        bring_from_folder(&gallery, &[]),
    ] {
        let output = finish(command).await;
        let said = told(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{evil} (sha256:")), "{said}");
        let there = gallery.target.find("mirror/team-app").unwrap();
        assert!(!there.tags.contains_key("v9") && there.tags["v1"] == app);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_with_an_unsigned_image_is_not_marked() {
    let gallery = Gallery::open(LENGTH);
    let (key, origin) = (key(), Origin::start().unwrap());
    ask_for_key(&gallery, "registry.k8s.io/team/tool", &key);
    let file = File::generated(1, 50_000);
    let url = "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet";
    let sha = file.content.digests(&[]).sha256.hex();
    origin.publish("/release/v1.34.8/bin/linux/amd64/kubelet", file);
    let images = [APP, TOOL].map(|image| json!({"canonical": image, "download": image}));
    let list =
        json!({"images": images, "files": [{"canonical": url, "download": url, "sha": sha}]});
    gallery.write("list.json", &list.to_string());
    let command = || {
        let mut command = gallery.bring(&[]);
        command.arg("--assets").arg(gallery.path("list.json"));
        command
            .arg("--images")
            .arg("--to")
            .arg(gallery.path("files"));
        command.args(["--origin", &format!("dl.k8s.io={}", origin.url(""))]);
        command
    };
    let output = finish(command()).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why = format!("is not marked as ready: images are missing: {TOOL}\n");
    assert!(said.contains(&why), "{said}");
    assert!(!gallery.path("files/releases").exists());
    let tool = gallery.roots[TOOL];
    let claims = [
        Claim::by_key(tool, &crate::support::sigstore::key()),
        Claim::by_key(tool, &key),
    ];
    sign_by_tag(&gallery.source, "team/tool", tool, &claims);
    let bundle = bundle_by_key(&statement(tool, "any"), &key);
    sign_by_subject(&gallery.source, "team/tool", tool, &bundle);
    let output = finish(command()).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(gallery.path("files/releases").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_can_t_be_used_stops_the_run() {
    let gallery = Gallery::open(LENGTH);
    ask(
        &gallery,
        "registry.k8s.io/**",
        "key = \"/nowhere/cosign.pub\"",
    );
    let output = finish(gallery.bring(&[APP])).await;
    let said = told(&output);
    assert_ne!(output.status.code(), Some(0), "{said}");
    let why = "can't read /nowhere/cosign.pub, of the policy for registry.k8s.io/**";
    assert!(said.contains(why), "{said}");
    assert_eq!(gallery.target.repositories().len(), 0);
}
