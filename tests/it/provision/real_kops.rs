//! A real kops, where KOPS_BIN names one: the tests of a cluster run with it in place of the stand-in.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use url::Url;

/// Those that the tests have clusters for.
const KNOWN: [&str; 2] = ["1.36.2", "1.8.1"];

pub(super) struct RealKops {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

static NAMED: LazyLock<Option<RealKops>> = LazyLock::new(|| {
    let program = PathBuf::from(std::env::var_os("KOPS_BIN")?);
    let asked = Command::new(&program).arg("version").output();
    let asked = asked.unwrap_or_else(|why| panic!("KOPS_BIN, {}: {why}", program.display()));
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let version = KNOWN
        .into_iter()
        .find(|known| said.split_whitespace().any(|word| word == *known));
    let version = version
        .unwrap_or_else(|| panic!("KOPS_BIN says '{said}': give kops {}", KNOWN.join(" or ")));
    Some(RealKops {
        program: program.canonicalize().unwrap(),
        version: version.to_owned(),
    })
});

pub(super) fn named() -> Option<&'static RealKops> {
    NAMED.as_ref()
}

/// The emulator that KOPS_MIRROR_TEST_MOTO names. For a real kops one is started where none is named: who gives KOPS_BIN wants no
/// test skipped.
pub(super) fn moto() -> Option<Url> {
    // Held to the end of this process.
    static STARTED: LazyLock<(Url, Child)> = LazyLock::new(start_moto);
    match std::env::var("KOPS_MIRROR_TEST_MOTO") {
        Ok(named) => Some(named.parse().unwrap()),
        Err(_) => named().map(|_| STARTED.0.clone()),
    }
}

/// Installs it where it is not there, and has a shell hold it that ends it with this process: the other side of the shell's input is
/// closed then, however this process ends.
fn start_moto() -> (Url, Child) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = root.join("tests/servers");
    let install = Command::new(scripts.join("install.sh"))
        .arg("moto")
        .status()
        .unwrap();
    assert!(install.success(), "can't install moto");
    let servers = std::env::var_os("KOPS_MIRROR_SERVERS");
    let servers = servers.map_or_else(|| root.join("target/servers"), PathBuf::from);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    // In a session of its own: it outlives Ctrl-C.
    let shell = Command::new("setsid")
        .args(["sh", "-c", "\"$0\" -H 127.0.0.1 -p $1 & cat; kill $!"])
        .arg(servers.join("moto/venv/bin/moto_server"))
        .arg(address.port().to_string())
        .env("MOTO_AMIS_PATH", scripts.join("moto-amis.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_there = || TcpStream::connect(address).is_ok();
    assert!(
        (0..600).any(|_| is_there() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }),
        "moto does not answer at {address}"
    );
    (format!("http://{address}/").parse().unwrap(), shell)
}
