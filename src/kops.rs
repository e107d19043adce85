//! kops as the external program that it is: run with an environment of its own, one at a time, recorded, and not for ever.
//!
//! It gets nothing of the caller's environment but what it needs, a home folder and a kubeconfig of its own, so that it neither reads the
//! caller's settings nor rewrites them. AWS_REGION and where its state and the mirror are is given to every call: forgetting one of them on a
//! single update leaves nodes that loop for hours.

mod calls;
mod record;
mod turn;

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
use self::turn::Turn;
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

/// How variables with secrets end.
const SECRETS: [&str; 3] = ["SECRET_ACCESS_KEY", "SESSION_TOKEN", "SECURITY_TOKEN"];

/// Keys in the environment, which every SDK takes before those of `AWS_PROFILE`.
const KEYS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
];

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
    #[error(
        "a kops that an earlier run began still works on this cluster, and did not end within {} s: end it, or wait for it ({} is locked while it \
         runs)",
        limit.as_secs(),
        path.display()
    )]
    Busy { path: PathBuf, limit: Duration },
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
        if options.environment.contains_key("AWS_PROFILE") {
            environment.retain(|name, _| !KEYS.contains(&name.as_str()));
        }
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
        let limit = self.options.timeout;
        let turn = match turn::is_needed(arguments) {
            true => Some(Turn::wait(&self.options.folder, limit).await?),
            false => None,
        };
        tracing::info!("kops {}", arguments.join(" "));
        let record = self.records.begin(arguments)?;
        let mut child = self.start(arguments, &record, turn.as_ref())?;
        let Ok(status) = timeout(limit, child.wait()).await else {
            // It is gone then: nothing else can be done about one that can't be killed.
            let _ = child.kill().await;
            record.end("stopped: it took too long", &self.secrets())?;
            return Err(KopsError::TimedOut {
                call: arguments.join(" "),
                limit,
                said: record.answer(None)?.last_words(),
                record: record.place(),
            });
        };
        let code = status.ok().and_then(|status| status.code());
        let how = code.map_or_else(|| "ended by a signal".to_owned(), |code| code.to_string());
        record.end(&how, &self.secrets())?;
        Ok((record.answer(code)?, record.place()))
    }

    /// The secrets that it is given.
    fn secrets(&self) -> Vec<String> {
        // Shorter ones are no secrets, and could be in any word.
        const LENGTH_MIN: usize = 8;
        let is_secret = |(name, value): &(String, String)| {
            SECRETS.iter().any(|ending| name.ends_with(ending)) && value.len() >= LENGTH_MIN
        };
        let environment = self.environment().into_iter();
        environment
            .filter(is_secret)
            .map(|(_, value)| value)
            .collect()
    }

    /// What it prints goes into the record at once, so that it is there whatever becomes of both processes.
    fn start(
        &self,
        arguments: &[&str],
        record: &Record,
        turn: Option<&Turn>,
    ) -> Result<Child, KopsError> {
        let stdin = match turn {
            Some(turn) => turn.stdin()?,
            None => Stdio::null(),
        };
        let program = &self.options.program;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment())
            .current_dir(self.home())
            .stdin(stdin)
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
        let (logged, said) = spoken(&self.stderr);
        // Where it goes down, what follows is where in its code that was.
        if let Some(panic) = said.iter().find(|line| line.starts_with("panic: ")) {
            return (*panic).to_owned();
        }
        let (_, printed) = spoken(&self.stdout);
        let lines = [said, printed, logged];
        match lines.iter().find(|lines| !lines.is_empty()) {
            None => "it said nothing".to_owned(),
            Some(lines) => lines[lines.len().saturating_sub(LINES)..].join("; "),
        }
    }
}

/// The lines of its log, and what it said besides.
fn spoken(text: &str) -> (Vec<&str>, Vec<&str>) {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .partition(|line| is_logged(line))
}

/// Whether it is a line of the log: `W1128 07:35:42.352075    8641 factory.go:152] …`.
fn is_logged(line: &str) -> bool {
    let mut letters = line.chars();
    let is_level = letters.next().is_some_and(|level| "IWEF".contains(level));
    is_level && letters.take(4).all(|digit| digit.is_ascii_digit()) && line.contains("] ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stdout: &str, stderr: &str) -> Answer {
        Answer {
            code: Some(1),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn kops(environment: &[(&str, &str)], callers: &[(&str, &str)]) -> Kops {
        Kops {
            records: Records::in_folder(PathBuf::new()),
            options: KopsOptions {
                program: PathBuf::new(),
                version: Version::new(1, 36, 2),
                cluster: "a.k8s.local".to_owned(),
                state_store: "s3://state".to_owned(),
                folder: PathBuf::new(),
                environment: variables(environment),
                callers: variables(callers),
                timeout: Duration::ZERO,
            },
        }
    }

    #[test]
    fn a_profile_that_the_file_names_goes_before_keys_of_the_caller() {
        let callers = [
            ("AWS_ACCESS_KEY_ID", "of-another-partition"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_SESSION_TOKEN", "x"),
        ];
        let with = kops(&[("AWS_PROFILE", "china")], &callers).environment();
        let has_keys = with.keys().any(|name| KEYS.contains(&name.as_str()));
        assert!(!has_keys, "{with:?}");
        let without = kops(&[], &callers).environment();
        assert_eq!(without["AWS_ACCESS_KEY_ID"], "of-another-partition");
    }

    #[tokio::test]
    async fn secrets_that_it_was_given_are_not_in_what_others_read() {
        let callers = [
            ("S3_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let record = Records::in_folder(folder.path().to_owned());
        let record = record.begin(&["update"]).unwrap();
        let mut printing = Command::new("echo");
        let said = "value: wJalrXUtnFEMI, secrets/kube";
        let printing = printing.arg(said).stdout(record.stdout().unwrap());
        let printing = printing.stderr(record.stderr().unwrap());
        assert!(printing.status().await.unwrap().success());
        let secrets = kops(&[], &callers).secrets();
        record.end("0", &secrets).unwrap();
        let answer = record.answer(Some(0)).unwrap();
        assert_eq!(answer.stdout, "value: ***, secrets/kube\n");
    }

    #[test]
    fn its_last_words_are_what_it_says_and_not_its_log() {
        const LOG: &str = "I1128 10:35:26.808287   17254 errors.go:32] unexpected aws error code\n";
        let said = answer("a listing\n", &format!("{LOG}Error: no\n{LOG}"));
        assert_eq!(said.last_words(), "Error: no");
        let waiting = answer("Not all resources deleted\n\tdhcp-options:dopt-1\n", LOG);
        assert_eq!(
            waiting.last_words(),
            "Not all resources deleted; dhcp-options:dopt-1"
        );
        let panic =
            "panic: no version\n\ngoroutine 1 [running]:\nmain.main()\n\tmain.go:29 +0x25\n";
        assert_eq!(answer("", panic).last_words(), "panic: no version");
        assert_eq!(answer("", LOG).last_words(), LOG.trim());
        assert_eq!(answer("", "").last_words(), "it said nothing");
    }
}
