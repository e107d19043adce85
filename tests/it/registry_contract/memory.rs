//! That a long blob does not lie in memory: a process of its own sends it, since the server here has to keep it.

use std::process::Command;
use std::time::Duration;

use kops_mirror::loopback::registry::{LoopbackRegistry, Options};
use kops_mirror::store::registry::{RegistryOptions, RegistryStore};

use super::{Bench, Known, spooled};

const LENGTH: usize = 64 << 20;

/// What may come to it: the client, its buffers, a few chunks.
const GROWTH_MAX_BYTES: u64 = 16 << 20;

/// Names the registry to the process that sends.
const ADDRESS: &str = "KOPS_MIRROR_TEST_SENDS_TO";

/// What this process has needed at most, or needs now.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.unwrap().trim_start_matches(':').trim();
    kibibytes.trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Only in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_a_long_blob() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let options = RegistryOptions::new(address.parse().unwrap(), std::sync::Arc::new(Known(None)));
    let bench = Bench {
        store: RegistryStore::connect(options).unwrap(),
        server: None,
    };
    let (content, _path, _dir) = spooled(&vec![7; LENGTH]).await;
    let digest = content.digests().sha256;
    bench.need(digest, &["a"]);
    // What was needed to write the spool counts no more.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    bench.put(&content).await.unwrap();
    let growth = memory("VmHWM").saturating_sub(before);
    assert!(growth < GROWTH_MAX_BYTES, "{growth} bytes");
    assert!(bench.has("a", &digest).await);
}

async fn sends_flat(address: String) {
    let program = std::env::current_exe().unwrap();
    let child = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args([
                "--exact",
                "registry_contract::memory::sends_a_long_blob",
                "--nocapture",
            ])
            .env(ADDRESS, address)
            .output()
            .unwrap()
    });
    let child = tokio::time::timeout(Duration::from_mins(2), child).await;
    let output = child.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_blob_goes_through_in_little_memory() {
    let server = LoopbackRegistry::start(Options::default()).unwrap();
    sends_flat(server.address().to_string()).await;
    let received = server.log().blob_bytes_received();
    assert_eq!(received, LENGTH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_blob_goes_to_a_real_registry_in_little_memory() {
    let Ok(host) = std::env::var("KOPS_MIRROR_TEST_REGISTRY") else {
        return;
    };
    sends_flat(format!("{host}/memory-{}", std::process::id())).await;
}
