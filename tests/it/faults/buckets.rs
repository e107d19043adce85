//! Buckets that refuse, fail, answer wrong or not at all.

use std::time::Duration;

use kops_mirror::asset::Asset;
use kops_mirror::loopback::s3::{Fault, Options, Trouble};
use kops_mirror::store::StoreErrorKind;
use kops_mirror::store::s3::{Keys, S3Options, S3Store};
use kops_mirror::sync::SyncError;
use tokio_util::sync::CancellationToken;

use super::{Trial, VICTIM};
use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::world::{World, read};

async fn trial() -> (BucketServer, Trial) {
    trial_at(BucketServer::start()).await
}

async fn trial_at(server: BucketServer) -> (BucketServer, Trial) {
    let world = World::new().await;
    let store = server.store().await;
    (server, Trial::at(world, store, 3_000_000))
}

/// Of the victim's requests.
fn of_victim(fault: Fault) -> Fault {
    fault.key(&format!("{PREFIX}/{VICTIM}"))
}

#[tokio::test]
async fn a_failed_put_is_repeated_from_the_spool_and_nothing_crosses_again() {
    for trouble in [
        Trouble::Refused {
            status: 503,
            code: "SlowDown",
        },
        Trouble::Refused {
            status: 500,
            code: "InternalError",
        },
        Trouble::Failed { stored: false },
        Trouble::Failed { stored: true },
        Trouble::AnswerLost,
        Trouble::WrongEtag,
        Trouble::Cut {
            after_bytes: 500_000,
        },
        Trouble::Late(Duration::from_millis(200)),
        Trouble::Slow {
            bytes_per_second: 10_000_000,
        },
    ] {
        let (server, trial) = trial().await;
        let fault = Fault::new(trouble.clone()).on("PutObject").times(2);
        server.0.faults().order(of_victim(fault));
        let report = trial.survives().await;
        assert_eq!(report.bytes_refetched, 0, "{trouble:?}");
        assert_eq!(report.bytes_fetched, 3_100_000, "{trouble:?}");
        assert_eq!(server.commits_of(VICTIM), 1, "{trouble:?}: put once");
        let sent = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
        assert_eq!(sent, 3_000_000, "{trouble:?}");
    }
}

#[tokio::test]
async fn sidecars_and_the_marker_are_repeated_too() {
    let (server, trial) = trial().await;
    for key in [
        format!("{PREFIX}/{VICTIM}.sha256"),
        format!("{PREFIX}/{}", super::MARKER),
        format!("{PREFIX}/{}", super::POINTER),
    ] {
        let fault = Fault::slow_down().on("PutObject").times(2);
        server.0.faults().order(fault.key(&key));
    }
    trial.survives().await;
    assert_eq!(server.0.faults().outstanding(), 0);
}

#[tokio::test]
async fn a_refused_put_is_told_and_the_rest_carried_on() {
    let (server, trial) = trial().await;
    let fault = Fault::access_denied().on("PutObject").always();
    server.0.faults().order(of_victim(fault));
    let address = format!("s3://mirror/{PREFIX}/{VICTIM}");
    trial
        .gives_up(&[&address, "credentials may not do it", "policy"])
        .await;
    let sent = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
    server.0.faults().clear();
    let report = trial.survives().await;
    assert_eq!(report.bytes_fetched, 0, "it waited in the spool");
    let sent_by_now = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
    assert_eq!(sent, sent_by_now);
}

#[tokio::test]
async fn a_put_that_always_fails_is_given_up_after_a_few_attempts() {
    for trouble in [
        Trouble::Refused {
            status: 503,
            code: "SlowDown",
        },
        Trouble::Failed { stored: false },
        Trouble::Cut { after_bytes: 1000 },
    ] {
        let (server, trial) = trial().await;
        let fault = Fault::new(trouble).on("PutObject").always();
        server.0.faults().order(of_victim(fault));
        trial
            .gives_up(&[&format!("s3://mirror/{PREFIX}/{VICTIM}")])
            .await;
        let puts = server.0.log().of("PutObject");
        let puts = puts.iter().filter(|e| e.key.ends_with("amd64/kubelet"));
        assert_eq!(puts.count(), trial.world.policy.attempts as usize);
    }
}

#[tokio::test]
async fn a_listing_that_fails_for_a_moment_is_repeated() {
    let (server, trial) = trial().await;
    let fault = Fault::slow_down().on("ListObjectsV2").times(2);
    server.0.faults().order(fault);
    trial.survives().await;
}

