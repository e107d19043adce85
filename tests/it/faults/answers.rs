//! Statuses and headers that are not what a file's should be.

use std::time::Duration;

use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::origin::HostSettings;

use super::{LENGTH, Trial, VICTIM};
use crate::support::tls::TlsFront;
use crate::support::world::HOST;

#[tokio::test]
async fn an_absent_file_is_told_with_its_url_and_what_to_check() {
    let trial = Trial::new().await;
    trial.world.origin.withdraw(&format!("/{VICTIM}"));
    trial
        .gives_up(&["404", VICTIM, "http://127.0.0.1", "check the version"])
        .await;
    let requests = trial.world.origin.log().requests(&format!("/{VICTIM}"));
    assert_eq!(requests.len(), 1, "asking again is no use");
}

#[tokio::test]
async fn a_forbidden_file_is_told_with_what_to_check() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::status(403));
    trial
        .gives_up(&["403", VICTIM, "proxies, headers and logins"])
        .await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_host_that_is_asked_too_much_is_left_alone_for_as_long_as_it_says() {
    let trial = Trial::new().await;
    trial.order(
        When::Nth(3),
        Fault::Status {
            code: 429,
            retry_after: Some("1".to_owned()),
        },
    );
    trial.survives().await;
    let exchanges = trial.world.origin.log().exchanges();
    let refused = exchanges.iter().find(|e| e.status == 429).unwrap().at;
    let pause = refused + Duration::from_millis(200)..refused + Duration::from_millis(990);
    let meanwhile: Vec<_> = exchanges.iter().filter(|e| pause.contains(&e.at)).collect();
    assert_eq!(meanwhile.len(), 0, "{meanwhile:?}");
    assert!(exchanges.iter().any(|e| e.at >= pause.end));
}

#[tokio::test]
async fn errors_of_the_server_are_outlasted() {
    for code in [500, 502, 503, 504, 429, 408] {
        let trial = Trial::new().await;
        trial.order(When::Times(2), Fault::status(code));
        trial.survives().await;
        assert!(trial.retries()[0].contains(&code.to_string()));
    }
}

#[tokio::test]
async fn flights_that_fail_together_are_one_failure() {
    let trial = Trial::of_length(30_000_000).await;
    // The first request tells the length, then eight are refused at once, twice as many as attempts are allowed.
    for nth in 2..10 {
        trial.order(When::Nth(nth), Fault::status(503));
    }
    trial.survives().await;
}

#[tokio::test]
async fn a_server_that_only_fails_is_given_up_after_a_few_attempts() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::status(503));
    trial.gives_up(&["503", VICTIM]).await;
    let requests = trial.world.origin.log().requests(&format!("/{VICTIM}"));
    assert_eq!(requests.len(), trial.world.policy.attempts as usize);
    trial.recovers().await;
}

#[tokio::test]
async fn a_web_page_in_place_of_a_file_is_never_the_file() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::HtmlPage);
    trial.gives_up(&["web page", VICTIM]).await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_server_without_ranges_serves_whole_files() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::IgnoreRange);
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
}

#[tokio::test]
async fn a_server_without_ranges_is_followed_past_a_cut_in_mid_file() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::IgnoreRange);
    trial.order(When::Nth(1), Fault::cut(2_000_000));
    trial.order(When::Nth(2), Fault::cut(3_000_000));
    let report = trial.survives().await;
    assert!(report.bytes_refetched <= LENGTH, "{report:?}");
}

