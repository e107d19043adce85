//! kops as the external program that it is: run with an environment of its own, one at a time, recorded, and not for ever.
//!
//! It gets nothing of the caller's environment but what it needs, a home folder and a kubeconfig of its own, so that it neither reads the
//! caller's settings nor rewrites them. AWS_REGION and where its state and the mirror are is given to every call: forgetting one of them on a
//! single update leaves nodes that loop for hours.

mod calls;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use semver::Version;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub use self::calls::{Health, Preview};
use self::record::{Record, Records};
use crate::cluster::Era;

/// What a caller's environment has that kops needs: programs are found, proxies and certificates are used, and AWS' own variables say
/// who it is.
const PASSED: [&str; 9] = [
    "PATH",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// Beginnings of more of them.
const PASSED_PREFIXES: [&str; 2] = ["AWS_", "S3_"];

/// Which kops, for which cluster, with what.
#[derive(Debug, Clone)]
pub struct KopsOptions {
    pub program: PathBuf,
    /// The release that the cluster wants; another program is refused.
    pub version: Version,
    pub cluster: String,
    /// `s3://BUCKET`, or `file://FOLDER` for a preview.
    pub state_store: String,
    /// Where it has its home and its kubeconfig, and where calls are recorded.
    pub folder: PathBuf,
    /// What it is told besides: `KOPS_BASE_URL`, `AWS_REGION`.
    pub environment: BTreeMap<String, String>,
    /// What the caller has in its environment, of which it gets what it needs.
    pub callers: BTreeMap<String, String>,
    /// For one call.
    pub timeout: Duration,
}

/// A kops that can be called.
#[derive(Debug)]
pub struct Kops {
    options: KopsOptions,
    records: Records,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Why a call of kops came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum KopsError {
    #[error("can't run {}: give the program of kops with --kops", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is kops {found}, and the cluster wants {wanted}: another release writes what that one can't read",
        program.display()
    )]
    Version {
        program: PathBuf,
        found: String,
        wanted: Version,
    },
    #[error("'kops {call}' did not end within {} s and was stopped, saying {said} (all of it is in {record})", limit.as_secs())]
    TimedOut {
        call: String,
        limit: Duration,
        said: String,
        record: String,
    },
    #[error("'kops {call}' failed{}: {said} (all of it is in {record})", code.map(|code| format!(" with {code}")).unwrap_or_default())]
    Failed {
        call: String,
        code: Option<i32>,
        /// Its last words.
        said: String,
        record: String,
    },
    #[error("'kops {call}' printed what can't be read: {why} (all of it is in {record})")]
    Unreadable {
        call: String,
        why: String,
        record: String,
    },
    #[error("can't keep what kops prints in {}", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Kops {
    /// A kops that was asked for its version.
    pub async fn new(options: KopsOptions) -> Result<Self, KopsError> {
        let records = Records::in_folder(options.folder.join("calls"));
        let kops = Self { options, records };
        let found = kops.version().await?;
        if found.as_ref() != Some(&kops.options.version) {
            return Err(KopsError::Version {
                program: kops.options.program.clone(),
                found: found.map_or_else(|| "of no version".to_owned(), |found| found.to_string()),
                wanted: kops.options.version.clone(),
            });
        }
        Ok(kops)
    }

    fn era(&self) -> Era {
        Era::of(&self.options.version)
    }

    /// What every call gets for its environment, and nothing else.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let options = &self.options;
        let mut environment = passed(&options.callers);
        // Kops of the first SDK read no profile's settings without.
        environment.insert("AWS_SDK_LOAD_CONFIG".to_owned(), "1".to_owned());
        environment.extend(options.environment.clone());
        let own = [
            ("HOME", self.home().to_string_lossy().into_owned()),
            (
                "KUBECONFIG",
                self.kubeconfig().to_string_lossy().into_owned(),
            ),
            ("KOPS_STATE_STORE", options.state_store.clone()),
            ("NAME", options.cluster.clone()),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        environment
    }

    fn home(&self) -> PathBuf {
        self.options.folder.join("home")
    }

    /// The kubeconfig that it writes: never the caller's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.options.folder.join("kubeconfig")
    }

    /// Calls it and says how it ended, and where what it printed is kept.
    async fn call(&self, arguments: &[&str]) -> Result<(Answer, String), KopsError> {
        let home = self.home();
        let kept = |source| KopsError::Record {
            path: home.clone(),
            source,
        };
        tokio::fs::create_dir_all(&home).await.map_err(kept)?;
        tracing::info!("kops {}", arguments.join(" "));
        let record = self.records.begin(arguments)?;
        let mut child = self.start(arguments, &record)?;
        let limit = self.options.timeout;
        let Ok(status) = timeout(limit, child.wait()).await else {
            // It is gone then: nothing else can be done about one that can't be killed.
            let _ = child.kill().await;
            record.end("stopped: it took too long")?;
            return Err(KopsError::TimedOut {
                call: arguments.join(" "),
                limit,
                said: record.answer(None)?.last_words(),
                record: record.place(),
            });
        };
        let code = status.ok().and_then(|status| status.code());
        match code {
            Some(code) => record.end(&code.to_string())?,
            None => record.end("ended by a signal")?,
        }
        Ok((record.answer(code)?, record.place()))
    }

    /// What it prints goes into the record at once, so that it is there whatever becomes of both processes.
    fn start(&self, arguments: &[&str], record: &Record) -> Result<Child, KopsError> {
        let program = &self.options.program;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment())
            .current_dir(self.home())
            .stdin(Stdio::null())
            .stdout(record.stdout()?)
            .stderr(record.stderr()?)
            .kill_on_drop(true);
        command.spawn().map_err(|source| KopsError::Start {
            program: program.clone(),
            source,
        })
    }

    /// As [`Kops::call`], where only 0 is good.
    async fn succeed(&self, arguments: &[&str]) -> Result<Answer, KopsError> {
        let (answer, record) = self.call(arguments).await?;
        match answer.code {
            Some(0) => Ok(answer),
            code => Err(KopsError::Failed {
                call: arguments.join(" "),
                code,
                said: answer.last_words(),
                record,
            }),
        }
    }
}

