//! What goes wrong at a registry, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kops_mirror::challenge::Login;
use kops_mirror::events::told;
use kops_mirror::loopback::registry::{
    Auth, Fault, Imitation, LoopbackRegistry, Missing, Mounts, Operation, Options, Trouble,
};
use kops_mirror::store::registry::{RegistryOptions, RegistryStore, blob_key};
use kops_mirror::store::{Store, StoreError, StoreErrorKind};
use kops_mirror::verify::Verified;

use super::{Bench, Image, Known, at, options, spooled};
use crate::store_contract::bytes;
use crate::support::proxy::Proxy;

fn bench(options: Options) -> Bench {
    at(LoopbackRegistry::start(options).unwrap())
}

fn needed(bench: &Bench, length: usize, seed: u64) -> Verified {
    let content = Verified::composed(bytes(length, seed));
    bench.need(content.digests().sha256, &["a"]);
    content
}

#[tokio::test]
async fn tokens_that_end_in_the_middle_are_renewed() {
    let bench = bench(Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        // A blob alone takes HEAD, POST and PUT.
        token_requests: Some(2),
        ..Options::default()
    });
    let image = Image::new(1);
    for seed in 0..6 {
        bench.give(&bytes(70_000, seed), &["a", "b"]).await;
    }
    image.put_blobs(&bench, "a").await;
    let put = bench.store.put_manifest("a", "v1", &image.manifest);
    put.await.unwrap();
    let log = bench.server().log();
    assert!(log.count(Operation::Token) > 10);
    let expected = 6 * 70_000 + image.config.len() + image.layer.len();
    assert_eq!(log.blob_bytes_received(), expected as u64);
    assert_eq!(bench.store.leg().unwrap().bytes, expected as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_blob_whose_token_ends_as_it_begins_is_there_after_two_attempts_at_most() {
    let bench = bench(Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        ..Options::default()
    });
    let (content, _path, _dir) = spooled(&bytes(8 << 20, 18)).await;
    bench.need(content.digests().sha256, &["a"]);
    let late = Trouble::Late(Duration::from_millis(200));
    let faults = bench.server().faults();
    faults.order(Fault::new(late).on(Operation::StartUpload));
    let revoke = async {
        while bench.server().uploads() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.server().revoke_tokens();
    };
    let (ended, ()) = tokio::join!(bench.put(&content), revoke);
    assert_eq!(faults.outstanding(), 0);
    let puts = bench.server().log().of(Operation::PutUpload);
    assert_eq!(puts[0].status, Some(401));
    if let Err(error) = ended {
        // The refusal may be lost when the server hangs up on who still sends.
        assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
        bench.put(&content).await.unwrap();
    }
    assert!(bench.has("a", &content.digests().sha256).await);
}

#[tokio::test]
async fn a_blob_goes_in_one_put_with_its_length() {
    let bench = bench(Options::default());
    bench.give(&bytes(600_000, 19), &["a"]).await;
    let log = bench.server().log();
    let puts = log.of(Operation::PutUpload);
    let lengths: Vec<_> = puts.iter().map(|put| put.content_length).collect();
    assert_eq!(lengths, [Some(600_000)]);
    assert_eq!(log.count(Operation::PatchUpload), 0);
}

#[tokio::test]
async fn a_registry_is_reached_through_the_proxy_that_was_named() {
    let server = LoopbackRegistry::start(Options::default()).unwrap();
    let proxies = [
        ("http://ann:secret@", Proxy::http(server.address()).await),
        ("socks5h://", Proxy::socks(server.address()).await),
    ];
    for (scheme, proxy) in proxies {
        let options = RegistryOptions {
            address: "http://registry.example/mirror".parse().unwrap(),
            proxy: Some(format!("{scheme}{}", proxy.address).parse().unwrap()),
            ..options(&server)
        };
        let shown = options.clone();
        let store = RegistryStore::connect(options).unwrap();
        store.prepare(true).await.unwrap();
        assert_eq!(proxy.asked(), ["registry.example:80"], "{scheme}");
        assert!(!format!("{shown:?}").contains("secret"));
    }
}

