//! Images of a release: it is marked when they are there, and its index tells where.

use std::process::{Command, Output};

use kops_mirror::image::{Naming, Reference};
use kops_mirror::loopback::origin::{File, Origin};
use kops_mirror::loopback::registry::{Fault, Imitation, Mounts, Operation, Options, Trouble};
use kops_mirror::sync::Shard;
use serde_json::{Value, json};

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::finish;

const LENGTH: usize = 200_000;

/// A list of one file and both images, and the command that brings it.
fn listed(gallery: &Gallery, origin: &Origin) -> Command {
    list(gallery, origin, "kubelet", &[APP, TOOL]);
    of_list("sync", gallery, origin)
}

fn list(gallery: &Gallery, origin: &Origin, name: &str, images: &[&str]) {
    let file = File::generated(1, 50_000);
    let path = format!("/release/v1.34.8/bin/linux/amd64/{name}");
    let url = format!("https://dl.k8s.io{path}");
    let sha = file.content.digests(&[]).sha256.hex();
    origin.publish(path, file);
    let images = images.iter();
    let images: Vec<Value> = images
        .map(|image| json!({"canonical": image, "download": image}))
        .collect();
    let list =
        json!({"images": images, "files": [{"canonical": url, "download": url, "sha": sha}]});
    gallery.write("list.json", &list.to_string());
}

