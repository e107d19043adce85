//! Images that a service brings: what becomes of them when it ends, and settings that lead nowhere.

use std::time::{Duration, Instant};

use kops_mirror::image::Naming;
use kops_mirror::loopback::registry::{Fault, LoopbackRegistry, Operation, Options, Trouble};
use rustix::process::Signal;
use serde_json::Value;

use super::states;
use super::upstream::{Service, Upstream};
use crate::support::cluster::Cluster;
use crate::support::gallery::{APP, Gallery, HOST, told};
use crate::support::program::program;

const LENGTH: usize = 600_000;

/// A set with an image besides its files, and what is not to be waited for.
fn settings(gallery: &Gallery) -> String {
    format!(
        "schedule = \"every 1h\"\n[service]\nlisten = \"127.0.0.1:0\"\ndrain = \"1s\"\n\
         [registry]\nto = [\"{}\"]\nalso = [\"{APP}\"]\n[origins.\"{HOST}\"]\nsources = [\"http://{}/\"]\n",
        gallery.place(),
        gallery.source.address()
    )
}

fn blobs_under_way(registry: &LoopbackRegistry) -> u64 {
    let under_way = registry.log().under_way().into_iter();
    let blobs = under_way.filter(|exchanged| exchanged.operation == Operation::GetBlob);
    blobs.map(|exchanged| exchanged.sent_bytes).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ends_in_the_middle_of_an_image_goes_on_there() {
    let source = Options {
        send_buffer: Some(16 << 10),
        ..Options::default()
    };
    let gallery = Gallery::new(source, Options::default(), LENGTH);
    let slow = Trouble::AnswerSlow {
        bytes_per_second: 2_000,
    };
    let slow = Fault::new(slow).on(Operation::GetBlob);
    gallery.source.faults().order(slow.always());
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    let service = upstream.start(&settings(&gallery)).await;
    let began = Instant::now();
    while blobs_under_way(&gallery.source) < 200_000 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not come so far"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = Instant::now();
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{said}");
    let repositories = gallery.target.repositories();
    let mut found = repositories
        .iter()
        .filter_map(|name| gallery.target.find(name));
    assert!(
        found.all(|found| found.tags.is_empty()),
        "nothing is named that is not whole"
    );

    gallery.source.faults().clear();
    let service = upstream.start(&settings(&gallery)).await;
    service
        .until("complete", |status| states(status) == ["complete"])
        .await;
    gallery.assert_same(&[APP]);
    service.end(Signal::TERM).await;
    let own = gallery.source.find("team/app").unwrap().blobs;
    let total: u64 = own.values().map(|blob| blob.len() as u64).sum();
    let sent = gallery.source.log().blob_bytes_sent();
    // What was in sockets when it ended is lost.
    assert!(sent < total + 400_000, "{sent} bytes came of {total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_lead_nowhere_are_refused_before_anything_runs() {
    let upstream = Upstream::new("1.34.8", "1.36.2").await;
    upstream.write_settings("schedule = \"every 1h\"");
    let path = upstream.dir.path().join("mirror.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("images = true\n{text}")).unwrap();
    let refused = upstream.refused_as_it_is().await;
    assert!(
        refused.contains("nothing says where they go: give 'registry.to' or 'registry.to_layout'"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_brings_back_what_a_registry_has_lost() {
    let cluster = Cluster::new().await;
    let output = cluster.sync().await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let image = cluster.images[1].clone();
    let (blob, _) = cluster.find(&image).unwrap().blobs.pop_first().unwrap();
    let repository = Naming::ContainerRegistry.repository(&image).unwrap();
    cluster.target.lose(&format!("k8s/{repository}"), &blob);
    let mut settings = format!(
        "to = [\"mirror\"]\narch = [\"amd64\"]\nimages = true\n[service]\nlisten = \"127.0.0.1:0\"\n\
         [registry]\nto = [\"{}\"]\n[sets.all]\nkubernetes = [\"1.34.8\"]\nkops = \"1.36.2\"\n\
         schedule = \"every 10h\"\nscrub = \"every 1s\"\n",
        cluster.place()
    );
    for (host, url) in cluster.origins() {
        settings += &format!("[origins.\"{host}\"]\nsources = [\"{url}\"]\n");
    }
    std::fs::write(cluster.dir.path().join("mirror.toml"), settings).unwrap();
    let mut command = program(cluster.dir.path());
    command.current_dir(cluster.dir.path());
    command.args(["daemon", "--config", "mirror.toml"]);
    let service = Service::start(command).await;
    let began = Instant::now();
    while !cluster.find(&image).unwrap().blobs.contains_key(&blob) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let is_told =
        |run: &Value| run["purpose"] == "scrub" && run["transferred"] == 1 && run["end"] == "done";
    loop {
        let runs: Value =
            serde_json::from_str(&service.get("api/v1/runs?limit=200").await.1).unwrap();
        if runs["runs"].as_array().unwrap().iter().any(is_told) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{runs:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (code, said) = service.end(Signal::TERM).await;
    assert_eq!(code, Some(0), "{said}");
}