#[tokio::test]
async fn a_mount_asks_for_the_right_to_read_where_the_blob_is() {
    let bench = bench(Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        ..Options::default()
    });
    bench.give(&bytes(1000, 2), &["a", "b", "c"]).await;
    let mounts = bench.server().log().of(Operation::Mount);
    let statuses: Vec<_> = mounts.iter().filter_map(|mount| mount.status).collect();
    assert_eq!(
        statuses.iter().filter(|&&status| status == 201).count(),
        2,
        "{statuses:?}"
    );
    assert_eq!(bench.server().log().blob_bytes_received(), 1000);
}

#[tokio::test]
async fn a_mount_that_is_none_sends_the_content_into_the_upload_that_is_begun() {
    let bench = bench(Options {
        imitation: Imitation {
            mounts: Mounts::Never,
            absolute_locations: true,
            ..Imitation::default()
        },
        ..Options::default()
    });
    bench.give(&bytes(1000, 3), &["a", "b"]).await;
    let log = bench.server().log();
    assert_eq!(log.count(Operation::StartUpload), 1);
    assert_eq!(log.blob_bytes_received(), 2000);
    assert_eq!(bench.server().uploads(), 0);
}

#[tokio::test]
async fn a_storm_of_429_is_waited_out_for_as_long_as_it_says() {
    let bench = bench(Options::default());
    let content = needed(&bench, 1000, 4);
    let pause = Duration::from_secs(1);
    let faults = bench.server().faults();
    faults.order(Fault::too_many(Some(pause)).on(Operation::HeadBlob));
    faults.order(Fault::too_many(None).on(Operation::StartUpload).times(3));
    faults.order(Fault::unavailable().on(Operation::StartUpload));
    let began = Instant::now();
    bench.put(&content).await.unwrap();
    assert!(began.elapsed() >= pause);
    assert_eq!(faults.outstanding(), 0);
}

#[tokio::test]
async fn a_blob_that_is_refused_for_now_is_busy_and_the_next_put_waits() {
    let bench = bench(Options::default());
    let content = needed(&bench, 1000, 5);
    let pause = Duration::from_secs(1);
    let faults = bench.server().faults();
    faults.order(Fault::too_many(Some(pause)).on(Operation::PutUpload));
    let began = Instant::now();
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Busy, "{error}");
    bench.put(&content).await.unwrap();
    assert!(began.elapsed() >= pause);
}

