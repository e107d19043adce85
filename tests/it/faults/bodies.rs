//! Bodies that end early, late, wrong or never.

use std::time::Duration;

use kops_mirror::loopback::origin::{End, Fault, File, When};

use super::{LENGTH, Trial, VICTIM};

#[tokio::test]
async fn a_body_that_is_shorter_than_promised_is_completed() {
    for fault in [Fault::Shorter(1), Fault::Shorter(100_000)] {
        let trial = Trial::new().await;
        trial.order(When::Times(3), fault);
        let report = trial.survives().await;
        assert_eq!(report.bytes_refetched, 0);
    }
}

#[tokio::test]
async fn a_body_that_is_longer_than_promised_is_cut_to_size_or_fetched_anew() {
    for ranges in [true, false] {
        for by in [1, 100_000] {
            let trial = Trial::new().await;
            if !ranges {
                trial.order(When::Always, Fault::IgnoreRange);
            }
            trial.order(When::Once, Fault::Longer(by));
            trial.survives().await;
        }
    }
}

#[tokio::test]
async fn a_body_that_is_always_longer_than_the_file_is_given_up() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::IgnoreRange);
    trial.order(When::Always, Fault::Longer(1000));
    trial
        .gives_up(&["wrong content came 2 times", VICTIM, "vouched for"])
        .await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_wrong_byte_is_fetched_anew() {
    for at in [0, LENGTH / 2, LENGTH - 1] {
        let trial = Trial::new().await;
        trial.order(When::Once, Fault::Corrupt(at));
        let report = trial.survives().await;
        assert_eq!(report.bytes_refetched, LENGTH);
        assert!(trial.retries()[0].contains("vouched for"));
    }
}

#[tokio::test]
async fn content_that_is_always_wrong_is_refused() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::Corrupt(4_321_000));
    trial
        .gives_up(&[
            "wrong content came 2 times",
            "http://127.0.0.1",
            VICTIM,
            "sha256:",
            "it is not published",
            "--origin",
        ])
        .await;
    let left = std::fs::read_dir(trial.world.spool()).unwrap();
    let left = left.map(|f| {
        (
            f.as_ref().unwrap().file_name(),
            f.unwrap().metadata().unwrap().len(),
        )
    });
    let left: Vec<_> = left
        .filter(|(name, bytes)| name != "lock" && *bytes > 0)
        .collect();
    assert_eq!(left, [], "wrong bytes are not kept");
    let sent = trial.world.origin.log().bytes_sent(&format!("/{VICTIM}"));
    assert_eq!(sent, 2 * LENGTH, "the same again is asked for no more");
    trial.recovers().await;
}

#[tokio::test]
async fn content_that_is_wrong_in_another_way_each_time_is_tried_once_more() {
    for (faults, saved) in [(3, false), (2, true)] {
        let trial = Trial::new().await;
        for nth in 1..=faults {
            trial.order(When::Nth(nth), Fault::Corrupt(1000 * nth));
        }
        if saved {
            trial.survives().await;
        } else {
            trial.gives_up(&["wrong content came 3 times"]).await;
        }
    }
}

