use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;
use crate::digest::{Algorithm, Digest};

/// What the folders here give to small files.
const MEMORY: u64 = 4 << 20;

/// A folder whose spools are on the disk, and one whose spools are in memory.
fn folders() -> [(tempfile::TempDir, SpoolFolder); 2] {
    [0, MEMORY].map(|bytes| {
        let dir = tempfile::tempdir().unwrap();
        let folder = SpoolFolder::open(&dir.path().join("spool"), 1 << 30).unwrap();
        (dir, folder.with_memory(bytes))
    })
}

fn in_memory() -> (tempfile::TempDir, SpoolFolder) {
    let [_, (dir, folder)] = folders();
    (dir, folder)
}

/// A spool of content whose length is known, in memory if the folder has some.
fn spool_of(folder: &SpoolFolder, length: u64) -> Spool {
    let spool = folder.spool(&digest()).unwrap();
    spool.takes_memory(length);
    spool.set_length(length).unwrap();
    spool
}

fn write(spool: &Spool, offset: u64, bytes: &'static str) -> u64 {
    let pieces = [Bytes::from_static(bytes.as_bytes())];
    spool.write_at(offset, &pieces).unwrap()
}

fn read(spool: &Spool, range: Range<usize>) -> String {
    let mut bytes = vec![0; range.len()];
    spool.read_exact_at(&mut bytes, range.start as u64).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The spools' files in a folder, by their endings.
fn files(folder: &SpoolFolder) -> Vec<String> {
    let mut endings: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            Some(path.extension()?.to_str().unwrap().to_owned())
        })
        .collect();
    endings.sort();
    endings
}

fn gaps(spool: &Spool) -> Vec<Range<u64>> {
    let mut expected = RangeSet::new();
    std::iter::from_fn(|| {
        let gap = spool.first_gap(&expected)?;
        expected.insert(gap.clone());
        Some(gap)
    })
    .collect()
}

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"any")
}

#[test]
fn the_frontier_is_the_contiguous_prefix() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 10);
        write(&spool, 5, "56");
        assert_eq!(
            spool.seen(),
            Seen {
                frontier: 0,
                length: Some(10),
                generation: 0
            }
        );
        spool
            .write_at(0, &[Bytes::from_static(b"012"), Bytes::from_static(b"34")])
            .unwrap();
        assert_eq!(spool.seen().frontier, 7);
        assert_eq!(gaps(&spool), vec![7..10]);
        assert_eq!(spool.arrived_bytes(), 7);
        assert_eq!(read(&spool, 0..7), "0123456");
    }
}

#[test]
fn what_has_arrived_stays_what_it_was() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 6);
        assert_eq!(write(&spool, 2, "23"), 2);
        assert_eq!(write(&spool, 0, "xxyyzz"), 4);
        assert_eq!(read(&spool, 0..6), "xx23zz");
    }
}

#[test]
fn bytes_are_counted_before_they_are_seen() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 4);
        let mut counted = None;
        let count = |fresh| counted = Some((fresh, spool.is_whole()));
        let pieces = [Bytes::from_static(b"0123")];
        spool.write_as(spool.admit(), 0, &pieces, count).unwrap();
        assert_eq!(counted, Some((4, false)));
        assert!(spool.is_whole());
    }
}

#[test]
fn who_comes_next_finds_what_arrived() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 8);
        write(&spool, 2, "234");
        drop(spool);
        let spool = folder.spool(&digest()).unwrap();
        assert_eq!(spool.seen().length, Some(8));
        assert_eq!(gaps(&spool), vec![0..2, 5..8]);
        assert_eq!(read(&spool, 2..5), "234");
        assert!(!spool.takes_memory(8), "what is on the disk stays there");
    }
}

#[test]
fn a_killed_process_loses_what_was_in_memory_alone() {
    for (at, (_dir, folder)) in folders().into_iter().enumerate() {
        let spool = spool_of(&folder, 8);
        write(&spool, 0, "0123");
        std::mem::forget(spool);
        let spool = folder.spool(&digest()).unwrap();
        assert_eq!(spool.arrived_bytes(), [4, 0][at]);
    }
}

#[test]
fn a_torn_or_lying_journal_loses_only_its_own_ranges() {
    let [(_dir, folder), _] = folders();
    let spool = spool_of(&folder, 900);
    write(&spool, 0, "0123");
    drop(spool);
    let name = format!("sha256-{}.ranges", digest().hex());
    let mut journal = OpenOptions::new()
        .append(true)
        .open(folder.path().join(name))
        .unwrap();
    journal.write_all(&4u64.to_le_bytes()).unwrap();
    journal.write_all(&900u64.to_le_bytes()).unwrap();
    journal.write_all(&[7; 5]).unwrap();
    let spool = folder.spool(&digest()).unwrap();
    assert_eq!(spool.arrived_bytes(), 4);
}

#[test]
fn another_length_is_another_content() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 4);
        write(&spool, 0, "0123");
        spool.set_length(9).unwrap();
        assert_eq!(gaps(&spool), vec![0..9]);
        assert_eq!(write(&spool, 0, "012345678"), 9);
        assert!(spool.is_whole());
        assert_eq!(read(&spool, 0..9), "012345678");
    }
}

