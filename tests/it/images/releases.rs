//! Images of a release: it is marked when they are there, and its index tells where.

use kops_mirror::loopback::origin::{File, Origin};
use kops_mirror::loopback::registry::{Fault, Operation, Trouble};
use serde_json::{Value, json};

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::finish;

const LENGTH: usize = 200_000;

/// A list of one file and both images, and the command that brings it.
fn listed(gallery: &Gallery, origin: &Origin) -> std::process::Command {
    let file = File::generated(1, 50_000);
    let url = "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet";
    let sha = file.content.digests(&[]).sha256.hex();
    origin.publish("/release/v1.34.8/bin/linux/amd64/kubelet", file);
    let images = [APP, TOOL].map(|image| json!({"canonical": image, "download": image}));
    let list =
        json!({"images": images, "files": [{"canonical": url, "download": url, "sha": sha}]});
    gallery.write("list.json", &list.to_string());
    let mut command = gallery.bring(&[]);
    command
        .arg("--assets")
        .arg(gallery.path("list.json"))
        .arg("--images")
        .arg("--to")
        .arg(gallery.path("files"))
        .args(["--origin", &format!("dl.k8s.io={}", origin.url(""))]);
    command
}

fn index(gallery: &Gallery) -> Option<Value> {
    let entries = std::fs::read_dir(gallery.path("files/releases")).ok()?;
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 1);
    Some(serde_json::from_slice(&std::fs::read(&paths[0]).unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_marked_once_its_images_are_there() {
    let gallery = Gallery::open(LENGTH);
    let origin = Origin::start().unwrap();
    let gone = Trouble::Refused {
        status: 404,
        code: "BLOB_UNKNOWN",
        retry_after: None,
    };
    let gone = Fault::new(gone).on(Operation::GetBlob).at("team/app");
    gallery.source.faults().order(gone.always());
    let output = finish(listed(&gallery, &origin)).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why = format!("is not marked as ready: images are missing: {APP}\n");
    assert!(said.contains(&why), "{said}");
    gallery.assert_same(&[TOOL]);
    let file = gallery.path("files/release/v1.34.8/bin/linux/amd64/kubelet");
    assert!(file.exists(), "the file is there");
    assert_eq!(index(&gallery), None);

    gallery.source.faults().clear();
    let output = finish(listed(&gallery, &origin)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    let wanted = [(APP, "team-app:v1"), (TOOL, "team-tool:v2")].map(|(image, name)| {
        json!({"image": image, "digest": gallery.roots[image].to_string(),
            "at": [format!("{}/{name}", gallery.place())]})
    });
    let index = index(&gallery).expect("the release is marked");
    assert_eq!(index["release"]["images"], json!(wanted));
    gallery.assert_fetched_once(0);
}