#[tokio::test]
async fn a_resumed_file_is_taken_whole_from_a_server_that_stopped_to_know_ranges() {
    let trial = Trial::of_length(20_000_000).await;
    trial.order(When::From(4), Fault::status(403));
    trial.gives_up(&["403"]).await;
    trial.world.origin.recover();
    trial.order(When::Always, Fault::IgnoreRange);
    trial.survives().await;
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_not_taken() {
    for fault in [
        Fault::ShiftRange(1000),
        Fault::NoContentRange,
        Fault::OtherFile(format!("/{}", super::NEIGHBOUR)),
    ] {
        for nth in [1, 2, 3] {
            let trial = Trial::new().await;
            trial.order(When::Nth(nth), fault.clone());
            trial.survives().await;
        }
    }
}

#[tokio::test]
async fn a_server_that_always_answers_another_range_is_given_up() {
    for fault in [Fault::ShiftRange(1000), Fault::NoContentRange] {
        let trial = Trial::new().await;
        trial.order(When::Always, fault);
        trial
            .gives_up(&["something else than was asked for", VICTIM])
            .await;
        trial.recovers().await;
    }
}

#[tokio::test]
async fn a_wrong_total_is_found_out_and_leaves_nothing_behind() {
    for total in [LENGTH / 2, LENGTH - 1, LENGTH + 1, LENGTH * 3] {
        for nth in [1, 2] {
            let trial = Trial::new().await;
            trial.order(When::Nth(nth), Fault::WrongTotal(total));
            trial.survives().await;
        }
    }
}

#[tokio::test]
async fn a_total_that_is_always_wrong_is_given_up_and_forgotten() {
    for total in [LENGTH / 2, LENGTH + 1] {
        let trial = Trial::new().await;
        trial.order(When::Always, Fault::WrongTotal(total));
        trial.gives_up(&[VICTIM]).await;
        trial.recovers().await;
    }
}

#[tokio::test]
async fn a_file_that_changes_in_mid_transfer_is_begun_anew() {
    let trial = Trial::new().await;
    let old = File::generated(9, LENGTH);
    for nth in [1, 2] {
        trial.order(When::Nth(nth), Fault::Changed(old.clone()));
    }
    trial.survives().await;
    let trial = Trial::new().await;
    trial.order(When::Once, Fault::Changed(File::generated(9, LENGTH + 77)));
    trial.survives().await;
}

#[tokio::test]
async fn a_change_without_another_etag_is_found_out_by_the_digest() {
    let trial = Trial::new().await;
    let file = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
    let quiet = File::generated(9, LENGTH).with_etag(file.etag.as_deref());
    trial.order(When::Nth(2), Fault::Changed(quiet));
    trial.survives().await;
    assert!(trial.retries().iter().any(|why| why.contains("vouched")));
}

#[tokio::test]
async fn servers_that_disagree_on_the_etag_alone_do_no_harm() {
    let trial = Trial::of_length(12_000_000).await;
    let file = trial.world.origin.file(&format!("/{VICTIM}")).unwrap();
    for nth in (2..400).step_by(2) {
        let other = file.clone().with_etag(Some("\"of another server\""));
        trial.order(When::Nth(nth), Fault::Changed(other));
    }
    trial.survives().await;
}

#[tokio::test]
async fn a_file_that_changes_without_end_is_given_up() {
    let trial = Trial::of_length(12_000_000).await;
    for nth in 1..400 {
        trial.order(
            When::Nth(nth),
            Fault::Changed(File::generated(nth, LENGTH + nth)),
        );
    }
    trial.gives_up(&["changed", VICTIM]).await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_file_above_five_gibibytes_is_refused_before_it_moves() {
    let mut trial = Trial::new().await;
    let huge = File::generated(7, 6 << 30);
    trial.world.origin.publish(format!("/{VICTIM}"), huge);
    trial.victim.sidecars.clear();
    trial.gives_up(&["6442450944", "5 GiB"]).await;
    let sent = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
    assert!(sent <= 8 << 20, "{sent}");
    assert_eq!(
        trial
            .world
            .origin
            .log()
            .requests(&format!("/{VICTIM}"))
            .len(),
        1
    );
}

#[tokio::test]
async fn a_slow_first_byte_is_waited_for_and_silence_is_not() {
    let trial = Trial::new().await;
    trial.order(When::Once, Fault::SlowFirstByte(Duration::from_millis(200)));
    trial.survives().await;
    let mut trial = Trial::new().await;
    trial.world.settings.connect_timeout = Duration::from_millis(200);
    trial.order(When::Once, Fault::SlowFirstByte(Duration::from_secs(30)));
    trial.survives().await;
    assert!(trial.retries()[0].contains("fewer than"));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let mut trial = Trial::new().await;
    let nowhere = HostSettings {
        sources: vec!["http://mirror.invalid/".parse().unwrap()],
        ..HostSettings::default()
    };
    let hosts = &mut trial.world.settings.hosts;
    hosts.insert("nowhere".to_owned(), nowhere);
    trial.victim.canonical = format!("https://nowhere/{VICTIM}").parse().unwrap();
    trial
        .gives_up(&["http://mirror.invalid/", "can't be reached", "lookup"])
        .await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    let mut trial = Trial::new().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let nobody = HostSettings {
        sources: vec![format!("http://{address}/").parse().unwrap()],
        ..HostSettings::default()
    };
    let hosts = &mut trial.world.settings.hosts;
    hosts.insert("nobody".to_owned(), nobody);
    trial.victim.canonical = format!("https://nobody/{VICTIM}").parse().unwrap();
    let port = address.port().to_string();
    trial
        .gives_up(&[&port, "can't be reached", "refused"])
        .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_never_ignored() {
    let mut trial = Trial::new().await;
    let front = TlsFront::start(trial.world.origin.address(), &["another.example"]).await;
    let host = HostSettings {
        sources: vec![front.url("/").parse().unwrap()],
        ..HostSettings::default()
    };
    trial.world.settings.hosts.insert("tls".to_owned(), host);
    trial.victim.canonical = format!("https://tls/{VICTIM}").parse().unwrap();
    trial
        .gives_up(&["https://127.0.0.1", VICTIM, "certificate", "never ignored"])
        .await;
    let asked = trial.world.origin.log().requests(&format!("/{VICTIM}"));
    assert_eq!(
        asked.len(),
        0,
        "nothing was said before the handshake ended"
    );
}

#[tokio::test]
async fn a_restarted_host_is_waited_for() {
    let mut trial = Trial::new().await;
    trial.world.policy.pause_min = Duration::from_millis(100);
    trial.world.policy.pause_max = Duration::from_millis(400);
    trial.world.origin.refuse_connections().await;
    let again = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        trial.world.origin.accept_connections().await;
    };
    tokio::join!(trial.survives(), again);
    assert!(trial.world.settings.hosts.contains_key(HOST));
}
