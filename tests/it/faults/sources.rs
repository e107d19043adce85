//! Several sources of one file: what one lacks, breaks or falsifies comes from the other.

use kops_mirror::loopback::origin::{Expiry, Fault, File, Origin, When};

use super::{LENGTH, Trial, VICTIM};
use crate::support::world::HOST;

/// A trial whose host has a second source, with the same files.
async fn with_second() -> (Trial, Origin) {
    let mut trial = Trial::new().await;
    let second = Origin::start().unwrap();
    for key in [VICTIM, super::NEIGHBOUR, super::POINTER] {
        let path = format!("/{key}");
        second.publish(path.clone(), trial.world.origin.file(&path).unwrap());
    }
    let host = trial.world.settings.hosts.get_mut(HOST).unwrap();
    host.sources.push(second.url(""));
    (trial, second)
}

#[tokio::test]
async fn whatever_the_first_source_does_the_second_takes_over() {
    for fault in [
        Fault::status(404),
        Fault::status(403),
        Fault::status(503),
        Fault::HtmlPage,
        Fault::HangUp,
        Fault::cut(0),
        Fault::ShiftRange(7),
        Fault::NoContentRange,
        Fault::Corrupt(4_000_000),
        Fault::Changed(File::generated(99, LENGTH)),
        Fault::Changed(File::generated(99, LENGTH + 1000)),
        Fault::Changed(File::generated(99, LENGTH - 1000)),
        Fault::Changed(File::generated(99, 0)),
        Fault::Changed(File::generated(99, 6 << 30)),
        Fault::WrongTotal(LENGTH * 2),
        Fault::WrongTotal(LENGTH / 2),
        Fault::Stall {
            after: 0,
            time: None,
        },
        Fault::RedirectSigned(Expiry {
            uses: Some(0),
            after: None,
        }),
    ] {
        let (trial, second) = with_second().await;
        trial.order(When::Always, fault.clone());
        trial.survives().await;
        let from_second = second.log().bytes_sent(&format!("/{VICTIM}"));
        assert!(from_second > 0, "{fault:?}");
    }
}

#[tokio::test]
async fn what_the_first_source_brought_is_not_fetched_from_the_second() {
    let (trial, second) = with_second().await;
    trial.order(When::From(3), Fault::status(403));
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
    let path = format!("/{VICTIM}");
    let first = trial.world.origin.log().bytes_sent(&path);
    assert_eq!(first + second.log().bytes_sent(&path), LENGTH);
}

#[tokio::test]
async fn a_second_source_with_another_file_does_not_spoil_what_the_first_brings() {
    let (trial, second) = with_second().await;
    second.publish(format!("/{VICTIM}"), File::generated(99, LENGTH + 5));
    for nth in [2, 5, 8, 11] {
        trial.order(When::Nth(nth), Fault::status(503));
    }
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0, "{:?}", trial.retries());
}

#[tokio::test]
async fn a_source_that_trickles_is_left_for_one_that_does_not() {
    let (trial, second) = with_second().await;
    let trickle = Fault::Trickle {
        bytes: 1,
        every: std::time::Duration::from_millis(50),
    };
    trial.order(When::Always, trickle);
    trial.survives().await;
    assert!(second.log().bytes_sent(&format!("/{VICTIM}")) > LENGTH / 2);
}

#[tokio::test]
async fn a_dead_source_is_left_for_the_next() {
    let (trial, second) = with_second().await;
    trial.world.origin.refuse_connections().await;
    let report = trial.run().await;
    assert_eq!(
        report.exit(),
        kops_mirror::report::Exit::Done,
        "{}",
        report.table(false)
    );
    assert_eq!(second.log().bytes_sent(&format!("/{VICTIM}")), LENGTH);
}

#[tokio::test]
async fn when_every_source_fails_each_is_told_with_its_reason() {
    let (trial, second) = with_second().await;
    trial.order(When::Always, Fault::status(403));
    second.order(&format!("/{VICTIM}"), When::Always, Fault::HtmlPage);
    let ports = [
        trial.world.origin.address().port().to_string(),
        second.address().port().to_string(),
    ];
    trial
        .gives_up(&[
            "none of the 2 sources",
            "403",
            "web page",
            &ports[0],
            &ports[1],
        ])
        .await;
    second.recover();
    trial.recovers().await;
}

#[tokio::test]
async fn when_every_source_is_wrong_nothing_is_published() {
    let (trial, second) = with_second().await;
    trial.order(When::Always, Fault::Corrupt(10));
    second.order(&format!("/{VICTIM}"), When::Always, Fault::Corrupt(20));
    trial.gives_up(&["wrong content came", VICTIM]).await;
}

#[tokio::test]
async fn an_alternate_url_takes_over() {
    let mut trial = Trial::new().await;
    let file = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
    trial.world.origin.publish("/elsewhere/kubelet", file);
    trial.victim.alternates = vec![format!("https://{HOST}/elsewhere/kubelet").parse().unwrap()];
    trial.order(When::Always, Fault::status(404));
    trial.survives().await;
}