#[test]
fn discarded_bytes_are_gone() {
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, 4);
        write(&spool, 0, "0123");
        let admission = spool.admit();
        spool.discard().unwrap();
        let late = [Bytes::from_static(b"late")];
        assert_eq!(spool.write_as(admission, 0, &late, |_| {}).unwrap(), 0);
        assert_eq!(
            spool.seen(),
            Seen {
                frontier: 0,
                length: None,
                generation: 1
            }
        );
        drop(spool);
        let spool = folder.spool(&digest()).unwrap();
        assert_eq!(spool.seen(), Seen::default());
    }
}

#[test]
fn a_small_file_leaves_nothing_on_the_disk() {
    let (_dir, folder) = in_memory();
    let spool = spool_of(&folder, 4);
    write(&spool, 0, "0123");
    assert_eq!(files(&folder), [""; 0]);
    spool.remove().unwrap();
    assert_eq!(read(&spool, 0..4), "0123", "it stays readable");
    drop(spool);
    assert_eq!(files(&folder), [""; 0]);
}

#[test]
fn what_exceeds_the_memory_goes_to_the_disk() {
    let (_dir, folder) = in_memory();
    let first = spool_of(&folder, MEMORY - 3);
    let other = folder
        .spool(&Digest::of(Algorithm::Sha256, b"other"))
        .unwrap();
    assert!(!other.takes_memory(4));
    other.set_length(4).unwrap();
    write(&other, 0, "0123");
    assert_eq!(files(&folder), ["part", "ranges"]);
    assert_eq!(read(&other, 0..4), "0123");
    other.remove().unwrap();
    assert_eq!(files(&folder), [""; 0]);
    // Memory comes back with what had it.
    first.discard().unwrap();
    assert!(spool_of(&folder, MEMORY).takes_memory(MEMORY));
}

#[test]
fn a_large_file_is_on_the_disk_however_much_memory_there_is() {
    let (_dir, folder) = in_memory();
    let folder = folder.with_memory(1 << 30);
    let spool = folder.spool(&digest()).unwrap();
    assert!(!spool.takes_memory(SMALL_MAX_BYTES + 1));
    assert!(spool.takes_memory(SMALL_MAX_BYTES));
}

#[test]
fn more_than_was_told_moves_to_the_disk() {
    let (_dir, folder) = in_memory();
    let spool = spool_of(&folder, 4);
    write(&spool, 1, "1");
    write(&spool, 2, "2345");
    assert_eq!(files(&folder), ["part", "ranges"]);
    assert_eq!(read(&spool, 1..6), "12345");
    std::mem::forget(spool);
    let spool = folder.spool(&digest()).unwrap();
    assert_eq!(spool.seen().length, Some(4));
    assert_eq!(spool.arrived_bytes(), 5);
}

#[test]
fn a_file_of_unknown_length_is_on_the_disk() {
    let (_dir, folder) = in_memory();
    let spool = folder.spool(&digest()).unwrap();
    write(&spool, 0, "0123");
    assert_eq!(files(&folder), ["part", "ranges"]);
}

#[tokio::test]
async fn what_another_asset_waits_for_is_left_to_it() {
    for (_dir, folder) in folders() {
        let first = folder.claim(&digest()).await.unwrap();
        first.takes_memory(4);
        first.set_length(4).unwrap();
        write(&first, 0, "0123");
        let digest = digest();
        let (second, ()) = tokio::join!(folder.claim(&digest), async {
            tokio::task::yield_now().await;
            first.remove().unwrap();
            drop(first);
        });
        assert!(second.unwrap().is_whole());
    }
}

#[test]
fn a_folder_keeps_its_name_and_no_two_have_the_same() {
    let (_dir, folder) = in_memory();
    let (path, name) = (folder.path().to_owned(), folder.name().to_owned());
    drop(folder);
    let again = SpoolFolder::open(&path, 1 << 30).unwrap();
    assert_eq!(again.name(), name);
    let (_other_dir, other) = in_memory();
    assert_ne!(other.name(), name);
}

#[test]
fn one_process_at_a_time() {
    let (_dir, folder) = in_memory();
    let again = SpoolFolder::open(folder.path(), 1 << 30);
    assert!(matches!(again, Err(SpoolFolderError::Busy { .. })));
}

#[test]
fn bytes_that_two_bring_at_once_are_written_by_one_and_counted_once() {
    const LENGTH: u64 = 4 << 20;
    for (_dir, folder) in folders() {
        let spool = spool_of(&folder, LENGTH);
        let bring = |filler: u8| {
            let bytes = Bytes::from(vec![filler; 128 << 10]);
            let offsets = (0..LENGTH).step_by(bytes.len());
            let fresh = offsets.map(|at| spool.write_at(at, &[bytes.clone()]).unwrap());
            fresh.sum::<u64>()
        };
        let fresh: u64 = std::thread::scope(|scope| {
            let flights: Vec<_> = (0..8).map(|n| scope.spawn(move || bring(n))).collect();
            let fresh = flights.into_iter().map(|flight| flight.join().unwrap());
            fresh.sum()
        });
        assert_eq!(fresh, LENGTH);
        assert!(spool.is_whole());
    }
}