/// What a program that speaks to AWS gets of its caller's environment, and nothing else: where programs are, proxies and certificates, and
/// AWS's own variables. A home folder of its own does not hide AWS's files from it.
pub fn passed(callers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_passed = |name: &str| {
        PASSED.contains(&name)
            || PASSED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    let mut environment: BTreeMap<String, String> = callers
        .iter()
        .filter(|(name, _)| is_passed(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(home) = callers.get("HOME") {
        for (name, file) in [
            ("AWS_CONFIG_FILE", "config"),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ] {
            let file = Path::new(home).join(".aws").join(file);
            let entry = environment.entry(name.to_owned());
            entry.or_insert_with(|| file.to_string_lossy().into_owned());
        }
    }
    environment
}

impl Answer {
    /// What it said at its end, in a line or a few: kops prints its error last, behind lines of what it did.
    pub fn last_words(&self) -> String {
        const LINES: usize = 4;
        let spoken = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let lines = spoken
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let (logged, said): (Vec<_>, Vec<_>) = lines.partition(|line| is_logged(line));
        let lines = if said.is_empty() { logged } else { said };
        match lines.len() {
            0 => "it said nothing".to_owned(),
            length => lines[length.saturating_sub(LINES)..].join("; "),
        }
    }
}

/// Whether it is a line of the log: `W1128 07:35:42.352075    8641 factory.go:152] …`.
fn is_logged(line: &str) -> bool {
    let mut letters = line.chars();
    let is_level = letters.next().is_some_and(|level| "IWEF".contains(level));
    is_level && letters.take(4).all(|digit| digit.is_ascii_digit()) && line.contains("] ")
}
