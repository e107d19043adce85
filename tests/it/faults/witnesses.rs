//! Checksums that are missing, rubbish or at odds with each other.

use kops_mirror::asset::{Voucher, Witness};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::report::{Exit, Kind};

use super::{MARKER, POINTER, Trial, VICTIM};
use crate::support::world::{HOST, lines, read};

fn sidecar(algorithm: Algorithm) -> Witness {
    let url = format!("https://{HOST}/{VICTIM}.{algorithm}");
    let url = url.parse().unwrap();
    vec![Voucher::Sidecar { url, algorithm }]
}

/// A trial whose victim only its sidecar vouches for.
async fn with_sidecar() -> Trial {
    let mut trial = Trial::new().await;
    trial.victim.witnesses = vec![sidecar(Algorithm::Sha256)];
    publish_sidecar(&trial, Algorithm::Sha256);
    trial
}

fn publish_sidecar(trial: &Trial, algorithm: Algorithm) {
    let file = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
    let digest = file.content.digests(&[algorithm]).get(algorithm).unwrap();
    let text = File::text(format!("{}  kubelet\n", digest.hex()));
    let path = format!("/{VICTIM}.{algorithm}");
    trial.world.origin.publish(path, text);
}

fn sidecar_path() -> String {
    format!("/{VICTIM}.sha256")
}

#[tokio::test]
async fn a_sidecar_that_comes_late_is_waited_for() {
    let trial = with_sidecar().await;
    for fault in [Fault::status(503), Fault::HangUp, Fault::cut(3)] {
        trial.world.origin.order(&sidecar_path(), When::Once, fault);
    }
    trial.survives().await;
}

#[tokio::test]
async fn a_host_is_left_alone_when_its_sidecars_are_asked_for_too_often() {
    let mut trial = with_sidecar().await;
    // So that everything waits for the same host.
    trial.world.settings.connections = 1;
    let busy = Fault::Status {
        code: 429,
        retry_after: Some("1".to_owned()),
    };
    trial.world.origin.order(&sidecar_path(), When::Once, busy);
    trial.survives().await;
    let exchanges = trial.world.origin.log().exchanges();
    let at = exchanges.iter().position(|e| e.status == 429).unwrap();
    let next = exchanges[at + 1..].iter().map(|e| e.at).min().unwrap();
    let pause = next.saturating_sub(exchanges[at].at);
    assert!(pause.as_millis() >= 950, "{pause:?}");
}

#[tokio::test]
async fn a_file_that_nobody_vouches_for_is_not_even_fetched() {
    let trial = with_sidecar().await;
    trial.world.origin.withdraw(&sidecar_path());
    trial
        .gives_up(&["nobody vouches for it", "kubelet.sha256", "404"])
        .await;
    let requests = trial.world.origin.log().requests(&format!("/{VICTIM}"));
    assert_eq!(requests.len(), 0);
}

#[tokio::test]
async fn a_sidecar_of_rubbish_vouches_for_nothing() {
    for rubbish in [
        "",
        "\n\n",
        "not a digest\n",
        "0123456789abcdef\n",
        "<!DOCTYPE html><html></html>",
        "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "\u{0}\u{1}\u{2}",
    ] {
        let trial = with_sidecar().await;
        let text = File::text(rubbish);
        trial.world.origin.publish(sidecar_path(), text);
        trial
            .gives_up(&["nobody vouches for it", "kubelet.sha256"])
            .await;
        let requests = trial.world.origin.log().requests(&format!("/{VICTIM}"));
        assert_eq!(requests.len(), 0, "{rubbish:?}");
    }
}

#[tokio::test]
async fn a_web_page_in_place_of_a_sidecar_vouches_for_nothing() {
    let trial = with_sidecar().await;
    trial
        .world
        .origin
        .order(&sidecar_path(), When::Always, Fault::HtmlPage);
    trial
        .gives_up(&["nobody vouches for it", "kubelet.sha256", "web page"])
        .await;
}

