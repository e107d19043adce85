//! That another tool finds what the program pushed to a real registry: skopeo, where KOPS_MIRROR_TEST_SKOPEO says which, and
//! KOPS_MIRROR_TEST_REGISTRY names the registry (`HOST:PORT`, without a login).

use std::process::Command;

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::{Naming, Reference};

use crate::support::gallery::{APP, Gallery, TOOL, folder, told};
use crate::support::program::finish;

fn named(variable: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    if named.is_none() {
        eprintln!("skipped: {variable} names nothing");
    }
    named
}

/// What skopeo writes.
async fn skopeo(program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = finish(command).await;
    assert!(output.status.success(), "{}", told(&output));
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_finds_the_images_that_the_program_brought() {
    let (Some(host), Some(program)) = (
        named("KOPS_MIRROR_TEST_REGISTRY"),
        named("KOPS_MIRROR_TEST_SKOPEO"),
    ) else {
        return;
    };
    let gallery = Gallery::open(300_000);
    let place = format!("{host}/images-{}", std::process::id());
    for fetched in [gallery.total, 0] {
        gallery.source.log().clear();
        let mut command = gallery.sync();
        command.args(["--to-registry", &place, "--image", APP, "--image", TOOL]);
        let output = finish(command).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(gallery.source.log().blob_bytes_sent(), fetched);
    }
    for image in [APP, TOOL] {
        let reference: Reference = image.parse().unwrap();
        let name = Naming::ContainerRegistry.repository(&reference).unwrap();
        let tag = reference.tag().unwrap();
        let from = format!("docker://{place}/{name}:{tag}");
        let here = gallery.source.find(reference.repository()).unwrap();
        let raw = skopeo(&program, &["inspect", "--raw", "--tls-verify=false", &from]).await;
        assert!(raw == here.manifests[&here.tags[tag]].content, "{image}");
        // All of it, into a folder: its manifests are NAME.manifest.json, its blobs NAME, and its root manifest.json.
        let to = gallery.path(&name);
        let into = format!("dir:{}", to.display());
        let copy = [
            "copy",
            "--all",
            "--src-tls-verify=false",
            "--insecure-policy",
        ];
        skopeo(&program, &[&copy[..], &[from.as_str(), &into]].concat()).await;
        let copied = folder(&to);
        let is_content = |name: &&String| *name != "version";
        let names = copied.keys().filter(is_content);
        assert_eq!(names.count(), here.manifests.len() + here.blobs.len());
        for (name, content) in &copied {
            let digest = Digest::of(Algorithm::Sha256, content);
            match name.strip_suffix("manifest.json") {
                Some(_) => assert!(here.manifests[&digest].content == content, "{name}"),
                None if name == "version" => {}
                None => assert!(here.blobs[&digest] == content, "{name}"),
            }
        }
    }
}
