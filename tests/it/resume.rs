//! Kills the real program, again and again, and proves by the origin's log that what had arrived did not come twice.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use kops_mirror::loopback::origin::{Fault, When};
use kops_mirror::loopback::s3::{Fault as S3Fault, Trouble};
use rustix::process::Signal;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::{Program, Running, at_bucket, finish, program, without_spool_flag};

const FILES: u64 = 4;
const LENGTH: u64 = 8_000_000;
const KILLS: u64 = 5;

/// Between reading a chunk and noting it passes less than this, on a busy machine too.
const SETTLED: Duration = Duration::from_millis(300);

/// Ranges by path.
type Ranges = BTreeMap<String, Vec<Range<u64>>>;

fn completed(program: &Program) -> Ranges {
    let mut ranges = Ranges::new();
    for exchange in program.origin.log().exchanges() {
        if let Some(sent) = exchange.sent().filter(|_| exchange.complete) {
            ranges.entry(exchange.path).or_default().push(sent);
        }
    }
    ranges
}

/// Whether any of the ranges was sent by a request after the first `asked`.
fn sent_again(program: &Program, settled: &Ranges, asked: usize) -> Vec<(String, Range<u64>)> {
    let later = program.origin.log().exchanges().split_off(asked);
    let mut again = Vec::new();
    for exchange in later {
        let Some(sent) = exchange.sent() else {
            continue;
        };
        let before = settled.get(&exchange.path).into_iter().flatten();
        let overlaps = |range: &&Range<u64>| range.start < sent.end && sent.start < range.end;
        again.extend(
            before
                .filter(overlaps)
                .map(|_| (exchange.path.clone(), sent.clone())),
        );
    }
    again
}

