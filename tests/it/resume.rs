//! Kills the real program, again and again, and proves by the origin's log that what had arrived did not come twice.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::origin::{Exchange, Fault, When};
use kops_mirror::loopback::s3::{Fault as S3Fault, Trouble};
use rangemap::RangeSet;
use rustix::process::Signal;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::{Program, Running, at_bucket, finish, program, without_spool_flag};

const FILES: u64 = 4;
const LENGTH: u64 = 8_000_000;
const KILLS: u64 = 5;

/// Longer than any machine takes to write down what has arrived.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ranges by path.
type Ranges = BTreeMap<String, RangeSet<u64>>;

/// What the origin has sent to the last byte of a request.
fn completed(program: &Program) -> Ranges {
    let mut ranges = Ranges::new();
    for exchange in program.origin.log().exchanges() {
        let sent = exchange.sent().filter(|_| exchange.complete);
        if let Some(sent) = sent.filter(|sent| !sent.is_empty()) {
            ranges.entry(exchange.path).or_default().insert(sent);
        }
    }
    ranges
}

/// What a run that dies now has kept of each file: all of it at the target, or what its spool's journal names.
fn kept(program: &Program, length: u64, is_published: impl Fn(&str) -> bool) -> Ranges {
    let mut ranges = Ranges::new();
    for key in &program.keys {
        let kept = ranges.entry(format!("/{key}")).or_default();
        let digest = Digest::of(Algorithm::Sha256, &program.content(key));
        let journal = program.path(&format!("spool/sha256-{}.ranges", digest.hex()));
        // Before the target: what is published goes from the spool after that.
        let journal = fs::read(journal).unwrap_or_default();
        if is_published(key) {
            kept.insert(0..length);
        }
        for record in journal.as_chunks::<16>().0 {
            let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
            let (start, end) = (word(&record[..8]), word(&record[8..]));
            // The other records tell the length.
            if start < end {
                kept.insert(start..end);
            }
        }
    }
    ranges
}

fn is_within(inner: &Ranges, outer: &Ranges) -> bool {
    inner.iter().all(|(path, ranges)| {
        let outer = outer.get(path);
        let mut ranges = ranges.iter();
        ranges.all(|range| outer.is_some_and(|outer| outer.gaps(range).next().is_none()))
    })
}

/// What requests after the first `asked` were sent although it had been kept.
fn sent_again(program: &Program, kept: &Ranges, asked: usize) -> Vec<(String, Range<u64>)> {
    let later = program.origin.log().exchanges().split_off(asked);
    let sent = |exchange: Exchange| exchange.sent().map(|sent| (exchange.path, sent));
    let overlaps = |(path, sent): &(String, Range<u64>)| {
        kept.get(path).is_some_and(|kept| kept.overlaps(sent))
    };
    later
        .into_iter()
        .filter_map(sent)
        .filter(|(_, sent)| !sent.is_empty())
        .filter(overlaps)
        .collect()
}

/// Bytes that requests after the first `asked` were sent.
fn sent_since(program: &Program, asked: usize) -> u64 {
    let later = program.origin.log().exchanges().split_off(asked);
    let lengths = later.iter().filter_map(Exchange::sent);
    lengths.map(|sent| sent.end - sent.start).sum()
}

fn bytes_of(ranges: &Ranges) -> u64 {
    let all = ranges.values().flat_map(RangeSet::iter);
    all.map(|range| range.end - range.start).sum()
}

/// Kills the program whenever another part of the bytes has been sent; `check` looks at the target after each death.
///
/// What a kill costs is what was in sockets, and on a busy machine that may be much. So nothing is compared with clocks: the
/// journals of the dead say what they had, and no later request may ask for that.
async fn kill_at_many_points(
    program: &Program,
    command: impl Fn() -> Command,
    is_published: impl Fn(&str) -> bool,
    check: impl Fn(),
) {
    program
        .origin
        .order("*", When::Always, Fault::Rate(1_500_000));
    let mut lives: Vec<(Ranges, usize)> = Vec::new();
    let mut deaths = 0;
    for kill in 1..=KILLS {
        let mut running = Running::start(command());
        let wanted = FILES * LENGTH * kill / (KILLS + 1);
        while program.sent() < wanted && !running.has_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let completed = completed(program);
        let began = Instant::now();
        while !is_within(&completed, &kept(program, LENGTH, &is_published)) {
            assert!(began.elapsed() < PATIENCE, "what arrived is not kept");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if !running.has_ended() {
            deaths += 1;
        }
        running.kill().await;
        let asked = program.origin.log().exchanges().len();
        lives.push((kept(program, LENGTH, &is_published), asked));
        check();
    }
    assert!(deaths >= KILLS - 1, "it was killed {deaths} times");
    let last = finish(command()).await;
    let said = String::from_utf8_lossy(&last.stderr);
    assert_eq!(last.status.code(), Some(0), "{said}");
    for (kept, asked) in &lives {
        assert_eq!(sent_again(program, kept, *asked), []);
    }
    let (kept, asked) = lives.last().unwrap();
    let (sent, missing) = (sent_since(program, *asked), FILES * LENGTH - bytes_of(kept));
    assert!(
        sent <= missing + FILES * LENGTH / 50,
        "{sent} for {missing}"
    );
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
    let is_published = |key: &str| program.path("mirror").join(key).exists();
    kill_at_many_points(&program, || program.to_folder(), is_published, check).await;
    for key in &program.keys {
        let bytes = fs::read(program.path("mirror").join(key)).unwrap();
        assert!(bytes == program.content(key), "{key}");
        let sidecar = program.path("mirror").join(format!("{key}.sha256"));
        assert_eq!(fs::read(sidecar).unwrap().len(), 65);
    }
    let left = fs::read_dir(program.path("spool")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "connections.json").collect();
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
    let is_published = |key: &str| {
        let object = server.bucket().object(&format!("{PREFIX}/{key}"));
        object.is_some()
    };
    kill_at_many_points(&program, || program.to_bucket(&server), is_published, check).await;
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
        let spooled = || {
            let entries = fs::read_dir(program.path("spool")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            names
                .filter(|name| name != "lock" && name != "connections.json")
                .count()
        };
        let published = || {
            let is_there = |key: &&String| program.path("mirror").join(key).exists();
            program.keys.iter().filter(is_there).count()
        };
        assert_eq!(spooled(), 0);
        if killed {
            running.kill().await;
            assert_eq!(spooled(), 0);
        } else {
            running.signal(Signal::INT);
            let (output, took) = running.ended().await;
            assert_eq!(output.status.code(), Some(130));
            assert!(took < Duration::from_secs(2), "{took:?}");
            assert!(published() < 4);
            assert_eq!(spooled(), 2 * (4 - published()));
        }
        let asked = program.origin.log().exchanges().len();
        let kept = bytes_of(&kept(&program, SMALL, |_| false));
        assert_eq!(kept == 0, killed, "{kept}");
        let done = published() as u64 * SMALL;
        program.origin.recover();
        let next = finish(program.to_folder()).await;
        assert_eq!(next.status.code(), Some(0));
        let (sent, missing) = (sent_since(&program, asked), 4 * SMALL - kept - done);
        assert!(sent <= missing + 4 * SMALL / 50, "{sent} for {missing}");
        for key in &program.keys {
            let bytes = fs::read(program.path("mirror").join(key)).unwrap();
            assert!(bytes == program.content(key));
        }
        assert_eq!(spooled(), 0, "the spool has done its work");
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