#[tokio::test]
async fn connections_that_die_cost_only_what_was_in_them() {
    for end in [End::Close, End::Reset] {
        for after in [0, 1, 300_000, 900_000] {
            let trial = Trial::new().await;
            trial.order(When::Times(5), Fault::Cut { after, end });
            let report = trial.survives().await;
            assert_eq!(report.bytes_refetched, 0, "{end:?} {after}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_made_again() {
    let trial = Trial::new().await;
    trial.order(When::Times(2), Fault::HangUp);
    trial.survives().await;
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::HangUp);
    trial
        .gives_up(&["the connection to", "broke", VICTIM])
        .await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_connection_that_gets_nowhere_is_given_up() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::cut(0));
    trial.gives_up(&["broke", VICTIM]).await;
    trial.recovers().await;
}

#[tokio::test]
async fn connections_that_all_live_a_moment_bring_the_file_in_pieces() {
    let trial = Trial::of_length(2_000_000).await;
    trial.order(When::Always, Fault::cut(50_000));
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
}

#[tokio::test]
async fn a_stall_is_noticed_and_its_bytes_are_kept() {
    let trial = Trial::new().await;
    let stall = Fault::Stall {
        after: 400_000,
        time: None,
    };
    trial.order(When::Times(3), stall);
    let report = trial.survives().await;
    assert_eq!(report.bytes_refetched, 0);
    assert!(trial.retries()[0].contains("bytes a second"));
}

#[tokio::test]
async fn a_short_stall_is_sat_out() {
    let trial = Trial::new().await;
    let stall = Fault::Stall {
        after: 400_000,
        time: Some(Duration::from_millis(150)),
    };
    trial.order(When::Times(3), stall);
    trial.survives().await;
    assert_eq!(trial.retries(), [""; 0]);
}

#[tokio::test]
async fn a_trickle_below_the_floor_is_given_up() {
    let trial = Trial::of_length(100_000).await;
    let trickle = Fault::Trickle {
        bytes: 1,
        every: Duration::from_millis(60),
    };
    trial.order(When::Always, trickle);
    trial
        .gives_up(&[VICTIM, "fewer than 64 bytes a second"])
        .await;
    trial.recovers().await;
}

#[tokio::test]
async fn a_trickle_above_the_floor_is_slow_and_good() {
    let trial = Trial::of_length(40_000).await;
    let trickle = Fault::Trickle {
        bytes: 2000,
        every: Duration::from_millis(30),
    };
    trial.order(When::Always, trickle);
    trial.survives().await;
    assert_eq!(trial.retries(), [""; 0]);
}

#[tokio::test]
async fn bodies_without_a_length_are_taken() {
    for fault in [Fault::Chunked, Fault::CloseDelimited] {
        for ranges in [true, false] {
            let trial = Trial::new().await;
            trial.order(When::Always, fault.clone());
            if !ranges {
                trial.order(When::Always, Fault::IgnoreRange);
            }
            let report = trial.survives().await;
            assert_eq!(report.bytes_refetched, 0, "{fault:?} {ranges}");
        }
    }
}

#[tokio::test]
async fn a_cut_in_a_chunked_body_is_not_its_end() {
    for end in [End::Close, End::Reset] {
        for after in [1, 700_000, LENGTH - 1] {
            let trial = Trial::new().await;
            trial.order(When::Always, Fault::IgnoreRange);
            trial.order(When::Always, Fault::Chunked);
            trial.order(When::Once, Fault::Cut { after, end });
            let report = trial.survives().await;
            let wrong = trial.retries().iter().any(|why| why.contains("vouched"));
            assert!(!wrong, "{:?} {report:?}", trial.retries());
        }
    }
}

#[tokio::test]
async fn a_cut_that_looks_like_the_end_is_found_out_by_the_digest() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::IgnoreRange);
    trial.order(When::Always, Fault::CloseDelimited);
    trial.order(When::Once, Fault::cut(700_000));
    trial.survives().await;
    assert!(trial.retries().iter().any(|why| why.contains("vouched")));
}

#[tokio::test]
async fn empty_and_tiny_files_arrive() {
    for length in [0, 1, 2, 4096] {
        let trial = Trial::of_length(length).await;
        let report = trial.survives().await;
        assert_eq!(report.bytes_fetched, 100_000 + length);
    }
}

#[tokio::test]
async fn an_empty_body_for_a_file_that_is_not_empty_is_refused() {
    let trial = Trial::new().await;
    trial.order(When::Always, Fault::Changed(File::generated(1, 0)));
    trial.gives_up(&["wrong content came", VICTIM]).await;
    trial.recovers().await;
}

#[tokio::test]
async fn an_md5_in_a_header_that_contradicts_the_vouchers_is_warned_of() {
    let trial = Trial::of_length(10_000).await;
    let mut file = File::generated(1, 10_000).with_goog_hash();
    let honest = file.clone();
    let other = File::generated(5, 10_000).with_goog_hash();
    file.goog_hashes = other.goog_hashes;
    trial.world.origin.publish(format!("/{VICTIM}"), file);
    trial.survives().await;
    let warnings = trial.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(VICTIM) && warnings[0].contains("header"));

    let trial = Trial::of_length(10_000).await;
    trial.world.origin.publish(format!("/{VICTIM}"), honest);
    trial.survives().await;
    assert_eq!(trial.warnings(), [""; 0]);
}

/// How many files a run has in its spool's folder besides the lock.
fn spooled_files(trial: &Trial) -> usize {
    std::fs::read_dir(trial.world.spool()).map_or(0, Iterator::count) - 1
}

#[tokio::test]
async fn a_small_file_resumes_in_memory_and_touches_no_disk() {
    for (memory_bytes, files) in [(64 << 20, 0), (1 << 20, 2)] {
        let mut trial = Trial::of_length(3_000_000).await;
        trial.world.memory_bytes = memory_bytes;
        let end = End::Reset;
        let after = 300_000;
        trial.order(When::Times(5), Fault::Cut { after, end });
        trial.order(When::Nth(6), Fault::Rate(1_000_000));
        let mut most = 0;
        let looking = async {
            loop {
                if trial.world.spool().join("lock").exists() {
                    most = most.max(spooled_files(&trial));
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let report = tokio::select! {
            report = trial.survives() => report,
            never = looking => never,
        };
        assert_eq!(report.bytes_refetched, 0);
        assert_eq!(most, files, "with {memory_bytes} bytes of memory");
        assert_eq!(spooled_files(&trial), 0, "nothing is left");
    }
}

#[tokio::test]
async fn wrong_content_in_memory_is_refused_and_not_kept() {
    let trial = Trial::of_length(3_000_000).await;
    trial.order(When::Always, Fault::Corrupt(2_321_000));
    trial.gives_up(&["wrong content", "not published"]).await;
    assert_eq!(spooled_files(&trial), 0);
    trial.recovers().await;
}
