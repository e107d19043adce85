//! Measures the pipeline: bytes a second, processor time and peak memory, from a loopback origin to a store that discards, and
//! how evenly streams share a limit.
//!
//! The origin is in this process and the engine in another one, this program again with `ENGINE` as its argument, so that
//! memory and processor time are the engine's own. Every case has a new process: a peak is never forgotten by the old one.

mod support;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt;
use kops_mirror::asset::{Asset, Key, Role, Voucher};
use kops_mirror::digest::Digest;
use kops_mirror::events::{Event, Observer};
use kops_mirror::index::Release;
use kops_mirror::limits::Limits;
use kops_mirror::loopback::origin::{Content as Made, File, Origin};
use kops_mirror::origin::{HostSettings, OriginSettings, Origins};
use kops_mirror::report::Kind;
use kops_mirror::retry::Policy;
use kops_mirror::spool::SpoolFolder;
use kops_mirror::store::folder::FolderStore;
use kops_mirror::store::{
    Attributes, Condition, Content, ETag, Listing, Object, Stat, Store, StoreError, StoreErrorKind,
};
use kops_mirror::sync::{self, Wanted};
use kops_mirror::transfer::Mirror;
use kops_mirror::verify::Publishable;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use support::Table;
use tokio_util::sync::CancellationToken;

/// What makes this program the engine.
const ENGINE: &str = "ENGINE";
const HOST: &str = "dl.k8s.io";
const SPOOL_LIMIT: u64 = 20 << 30;
const MEMORY_LIMIT: u64 = 32 << 20;

const MIB: u64 = 1 << 20;
const LIMIT_MEGABYTES_PER_SECOND: f64 = 300.0;
const LIMIT_RESIDENT_MEBIBYTES: u64 = 128;

/// One run to measure.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    assets: u64,
    bytes: u64,
    connections: usize,
    in_flight: usize,
    folder: bool,
    /// The most that all streams together may bring, in bytes a second.
    rate: Option<u64>,
    /// Whether the limits are for this case.
    limited: bool,
    /// Whether it runs without being named.
    usual: bool,
}

const CASE: Case = Case {
    name: "",
    assets: 1,
    bytes: MIB,
    connections: 64,
    in_flight: 8,
    folder: false,
    rate: None,
    limited: false,
    usual: true,
};

const CASES: [Case; 11] = [
    Case {
        name: "large",
        assets: 64,
        bytes: 256 * MIB,
        limited: true,
        ..CASE
    },
    Case {
        name: "wide",
        assets: 16,
        bytes: 256 * MIB,
        connections: 256,
        in_flight: 16,
        ..CASE
    },
    Case {
        name: "narrow",
        assets: 16,
        bytes: 256 * MIB,
        connections: 8,
        in_flight: 2,
        ..CASE
    },
    Case {
        name: "single",
        assets: 1,
        bytes: 2048 * MIB,
        ..CASE
    },
    Case {
        name: "single-connection",
        assets: 1,
        bytes: 2048 * MIB,
        connections: 1,
        ..CASE
    },
    Case {
        name: "small",
        assets: 2000,
        bytes: MIB,
        ..CASE
    },
    // As many at once as the program takes, each as large as may stay in memory.
    Case {
        name: "in-memory",
        assets: 1000,
        bytes: 4 * MIB,
        in_flight: 32,
        ..CASE
    },
    Case {
        name: "folder",
        assets: 8,
        bytes: 256 * MIB,
        folder: true,
        ..CASE
    },
    Case {
        name: "large-folder",
        assets: 64,
        bytes: 256 * MIB,
        folder: true,
        usual: false,
        ..CASE
    },
    // Files that are one range each, so that a file is a stream, all at once.
    Case {
        name: "fair-8",
        assets: 8,
        bytes: MIB,
        connections: 8,
        in_flight: 8,
        rate: Some(1_000_000),
        ..CASE
    },
    Case {
        name: "fair-32",
        assets: 32,
        bytes: MIB,
        in_flight: 32,
        rate: Some(2_500_000),
        ..CASE
    },
];