#[tokio::test]
async fn a_registry_that_is_never_well_is_told_after_a_few_attempts() {
    let bench = bench(Options::default());
    let content = needed(&bench, 1000, 6);
    let faults = bench.server().faults();
    faults.order(Fault::unavailable().on(Operation::StartUpload).always());
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    assert_eq!(bench.server().log().count(Operation::StartUpload), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_costs_that_one_attempt() {
    let bench = bench(Options::default());
    let (content, _path, _dir) = spooled(&bytes(8 << 20, 7)).await;
    bench.need(content.digests().sha256, &["a"]);
    let slow = Trouble::Slow {
        bytes_per_second: 1 << 20,
    };
    bench
        .server()
        .faults()
        .order(Fault::new(slow).on(Operation::PutUpload));
    let restart = async {
        let is_under_way = || {
            let under_way = bench.server().log().under_way();
            under_way
                .iter()
                .any(|exchanged| exchanged.received_bytes > 100_000)
        };
        while !is_under_way() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.server().restart();
    };
    let (ended, ()) = tokio::join!(bench.put(&content), restart);
    let error = ended.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    assert!(!bench.has("a", &content.digests().sha256).await);
    bench.put(&content).await.unwrap();
    let leg = bench.store.leg().unwrap();
    assert_eq!(leg.bytes, 8 << 20);
    assert!(leg.bytes_again > 100_000, "{leg:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_second_sending() {
    let bench = bench(Options::default());
    let content = needed(&bench, 300_000, 8);
    let lost = Fault::new(Trouble::AnswerLost);
    bench.server().faults().order(lost.on(Operation::PutUpload));
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    bench.put(&content).await.unwrap();
    assert_eq!(bench.server().log().blob_bytes_received(), 300_000);
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    let bench = bench(Options::default());
    let content = needed(&bench, 3 << 20, 9);
    let cut = Trouble::Cut {
        after_bytes: 1 << 20,
    };
    bench
        .server()
        .faults()
        .order(Fault::new(cut).on(Operation::PutUpload));
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    assert!(bench.server().find("mirror/a").unwrap().blobs.is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_taken_is_given_up() {
    let server = LoopbackRegistry::start(Options::default()).unwrap();
    let quick = RegistryOptions {
        stall_timeout: Duration::from_millis(300),
        ..options(&server)
    };
    let bench = Bench {
        store: RegistryStore::connect(quick).unwrap(),
        server: Some(server),
    };
    let content = needed(&bench, 32 << 20, 10);
    let slow = Trouble::Slow {
        bytes_per_second: 1000,
    };
    bench
        .server()
        .faults()
        .order(Fault::new(slow).on(Operation::PutUpload));
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient);
    assert!(
        error.to_string().contains("nothing was taken for"),
        "{error}"
    );
    assert_eq!(bench.store.leg().unwrap().stalls, 1);
}

#[tokio::test]
async fn an_answer_with_another_digest_is_not_believed() {
    let bench = bench(Options::default());
    let content = needed(&bench, 1000, 11);
    let faults = bench.server().faults();
    faults.order(Fault::new(Trouble::WrongDigest).on(Operation::PutUpload));
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::EtagMismatch, "{error}");
    let image = Image::new(12);
    image.put_blobs(&bench, "a").await;
    faults.order(Fault::new(Trouble::WrongDigest).on(Operation::PutManifest));
    let put = bench.store.put_manifest("a", "v1", &image.manifest).await;
    assert_eq!(put.unwrap_err().kind, StoreErrorKind::EtagMismatch);
}

#[tokio::test]
async fn a_registry_that_tells_no_digest_is_asked_what_it_has() {
    let bench = bench(Options {
        imitation: Imitation {
            tells_no_digest: true,
            ..Imitation::default()
        },
        ..Options::default()
    });
    let image = Image::new(13);
    image.put_blobs(&bench, "a").await;
    let put = bench.store.put_manifest("a", "v1", &image.manifest);
    put.await.unwrap();
    assert_eq!(bench.server().log().count(Operation::HeadManifest), 1);
}

#[tokio::test]
async fn what_is_read_is_compared_with_its_digest() {
    let bench = bench(Options {
        redirects_blobs: true,
        ..Options::default()
    });
    let content = bytes(500_000, 14);
    let digest = bench.give(&content, &["a"]).await;
    let faults = bench.server().faults();
    faults.order(Fault::new(Trouble::WrongBytes).on(Operation::GetStored));
    let error = bench.read(&digest).await.unwrap_err();
    assert!(
        error.to_string().contains("not what its digest says"),
        "{error}"
    );
    let cut = Trouble::AnswerCut {
        after_bytes: 100_000,
    };
    faults.order(Fault::new(cut).on(Operation::GetStored));
    let error = bench.read(&digest).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    assert!(bench.read(&digest).await.unwrap().unwrap() == content);
}

#[tokio::test]
async fn a_blob_is_found_where_even_a_look_at_it_is_redirected() {
    let bench = bench(Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        redirects_blobs: true,
        imitation: Imitation {
            redirects_heads: true,
            ..Imitation::default()
        },
        ..Options::default()
    });
    let digest = bench.give(&bytes(1234, 20), &["a"]).await;
    assert!(bench.has("a", &digest).await);
    let there = bench.store.stat(&blob_key(&digest)).await.unwrap().unwrap();
    assert_eq!(there.object.length, 1234);
}

#[tokio::test]
async fn what_lets_us_in_goes_no_further_than_the_registry() {
    let bench = bench(Options {
        auth: Auth::Basic,
        redirects_blobs: true,
        ..Options::default()
    });
    let digest = bench.give(b"content", &["a"]).await;
    assert_eq!(bench.read(&digest).await.unwrap().unwrap(), b"content");
    let stored = bench.server().log().of(Operation::GetStored);
    assert!(!stored.is_empty() && stored.iter().all(|exchanged| !exchanged.authorized));
}

fn with_login(server: &LoopbackRegistry, login: Option<Login>) -> RegistryStore {
    let options = RegistryOptions {
        logins: Arc::new(Known(login)),
        ..options(server)
    };
    RegistryStore::connect(options).unwrap()
}

async fn refusal(store: &RegistryStore) -> StoreError {
    store.prepare(true).await.unwrap_err()
}

#[tokio::test]
async fn a_wrong_login_is_told_at_once_and_without_its_secret() {
    for auth in [
        Auth::Basic,
        Auth::Token {
            anonymous_pull: false,
        },
    ] {
        let server = LoopbackRegistry::start(Options {
            auth,
            ..Options::default()
        })
        .unwrap();
        let wrong = Login::password("somebody", "very-secret");
        for login in [Some(wrong), None] {
            let store = with_login(&server, login);
            let error = refusal(&store).await;
            assert_eq!(error.kind, StoreErrorKind::Credentials, "{error}");
            let told = format!("{} {error:?} {store:?}", told(&error));
            assert!(!told.contains("very-secret"), "{told}");
        }
        assert!(server.log().all().len() < 12);
    }
}

#[tokio::test]
async fn what_is_no_registry_is_told_as_such() {
    let bench = bench(Options::default());
    let faults = bench.server().faults();
    let absent = Trouble::Refused {
        status: 404,
        code: "",
        retry_after: None,
    };
    faults.order(Fault::new(absent).on(Operation::Version));
    let error = refusal(&bench.store).await;
    assert_eq!(error.kind, StoreErrorKind::Permanent);
    assert!(
        error.to_string().contains("there is no registry"),
        "{error}"
    );
    let address = "127.0.0.1:1".parse().unwrap();
    let nobody = RegistryOptions {
        policy: super::quick(),
        ..RegistryOptions::new(address, Arc::new(Known(None)))
    };
    let error = refusal(&RegistryStore::connect(nobody).unwrap()).await;
    assert_eq!(error.kind, StoreErrorKind::Transient);
    assert!(error.to_string().contains("can't be reached"), "{error}");
}

#[tokio::test]
async fn a_repository_that_must_be_made_first_is_told() {
    let bench = bench(Options {
        imitation: Imitation {
            missing: Missing::Unknown,
            ..Imitation::default()
        },
        ..Options::default()
    });
    let content = needed(&bench, 10, 15);
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket);
    assert!(
        error.to_string().contains("make the repository first"),
        "{error}"
    );
}

#[tokio::test]
async fn an_immutable_tag_is_no_failure_where_it_is_right_already() {
    let bench = bench(Options {
        imitation: Imitation {
            immutable_tags: true,
            ..Imitation::default()
        },
        ..Options::default()
    });
    let (first, second) = (Image::new(16), Image::new(17));
    first.put_blobs(&bench, "a").await;
    second.put_blobs(&bench, "a").await;
    for _again in 0..2 {
        let put = bench.store.put_manifest("a", "v1", &first.manifest);
        put.await.unwrap();
    }
    let put = bench.store.put_manifest("a", "v1", &second.manifest);
    let error = put.await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Permanent);
    assert!(error.to_string().contains("immutable"), "{error}");
    let there = bench.store.manifest_at("a", "v1").await.unwrap();
    assert_eq!(there, Some(first.manifest.digest));
}