#[tokio::test]
async fn reading_and_copying_inside_the_bucket_are_repeated() {
    for (operation, trouble) in [
        (
            "CopyObject",
            Trouble::Refused {
                status: 503,
                code: "SlowDown",
            },
        ),
        (
            "GetObject",
            Trouble::Refused {
                status: 503,
                code: "SlowDown",
            },
        ),
        ("CopyObject", Trouble::AnswerLost),
    ] {
        let (server, trial) = trial().await;
        let content = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
        let content = content.content.read(0..3_000_000);
        let key = format!("{PREFIX}/{VICTIM}");
        server.bucket().insert_multipart(&key, content, 1 << 20);
        let fault = Fault::new(trouble.clone()).on(operation).times(2);
        server.0.faults().order(of_victim(fault));
        trial.survives().await;
        if trouble != Trouble::AnswerLost {
            // A copy whose answer was lost is done: it is found and not made again.
            assert_eq!(server.0.faults().outstanding(), 0, "{operation}");
        }
        let crossed = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
        assert_eq!(crossed, 0, "{operation} {trouble:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_may_not_be_copied_in_is_rewritten_without_crossing() {
    let (server, trial) = trial().await;
    let content = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
    let content = content.content.read(0..3_000_000);
    let key = format!("{PREFIX}/{VICTIM}");
    server.bucket().insert_multipart(&key, content, 1 << 20);
    let fault = Fault::access_denied().on("CopyObject").always();
    server.0.faults().order(fault);
    trial.survives().await;
    let crossed = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
    assert_eq!(crossed, 0);
}

/// Runs what can't even begin, and gives why; no file's bytes have moved.
async fn cannot_begin(
    world: &World,
    options: S3Options,
    assets: &[Asset],
) -> (StoreErrorKind, String) {
    let store = S3Store::connect(options).await.unwrap();
    let ended = world
        .try_sync(
            &[std::sync::Arc::new(store)],
            assets,
            &CancellationToken::new(),
        )
        .await;
    let Err(SyncError::Store(error)) = ended else {
        panic!("it began: {ended:?}");
    };
    let fetched = world.origin.log().exchanges();
    assert_eq!(fetched.len(), 0, "{fetched:?}");
    (error.kind, kops_mirror::events::told(&error))
}

#[tokio::test]
async fn a_bucket_that_encrypts_with_kms_is_found_before_any_byte_moves() {
    let (server, trial) = trial().await;
    let _kms = server.bucket().encrypt_with_kms();
    let (kind, why) = cannot_begin(&trial.world, server.options(), &[trial.victim]).await;
    assert_eq!(kind, StoreErrorKind::Encryption);
    for word in ["s3://mirror", "aws:kms", "SSE-S3"] {
        assert!(why.contains(word), "{why}");
    }
}

#[tokio::test]
async fn a_bucket_elsewhere_is_found_before_any_byte_moves() {
    let (server, trial) = trial().await;
    server.0.bucket_elsewhere("far", "cn-northwest-1");
    let options = S3Options {
        bucket: "far".to_owned(),
        ..server.options()
    };
    let (kind, why) = cannot_begin(&trial.world, options, &[trial.victim]).await;
    assert_eq!(kind, StoreErrorKind::ElsewhereRegion);
    assert!(why.contains("--region cn-northwest-1"), "{why}");
}

#[tokio::test]
async fn unknown_and_wrong_keys_are_found_before_any_byte_moves() {
    let (server, trial) = trial().await;
    for (access_key, words) in [
        ("AKIAOFANOTHERPARTITION", "does not know this access key"),
        ("LOOPBACKACCESSKEY", "secret key does not belong"),
    ] {
        let keys = Keys {
            access_key: access_key.to_owned(),
            secret_key: "hush-hush".to_owned(),
        };
        let options = S3Options {
            keys: Some(keys),
            ..server.options()
        };
        let assets = std::slice::from_ref(&trial.victim);
        let (kind, why) = cannot_begin(&trial.world, options, assets).await;
        assert_eq!(kind, StoreErrorKind::Credentials);
        assert!(why.contains(words) && !why.contains("hush"), "{why}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_not_made_unless_asked_for() {
    let (server, _) = trial().await;
    let options = S3Options {
        bucket: "mistyped".to_owned(),
        ..server.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let error = kops_mirror::store::Store::prepare(&store, false)
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket);
    for word in ["s3://mistyped", "--create-bucket"] {
        assert!(error.what.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_put_that_stalls_is_cut_and_repeated() {
    let server = BucketServer::start_with(Options {
        stall_limit: Duration::from_millis(300),
        ..Options::default()
    });
    let world = World::new().await;
    let options = S3Options {
        stall_timeout: Duration::from_millis(400),
        answer_timeout: Duration::from_millis(600),
        ..server.options()
    };
    let store = S3Store::connect(options).await.unwrap();
    let trial = Trial::at(world, std::sync::Arc::new(store), 3_000_000);
    let late = Fault::new(Trouble::Late(Duration::from_secs(60)));
    server
        .0
        .faults()
        .order(of_victim(late.on("PutObject").times(1)));
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
    assert!(
        trial.retries()[0].contains("no answer came"),
        "{:?}",
        trial.retries()
    );
}

#[tokio::test]
async fn keys_with_odd_characters_arrive_in_buckets_and_folders() {
    let names = [
        "a b/c d.tgz",
        "plus+and%20percent&amp;.txt",
        "ünï/código/文件.bin",
        "quote'\"<>#?=;:@$,!*()~",
        "..hidden-not/dots..in..it",
        "cilium~v1.2.3+build:7",
    ];
    let server = BucketServer::start();
    let world = World::new().await;
    let assets: Vec<Asset> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let file = kops_mirror::loopback::origin::File::generated(at as u64, 1000);
            let asset = world.asset(&format!("odd/{at}"), file);
            Asset {
                key: name.parse().unwrap(),
                ..asset
            }
        })
        .filter(|asset| !asset.key.as_str().starts_with('.'))
        .collect();
    let targets = [server.store().await, world.folder("mirror")];
    let report = world.sync(&targets, &assets).await;
    assert_eq!(
        report.exit(),
        kops_mirror::report::Exit::Done,
        "{}",
        report.table(false)
    );
    for target in &targets {
        for asset in &assets {
            let bytes = read(target, asset.key.as_str()).await;
            assert_eq!(bytes.map(|b| b.len()), Some(1000), "{}", asset.key);
        }
    }
    let report = world.sync(&targets, &assets).await;
    assert_eq!(report.bytes_fetched, 0, "they are found again");
}
