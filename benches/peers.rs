//! Compares whole commands: the same generated files from a loopback origin into a loopback S3 server, by this program and by
//! the tools that people use instead. `benches/peers.sh` has each tool's recipe; what is not installed is skipped.
//!
//! `cargo bench --bench peers -- run`, since it takes minutes. Nothing is asserted: it is a comparison. Whether a tool verifies is
//! tried, not read in its manual: the origin sends one byte wrong, and the question is whether that file is published.

mod support;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kops_mirror::digest::Digest;
use kops_mirror::loopback::origin::{Fault, File, Origin, When};
use kops_mirror::loopback::s3::{LoopbackS3, Options};
use kops_mirror::store::ETag;
use support::Table;

const TOOLS: [&str; 4] = ["kops-mirror", "wget", "aria2", "rclone"];
const NOT_INSTALLED: i32 = 77;

/// The sizes of a release's files for two architectures, in MiB: the servers, the clients, nodeup, the runtimes, CNI.
const MEBIBYTES: [u64; 24] = [
    58, 57, 60, 59, 110, 105, 72, 70, 70, 68, 53, 48, 40, 38, 35, 33, 30, 28, 20, 18, 12, 11, 5, 1,
];

/// What lies between the origin and the tool.
struct Link {
    name: &'static str,
    /// Files are smaller by this, so that it ends in time.
    divisor: u64,
    faults: Vec<Fault>,
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "run") {
        println!("peers: cargo bench --bench peers -- run");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let links = [
        Link {
            name: "loopback",
            divisor: 1,
            faults: Vec::new(),
        },
        Link {
            name: "200 ms, 1 MB/s a connection",
            divisor: 16,
            faults: vec![
                Fault::SlowFirstByte(Duration::from_millis(200)),
                Fault::Rate(1_000_000),
            ],
        },
    ];
    let mut table = Table::new(&[
        "link",
        "tool",
        "seconds",
        "of ours",
        "MB/s",
        "ETag is MD5",
        "a wrong byte",
    ]);
    for link in &links {
        compare(link, &mut table);
    }
    table.end()
}

/// One file of the release.
struct Released {
    path: String,
    length: u64,
    sha256: Digest,
    md5: Digest,
}

fn compare(link: &Link, table: &mut Table) {
    let origin = Origin::start().expect("an origin on loopback");
    let files = publish(&origin, link.divisor);
    let mut ours = None;
    for tool in TOOLS {
        origin.recover();
        for fault in &link.faults {
            origin.order("*", When::Always, fault.clone());
        }
        let bucket = Run::new(&origin, &files);
        let begun = Instant::now();
        match bucket.run(tool) {
            Some(0) => {}
            Some(NOT_INSTALLED) => {
                println!("{tool} is skipped: it is not installed");
                continue;
            }
            status => {
                println!("{tool} failed: {status:?}");
                continue;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let ours = *ours.get_or_insert(seconds);
        let bytes: u64 = files.iter().map(|file| file.length).sum();
        let is_md5 = files.iter().all(|file| bucket.has(file));
        table.row(vec![
            link.name.to_owned(),
            tool.to_owned(),
            format!("{seconds:.1}"),
            format!("{:.1} ×", seconds / ours),
            format!("{:.0}", bytes as f64 / seconds / 1e6),
            if is_md5 { "all" } else { "no" }.to_owned(),
            when_corrupt(&origin, &files, tool).to_owned(),
        ]);
    }
}

/// What a tool does with a file of which a byte comes wrong.
fn when_corrupt(origin: &Origin, files: &[Released], tool: &str) -> &'static str {
    origin.recover();
    let last = &files[files.len() - 1..];
    let path = format!("/{}", last[0].path);
    origin.order(&path, When::Always, Fault::Corrupt(last[0].length / 2));
    let bucket = Run::new(origin, last);
    bucket.run(tool);
    match bucket.etag(&last[0]) {
        Some(_) => "is published",
        None => "is refused",
    }
}

fn publish(origin: &Origin, divisor: u64) -> Vec<Released> {
    let file = |(seed, mebibytes): (u64, &u64)| {
        let length = (mebibytes << 20) / divisor;
        let file = File::generated(seed, length);
        let digests = file.content.digests(&[]);
        let path = format!("release/v1.34.8/bin/linux/amd64/file-{seed}");
        origin.publish(format!("/{path}"), file);
        let sidecar = File::text(digests.sha256.hex());
        origin.publish(format!("/{path}.sha256"), sidecar);
        Released {
            path,
            length,
            sha256: digests.sha256,
            md5: digests.md5,
        }
    };
    (0..).zip(&MEBIBYTES).map(file).collect()
}

/// A bucket to be filled, and a folder to work in.
struct Run {
    s3: LoopbackS3,
    origin: String,
    dir: tempfile::TempDir,
}

impl Run {
    fn new(origin: &Origin, files: &[Released]) -> Self {
        let s3 = LoopbackS3::start(Options::default()).expect("an S3 server on loopback");
        // Older versions of rclone send an ACL with each object.
        let _ = s3.bucket("mirror").accept_acls();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let paths: String = files.iter().map(|file| file.path.clone() + "\n").collect();
        std::fs::write(dir.path().join("paths"), paths).expect("a list");
        let listed: Vec<serde_json::Value> = files
            .iter()
            .map(|file| {
                let url = format!("https://dl.k8s.io/{}", file.path);
                serde_json::json!({ "canonical": url, "download": url, "sha": file.sha256.hex() })
            })
            .collect();
        let list = serde_json::json!({ "files": listed }).to_string();
        std::fs::write(dir.path().join("list"), list).expect("a list");
        Self {
            s3,
            origin: origin.url("").to_string().trim_end_matches('/').to_owned(),
            dir,
        }
    }

    /// Its exit code.
    fn run(&self, tool: &str) -> Option<i32> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers.sh");
        let work = self.dir.path().join("work");
        std::fs::create_dir(&work).expect("a folder");
        let credentials = self.s3.credentials();
        let status = Command::new(script)
            .arg(tool)
            .env("ORIGIN", &self.origin)
            .env("PATHS", self.dir.path().join("paths"))
            .env("LIST", self.dir.path().join("list"))
            .env("BUCKET", "mirror")
            .env(
                "ENDPOINT",
                self.s3.endpoint().as_str().trim_end_matches('/'),
            )
            .env("AWS_ACCESS_KEY_ID", &credentials.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_key)
            .env("AWS_REGION", self.s3.region())
            .env("KOPS_MIRROR", env!("CARGO_BIN_EXE_kops-mirror"))
            .env("WORK", work)
            .stdout(Stdio::null())
            .status()
            .expect("the script starts");
        status.code()
    }

    fn etag(&self, file: &Released) -> Option<ETag> {
        let object = self.s3.bucket("mirror").object(&file.path)?;
        Some(ETag::new(&object.etag))
    }

    fn has(&self, file: &Released) -> bool {
        self.etag(file) == Some(ETag::from(file.md5))
    }
}
