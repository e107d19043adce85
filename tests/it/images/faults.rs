//! What a long link and a busy registry do: every image is whole in the end, and what had come does not come again.

use std::time::Duration;

use kops_mirror::loopback::registry::{Auth, Fault, Operation, Options, Trouble};

use crate::support::gallery::{APP, Gallery, TOOL, told};
use crate::support::program::finish;

const LENGTH: usize = 600_000;

fn redirecting() -> Options {
    Options {
        redirects_blobs: true,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_arrive_byte_for_byte_and_a_common_layer_crosses_once() {
    let gallery = Gallery::new(redirecting(), Options::default(), LENGTH);
    let output = gallery.brings_both().await;
    assert_eq!(gallery.source.log().blob_bytes_sent(), gallery.total);
    let common = gallery.common.to_string();
    let stored = gallery.source.log().of(Operation::GetStored);
    let crossings = stored.iter().filter(|stored| stored.reference == common);
    assert_eq!(crossings.count(), 1);
    // Sent once, mounted once.
    assert_eq!(gallery.target.log().blob_bytes_received(), gallery.total);
    assert_eq!(gallery.target.log().count(Operation::Mount), 1);
    let said = told(&output);
    for image in [APP, TOOL] {
        let line = format!("published {image} to {}\n", gallery.place());
        assert_eq!(said.matches(&line).count(), 1, "{said}");
    }
    assert!(!said.contains("blobs/sha256/"), "{said}");
    assert!(said.contains("2 images to transfer"), "{said}");
    assert!(said.contains("Transferred        2 images"), "{said}");
    // And again, nothing moves.
    gallery.source.log().clear();
    let output = gallery.brings_both().await;
    assert!(told(&output).contains("Skipped            2 images"));
    assert_eq!(gallery.source.log().blob_bytes_sent(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_are_cut_anywhere_go_on_from_there() {
    for tenth in 0..10 {
        let gallery = Gallery::new(redirecting(), Options::default(), LENGTH);
        let after_bytes = (LENGTH * tenth / 10) as u64;
        let cut = Fault::new(Trouble::AnswerCut { after_bytes });
        let faults = gallery.source.faults();
        faults.order(cut.on(Operation::GetStored).times(8));
        gallery.brings_both().await;
        assert_eq!(faults.outstanding(), 0);
        gallery.assert_fetched_once(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_cost_their_blob_alone() {
    let gallery = Gallery::new(redirecting(), Options::default(), LENGTH);
    let faults = gallery.source.faults();
    let wrong = Fault::new(Trouble::WrongBytes).on(Operation::GetStored);
    faults.order(wrong.after(4));
    gallery.brings_both().await;
    assert_eq!(faults.outstanding(), 0);
    gallery.assert_fetched_once(LENGTH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_comes_wrong_is_asked_for_again() {
    let gallery = Gallery::open(LENGTH);
    let faults = gallery.source.faults();
    for trouble in [
        Trouble::WrongDigest,
        Trouble::WrongBytes,
        Trouble::AnswerCut { after_bytes: 100 },
    ] {
        faults.order(Fault::new(trouble).on(Operation::GetManifest).times(2));
    }
    gallery.brings_both().await;
    assert_eq!(faults.outstanding(), 0);
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_tells_another_digest_is_not_believed() {
    let gallery = Gallery::open(LENGTH);
    let faults = gallery.target.faults();
    for operation in [Operation::PutUpload, Operation::PutManifest] {
        faults.order(Fault::new(Trouble::WrongDigest).on(operation));
    }
    gallery.brings_both().await;
    assert_eq!(faults.outstanding(), 0);
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_may_end_at_any_time_at_both_registries() {
    let source = Options {
        auth: Auth::Token {
            anonymous_pull: true,
        },
        token_requests: Some(3),
        ..redirecting()
    };
    let target = Options {
        auth: Auth::Token {
            anonymous_pull: false,
        },
        token_requests: Some(5),
        ..Options::default()
    };
    let gallery = Gallery::new(source, target, LENGTH);
    gallery.brings_both().await;
    for registry in [&gallery.source, &gallery.target] {
        assert!(registry.log().count(Operation::Token) > 3);
    }
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_of_429_are_waited_out() {
    let gallery = Gallery::open(LENGTH);
    let busy = || Fault::too_many(Some(Duration::from_secs(1)));
    let source = gallery.source.faults();
    for operation in [Operation::GetManifest, Operation::GetBlob] {
        source.order(busy().on(operation).after(1).times(4));
    }
    let target = gallery.target.faults();
    for operation in [
        Operation::HeadBlob,
        Operation::StartUpload,
        Operation::PutUpload,
        Operation::PutManifest,
    ] {
        target.order(busy().on(operation).after(1).times(3));
    }
    gallery.brings_both().await;
    assert_eq!((source.outstanding(), target.outstanding()), (0, 0));
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_do_no_harm() {
    let gallery = Gallery::open(LENGTH);
    let faults = gallery.target.faults();
    for operation in [
        Operation::StartUpload,
        Operation::PutUpload,
        Operation::Mount,
        Operation::PutManifest,
    ] {
        faults.order(Fault::new(Trouble::AnswerLost).on(operation));
    }
    let cut = Trouble::Cut {
        after_bytes: 100_000,
    };
    faults.order(Fault::new(cut).on(Operation::PutUpload).after(2).times(2));
    gallery.brings_both().await;
    assert_eq!(faults.outstanding(), 0);
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ecr_gets_its_repositories_before_the_first_blob() {
    let gallery = Gallery::new(redirecting(), Options::ecr(), LENGTH);
    gallery.brings_both().await;
    gallery.assert_fetched_once(0);
    // Its password may end, too.
    let gallery = Gallery::new(redirecting(), Options::ecr(), LENGTH);
    let limp = Trouble::Slow {
        bytes_per_second: 1 << 20,
    };
    gallery
        .target
        .faults()
        .order(Fault::new(limp).on(Operation::PutUpload).always());
    let mut running = crate::support::program::Running::start(gallery.bring(&[APP, TOOL]));
    while !running.has_ended() {
        gallery.target.revoke_tokens();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let (output, _) = running.ended().await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    gallery.assert_same(&[APP, TOOL]);
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_can_not_be_made_fails_its_image_alone() {
    let gallery = Gallery::new(redirecting(), Options::ecr(), LENGTH);
    // What a policy forbids. Which of the two is made first is open; the common layer goes to both at once.
    let denied = Trouble::Refused {
        status: 403,
        code: "AccessDeniedException",
        retry_after: None,
    };
    let create = Fault::new(denied)
        .on(Operation::Ecr)
        .naming("CreateRepository");
    gallery.target.faults().order(create);
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let is_there = |name: &str| gallery.target.find(&format!("mirror/{name}")).is_some();
    assert_ne!(is_there("team-app"), is_there("team-tool"));
    let made = if is_there("team-app") { APP } else { TOOL };
    gallery.assert_same(&[made]);
    gallery.brings_both().await;
    // The layer in common may be asked for again, by the image that is made later.
    gallery.assert_fetched_once(LENGTH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_blob_can_not_be_had_fails_alone() {
    let gallery = Gallery::open(LENGTH);
    let gone = Trouble::Refused {
        status: 404,
        code: "BLOB_UNKNOWN",
        retry_after: None,
    };
    let gone = Fault::new(gone).on(Operation::GetBlob).at("team/app");
    gallery.source.faults().order(gone.always());
    let output = finish(gallery.bring(&[APP, TOOL])).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    // What they have in common came from the other's repository.
    gallery.assert_same(&[TOOL]);
    assert!(said.contains(&format!("failed  {APP}\n")), "{said}");
    assert!(said.contains("Failed             1 image "), "{said}");
    assert_eq!(
        gallery.unnamed(),
        ["mirror/team-app".to_owned()].into(),
        "nothing names what is not there"
    );
    gallery.source.faults().clear();
    gallery.brings_both().await;
    gallery.assert_fetched_once(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_is_told_once_and_the_other_gets_all() {
    let gallery = Gallery::open(LENGTH);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("{}/k8s", gone.local_addr().unwrap());
    drop(gone);
    gallery.write(
        "settings.toml",
        "[retry]\npause_min = \"500ms\"\npause_max = \"30s\"\n",
    );
    let began = std::time::Instant::now();
    let mut command = gallery.bring(&[APP, TOOL]);
    command.args(["--to-registry", &place]);
    let output = finish(command).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20), "{said}");
    gallery.assert_same(&[APP, TOOL]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let why = format!("no image goes to {place}: can't use 127.0.0.1: ");
    assert_eq!(stderr.matches(&why).count(), 1, "{said}");
    assert!(!stderr.contains("failed "), "{said}");
    assert!(said.contains("Failed             2 images"), "{said}");
}
