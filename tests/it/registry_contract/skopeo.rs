//! That another tool finds what was pushed, byte for byte: skopeo, where KOPS_MIRROR_TEST_SKOPEO says which.

use std::process::Command;

use super::{Bench, Image, plain, server};
use crate::store_contract::bytes;

/// What skopeo says; None where there is none.
async fn skopeo(arguments: Vec<String>) -> Option<Vec<u8>> {
    let Ok(program) = std::env::var("KOPS_MIRROR_TEST_SKOPEO") else {
        eprintln!("skipped: KOPS_MIRROR_TEST_SKOPEO names no skopeo");
        return None;
    };
    let asked = move || Command::new(program).args(arguments).output().unwrap();
    let output = tokio::task::spawn_blocking(asked).await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    Some(output.stdout)
}

async fn comes_back(bench: &Bench, seed: u64) {
    let image = Image::new(seed);
    let index = image.index();
    bench.make(&["a"]).await;
    image.put_blobs(bench, "a").await;
    let by_digest = image.manifest.digest.to_string();
    let put = bench.store.put_manifest("a", &by_digest, &image.manifest);
    put.await.unwrap();
    bench.store.put_manifest("a", "v1", &index).await.unwrap();
    let place = kops_mirror::store::Store::place(&bench.store);
    for (name, manifest) in [
        (format!("{place}/a:v1"), &index),
        (format!("{place}/a@{by_digest}"), &image.manifest),
    ] {
        let arguments = [
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{name}"),
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        let Some(raw) = skopeo(arguments).await else {
            return;
        };
        assert!(raw == manifest.bytes, "{name}");
    }
    // All of it, layers too, into a folder.
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().display());
    let from = format!("docker://{place}/a:v1");
    let arguments = [
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--insecure-policy",
        &from,
        &to,
    ];
    skopeo(arguments.map(str::to_owned).to_vec()).await;
    for content in [&image.config, &image.layer] {
        let name = super::sha256(content).hex();
        let there = std::fs::read(folder.path().join(name)).unwrap();
        assert!(there == *content);
    }
    assert_eq!(image.layer, bytes(50_000, seed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_finds_what_was_pushed_to_the_loopback_registry() {
    comes_back(&plain().await.unwrap(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_finds_what_was_pushed_to_a_real_registry() {
    if let Some(bench) = server().await {
        comes_back(&bench, 2).await;
    }
}