#[tokio::test]
async fn a_sidecar_of_another_content_refuses_the_file() {
    let trial = with_sidecar().await;
    let other = Digest::of(Algorithm::Sha256, b"another").hex();
    trial
        .world
        .origin
        .publish(sidecar_path(), File::text(other.clone()));
    trial
        .gives_up(&["wrong content came", VICTIM, &other])
        .await;
}

#[tokio::test]
async fn witnesses_that_disagree_are_both_named_and_nothing_is_fetched() {
    let mut trial = with_sidecar().await;
    let digest = Digest::of(Algorithm::Sha256, b"another");
    let source = "kops 1.36.2's table".to_owned();
    let known = Voucher::Known { digest, source };
    trial.victim.witnesses.push(vec![known]);
    trial
        .gives_up(&[
            "disagree",
            "kubelet.sha256",
            "kops 1.36.2's table",
            &digest.hex(),
        ])
        .await;
    let requests = trial.world.origin.log().requests(&format!("/{VICTIM}"));
    assert_eq!(requests.len(), 0);
}

#[tokio::test]
async fn every_algorithm_that_vouches_must_match() {
    let mut trial = with_sidecar().await;
    trial.victim.witnesses.push(sidecar(Algorithm::Sha1));
    let wrong = Digest::of(Algorithm::Sha1, b"another").hex();
    let path = format!("/{VICTIM}.sha1");
    trial.world.origin.publish(path, File::text(wrong));
    trial.gives_up(&["wrong content came", "sha1:"]).await;
    publish_sidecar(&trial, Algorithm::Sha1);
    trial.survives().await;
}

#[tokio::test]
async fn a_second_opinion_that_can_not_be_had_is_done_without() {
    for fault in [Fault::status(404), Fault::status(500), Fault::HangUp] {
        let mut trial = with_sidecar().await;
        trial.victim.witnesses.push(sidecar(Algorithm::Sha1));
        let path = format!("/{VICTIM}.sha1");
        trial.world.origin.order(&path, When::Always, fault);
        trial.survives().await;
    }
}

#[tokio::test]
async fn a_first_witness_that_is_silent_is_stood_in_for_by_the_next() {
    let mut trial = with_sidecar().await;
    trial.victim.witnesses.insert(0, sidecar(Algorithm::Sha512));
    trial.survives().await;
}

#[tokio::test]
async fn a_pointer_that_is_no_text_or_a_web_page_is_not_published() {
    for (fault, words) in [
        (Fault::HtmlPage, "web page"),
        (Fault::status(404), "404"),
        (Fault::Changed(File::text("")), "empty"),
        (Fault::Changed(File::text("  <html>oops")), "web page"),
        (
            Fault::Changed(File::new(bytes::Bytes::from_static(b"\xff\xfe"))),
            "not a text",
        ),
    ] {
        let trial = Trial::new().await;
        let path = format!("/{POINTER}");
        trial.world.origin.order(&path, When::Always, fault);
        let report = trial.run().await;
        let failed = lines(&report, Kind::Failed);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with(POINTER) && failed[0].contains(words));
        assert!(failed[0].contains("http://127.0.0.1"), "{failed:?}");
        assert_eq!(report.exit(), Exit::SomeFailed);
        assert_eq!(read(&trial.store, POINTER).await, None);
        assert!(
            read(&trial.store, MARKER).await.is_some(),
            "files are there"
        );
    }
}

#[tokio::test]
async fn a_pointer_keeps_its_last_good_word() {
    let trial = Trial::new().await;
    trial.survives().await;
    let path = format!("/{POINTER}");
    trial
        .world
        .origin
        .order(&path, When::Always, Fault::HtmlPage);
    let report = trial.run().await;
    assert_eq!(report.exit(), Exit::SomeFailed);
    let there = read(&trial.store, POINTER).await;
    assert_eq!(there, Some(b"spec: {}\n".to_vec()));
}
