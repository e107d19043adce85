//! Redirects, as release downloads have them: to signed URLs that are good for minutes.

use std::time::Duration;

use kops_mirror::events::Event;
use kops_mirror::loopback::origin::{Expiry, Fault, When};

use super::{LENGTH, Trial, VICTIM};

fn path() -> String {
    format!("/{VICTIM}")
}

#[tokio::test]
async fn a_signed_url_is_resolved_anew_for_each_range() {
    let trial = Trial::of_length(12_000_000).await;
    let once = Expiry {
        uses: Some(1),
        ..Expiry::default()
    };
    trial.order(When::Always, Fault::RedirectSigned(once));
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
    let requests = trial.world.origin.log().requests(&path());
    let signed = requests.iter().filter(|e| e.signed);
    assert!(signed.clone().all(|e| e.status == 206), "{requests:?}");
    assert!(signed.count() >= 8);
}

#[tokio::test]
async fn a_signed_url_that_has_expired_is_asked_for_again() {
    let trial = Trial::new().await;
    let dead = Expiry {
        uses: Some(0),
        ..Expiry::default()
    };
    trial.order(When::Times(2), Fault::RedirectSigned(dead));
    trial.order(When::From(3), Fault::RedirectSigned(Expiry::default()));
    trial.survives().await;
    let retries = trial.retries();
    assert!(retries[0].contains("403"), "{retries:?}");
    assert!(retries[0].contains("redirected to"), "{retries:?}");
    assert!(retries[0].contains("?…"), "{retries:?}");
}

#[tokio::test]
async fn a_cut_is_resumed_through_the_canonical_url() {
    let trial = Trial::new().await;
    let short = Expiry {
        after: Some(Duration::from_millis(300)),
        uses: None,
    };
    trial.order(When::Always, Fault::RedirectSigned(short));
    trial.order(When::Times(4), Fault::cut(200_000));
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
}

#[tokio::test]
async fn a_signed_url_that_never_works_is_told_without_its_secret() {
    let trial = Trial::new().await;
    let dead = Expiry {
        uses: Some(0),
        ..Expiry::default()
    };
    trial.order(When::Always, Fault::RedirectSigned(dead));
    trial
        .gives_up(&["403", VICTIM, "redirected to http://127.0.0.1", "?…"])
        .await;
    trial.recovers().await;
}

#[tokio::test]
async fn every_fault_behind_a_redirect_is_told_without_a_secret() {
    for fault in [
        Fault::HangUp,
        Fault::cut(0),
        Fault::status(404),
        Fault::HtmlPage,
        Fault::ShiftRange(10),
        Fault::Stall {
            after: 0,
            time: None,
        },
    ] {
        let trial = Trial::of_length(100_000).await;
        trial.order(When::Always, Fault::RedirectSigned(Expiry::default()));
        trial.order(When::Always, fault);
        trial.gives_up(&[VICTIM]).await;
    }
}

#[tokio::test]
async fn a_query_that_the_user_gave_is_not_shown() {
    let mut trial = Trial::new().await;
    trial
        .victim
        .canonical
        .set_query(Some("X-Amz-Signature=hush"));
    trial.order(When::Always, Fault::status(403));
    trial.gives_up(&["403", VICTIM, "?…"]).await;
    let said = format!("{:?}", trial.world.heard.events());
    assert!(!said.contains("hush"), "{said}");
}

#[tokio::test]
async fn redirects_that_lead_nowhere_end() {
    let trial = Trial::new().await;
    let itself = trial.world.origin.url(&path()).to_string();
    trial.order(When::Always, Fault::RedirectTo(itself));
    trial.gives_up(&["redirects too often", VICTIM]).await;
    let requests = trial.world.origin.log().requests(&path());
    assert!(requests.len() <= 20, "{}", requests.len());
    trial.recovers().await;
}

#[tokio::test]
async fn what_is_published_says_nothing_of_a_signature() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::RedirectSigned(Expiry::default()));
    trial.survives().await;
    let marker = super::read(&trial.store, super::MARKER).await.unwrap();
    let marker = String::from_utf8(marker).unwrap();
    assert!(!marker.contains("Signature"), "{marker}");
    let received = trial.world.heard.events().into_iter();
    let received = received.filter_map(|event| match event {
        Event::Received { key, bytes } if key == trial.victim.key => Some(bytes),
        _ => None,
    });
    assert_eq!(received.sum::<u64>(), LENGTH);
}
