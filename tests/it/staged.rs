//! Files that are put in parts out of sight: what a bucket sees of it, and what is left there when it goes wrong.

use std::sync::Arc;
use std::time::Duration;

use kops_mirror::asset::Asset;
use kops_mirror::events::Event;
use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::loopback::s3::{Exchanged, Fault as S3Fault, Imitation, Options, Trouble};
use kops_mirror::report::{Kind, Report};
use kops_mirror::store::Store;
use kops_mirror::store::s3::{Congestion, S3Options, S3Store, Way};

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::program::{Program, Running, finish};
use crate::support::world::{World, lines, read};

const PATH: &str = "release/v1.34.8/bin/linux/amd64/kubelet.tar.gz";
const LENGTH: u64 = 13_000_000;
const PART: u64 = 5 << 20;
const MOMENT: Duration = Duration::from_millis(5);

async fn store(server: &BucketServer, way: Way) -> Arc<dyn Store> {
    let options = S3Options {
        way,
        // Where the system lets this user have BBR, nothing would be staged by itself.
        congestion: Congestion::System,
        ..server.options()
    };
    Arc::new(S3Store::connect(options).await.unwrap())
}

/// One file in a world of its own, and a bucket where files are staged.
struct Stage {
    world: World,
    server: BucketServer,
    store: Arc<dyn Store>,
    asset: Asset,
}

impl Stage {
    async fn new(seed: u64) -> Self {
        Self::with(seed, Options::default(), Way::Staged).await
    }

    async fn with(seed: u64, options: Options, way: Way) -> Self {
        let world = World::new().await;
        let asset = world.asset(PATH, File::generated(seed, LENGTH));
        let server = BucketServer::start_with(options);
        let store = store(&server, way).await;
        Self {
            world,
            server,
            store,
            asset,
        }
    }

    /// Orders a fault of requests about the file's parts, and not about the probe.
    fn order(&self, fault: S3Fault) {
        let file = self.world.origin.file(&format!("/{PATH}")).unwrap();
        let name = file.content.digests(&[]).sha256.hex();
        let of_the_file = fault.key(&format!("{PREFIX}/.staging/*/{name}-*"));
        self.server.0.faults().order(of_the_file);
    }

    async fn sync(&self) -> Report {
        let (targets, assets) = ([Arc::clone(&self.store)], [self.asset.clone()]);
        self.world.sync(&targets, &assets).await
    }

    /// The requests for one operation that are about a file, and not the probe.
    fn requests(&self, operation: &str) -> Vec<Exchanged> {
        let mut requests = self.server.0.log().of(operation);
        requests.retain(|request| !request.key.contains("/probe"));
        requests
    }

    /// The bodies of all parts that came whole, by length.
    fn parts(&self) -> Vec<u64> {
        let mut parts = self.requests("UploadPart");
        parts.retain(|part| part.status == Some(200));
        let mut lengths: Vec<u64> = parts.iter().map(|part| part.body_bytes).collect();
        lengths.sort_unstable();
        lengths
    }

    fn nothing_is_left(&self) {
        nothing_is_left(&self.server);
    }

    async fn is_there_once(&self, seed: u64) {
        let bytes = read(&self.store, PATH).await.unwrap();
        assert!(bytes == File::generated(seed, LENGTH).content.read(0..LENGTH));
        let found = self
            .server
            .bucket()
            .object(&format!("{PREFIX}/{PATH}"))
            .unwrap();
        let digests = File::generated(seed, LENGTH).content.digests(&[]);
        assert_eq!(found.etag, digests.md5.hex());
        assert_eq!(found.metadata["sha256"], digests.sha256.hex());
        assert_eq!(found.content_type.as_deref(), Some("application/gzip"));
        self.nothing_is_left();
    }

    fn puts_of_the_file(&self) -> usize {
        let mut puts = self.requests("PutObject");
        puts.retain(|put| put.key.ends_with(PATH));
        puts.len()
    }
}

