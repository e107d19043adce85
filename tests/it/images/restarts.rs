//! Ends the program, or the registry that it puts to, in the middle.

use std::time::{Duration, Instant};

use kops_mirror::loopback::registry::{Exchanged, Fault, Log, Operation, Options, Trouble};

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::Running;

const PATIENCE: Duration = Duration::from_secs(60);

fn slow(bytes_per_second: u64) -> Fault {
    Fault::new(Trouble::Slow { bytes_per_second }).on(Operation::PutUpload)
}

/// Bytes of blobs so far, those under way too.
fn so_far(log: &Log, bytes: impl Fn(&Exchanged) -> u64) -> u64 {
    let is_blob = |exchanged: &&Exchanged| {
        matches!(
            exchanged.operation,
            Operation::GetBlob | Operation::GetStored | Operation::PutUpload
        )
    };
    let all = [log.all(), log.under_way()].concat();
    all.iter().filter(is_blob).map(bytes).sum()
}

async fn until(running: &mut Running, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(!running.has_ended(), "it ended before");
        assert!(began.elapsed() < PATIENCE, "it does not come so far");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_restarts_in_the_middle_gets_all_of_it() {
    let gallery = Gallery::open(1_000_000);
    gallery.target.faults().order(slow(1_500_000).always());
    let mut running = Running::start(gallery.bring(&[APP, TOOL]));
    for part in 1..4 {
        let come = || so_far(gallery.target.log(), |exchanged| exchanged.received_bytes);
        let wanted = gallery.total * part / 5;
        until(&mut running, || come() >= wanted).await;
        gallery.target.restart();
    }
    gallery.target.faults().clear();
    let (output, _) = running.ended().await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_goes_on_where_it_was() {
    let source = Options {
        redirects_blobs: true,
        send_buffer: Some(16 << 10),
        ..Options::default()
    };
    let gallery = Gallery::new(source, Options::default(), 8_000_000);
    // What is in the sockets of a process that is killed is lost: of one connection some 400 KiB, each time.
    let limited = || {
        let mut command = gallery.bring(&[APP, TOOL]);
        command.args(["--limit", "12MiB/s", "--connections", "1"]);
        command
    };
    for part in [1, 2, 3, 5] {
        let mut running = Running::start(limited());
        let come = || so_far(gallery.source.log(), |exchanged| exchanged.sent_bytes);
        let wanted = gallery.total * part / 6;
        until(&mut running, || come() >= wanted).await;
        running.kill().await;
        for (image, name) in [(APP, "mirror/team-app"), (TOOL, "mirror/team-tool")] {
            let found = gallery.target.find(name);
            // What a tag leads to is there, all of it.
            if found.is_some_and(|found| !found.tags.is_empty()) {
                gallery.assert_same(&[image]);
            }
        }
    }
    gallery.brings_both().await;
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_while_it_puts_does_not_fetch_again() {
    let gallery = Gallery::open(1_000_000);
    for part in 1..4 {
        gallery.target.faults().order(slow(1_000_000).always());
        let mut running = Running::start(gallery.bring(&[APP, TOOL]));
        let before = so_far(gallery.target.log(), |exchanged| exchanged.received_bytes);
        let come = || so_far(gallery.target.log(), |exchanged| exchanged.received_bytes) - before;
        let wanted = gallery.total * part / 10;
        until(&mut running, || come() >= wanted).await;
        running.kill().await;
        gallery.target.faults().clear();
    }
    gallery.brings_both().await;
    gallery.assert_fetched_once(gallery.total / 20);
}
