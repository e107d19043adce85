//! Measures what a byte costs between the socket and the store: hashing, by algorithms and step, and the spool.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use kops_mirror::digest::{Algorithm, Digest, Hasher};
use kops_mirror::loopback::origin::Content;
use kops_mirror::spool::{Spool, SpoolFolder};
use kops_mirror::verify::{self, Publishable};
use tempfile::TempDir;

const FILE: usize = 32 << 20;

fn hashing(criterion: &mut Criterion) {
    let content = Content::generated(1, FILE as u64).read(0..FILE as u64);
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(FILE as u64));
    let sets: [(&str, &[Algorithm]); 4] = [
        ("md5+sha256", &[]),
        ("md5+sha256+sha1", &[Algorithm::Sha1]),
        ("md5+sha256+sha512", &[Algorithm::Sha512]),
        ("all", &Algorithm::ALL),
    ];
    for (name, also) in sets {
        for step in [16 << 10, 256 << 10, 4 << 20] {
            group.bench_with_input(BenchmarkId::new(name, step >> 10), &step, |bench, &step| {
                bench.iter(|| {
                    let mut hasher = Hasher::new(also);
                    content.chunks(step).for_each(|chunk| hasher.update(chunk));
                    black_box(hasher.finish())
                });
            });
        }
    }
    group.finish();
}

/// A spool folder, and what goes into its spools.
struct Desk {
    _dir: TempDir,
    folder: SpoolFolder,
    content: Bytes,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a folder");
        let folder = SpoolFolder::open(&dir.path().join("spool"), 1 << 30).expect("a spool");
        Self {
            folder,
            _dir: dir,
            content: Content::generated(2, FILE as u64).read(0..FILE as u64),
        }
    }

    fn empty(&self) -> Arc<Spool> {
        let name = Digest::of(Algorithm::Sha256, b"a bench");
        let spool = self.folder.spool(&name).expect("a spool");
        spool.discard().expect("an empty spool");
        spool.set_length(FILE as u64).expect("a length");
        Arc::new(spool)
    }

    fn fill(&self, spool: &Spool, step: usize) {
        for at in (0..FILE).step_by(step) {
            let piece = self.content.slice(at..FILE.min(at + step));
            spool.write_at(at as u64, &[piece]).expect("written");
        }
    }
}

fn spooling(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let desk = Desk::new();
    let mut group = criterion.benchmark_group("spool");
    group.throughput(Throughput::Bytes(FILE as u64));
    for step in [16 << 10, 256 << 10, 1 << 20] {
        group.bench_with_input(
            BenchmarkId::new("write", step >> 10),
            &step,
            |bench, &step| {
                bench.iter_batched(
                    || desk.empty(),
                    |spool| desk.fill(&spool, step),
                    BatchSize::PerIteration,
                );
            },
        );
    }
    let full = desk.empty();
    desk.fill(&full, 1 << 20);
    let verified = runtime
        .block_on(verify::follow(Arc::clone(&full), &[], &[]))
        .expect("readable")
        .expect("nobody vouches");
    group.bench_function("read", |bench| {
        bench.iter(|| {
            runtime.block_on(
                verified
                    .chunks()
                    .for_each(|chunk| async { drop(black_box(chunk.expect("readable"))) }),
            );
        });
    });
    group.bench_function("verify", |bench| {
        bench.iter(|| {
            let verdict = verify::follow(Arc::clone(&full), &[], &[]);
            runtime.block_on(verdict).expect("readable").expect("right")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500));
    targets = hashing, spooling
}
criterion_main!(benches);
