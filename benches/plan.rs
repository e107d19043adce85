//! Measures what a run costs before and besides its bytes: starting up, planning, and finding that there is nothing to do.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kops_mirror::asset::{Asset, Key, Voucher};
use kops_mirror::digest::{Algorithm, Digest, Digests};
use kops_mirror::index::{self, Entry, Index, Release};
use kops_mirror::layout::Layout;
use kops_mirror::loopback::origin::{Content, File, Origin};
use kops_mirror::loopback::s3::{LoopbackS3, Options, Storage};
use kops_mirror::plan::{Action, Held, Plan};
use kops_mirror::store::{ETag, Object};
use kops_mirror::vouch::Vouched;
use support::Table;

const PLANNED: usize = 100_000;
const MIRRORED_OBJECTS: usize = 10_000;
const KEYS_PER_LISTING: usize = 1000;

const START_LIMIT: Duration = Duration::from_millis(50);
const SYNC_LIMIT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let (planned, objects, starts) = match support::measuring() {
        true => (PLANNED, MIRRORED_OBJECTS, 20),
        false => (100, 1000, 1),
    };
    let mut table = Table::new(&["what", "measured", "limit"]);
    if support::chosen("start") {
        start_up(starts, &mut table);
    }
    if support::chosen("plan") {
        plan(planned, &mut table);
    }
    if support::chosen("unchanged") {
        unchanged(objects, &mut table);
    }
    table.end()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The median of so many runs.
fn median(runs: usize, mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| run()).collect();
    times.sort();
    times[runs / 2]
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = act();
    (done, begun.elapsed())
}