/// What the engine is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    origin: url::Url,
    connections: usize,
    in_flight: usize,
    rate: Option<u64>,
    /// Of one file.
    bytes: u64,
    /// The target; None discards.
    folder: Option<PathBuf>,
    spool: PathBuf,
    assets: Vec<(String, Digest)>,
}

/// What the engine measured about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_resident_bytes: u64,
    /// What each stream brought while all were under way, in bytes.
    streams: Vec<u64>,
}

/// Adds up what comes for each file, from when all have begun to when the first is whole.
#[derive(Debug)]
struct Abreast {
    files: usize,
    /// Of one file.
    bytes: u64,
    brought: Mutex<Brought>,
}

#[derive(Debug, Default)]
struct Brought {
    all: BTreeMap<Key, u64>,
    before: Option<BTreeMap<Key, u64>>,
    is_over: bool,
}

impl Observer for Abreast {
    fn event(&self, event: &Event) {
        let Event::Received { key, bytes } = event else {
            return;
        };
        let mut brought = self.brought.lock().expect("nobody panics here");
        if brought.is_over {
            return;
        }
        let of_file = brought.all.entry(key.clone()).or_default();
        *of_file += bytes;
        brought.is_over = *of_file >= self.bytes;
        if brought.before.is_none() && brought.all.len() == self.files {
            brought.before = Some(brought.all.clone());
        }
    }
}

impl Abreast {
    /// What each brought meanwhile; nothing where the first was whole before the last began.
    fn streams(&self) -> Vec<u64> {
        let brought = self.brought.lock().expect("nobody panics here");
        let Some(before) = &brought.before else {
            return Vec::new();
        };
        let all = brought.all.iter();
        all.map(|(key, bytes)| bytes - before[key]).collect()
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|role| role == ENGINE) {
        engine();
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let origin = Origin::start().expect("an origin on loopback");
    if !support::measuring() {
        run(&origin, &Case { assets: 4, ..CASE });
        return ExitCode::SUCCESS;
    }
    let named = std::env::args().skip(1).any(|name| !name.starts_with('-'));
    let mut table = Table::new(&[
        "case",
        "assets",
        "connections",
        "files at once",
        "target",
        "MB/s",
        "engine's CPU, ns/B",
        "origin's CPU, ns/B",
        "peak resident, MiB",
        "limit, MB/s",
        "a stream's share",
    ]);
    for case in CASES
        .iter()
        .filter(|case| (named || case.usual) && support::chosen(case.name))
    {
        measure(&origin, case, &mut table);
    }
    table.end()
}

fn measure(origin: &Origin, case: &Case, table: &mut Table) {
    let (measured, origin_cpu) = run(origin, case);
    let speed = measured.bytes as f64 / measured.seconds / 1e6;
    let peak = measured.peak_resident_bytes / MIB;
    let per_byte = |seconds: f64| format!("{:.2}", seconds * 1e9 / measured.bytes as f64);
    table.row(vec![
        case.name.to_owned(),
        format!("{} × {} MiB", case.assets, case.bytes / MIB),
        case.connections.to_string(),
        case.in_flight.to_string(),
        if case.folder { "folder" } else { "discards" }.to_owned(),
        format!("{speed:.0}"),
        per_byte(measured.cpu_seconds),
        per_byte(origin_cpu),
        peak.to_string(),
        case.rate
            .map_or("-".to_owned(), |rate| format!("{:.1}", rate as f64 / 1e6)),
        case.rate
            .map_or("-".to_owned(), |_| spread(&measured.streams)),
    ]);
    if let Some(rate) = case.rate {
        table.limit(
            &format!("{}: at most the limit", case.name),
            speed * 1e6 <= rate as f64 * 1.05,
        );
    }
    if case.limited {
        table.limit(
            &format!("{}: at least 300 MB/s", case.name),
            speed >= LIMIT_MEGABYTES_PER_SECOND,
        );
    }
    table.limit(
        &format!("{}: at most 128 MiB resident", case.name),
        peak <= LIMIT_RESIDENT_MEBIBYTES,
    );
}

/// The least and the most that a stream brought while all were under way, and the standard deviation, over the mean.
fn spread(streams: &[u64]) -> String {
    let mean = streams.iter().sum::<u64>() as f64 / streams.len() as f64;
    if streams.is_empty() || mean == 0.0 {
        return "they were not under way together".to_owned();
    }
    let shares = streams.iter().map(|&bytes| bytes as f64 / mean);
    let (least, most, square) = shares.fold(
        (f64::INFINITY, 0.0_f64, 0.0),
        |(least, most, sum), share| {
            let off = share - 1.0;
            (least.min(share), most.max(share), sum + off * off)
        },
    );
    let deviation = (square / streams.len() as f64).sqrt();
    format!("{least:.2} to {most:.2}, ± {deviation:.2}")
}

/// Runs the engine on a case; what it measured, and the processor time that the origin took.
fn run(origin: &Origin, case: &Case) -> (Measured, f64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let order = Order {
        origin: origin.url(""),
        connections: case.connections,
        in_flight: case.in_flight,
        rate: case.rate,
        bytes: case.bytes,
        folder: case.folder.then(|| dir.path().join("mirror")),
        spool: dir.path().join("spool"),
        assets: publish(origin, case),
    };
    let cpu_before = cpu_seconds();
    let mut engine = Command::new(std::env::current_exe().expect("this program"))
        .arg(ENGINE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut stdin = engine.stdin.take().expect("it was asked for");
    let text = serde_json::to_string(&order).expect("plain data");
    writeln!(stdin, "{text}").expect("the engine listens");
    let ended = engine.wait_with_output().expect("the engine ends");
    assert!(ended.status.success(), "the engine failed");
    let measured: Measured = serde_json::from_slice(&ended.stdout).expect("what it measured");
    assert_eq!(measured.bytes, case.assets * case.bytes);
    (measured, cpu_seconds() - cpu_before)
}

/// Publishes a case's files, each with another content.
fn publish(origin: &Origin, case: &Case) -> Vec<(String, Digest)> {
    let numbers: Vec<u64> = (0..case.assets).collect();
    let share = numbers.len().div_ceil(2);
    let hash = |numbers: &[u64]| -> Vec<Digest> {
        numbers
            .iter()
            .map(|&seed| sha256(&Made::generated(seed, case.bytes)))
            .collect()
    };
    // Known digests are not what is measured: hash them on both cores.
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let halves: Vec<_> = numbers
            .chunks(share)
            .map(|half| scope.spawn(move || hash(half)))
            .collect();
        let hashed = halves.into_iter().map(|half| half.join().expect("hashed"));
        hashed.flatten().collect()
    });
    let paths = numbers.iter().map(|n| format!("{}/{n}", case.bytes));
    let files = paths.zip(digests).collect::<Vec<_>>();
    for (seed, (path, _)) in files.iter().enumerate() {
        origin.publish(format!("/{path}"), File::generated(seed as u64, case.bytes));
    }
    files
}

