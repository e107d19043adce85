//! Images that are carried by hand, thinned, or named by their digests.

use kops_mirror::loopback::registry::Operation;
use serde_json::Value;

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::finish;

const LENGTH: usize = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_carries_images_over() {
    let gallery = Gallery::open(LENGTH);
    let mut command = gallery.sync();
    command.arg("--to-layout").arg(gallery.path("layout"));
    command.args(["--image", APP, "--image", TOOL]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_fetched_once(0);
    let asked = gallery.source.log().all().len();

    // On the other side nobody knows the source.
    let mut command = gallery.sync();
    command.arg("--from-layout").arg(gallery.path("layout"));
    command.args(["--to-registry", &gallery.place()]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    assert_eq!(gallery.source.log().all().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_damaged_on_the_way_by_hand_is_not_put() {
    let gallery = Gallery::open(LENGTH);
    let mut command = gallery.sync();
    command.arg("--to-layout").arg(gallery.path("layout"));
    command.args(["--image", APP, "--image", TOOL]);
    finish(command).await;
    let blob = format!("layout/blobs/sha256/{}", gallery.layers[1].hex());
    let mut content = std::fs::read(gallery.path(&blob)).unwrap();
    content[1000] ^= 1;
    std::fs::write(gallery.path(&blob), content).unwrap();
    // The source is out of reach.
    gallery
        .source
        .faults()
        .order(kops_mirror::loopback::registry::Fault::unavailable().always());
    let mut command = gallery.sync();
    command.arg("--from-layout").arg(gallery.path("layout"));
    command.args(["--to-registry", &gallery.place()]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    gallery.assert_same(&[TOOL]);
    let there = gallery.target.find("mirror/team-app").unwrap();
    assert!(there.manifests.is_empty() && !there.blobs.contains_key(&gallery.layers[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_alone_is_an_index_of_it() {
    let gallery = Gallery::open(LENGTH);
    let mut command = gallery.bring(&[APP]);
    command.args(["--platform", "linux/amd64"]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let there = gallery.target.find("mirror/team-app").unwrap();
    let root = &there.manifests[&there.tags["v1"]];
    let index: Value = serde_json::from_slice(&root.content).unwrap();
    let architectures: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| &child["platform"]["architecture"])
        .collect();
    assert_eq!(architectures[0], "amd64");
    assert!(!architectures.contains(&&Value::from("arm64")));
    assert!(there.blobs.len() < gallery.source.find("team/app").unwrap().blobs.len());
    assert!(
        gallery
            .layers
            .iter()
            .all(|layer| there.blobs.contains_key(layer))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_named_by_digest_is_found_by_it() {
    let gallery = Gallery::open(LENGTH);
    let digest = gallery.roots[APP];
    let named = format!("registry.k8s.io/team/app@{digest}");
    for platform in [None, Some("linux/amd64")] {
        // Thinned it would be another, and nobody would find it.
        let mut command = gallery.bring(&[&named]);
        command.args(
            platform
                .iter()
                .flat_map(|platform| ["--platform", *platform]),
        );
        let output = finish(command).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let there = gallery.target.find("mirror/team-app").unwrap();
        let here = gallery.source.find("team/app").unwrap();
        assert_eq!(there.manifests, here.manifests);
        assert!(there.blobs == here.blobs && there.tags.is_empty());
    }
    assert_eq!(gallery.target.log().count(Operation::PutManifest), 4);
}
