//! A real kops, where KOPS_BIN names one: the tests of a cluster run with it in place of the stand-in.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

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
    // Held to the end of this process, and whoever waits for that with it.
    static STARTED: LazyLock<(Url, Child)> = LazyLock::new(start_moto);
    match std::env::var("KOPS_MIRROR_TEST_MOTO") {
        Ok(named) => Some(named.parse().unwrap()),
        Err(_) => named().map(|_| STARTED.0.clone()),
    }
}

fn start_moto() -> (Url, Child) {
    run_script("install.sh");
    let said = run_script("start.sh");
    let url = said.trim().rsplit('=').next().unwrap();
    let url = url.parse().unwrap_or_else(|_| panic!("{said}"));
    (url, stop_at_the_end())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

fn run_script(name: &str) -> String {
    let mut child: Child = Command::new(scripts().join(name))
        .arg("moto")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{name} moto: {said}");
    said
}

/// Has somebody wait for this process' end, by a pipe of which it holds the other side, and stop the server then.
fn stop_at_the_end() -> Child {
    let stop = format!(
        "cat >/dev/null; {} moto",
        scripts().join("stop.sh").display()
    );
    // In a session of its own: it outlives Ctrl-C.
    Command::new("setsid")
        .args(["sh", "-c", &stop])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}