fn sha256(content: &Made) -> Digest {
    let mut hash = sha2::Sha256::new();
    let mut piece = vec![0; 128 << 10];
    let mut at = 0;
    while at < content.length() {
        let length = usize::try_from(content.length() - at)
            .map_or(piece.len(), |left| left.min(piece.len()));
        content.fill(at, &mut piece[..length]);
        hash.update(&piece[..length]);
        at += length as u64;
    }
    hex::encode(hash.finalize()).parse().expect("a digest")
}

/// Mirrors what standard input orders, and prints what that took.
fn engine() {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text).expect("an order");
    let order: Order = serde_json::from_str(&text).expect("an order");
    drop(text);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let begun = Instant::now();
    let (bytes, streams) = runtime.block_on(mirror(order));
    let measured = Measured {
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(),
        peak_resident_bytes: peak_resident_bytes(),
        streams,
    };
    println!("{}", serde_json::to_string(&measured).expect("plain data"));
}

/// The bytes that came, and what each stream brought.
async fn mirror(order: Order) -> (u64, Vec<u64>) {
    let host = HostSettings {
        sources: vec![order.origin],
        ..HostSettings::default()
    };
    let origins = OriginSettings {
        hosts: [(HOST.to_owned(), host)].into(),
        connections: order.connections,
        ..OriginSettings::default()
    };
    let target: Arc<dyn Store> = match &order.folder {
        Some(folder) => Arc::new(FolderStore::new(folder)),
        None => Arc::new(Discarding::default()),
    };
    target.prepare(true).await.expect("a target");
    let abreast = Arc::new(Abreast {
        files: order.assets.len(),
        bytes: order.bytes,
        brought: Mutex::default(),
    });
    let mirror = Arc::new(Mirror {
        origins: Origins::new(origins).expect("an HTTP client"),
        limits: Limits::new(order.connections, order.rate),
        targets: vec![target],
        spools: SpoolFolder::open(&order.spool, SPOOL_LIMIT)
            .expect("a spool")
            .with_memory(MEMORY_LIMIT),
        policy: Policy::default(),
        observer: Arc::clone(&abreast) as Arc<dyn Observer>,
        in_flight: order.in_flight,
        draining: CancellationToken::new(),
    });
    let wanted = Wanted {
        release: Release {
            name: "bench".to_owned(),
            ..Release::default()
        },
        assets: order.assets.iter().map(wanting).collect(),
        ..Wanted::default()
    };
    let stop = CancellationToken::new();
    let prepared = sync::prepare(&mirror, vec![wanted], &stop)
        .await
        .expect("a plan");
    let report = sync::carry_out(&mirror, prepared, &stop).await;
    assert_eq!(report.of(Kind::Failed).count(), 0, "{report:?}");
    // Late parts are asked for twice at the end of a file.
    let bytes = report.bytes_fetched - report.bytes_refetched;
    assert!(report.bytes_refetched <= bytes / 50, "{report:?}");
    (bytes, abreast.streams())
}

