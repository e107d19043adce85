//! Several workers that share a mirror's files: each brings its share, whoever is last marks the release.

use std::collections::BTreeSet;

use futures::future::join_all;
use kops_mirror::store::ETag;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::{Program, Running, finish, without_spool_flag};

const FILES: u64 = 24;
const LENGTH: u64 = 300_000;

fn shard(program: &Program, server: &BucketServer, shard: &str) -> std::process::Command {
    let mut command = without_spool_flag(program, &program.to_bucket(server));
    let spool = program.path(&format!("spool-{}", shard.replace('/', "-")));
    command.env("KOPS_MIRROR_SPOOL_DIR", spool);
    command.args(["--shard", shard, "-o", "json"]);
    command
}

fn markers(server: &BucketServer) -> usize {
    let commits = server.bucket().commits().into_iter();
    let markers: BTreeSet<String> = commits.filter(|key| key.contains("/releases/")).collect();
    markers.len()
}

fn assert_whole(program: &Program, server: &BucketServer) {
    for key in &program.keys {
        let object = server.bucket().object(&format!("{PREFIX}/{key}")).unwrap();
        let md5 = program
            .origin
            .file(&format!("/{key}"))
            .unwrap()
            .content
            .digests(&[])
            .md5;
        assert_eq!(ETag::new(&object.etag), ETag::from(md5), "{key}");
    }
}

#[tokio::test]
async fn four_workers_bring_each_file_once_and_the_last_marks_the_release() {
    let program = Program::with_files(FILES, LENGTH);
    let server = BucketServer::start();
    let runs = (0..3).map(|index| finish(shard(&program, &server, &format!("{index}/4"))));
    for output in join_all(runs).await {
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(markers(&server), 0, "a share is missing");
    let output = finish(shard(&program, &server, "3/4")).await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(markers(&server), 1);
    assert_eq!(program.sent(), FILES * LENGTH, "each file crosses once");
    assert_whole(&program, &server);
}

#[tokio::test]
async fn one_that_is_killed_is_made_good_by_its_next_run() {
    let program = Program::with_files(FILES, LENGTH);
    let server = BucketServer::start();
    let killed = Running::start(shard(&program, &server, "0/2"));
    let other = finish(shard(&program, &server, "1/2")).await;
    killed.kill().await;
    assert_eq!(other.status.code(), Some(0));
    let again = finish(shard(&program, &server, "0/2")).await;
    assert_eq!(
        again.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert_eq!(markers(&server), 1);
    assert_whole(&program, &server);
}