fn nothing_is_left(server: &BucketServer) {
    assert_eq!(server.bucket().unfinished_uploads(), [""; 0]);
    let mut keys = server.bucket().keys();
    keys.retain(|key| key.contains("/.staging/"));
    assert_eq!(keys, [""; 0]);
}

fn transferred(report: &Report) {
    assert_eq!(lines(report, Kind::Failed), Vec::<String>::new());
    assert_eq!(report.of(Kind::Transferred).count(), 1);
    // Late parts may be asked for twice; nothing comes again because of a store.
    let fetched = LENGTH..LENGTH * 110 / 100;
    assert!(fetched.contains(&report.bytes_fetched), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_put_while_the_file_arrives_and_become_one_single_part_object() {
    let stage = Stage::new(1).await;
    let slowly = Fault::Rate(700_000);
    stage.world.origin.order("*", When::Always, slowly);
    let watching = async {
        while stage.requests("UploadPart").is_empty() {
            tokio::time::sleep(MOMENT).await;
        }
        stage.world.origin.log().bytes_sent(&format!("/{PATH}"))
    };
    let (report, sent) = tokio::join!(stage.sync(), watching);
    assert!(sent < LENGTH, "all {sent} bytes had come before");
    transferred(&report);
    stage.is_there_once(1).await;
    assert_eq!(stage.parts(), [LENGTH - 2 * PART, PART, PART]);
    let checked = |part: &Exchanged| part.headers.contains_key("content-md5");
    assert!(stage.requests("UploadPart").iter().all(checked));
    let copies = stage.requests("CopyObject");
    assert_eq!(copies.len(), 1);
    assert!(copies[0].headers.contains_key("x-amz-copy-source-if-match"));
    assert_eq!(copies[0].headers["if-none-match"], "*");
    assert_eq!(stage.server.commits_of(PATH), 1);
    assert_eq!(stage.puts_of_the_file(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_gets_one_part_again() {
    let stage = Stage::new(2).await;
    // Fewer than it takes for one part to be given up, should they all befall the same.
    stage.order(S3Fault::slow_down().on("UploadPart").times(2));
    let report = stage.sync().await;
    transferred(&report);
    stage.is_there_once(2).await;
    let leg = report.stores.values().next().unwrap();
    assert!(
        leg.bytes >= LENGTH && leg.bytes_again <= 2 * PART,
        "{leg:?}"
    );
    assert!(leg.connections_max >= 1, "{leg:?}");
    assert_eq!(stage.server.0.faults().outstanding(), 0);
    assert_eq!(stage.parts(), [LENGTH - 2 * PART, PART, PART]);
    assert_eq!(stage.puts_of_the_file(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_is_believed_by_what_is_there() {
    for trouble in [
        Trouble::AnswerLost,
        Trouble::Garbled,
        Trouble::Failed { stored: true },
        Trouble::Failed { stored: false },
    ] {
        let stage = Stage::new(3).await;
        stage.order(S3Fault::new(trouble.clone()).on("CompleteMultipartUpload"));
        transferred(&stage.sync().await);
        stage.is_there_once(3).await;
        assert_eq!(stage.server.0.faults().outstanding(), 0, "{trouble:?}");
        assert_eq!(stage.puts_of_the_file(), 0, "{trouble:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_answer_is_wrong_or_lost_is_looked_at() {
    for trouble in [
        Trouble::WrongEtag,
        Trouble::AnswerLost,
        Trouble::Failed { stored: true },
    ] {
        let stage = Stage::new(4).await;
        let fault = S3Fault::new(trouble.clone()).on("CopyObject");
        let fault = fault.key(&format!("*/{PATH}"));
        stage.server.0.faults().order(fault);
        transferred(&stage.sync().await);
        stage.is_there_once(4).await;
        assert_eq!(stage.server.0.faults().outstanding(), 0, "{trouble:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_copies_keep_their_parts_files_are_put_in_one_and_it_is_said_once() {
    let imitation = Imitation {
        copy_keeps_multipart_etag: true,
        ..Imitation::default()
    };
    let options = Options {
        imitation,
        ..Options::default()
    };
    let stage = Stage::with(5, options, Way::Staged).await;
    let other = stage
        .world
        .asset("other.tar.gz", File::generated(6, LENGTH));
    let (targets, assets) = ([Arc::clone(&stage.store)], [stage.asset.clone(), other]);
    let report = stage.world.sync(&targets, &assets).await;
    assert_eq!(report.of(Kind::Transferred).count(), 2, "{report:?}");
    assert_eq!(stage.parts(), [0; 0], "no byte of a file was staged");
    stage.is_there_once(5).await;
    assert_eq!(
        stage.server.commits_of(PATH),
        1,
        "at no time a multipart one"
    );
    let mut warnings = stage.world.heard.events();
    warnings.retain(|event| matches!(event, Event::Warned { .. }));
    let warnings = format!("{warnings:?}");
    assert_eq!(
        warnings.matches("nothing can be staged").count(),
        1,
        "{warnings}"
    );
    assert!(warnings.contains("not its MD5"), "{warnings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_stage_puts_files_in_one() {
    let stage = Stage::new(7).await;
    let fault = S3Fault::access_denied().on("CreateMultipartUpload");
    stage.server.0.faults().order(fault.always());
    transferred(&stage.sync().await);
    stage.is_there_once(7).await;
    assert_eq!(stage.puts_of_the_file(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_fail_for_good_leave_nothing_and_the_file_is_put_in_one() {
    let stage = Stage::new(8).await;
    stage.order(S3Fault::access_denied().on("UploadPart").always());
    transferred(&stage.sync().await);
    stage.is_there_once(8).await;
    assert_eq!(stage.puts_of_the_file(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_content_is_never_completed_and_leaves_nothing() {
    let stage = Stage::new(9).await;
    let last = Fault::Corrupt(LENGTH - 1);
    stage.world.origin.order("*", When::Always, last);
    // The first parts are on their way before the last byte shows that they are of no use.
    let slowly = Fault::Rate(1_000_000);
    stage.world.origin.order("*", When::Always, slowly);
    let report = stage.sync().await;
    assert_eq!(report.of(Kind::Failed).count(), 1, "{report:?}");
    assert!(!stage.parts().is_empty());
    assert_eq!(stage.requests("CompleteMultipartUpload").len(), 0);
    assert_eq!(stage.requests("CopyObject").len(), 0);
    assert_eq!(stage.server.bucket().keys(), [""; 0]);
    stage.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_small_parts_are_taken_every_connection_has_work() {
    let options = Options {
        part_bytes_min: 1,
        ..Options::default()
    };
    let stage = Stage::with(10, options, Way::Staged).await;
    transferred(&stage.sync().await);
    stage.is_there_once(10).await;
    let whole = usize::try_from(LENGTH >> 20).unwrap();
    assert_eq!(stage.parts()[1..], vec![1 << 20; whole]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_parts_are_under_way_than_connections_are_allowed() {
    let options = Options {
        part_bytes_min: 1,
        ..Options::default()
    };
    let mut stage = Stage::with(11, options, Way::Staged).await;
    let two = S3Options {
        way: Way::Staged,
        connections: 2,
        ..stage.server.options()
    };
    stage.store = Arc::new(S3Store::connect(two).await.unwrap());
    let slow = Trouble::Slow {
        bytes_per_second: 20 << 20,
    };
    let fault = S3Fault::new(slow).on("UploadPart");
    stage.server.0.faults().order(fault.always());
    let log = stage.server.0.log();
    let watching = async {
        let mut most = 0;
        while log.count("CompleteMultipartUpload") < 2 {
            let mut under_way = log.under_way();
            under_way.retain(|e| e.operation == "UploadPart" && !e.key.contains("/probe"));
            most = most.max(under_way.len());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    };
    let (report, most) = tokio::join!(stage.sync(), watching);
    transferred(&report);
    assert_eq!(most, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_stages_at_a_far_store_and_not_at_a_near_one() {
    for (first_request, staged) in [(Duration::ZERO, false), (Duration::from_millis(300), true)] {
        let options = Options {
            part_bytes_min: 1,
            ..Options::default()
        };
        let stage = Stage::with(12, options, Way::Auto).await;
        let late = S3Fault::new(Trouble::Late(first_request)).on("GetBucketEncryption");
        stage.server.0.faults().order(late);
        transferred(&stage.sync().await);
        stage.is_there_once(12).await;
        assert_eq!(!stage.parts().is_empty(), staged, "{first_request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_staged_is_no_part_of_the_mirror_and_belongs_to_its_run() {
    let stage = Stage::new(13).await;
    let bucket = stage.server.bucket();
    let foreign = format!("{PREFIX}/.staging/0123456789abcdef/of-another-run");
    bucket.insert(&foreign, "parts");
    let listing = stage.store.list().await.unwrap();
    assert_eq!((listing.objects, listing.foreign), (Vec::new(), Vec::new()));
    transferred(&stage.sync().await);
    let keys = bucket.keys();
    assert!(keys.contains(&foreign), "it may be alive: {keys:?}");
    assert_eq!(
        keys.iter().filter(|key| key.contains(".staging")).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_run_has_staged_is_removed_by_the_next() {
    let program = Program::with_files(1, LENGTH);
    let server = BucketServer::start();
    let slow = S3Fault::new(Trouble::Slow {
        bytes_per_second: 2 << 20,
    });
    server.0.faults().order(slow.on("UploadPart").always());
    let command = || {
        let mut command = program.to_bucket(&server);
        command.args(["--publish", "staged"]);
        command
    };
    let running = Running::start(command());
    let is_of_the_file = |e: &Exchanged| e.operation == "UploadPart" && e.body_bytes > 1_000_000;
    while !server.0.log().under_way().iter().any(is_of_the_file) {
        tokio::time::sleep(MOMENT).await;
    }
    running.kill().await;
    while !server.0.log().under_way().is_empty() {
        tokio::time::sleep(MOMENT).await;
    }
    assert_eq!(server.bucket().unfinished_uploads().len(), 1);
    assert_eq!(server.visible(), [""; 0]);
    server.0.faults().clear();
    let sent = program.sent();
    let next = finish(command()).await;
    let said = String::from_utf8_lossy(&next.stderr);
    assert_eq!(next.status.code(), Some(0), "{said}");
    nothing_is_left(&server);
    let key = format!("{PREFIX}/{}", program.keys[0]);
    let found = server.bucket().object(&key).unwrap();
    assert!(found.bytes.unwrap() == program.content(&program.keys[0]));
    assert_eq!(server.commits_of(&program.keys[0]), 1);
    assert!(program.sent() <= LENGTH.max(sent) * 105 / 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_is_sent_after_a_part_that_is_late() {
    let options = Options {
        part_bytes_min: 1,
        ..Options::default()
    };
    let stage = Stage::with(14, options, Way::Staged).await;
    // Alone it would take more than a quarter of an hour.
    let slow = Trouble::Slow {
        bytes_per_second: 1000,
    };
    stage.order(S3Fault::new(slow).on("UploadPart"));
    transferred(&stage.sync().await);
    stage.is_there_once(14).await;
    let whole = usize::try_from(LENGTH >> 20).unwrap();
    assert_eq!(stage.parts()[1..], vec![1 << 20; whole]);
    // The server may still be reading what the slow connection had sent.
    let mut slow = stage.server.0.log().under_way();
    slow.extend(stage.requests("UploadPart"));
    slow.retain(|part| part.operation == "UploadPart" && part.status.is_none());
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert_eq!(stage.server.0.faults().outstanding(), 0);
}
