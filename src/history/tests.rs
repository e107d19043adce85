use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::record::{Failure, FailureClass};

/// The run that began at this second.
fn run(second: i64) -> Run {
    let began = Timestamp::from_second(1_700_000_000 + second).unwrap();
    Run {
        id: format!("{}-0", began.strftime("%Y%m%dT%H%M%SZ")),
        set: "cn".to_owned(),
        purpose: Purpose::Sync,
        began,
        ended: began,
        end: End::SomeFailed,
        why: None,
        repeated: None,
        transferred: 3,
        skipped: 40,
        repaired: 0,
        failed: 1,
        withheld: 0,
        bytes_fetched: 1 << 30,
        bytes_refetched: 0,
        bytes_by_origin: BTreeMap::from([("dl.k8s.io".to_owned(), 1 << 30)]),
        marked: vec![],
        failures: vec![Failure {
            key: "release/v1.34.8/bin/linux/amd64/kubelet".to_owned(),
            class: FailureClass::Origin,
            why: "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet can't be reached"
                .to_owned(),
        }],
    }
}

async fn open(path: &Path, runs_max: u64) -> History {
    History::open(path, runs_max).await.unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn runs_come_back_newest_first_and_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("state/history.redb"), 100).await;
    for second in [2, 0, 4, 1, 3] {
        history.add(&run(second)).await.unwrap();
    }
    let first = history.runs(2, None).await.unwrap();
    assert_eq!(first, [run(4), run(3)]);
    let second = history.runs(2, Some(&first[1].id)).await.unwrap();
    assert_eq!(second, [run(2), run(1)]);
    let third = history.runs(2, Some(&second[1].id)).await.unwrap();
    assert_eq!(third, [run(0)]);
    assert_eq!(history.run(&run(3).id).await.unwrap(), Some(run(3)));
    assert_eq!(history.run("20000101T000000Z-0").await.unwrap(), None);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/state/history.redb");
    let history = open(&path, 100).await;
    history.add(&run(0)).await.unwrap();
    history.set("scrub", "release/v1").await.unwrap();
    history.set("scrub", "release/v2").await.unwrap();
    drop(history);
    let history = open(&path, 100).await;
    assert_eq!(history.runs(9, None).await.unwrap(), [run(0)]);
    let value = history.get("scrub").await.unwrap();
    assert_eq!(value.as_deref(), Some("release/v2"));
    assert_eq!(history.get("other").await.unwrap(), None);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn the_oldest_runs_go_and_the_file_stays_flat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    let history = open(&path, 500).await;
    let mut lengths = Vec::new();
    for batch in 0..300 {
        let runs = (0..100).map(|at| run(batch * 100 + at)).collect();
        history.add_all(runs).await.unwrap();
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    let all = history.runs(usize::MAX, None).await.unwrap();
    assert_eq!((all.len(), &all[0]), (500, &run(29_999)));
    let (early, late) = (lengths[20], lengths[299]);
    assert!(late <= early * 2 && late < 8 << 20, "{early} {late}");
}

#[tokio::test]
async fn room_that_large_runs_took_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    let history = open(&path, 400).await;
    let mut large = run(0);
    large.failures = vec![large.failures[0].clone(); Run::FAILURES_MAX];
    for second in 0..400 {
        let run = Run {
            id: run(second).id,
            ..large.clone()
        };
        history.add(&run).await.unwrap();
    }
    let before = fs::metadata(&path).unwrap().len();
    for second in 400..1100 {
        history.add(&run(second)).await.unwrap();
    }
    let after = fs::metadata(&path).unwrap().len();
    assert!(before > 5 << 20, "{before}");
    assert!(after < before / 2, "{before} {after}");
    assert_eq!(history.runs(1, None).await.unwrap(), [run(1099)]);
}

#[tokio::test]
async fn a_second_process_is_told_that_the_first_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    let first = open(&path, 100).await;
    let second = History::open(&path, 100).await.unwrap_err();
    assert!(matches!(second, HistoryError::Locked { .. }), "{second}");
    assert!(second.to_string().contains(path.to_str().unwrap()));
    assert_eq!(names_in(dir.path()), ["history.redb"]);
    drop(first);
    open(&path, 100).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_moved_aside_and_begun_anew() {
    let good = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        let history = open(&path, 100).await;
        history.add_all((0..50).map(run).collect()).await.unwrap();
        drop(history);
        fs::read(path).unwrap()
    };
    let flipped = |from: usize| {
        let mut bytes = good.clone();
        for byte in &mut bytes[from..] {
            *byte ^= 0x5a;
        }
        bytes
    };
    let broken = [
        b"this is no database".to_vec(),
        vec![0; 1 << 20],
        good[..good.len() / 3].to_vec(),
        good[..100].to_vec(),
        flipped(0),
        flipped(4096),
    ];
    for (number, bytes) in broken.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        fs::write(&path, &bytes).unwrap();
        let history = open(&path, 100).await;
        assert_eq!(history.runs(9, None).await.unwrap(), [], "{number}");
        history.add(&run(0)).await.unwrap();
        let names = names_in(dir.path());
        assert_eq!(names.len(), 2, "{number}: {names:?}");
        assert!(names[1].starts_with("history.redb.broken-2"), "{names:?}");
    }
}