/// A subcommand on the list.
fn of_list(subcommand: &str, gallery: &Gallery, origin: &Origin) -> Command {
    let mut command = gallery.command(subcommand);
    command
        .args(["--to-registry", &gallery.place()])
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

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_shows_images_and_moves_and_makes_nothing() {
    let gallery = Gallery::new(Options::default(), Options::ecr(), LENGTH);
    let origin = Origin::start().unwrap();
    list(&gallery, &origin, "kubelet", &[APP, TOOL]);
    let output = planned(&gallery, &origin).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let plan = document(&output);
    assert_eq!(plan["totals"]["transfer"], 1);
    let images = &plan["images"];
    assert_eq!(images["places"], json!([gallery.place()]));
    // The layer that both have comes once, and is in the other's repository by a mount.
    let wanted = json!({"bring": 2, "skip": 0, "refused": 0, "blobs": gallery.blobs().len(), "bytes": gallery.total, "mounts": 1});
    assert_eq!(images["totals"], wanted);
    let names: Vec<&Value> = lines(images).map(|line| &line["image"]).collect();
    assert_eq!(names, [APP, TOOL]);
    for line in lines(images) {
        assert_eq!(line["at"][0]["state"], "missing", "{line}");
        let root = gallery.roots[line["image"].as_str().unwrap()];
        assert_eq!(line["digest"], root.to_string());
    }
    let table = finish(of_list("plan", &gallery, &origin)).await;
    let table = told(&table);
    for part in [
        format!("missing   {APP}  "),
        format!("To bring     2 ({} blobs, ", gallery.blobs().len()),
    ] {
        assert!(table.contains(&part), "{part}: {table}");
    }
    assert!(gallery.target.repositories().is_empty());
    assert_eq!(gallery.source.log().blob_bytes_sent(), 0);

    finish(of_list("sync", &gallery, &origin)).await;
    let output = planned(&gallery, &origin).await;
    let images = &document(&output)["images"];
    assert_eq!(images["totals"]["skip"], 2);
    assert!(lines(images).all(|line| line["at"][0]["state"] == "present"));
}

async fn planned(gallery: &Gallery, origin: &Origin) -> Output {
    let mut command = of_list("plan", gallery, origin);
    command.args(["-o", "json"]);
    finish(command).await
}

fn lines(images: &Value) -> impl Iterator<Item = &Value> {
    images["images"].as_array().unwrap().iter()
}

/// How many bytes the second of two releases brings, of which each has one image; both have a layer in common.
async fn second(target: Options) -> (Gallery, u64) {
    let gallery = Gallery::new(Options::default(), target, LENGTH);
    let origin = Origin::start().unwrap();
    list(&gallery, &origin, "kubelet", &[APP]);
    let output = finish(of_list("sync", &gallery, &origin)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    list(&gallery, &origin, "kubectl", &[TOOL]);
    gallery.source.log().clear();
    gallery.target.log().clear();
    let output = planned(&gallery, &origin).await;
    let planned = document(&output)["images"]["totals"]["bytes"].clone();
    let own = gallery.source.find("team/tool").unwrap().blobs;
    let own = own.iter().filter(|(digest, _)| **digest != gallery.common);
    let own: u64 = own.map(|(_, blob)| blob.len() as u64).sum();
    assert_eq!(planned, own);
    let output = finish(of_list("sync", &gallery, &origin)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    let sent = gallery.source.log().blob_bytes_sent();
    (gallery, sent - own)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_of_an_image_that_an_earlier_run_brought_is_mounted() {
    for target in [Options::default(), Options::ecr()] {
        let (gallery, besides) = second(target).await;
        assert_eq!(besides, 0);
        let log = gallery.target.log();
        assert_eq!(log.count(Operation::Mount), 1);
        // The index of the image there, and its three children, by the plan and by the run.
        assert_eq!(log.count(Operation::GetManifest), 8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_would_rather_have_sent_is_brought() {
    let imitation = Imitation {
        mounts: Mounts::Never,
        ..Imitation::default()
    };
    let target = Options {
        imitation,
        ..Options::default()
    };
    let (gallery, besides) = second(target).await;
    assert_eq!(besides, LENGTH as u64 + 1);
    assert_eq!(gallery.target.log().count(Operation::Mount), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_images_of_one_run_those_that_are_there_lend_their_layers() {
    let gallery = Gallery::open(LENGTH);
    finish(gallery.bring(&[APP])).await;
    let before = gallery.source.log().blob_bytes_sent();
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    assert_eq!(gallery.source.log().blob_bytes_sent(), gallery.total);
    assert!(before < gallery.total);
    assert_eq!(gallery.target.log().count(Operation::Mount), 1);
}

/// Of so many shards the one that brings an image.
fn owner(image: &str, of: usize) -> usize {
    let key = image.parse().unwrap();
    let takes = |index: &usize| Shard::new(*index, of).unwrap().takes(&key);
    (0..of).find(takes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_bring_an_image_each_and_the_last_marks_the_release() {
    let gallery = Gallery::open(LENGTH);
    let origin = Origin::start().unwrap();
    let apart = |of: &usize| owner(APP, *of) != owner(TOOL, *of);
    let of = (2..10).find(apart).unwrap();
    let last = owner(APP, of);
    let shard = |index: usize| {
        let mut command = listed(&gallery, &origin);
        command.args(["--shard", &format!("{index}/{of}")]);
        command.env(
            "KOPS_MIRROR_SPOOL_DIR",
            gallery.path(&format!("spool-{index}")),
        );
        crate::support::program::without_spool_flag_at(&gallery.path(""), &command)
    };
    for index in (0..of).filter(|index| *index != last) {
        let output = finish(shard(index)).await;
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    gallery.assert_same(&[TOOL]);
    let name = Naming::ContainerRegistry.repository(&APP.parse::<Reference>().unwrap());
    let app = gallery.target.find(&format!("mirror/{}", name.unwrap()));
    assert!(app.is_none(), "it is another's");
    assert_eq!(index(&gallery), None, "an image is missing");
    let output = finish(shard(last)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("Transferred        1 image"),
        "{}",
        told(&output)
    );
    gallery.assert_same(&[APP, TOOL]);
    let index = index(&gallery).expect("the last marks the release");
    let images = index["release"]["images"].as_array().unwrap();
    assert_eq!(images.len(), 2, "{images:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_side_by_side_mark_the_release_whoever_ends_last() {
    let gallery = Gallery::open(LENGTH);
    let origin = Origin::start().unwrap();
    let of = 3;
    let slow = Trouble::AnswerSlow {
        bytes_per_second: 400_000,
    };
    let slow = Fault::new(slow).on(Operation::GetBlob).at("team/app");
    gallery.source.faults().order(slow.always());
    let shards = (0..of).map(|index| {
        let mut command = listed(&gallery, &origin);
        command.args(["--shard", &format!("{index}/{of}")]);
        command.env(
            "KOPS_MIRROR_SPOOL_DIR",
            gallery.path(&format!("spool-{index}")),
        );
        finish(crate::support::program::without_spool_flag_at(
            &gallery.path(""),
            &command,
        ))
    });
    for output in futures::future::join_all(shards).await {
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    gallery.assert_same(&[APP, TOOL]);
    let index = index(&gallery).expect("one of them marks the release");
    assert_eq!(index["release"]["images"].as_array().unwrap().len(), 2);
}