fn wanting((path, digest): &(String, Digest)) -> Asset {
    Asset {
        key: path.parse().expect("a good key"),
        canonical: format!("https://{HOST}/{path}")
            .parse()
            .expect("a good URL"),
        alternates: Vec::new(),
        witnesses: vec![vec![Voucher::Known {
            digest: *digest,
            source: "the bench".to_owned(),
        }]],
        unvouched: None,
        sidecars: Vec::new(),
        role: Role::File,
        arch: None,
        listed_by_kops: true,
    }
}

/// Takes every byte and keeps none.
#[derive(Debug, Default)]
struct Discarding {
    taken: AtomicU64,
}

#[async_trait]
impl Store for Discarding {
    fn place(&self) -> &'static str {
        "nowhere"
    }

    async fn prepare(&self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        Ok(Listing::default())
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        Ok(Vec::new())
    }

    async fn stat(&self, _: &Key) -> Result<Option<Stat>, StoreError> {
        Ok(None)
    }

    async fn open(&self, _: &Key) -> Result<Option<Content>, StoreError> {
        Ok(None)
    }

    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        _: &Attributes,
        _: &Condition,
    ) -> Result<ETag, StoreError> {
        let mut chunks = content.chunks();
        let mut taken = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                StoreError::new(StoreErrorKind::Spool, "the spool can't be read").caused_by(error)
            })?;
            taken += chunk.len() as u64;
        }
        assert_eq!(taken, content.length(), "{key}");
        self.taken.fetch_add(taken, Ordering::Relaxed);
        Ok(ETag::from(content.md5()))
    }

    async fn restate(&self, key: &Key, _: &ETag, _: &Attributes) -> Result<ETag, StoreError> {
        let what = format!("{key} was discarded");
        Err(StoreError::new(StoreErrorKind::Permanent, what))
    }

    async fn delete(&self, _: &Key) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The most memory that this process ever held (`VmHWM`, proc_pid_status(5)).
fn peak_resident_bytes() -> u64 {
    let status = proc_file("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.expect("a VmHWM line") << 10
}

/// The processor time of this process so far, user and system (fields 14 and 15 of proc_pid_stat(5), in hundredths of a second).
fn cpu_seconds() -> f64 {
    let stat = proc_file("stat");
    // The second field is a name in parentheses, which may hold spaces.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u32>().expect("a number");
    f64::from(ticks(11) + ticks(12)) / 100.0
}

fn proc_file(name: &str) -> String {
    std::fs::read_to_string(Path::new("/proc/self").join(name)).expect("Linux has it")
}