#[tokio::test]
async fn damage_anywhere_never_stops_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    let history = open(&path, 100).await;
    history.add_all((0..50).map(run).collect()).await.unwrap();
    drop(history);
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bytes = good.clone();
        let end = bytes.len().min(at + 64);
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xff);
        fs::write(&path, &bytes).unwrap();
        let history = open(&path, 100).await;
        let runs = history.runs(usize::MAX, None).await.unwrap();
        assert!(runs.is_empty() || runs.len() == 50, "{at}: {}", runs.len());
        history.add(&run(1000)).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_another_format_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let formats = redb::TableDefinition::<&str, u64>::new("formats");
        let mut table = transaction.open_table(formats).unwrap();
        table.insert("format", 2).unwrap();
        drop(table);
        transaction.commit().unwrap();
    }
    let history = open(&path, 100).await;
    history.add(&run(0)).await.unwrap();
    assert_eq!(names_in(dir.path()).len(), 2);
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let path = dir.path().join("file/history.redb");
    let error = History::open(&path, 100).await.unwrap_err();
    assert!(matches!(error, HistoryError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_history_is_made_of_what_the_targets_say_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("history.redb"), 100).await;
    let completed = |second, name: &str| Completed {
        set: "cn".to_owned(),
        index: format!("s3://bucket/releases/{name}.json"),
        at: Timestamp::from_second(second).unwrap(),
        files: 60,
        bytes: 2 << 30,
    };
    let all = [completed(20, "b"), completed(10, "a"), completed(20, "a")];
    assert_eq!(history.rebuild(&all).await.unwrap(), 3);
    let runs = history.runs(9, None).await.unwrap();
    let marked: Vec<&str> = runs.iter().map(|run| run.marked[0].as_str()).collect();
    assert_eq!(
        marked,
        [
            "s3://bucket/releases/b.json",
            "s3://bucket/releases/a.json",
            "s3://bucket/releases/a.json"
        ]
    );
    assert!(runs.iter().all(|run| run.end == End::Done));
    assert_eq!(history.rebuild(&all).await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_failure_of_the_disk_it_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("history.redb"), 100).await;
    history.add(&run(0)).await.unwrap();
    let failed = history
        .0
        .with("read", |_| Err::<(), _>(redb::Error::PreviousIo));
    assert!(matches!(failed, Err(HistoryError::Failed { .. })));
    history.add(&run(1)).await.unwrap();
    assert_eq!(history.runs(9, None).await.unwrap(), [run(1), run(0)]);
}

#[tokio::test]
async fn runs_that_another_process_holds_up_take_one_place_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("history.redb"), 5).await;
    let held = |second, set: &str, purpose| Run {
        end: End::HeldByOther,
        set: set.to_owned(),
        purpose,
        ..run(second)
    };
    history.add(&run(0)).await.unwrap();
    let first = held(1, "cn", Purpose::Sync);
    assert_eq!(history.add(&first).await.unwrap(), first);
    // Another set, and another purpose that waits for the same process, are no reason to begin anew.
    history.add(&held(2, "eu", Purpose::Sync)).await.unwrap();
    for second in 3..100 {
        let purpose = match second % 10 {
            0 => Purpose::Scrub,
            _ => Purpose::Sync,
        };
        history.add(&held(second, "cn", purpose)).await.unwrap();
    }
    let remembered = history.runs(9, None).await.unwrap();
    let told = remembered.iter().map(|run| {
        (
            &*run.set,
            run.purpose,
            run.repeated.map(|r| (r.times, r.since)),
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("cn", Purpose::Sync, Some((89, run(1).began))),
            ("cn", Purpose::Scrub, Some((9, run(10).began))),
            ("eu", Purpose::Sync, None),
            ("cn", Purpose::Sync, None),
        ]
    );
    assert_eq!(remembered[0].id, run(99).id);
    assert_eq!(remembered[3], run(0), "no real run is pushed out");
    // Something happened: what follows stands for itself.
    history.add(&run(100)).await.unwrap();
    let after = held(101, "cn", Purpose::Sync);
    assert_eq!(history.add(&after).await.unwrap(), after);
}

#[tokio::test]
async fn how_many_are_kept_can_change() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("history.redb"), 100).await;
    for second in 0..10 {
        history.add(&run(second)).await.unwrap();
    }
    history.keep(3);
    history.add(&run(10)).await.unwrap();
    let kept = history.runs(99, None).await.unwrap();
    assert_eq!(kept, [run(10), run(9), run(8)]);
}
