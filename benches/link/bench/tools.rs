//! What carries the freight: this program, and what people use instead, by the recipes of `benches/peers.sh`.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::freight::{Freight, Kind};
use super::image::{self, Image};
use super::lab::{BUCKET, Lab};
use super::release::HOST;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Ours,
    Peer(Peer),
}

/// A tool that `benches/peers.sh` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it is in the table.
    title: &'static str,
    pub(crate) carries: Kind,
    /// The programs that it needs.
    needs: &'static [&'static str],
    /// Whether it is run when no peer is named.
    pub(crate) is_usual: bool,
}

pub(crate) const PEERS: [Peer; 6] = [
    Peer {
        name: "wget",
        title: "wget one by one, then aws s3 sync",
        carries: Kind::Files,
        needs: &["wget", "aws"],
        is_usual: true,
    },
    Peer {
        name: "aria2",
        title: "aria2 -x16, then aws s3 sync",
        carries: Kind::Files,
        needs: &["aria2c", "aws"],
        is_usual: true,
    },
    Peer {
        name: "aria2-wide",
        title: "aria2 -x16 -j16, then aws s3 sync",
        carries: Kind::Files,
        needs: &["aria2c", "aws"],
        is_usual: false,
    },
    Peer {
        name: "rclone",
        title: "rclone copy from HTTP to S3",
        carries: Kind::Files,
        needs: &["rclone"],
        is_usual: true,
    },
    Peer {
        name: "rclone-multithread",
        title: "rclone copy, 16 threads a file, through a folder",
        carries: Kind::Files,
        needs: &["rclone"],
        is_usual: true,
    },
    Peer {
        name: "skopeo",
        title: "skopeo copy --all",
        carries: Kind::Image,
        needs: &["skopeo"],
        is_usual: true,
    },
];

impl Peer {
    /// The first program of it that is not there.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |program: &str| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        self.needs
            .iter()
            .copied()
            .find(|program| !is_there(program))
    }
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "kops-mirror",
            Self::Peer(peer) => peer.name,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ours => "kops-mirror",
            Self::Peer(peer) => peer.title,
        }
    }
}

/// A folder for one measurement: the lists that tools read, what they keep, what they say.
#[derive(Debug)]
pub(crate) struct Desk {
    dir: tempfile::TempDir,
    kind: Kind,
    /// Stays after the measurement.
    log: PathBuf,
}

impl Desk {
    pub(crate) fn new(freight: &Freight, name: &str) -> io::Result<Self> {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let logs = scratch.join("link");
        fs::create_dir_all(&logs)?;
        let dir = tempfile::tempdir_in(scratch)?;
        if let Freight::Files(release) = freight {
            fs::write(dir.path().join("list"), release.list())?;
            fs::write(dir.path().join("paths"), release.paths())?;
        }
        fs::create_dir(dir.path().join("work"))?;
        let log = logs.join(format!("{name}.log"));
        File::create(&log)?;
        Ok(Self {
            dir,
            kind: freight.kind(),
            log,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the tool said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The file in Cargo's folder for temporary files that has what the tool said.
    pub(crate) fn log_name(&self) -> String {
        let name = self.log.file_name().unwrap_or_default();
        format!("link/{}", name.to_string_lossy())
    }

    /// What our program printed as its report.
    pub(crate) fn report(&self) -> Option<serde_json::Value> {
        let printed = fs::read(self.path("report")).ok()?;
        serde_json::from_slice(&printed).ok()
    }

    /// The tool's command on the mirror's host.
    pub(crate) fn command(&self, tool: Tool, flags: &[&str], lab: &Lab) -> io::Result<Command> {
        let mut command = match tool {
            Tool::Ours => self.ours(self.kind, flags, lab),
            Tool::Peer(peer) => self.peer(peer, lab),
        };
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        let credentials = lab.s3.credentials();
        command
            .env("AWS_ACCESS_KEY_ID", &credentials.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_key)
            .env("AWS_REGION", lab.s3.region())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(self.path("report"))?)
            .stderr(File::options().append(true).open(&self.log)?);
        Ok(command)
    }

    fn ours(&self, kind: Kind, flags: &[&str], lab: &Lab) -> Command {
        let mut command = lab.mirror.command(env!("CARGO_BIN_EXE_kops-mirror"));
        command.args(["sync", "-o", "json"]);
        match kind {
            Kind::Files => command
                .arg("--assets")
                .arg(self.path("list"))
                .arg("--origin")
                .arg(format!("{HOST}={}", origin(lab)))
                .args(["--to", &format!("s3://{BUCKET}"), "--endpoint"])
                .arg(lab.s3.endpoint().as_str()),
            Kind::Image => command
                .args(["--image", &Image::name(), "--origin"])
                .arg(format!("{}=http://{}", image::HOST, lab.source.address()))
                .arg("--to-registry")
                .arg(format!("http://{}", lab.target.address())),
        };
        command
            .arg("--spool")
            .arg(self.path("work/spool"))
            .args(flags);
        command
    }

    fn peer(&self, peer: Peer, lab: &Lab) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers.sh");
        let mut command = lab.mirror.command(script);
        command
            .arg(peer.name)
            .env("ORIGIN", origin(lab))
            .env("PATHS", self.path("paths"))
            .env("LIST", self.path("list"))
            .env("BUCKET", BUCKET)
            .env("ENDPOINT", lab.s3.endpoint().as_str().trim_end_matches('/'))
            .env("FROM_IMAGE", place(lab.source.address()))
            .env("TO_IMAGE", place(lab.target.address()))
            .env("WORK", self.path("work"));
        command
    }
}

fn origin(lab: &Lab) -> String {
    lab.origin.url("").as_str().trim_end_matches('/').to_owned()
}

/// The image at a registry.
fn place(registry: SocketAddr) -> String {
    format!("{registry}/{}:{}", image::REPOSITORY, image::TAG)
}