/// Kills the program whenever another part of the bytes has been sent; `check` looks at the target after each death.
async fn kill_at_many_points(program: &Program, command: impl Fn() -> Command, check: impl Fn()) {
    program
        .origin
        .order("*", When::Always, Fault::Rate(1_500_000));
    let mut settled: Vec<(Ranges, usize)> = Vec::new();
    let mut deaths = 0;
    for kill in 1..=KILLS {
        let mut running = Running::start(command());
        let wanted = FILES * LENGTH * kill / (KILLS + 1);
        while program.sent() < wanted && !running.has_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ranges = completed(program);
        tokio::time::sleep(SETTLED).await;
        if !running.has_ended() {
            deaths += 1;
        }
        running.kill().await;
        settled.push((ranges, program.origin.log().exchanges().len()));
        check();
    }
    assert!(deaths >= KILLS - 1, "it was killed {deaths} times");
    let last = finish(command()).await;
    let said = String::from_utf8_lossy(&last.stderr);
    assert_eq!(last.status.code(), Some(0), "{said}");
    for (ranges, asked) in &settled {
        assert_eq!(sent_again(program, ranges, *asked), []);
    }
    let (sent, wanted) = (program.sent(), FILES * LENGTH);
    assert!(sent <= wanted * 105 / 100, "{sent} bytes for {wanted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_in_a_folder_survives_being_killed_at_any_point() {
    let program = Program::with_files(FILES, LENGTH);
    let check = || {
        for key in &program.keys {
            if let Ok(bytes) = fs::read(program.path("mirror").join(key)) {
                assert!(bytes == program.content(key), "{key} is visible and wrong");
            }
        }
    };
    kill_at_many_points(&program, || program.to_folder(), check).await;
    for key in &program.keys {
        let bytes = fs::read(program.path("mirror").join(key)).unwrap();
        assert!(bytes == program.content(key), "{key}");
        let sidecar = program.path("mirror").join(format!("{key}.sha256"));
        assert_eq!(fs::read(sidecar).unwrap().len(), 65);
    }
    let left = fs::read_dir(program.path("spool")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "the spool has done its work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_in_a_bucket_survives_being_killed_at_any_point() {
    let program = Program::with_files(FILES, LENGTH);
    let server = BucketServer::start();
    // So that kills fall into uploads too.
    let slow = S3Fault::new(Trouble::Slow {
        bytes_per_second: 12_000_000,
    });
    server.0.faults().order(slow.on("PutObject").always());
    let check = || {
        for key in &program.keys {
            if let Some(found) = server.bucket().object(&format!("{PREFIX}/{key}")) {
                let bytes = found.bytes.unwrap();
                assert!(bytes == program.content(key), "{key} is visible and wrong");
            }
        }
    };
    kill_at_many_points(&program, || program.to_bucket(&server), check).await;
    for key in &program.keys {
        assert_eq!(server.commits_of(key), 1, "{key} was published once");
        assert!(server.bucket().object(&format!("{PREFIX}/{key}")).is_some());
    }
    assert_eq!(server.bucket().unfinished_uploads(), [""; 0]);
    let marker = server.bucket().keys();
    assert!(marker.iter().any(|key| key.contains("/releases/")));
    server.0.log().clear();
    let again = finish(program.to_bucket(&server)).await;
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(server.0.log().count("PutObject"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_and_sigterm_end_a_run_at_once_and_the_next_goes_on() {
    for signal in [Signal::INT, Signal::TERM] {
        let program = Program::with_files(2, LENGTH);
        program
            .origin
            .order("*", When::Always, Fault::Rate(1_000_000));
        let running = Running::start(program.to_folder());
        while program.sent() < LENGTH / 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.signal(signal);
        let (output, took) = running.ended().await;
        assert_eq!(output.status.code(), Some(130), "{signal:?}");
        assert!(took < Duration::from_secs(2), "{signal:?} took {took:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("the same command goes on from here"),
            "{said}"
        );
        assert!(!program.path("mirror").join(&program.keys[0]).exists());
        program.origin.recover();
        let next = finish(program.to_folder()).await;
        assert_eq!(next.status.code(), Some(0));
        assert!(
            program.sent() <= 2 * LENGTH * 105 / 100,
            "{}",
            program.sent()
        );
        for key in &program.keys {
            let bytes = fs::read(program.path("mirror").join(key)).unwrap();
            assert!(bytes == program.content(key));
        }
    }
}

/// Files so small that they wait in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_keeps_what_was_in_memory_and_a_kill_costs_no_more_than_that() {
    const SMALL: u64 = 3_000_000;
    for killed in [false, true] {
        let program = Program::with_files(4, SMALL);
        program
            .origin
            .order("*", When::Always, Fault::Rate(1_000_000));
        let running = Running::start(program.to_folder());
        while program.sent() < 2 * SMALL {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let spooled = || fs::read_dir(program.path("spool")).unwrap().count();
        assert_eq!(spooled(), 1, "the lock alone");
        if killed {
            running.kill().await;
            assert_eq!(spooled(), 1);
        } else {
            running.signal(Signal::INT);
            let (output, took) = running.ended().await;
            assert_eq!(output.status.code(), Some(130));
            assert!(took < Duration::from_secs(2), "{took:?}");
            assert_eq!(spooled(), 1 + 2 * 4);
        }
        tokio::time::sleep(SETTLED).await;
        let sent = program.sent();
        program.origin.recover();
        let next = finish(program.to_folder()).await;
        assert_eq!(next.status.code(), Some(0));
        let (twice, wanted) = (program.sent() - 4 * SMALL, 4 * SMALL);
        assert!(twice <= if killed { sent } else { wanted / 20 }, "{twice}");
        for key in &program.keys {
            let bytes = fs::read(program.path("mirror").join(key)).unwrap();
            assert!(bytes == program.content(key));
        }
        assert_eq!(spooled(), 1, "the spool has done its work");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_can_be_interrupted() {
    let files = Program::with_files(1, 100_000);
    let server = BucketServer::start();
    let first = finish(files.to_bucket(&server)).await;
    assert_eq!(first.status.code(), Some(0));
    let late = || S3Fault::new(Trouble::Late(Duration::from_secs(60))).always();
    for (operation, arguments) in [
        ("HeadBucket", &["verify"][..]),
        ("ListObjectsV2", &["verify"]),
        ("GetObject", &["verify", "--deep"]),
        ("ListObjectsV2", &["repair"]),
        ("ListObjectsV2", &["sync"]),
        ("PutObject", &["sync"]),
    ] {
        server.0.faults().clear();
        for key in server.bucket().keys() {
            // So that there is something to do.
            if operation == "PutObject" {
                server.bucket().remove(&key);
            }
        }
        server.0.faults().order(late().on(operation));
        let before = server.0.log().all().len();
        let command = if arguments == ["sync"] {
            files.to_bucket(&server)
        } else {
            let mut command = program(&files.path(""));
            command.args(arguments);
            at_bucket(&mut command, &server);
            command
        };
        let mut running = Running::start(command);
        // Requests before the late one end; a moment later that one hangs.
        let hangs = |ended: usize| operation == "HeadBucket" || ended > before;
        while !hangs(server.0.log().all().len()) && !running.has_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        running.signal(Signal::INT);
        let (output, took) = running.ended().await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {said}");
        assert!(took < Duration::from_secs(2), "{arguments:?}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_with_the_same_spool_waits_for_the_first() {
    let program = Program::with_files(2, 3_000_000);
    program
        .origin
        .order("*", When::Always, Fault::Rate(2_000_000));
    let first = Running::start(program.to_folder());
    while program.sent() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut second = Running::start(program.to_folder());
    let third = Running::start(program.to_folder());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!second.has_ended());
    third.signal(Signal::INT);
    let (third, took) = third.ended().await;
    assert_eq!(third.status.code(), Some(130));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let (first, _) = first.ended().await;
    let (second, _) = second.ended().await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(
        (first.status.code(), second.status.code()),
        (Some(0), Some(0)),
        "{said}"
    );
    assert!(said.contains("another run"), "{said}");
    assert_eq!(program.sent(), 6_000_000, "nothing crossed twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_with_different_spools_both_succeed() {
    let program = Program::with_files(3, 1_000_000);
    program
        .origin
        .order("*", When::Always, Fault::Rate(2_000_000));
    let server = BucketServer::start();
    let with_spool = |name: &str| {
        let mut command = program.to_bucket(&server);
        command.env("KOPS_MIRROR_SPOOL_DIR", program.path(name));
        without_spool_flag(&program, &command)
    };
    let one = Running::start(with_spool("one"));
    let two = Running::start(with_spool("two"));
    for running in [one, two] {
        let (output, _) = running.ended().await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    for key in &program.keys {
        let found = server.bucket().object(&format!("{PREFIX}/{key}")).unwrap();
        assert!(found.bytes.unwrap() == program.content(key));
    }
}
