//! Logs in to a builder, by the program ssh: at its private address, with one key, with hosts' keys in a file of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::{Ended, Program};
use crate::ami::failure::AmiError;

/// One attempt to log in.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);

/// The code with which ssh itself fails.
pub(super) const SSH_FAILED: i32 = 255;

/// The way to a builder.
#[derive(Debug)]
pub(super) struct Login<'a> {
    pub(super) ssh: &'a Path,
    pub(super) user: &'a str,
    pub(super) address: String,
    pub(super) private_key: &'a Path,
    /// Keys of hosts, of this builder alone.
    pub(super) known_hosts: PathBuf,
    /// Whether the builder's key is in there: else the first that comes is believed.
    pub(super) is_known: bool,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) record: PathBuf,
}

impl Login<'_> {
    /// Notes the keys that the builder itself has told, by another way than this one.
    pub(super) fn know(&mut self, keys: &[String]) -> Result<(), AmiError> {
        let lines: Vec<String> = keys
            .iter()
            .map(|key| format!("{} {key}\n", self.address))
            .collect();
        let kept = |source| AmiError::File {
            path: self.known_hosts.clone(),
            source,
        };
        if let Some(folder) = self.known_hosts.parent() {
            fs::create_dir_all(folder).map_err(kept)?;
        }
        fs::write(&self.known_hosts, lines.concat()).map_err(kept)?;
        self.is_known = true;
        Ok(())
    }

    /// Tries whether it lets in.
    pub(super) async fn knock(&self) -> Result<Ended, AmiError> {
        self.run("true", None, LOGIN_LIMIT).await
    }

    /// Runs a command there.
    pub(super) async fn run(
        &self,
        command: &str,
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Ended, AmiError> {
        let program = Program {
            path: self.ssh,
            arguments: self.arguments(command),
            environment: self.environment.clone(),
            input,
            record: self.record.clone(),
            limit,
        };
        program.run().await
    }

    /// Nothing of the caller's own configuration counts, nobody is asked anything, and a line that has died is noticed.
    fn arguments(&self, command: &str) -> Vec<String> {
        let checking = match self.is_known {
            true => "yes",
            false => "accept-new",
        };
        let options = [
            "BatchMode=yes".to_owned(),
            format!("StrictHostKeyChecking={checking}"),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "ConnectTimeout=10".to_owned(),
            "ServerAliveInterval=15".to_owned(),
            "ServerAliveCountMax=8".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        let mut arguments = vec!["-F".to_owned(), "/dev/null".to_owned()];
        for option in options {
            arguments.extend(["-o".to_owned(), option]);
        }
        let key = self.private_key.display().to_string();
        arguments.extend(["-i".to_owned(), key, "-T".to_owned()]);
        arguments.push(format!("{}@{}", self.user, self.address));
        arguments.push(command.to_owned());
        arguments
    }
}

/// Whether it is another host than the one that is known.
pub(super) fn is_another_host(said: &str) -> bool {
    said.contains("Host key verification failed")
        || said.contains("HOST IDENTIFICATION HAS CHANGED")
}
