//! No wrong byte ever completes: whatever arrives, in whatever pieces and order, damaged or not.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use kops_mirror::digest::{Algorithm, Digest, Digests};
use kops_mirror::loopback::origin::Content;
use kops_mirror::spool::{Spool, SpoolFolder};
use kops_mirror::verify::{self, Publishable};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Something that befalls a spool.
#[derive(Debug, Clone)]
enum Step {
    /// Bytes arrive, of which one may be wrong.
    Arrive {
        from: u64,
        length: u64,
        wrong: Option<u64>,
    },
    /// A flight that was given up still writes.
    Straggle {
        from: u64,
        length: u64,
    },
    Discard,
    Length(u64),
    /// Another process goes on.
    Restart,
}

fn steps(length: u64) -> impl Strategy<Value = Step> {
    let within = move || 0..length;
    prop_oneof![
        8 => (within(), 1..=length).prop_map(|(from, length)| Step::Arrive { from, length, wrong: None }),
        2 => (within(), 1..=length, within())
            .prop_map(|(from, length, at)| Step::Arrive { from, length, wrong: Some(at) }),
        1 => (within(), 1..=length).prop_map(|(from, length)| Step::Straggle { from, length }),
        1 => Just(Step::Discard),
        2 => Just(Step::Length(length)),
        1 => (0..2 * length).prop_map(Step::Length),
        1 => Just(Step::Restart),
    ]
}

/// The bytes of a range, with the byte at `wrong` turned.
fn piece(content: &Bytes, from: u64, length: u64, wrong: Option<u64>) -> Vec<Bytes> {
    let index = |at: u64| usize::try_from(at).unwrap();
    let (from, end) = (index(from), index(from + length));
    let mut bytes = content[from..end.min(content.len())].to_vec();
    if let Some(byte) = wrong.and_then(|at| bytes.get_mut(index(at).wrapping_sub(from))) {
        *byte = !*byte;
    }
    // In two pieces, as they come from a socket.
    let half = bytes.len() / 2;
    let rest = bytes.split_off(half);
    vec![bytes.into(), rest.into()]
}

/// A folder whose spools are in memory, or on the disk.
fn open(dir: &tempfile::TempDir, memory: bool) -> SpoolFolder {
    let folder = SpoolFolder::open(dir.path(), 1 << 30).unwrap();
    folder.with_memory(if memory { 4 << 20 } else { 0 })
}

/// Tells a length as a fetch does: what is small stays in memory where there is some.
fn set_length(spool: &Spool, length: u64) {
    spool.takes_memory(length);
    spool.set_length(length).unwrap();
}

/// Takes the steps until the spool is whole, and completes it with right bytes if it never is.
fn arrive(folder: &SpoolFolder, name: &Digest, content: &Bytes, steps: &[Step]) -> Arc<Spool> {
    let mut spool = Arc::new(folder.spool(name).unwrap());
    for step in steps {
        match step {
            Step::Arrive {
                from,
                length,
                wrong,
            } => {
                let pieces = piece(content, *from, *length, *wrong);
                spool.write_at(*from, &pieces).unwrap();
            }
            Step::Straggle { from, length } => {
                let admission = spool.admit();
                spool.revoke();
                let pieces = piece(content, *from, *length, Some(*from));
                assert_eq!(
                    spool.write_as(admission, *from, &pieces, |_| {}).unwrap(),
                    0
                );
            }
            Step::Discard => spool.discard().unwrap(),
            Step::Length(length) => set_length(&spool, *length),
            Step::Restart => {
                drop(spool);
                spool = Arc::new(folder.spool(name).unwrap());
            }
        }
        if spool.is_whole() {
            return spool;
        }
    }
    set_length(&spool, content.len() as u64);
    spool
        .write_at(0, &piece(content, 0, content.len() as u64, None))
        .unwrap();
    spool
}

async fn check(content: Bytes, memory: bool, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(&dir, memory);
    let digests = Digests::of(&content, &[Algorithm::Sha1]);
    let spool = arrive(&folder, &digests.sha256, &content, steps);
    let spooled: Vec<u8> = {
        let mut bytes = vec![0; usize::try_from(spool.seen().frontier).unwrap()];
        spool.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let expected = [digests.sha256, digests.sha1.unwrap()];
    let verdict = verify::follow(spool, &expected, &[]).await.unwrap();
    assert_eq!(verdict.is_ok(), spooled == content, "{steps:?}");
    if let Ok(verified) = verdict {
        let chunks: Vec<Bytes> = verified.chunks().try_collect().await.unwrap();
        assert!(chunks.concat() == content);
        assert_eq!(verified.digests().md5, digests.md5);
    }
}

#[test]
fn what_comes_out_of_verification_is_right_however_it_came_in() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 120,
        failure_persistence: None,
        ..Config::default()
    };
    let cases = (1..60_000_u64, 0..9_u64)
        .prop_flat_map(|(length, seed)| (Just(length), Just(seed), vec(steps(length), 0..14)));
    let cases = (cases, any::<bool>());
    TestRunner::new(config)
        .run(&cases, |((length, seed, steps), memory)| {
            let content = Content::generated(seed, length).read(0..length);
            runtime.block_on(check(content, memory, &steps));
            Ok(())
        })
        .unwrap();
}

/// Everything happens beside the hashing here, as it does beside a fetch.
#[test]
fn hashing_beside_arrival_comes_to_the_same_verdict() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 50,
        failure_persistence: None,
        ..Config::default()
    };
    let cases = (1..200_000_u64).prop_flat_map(|length| (Just(length), vec(steps(length), 0..14)));
    let cases = (cases, any::<bool>());
    TestRunner::new(config)
        .run(&cases, |((length, steps), memory)| {
            let content = Content::generated(3, length).read(0..length);
            runtime.block_on(beside(content, memory, steps));
            Ok(())
        })
        .unwrap();
}

async fn beside(content: Bytes, memory: bool, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(&dir, memory);
    let sha256 = Digest::of(Algorithm::Sha256, &content);
    let spool = Arc::new(folder.spool(&sha256).unwrap());
    let writer = Arc::clone(&spool);
    let bytes = content.clone();
    let arriving = tokio::task::spawn_blocking(move || {
        for step in steps {
            match step {
                Step::Arrive {
                    from,
                    length,
                    wrong,
                } => {
                    let pieces = piece(&bytes, from, length, wrong);
                    writer.write_at(from, &pieces).unwrap();
                }
                Step::Discard => writer.discard().unwrap(),
                Step::Length(length) => set_length(&writer, length),
                Step::Straggle { .. } | Step::Restart => {}
            }
            if writer.is_whole() {
                return;
            }
        }
        let whole = piece(&bytes, 0, bytes.len() as u64, None);
        set_length(&writer, bytes.len() as u64);
        writer.write_at(0, &whole).unwrap();
    });
    let expected = [sha256];
    let (verdict, arrived) = tokio::join!(verify::follow(spool, &expected, &[]), arriving);
    arrived.unwrap();
    if let Ok(verified) = verdict.unwrap() {
        let chunks: Vec<Bytes> = verified.chunks().try_collect().await.unwrap();
        assert!(chunks.concat() == content);
    }
}