fn start_up(starts: usize, table: &mut Table) {
    let commands: [&[&str]; 3] = [
        &["--version"],
        &["sync", "--help"],
        &["assets", "--kubernetes", "v1.34.8", "--kops", "1.36.2"],
    ];
    for arguments in commands {
        let took = median(starts, || {
            let run = || program(arguments).output().expect("the program starts");
            let (output, took) = timed(run);
            assert!(output.status.success(), "{output:?}");
            took
        });
        let name = format!("kops-mirror {}", arguments.join(" "));
        table.row(vec![name.clone(), milliseconds(took), "50 ms".to_owned()]);
        table.limit(&format!("{name}: under 50 ms"), took < START_LIMIT);
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kops-mirror"));
    command.args(arguments);
    command
}

/// A plan of assets of which a third is there, a third has another content and a third is missing.
fn plan(assets: usize, table: &mut Table) {
    let (list, parsed) = timed(|| {
        let text = list((0..assets).map(|n| (path(n), digest(n))));
        kops_mirror::catalogue::listing::from_listing(&text, Layout::FileRepository)
            .expect("a good list")
    });
    let name = format!("reading a list of {assets} assets");
    table.row(vec![name, milliseconds(parsed), String::new()]);
    let vouched: Vec<Vouched> = list.into_iter().map(vouched).collect();
    let index = Index::of(
        Release::default(),
        vouched.iter().enumerate().map(entry).collect(),
        Vec::new(),
        None,
    );
    let objects = || objects(&index);
    let took = median(5, || {
        let (vouched, objects) = (vouched.clone(), objects());
        let (plan, took) = timed(|| {
            let held = Held::new(objects, std::slice::from_ref(&index));
            Plan::new(vouched, &[held]).expect("no conflict")
        });
        let skipped = plan.items.iter().filter(|item| item.is_done()).count();
        assert_eq!(skipped, assets.div_ceil(3));
        assert!(matches!(
            plan.items[0].actions[0],
            Action::Transfer { .. } | Action::Inspect { .. }
        ));
        took
    });
    let name = format!("a plan of {assets} assets");
    table.row(vec![name, milliseconds(took), String::new()]);
}

fn path(number: usize) -> String {
    format!(
        "release/v1.34.{}/bin/linux/amd64/file-{number}",
        number % 40
    )
}

fn digest(number: usize) -> Digest {
    Digest::of(Algorithm::Sha256, &number.to_le_bytes())
}

/// As `kops get assets -o json` prints it.
fn list(files: impl Iterator<Item = (String, Digest)>) -> String {
    let files: Vec<serde_json::Value> = files
        .map(|(path, digest)| {
            let url = format!("https://dl.k8s.io/{path}");
            serde_json::json!({ "canonical": url, "download": url, "sha": digest.hex() })
        })
        .collect();
    serde_json::json!({ "files": files }).to_string()
}

fn vouched(asset: Asset) -> Vouched {
    let expected = asset
        .witnesses
        .iter()
        .flatten()
        .map(|voucher| match voucher {
            Voucher::Known { digest, .. } => *digest,
            _ => unreachable!("the list has every digest"),
        });
    Vouched {
        expected: expected.collect(),
        asset,
        vouched_by: vec!["the given list".to_owned()],
        content: None,
        overruled: None,
        is_public_alone: false,
        names_version: None,
    }
}

fn entry((number, vouched): (usize, &Vouched)) -> Entry {
    Entry {
        key: vouched.asset.key.clone(),
        length: 1,
        md5: Digest::of(Algorithm::Md5, &number.to_le_bytes()),
        sha256: vouched.expected[0],
        sha1: None,
        sha512: None,
        canonical: vouched.asset.canonical.to_string(),
        sources: Vec::new(),
        vouched_by: vouched.vouched_by.clone(),
        sidecars: vouched.asset.sidecars.clone(),
    }
}

/// A third of the entries' objects as they should be, and a third otherwise.
fn objects(index: &Index) -> Vec<Object> {
    let mut objects = Vec::new();
    for (number, entry) in index.files.iter().enumerate() {
        let etag = match number % 3 {
            0 => ETag::from(entry.md5),
            1 => ETag::new("00000000000000000000000000000000"),
            _ => continue,
        };
        objects.push(object(entry.key.clone(), etag));
        let sidecar = index::sidecar(&entry.sha256);
        let etag = ETag::from(sidecar.digests().md5);
        objects.push(object(entry.key.sidecar(Algorithm::Sha256), etag));
    }
    objects
}

fn object(key: Key, etag: ETag) -> Object {
    Object {
        key,
        length: 1,
        etag,
    }
}

/// The second `sync` of a mirror with so many objects, as a user types it.
fn unchanged(objects: usize, table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let origin = Origin::start().expect("an origin on loopback");
    let s3 = LoopbackS3::start(Options {
        storage: Storage::Memory,
        ..Options::default()
    })
    .expect("an S3 server on loopback");
    s3.bucket("mirror");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let list = dir.path().join("assets.json");
    std::fs::write(&list, publish(&origin, objects)).expect("a list");
    let ((), first) = timed(|| sync(&origin, &s3, &list, dir.path()));
    let name = format!("the first sync of {objects} objects");
    table.row(vec![name, milliseconds(first), String::new()]);
    assert_eq!(s3.bucket("mirror").keys().len(), objects);
    let logged = s3.log().all().len();
    let fetched = origin.log().exchanges().len();
    let ((), took) = timed(|| sync(&origin, &s3, &list, dir.path()));
    assert_eq!(
        origin.log().exchanges().len(),
        fetched,
        "nothing is fetched again"
    );
    let mut requests = std::collections::BTreeMap::<String, usize>::new();
    for exchanged in &s3.log().all()[logged..] {
        *requests.entry(exchanged.operation.clone()).or_default() += 1;
    }
    let mut counts = String::new();
    for (operation, count) in &requests {
        let _ = write!(counts, ", {count} {operation}");
    }
    let listings: usize = requests
        .iter()
        .filter_map(|(operation, count)| operation.starts_with("List").then_some(count))
        .sum();
    let (least, name) = (
        objects.div_ceil(KEYS_PER_LISTING),
        format!("sync of an unchanged mirror of {objects} objects"),
    );
    table.row(vec![
        name.clone(),
        format!("{}{counts}", milliseconds(took)),
        format!("3 s, {least} listings"),
    ]);
    table.limit(&format!("{name}: under 3 s"), took < SYNC_LIMIT);
    table.limit(&format!("{name}: {least} listings"), listings == least);
}

/// Publishes small files, and lists them. With its sidecar each is two objects, the first, vouched for by SHA-1, is three, and
/// the index is one.
fn publish(origin: &Origin, objects: usize) -> String {
    let files = (objects - 2) / 2;
    let files = (0..files).map(|number| {
        let path = path(number);
        let content = Content::generated(number as u64, 100);
        let digests = Digests::of(&content.read(0..100), &[Algorithm::Sha1]);
        origin.publish(format!("/{path}"), File::new(content));
        let sha1 = digests.sha1.filter(|_| number == 0);
        (path, sha1.unwrap_or(digests.sha256))
    });
    list(files)
}

fn sync(origin: &Origin, s3: &LoopbackS3, list: &Path, dir: &Path) {
    let spool: PathBuf = dir.join("spool");
    let output = program(&["sync", "--to", "s3://mirror/some/prefix", "--assets"])
        .arg(list)
        .arg("--spool")
        .arg(&spool)
        .args(["--endpoint", s3.endpoint().as_str()])
        .args(["--origin", &format!("dl.k8s.io={}", origin.url(""))])
        .env("AWS_ACCESS_KEY_ID", &s3.credentials().access_key)
        .env("AWS_SECRET_ACCESS_KEY", &s3.credentials().secret_key)
        .env("AWS_REGION", s3.region())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
}
