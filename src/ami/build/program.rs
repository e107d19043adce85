//! Programs of others: run with an environment that is given to them, limited in time, with all that they print in a file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::ami::failure::AmiError;

/// Of the end of what was printed, this much is read for the last words.
const TAIL_BYTES: u64 = 8 << 10;

/// So many lines of it are told.
const TAIL_LINES: usize = 4;

/// A program that is to be run.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// What it reads; nothing when None.
    pub(super) input: Option<&'a [u8]>,
    /// What it prints is added to this file.
    pub(super) record: PathBuf,
    pub(super) limit: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// None when a signal ended it, or it was stopped.
    pub(super) code: Option<i32>,
    pub(super) is_too_late: bool,
    /// Its last words, in a line.
    pub(super) said: String,
}

impl Program<'_> {
    /// Runs it until it ends, or for as long as it may.
    pub(super) async fn run(&self) -> Result<Ended, AmiError> {
        let mut output = self.open().map_err(|source| self.trouble(source))?;
        let begun = format!("{} {}\n", Timestamp::now(), self.line());
        let written = output.write_all(begun.as_bytes());
        let began_at = written.and_then(|()| output.stream_position());
        let began_at = began_at.map_err(|source| self.trouble(source))?;
        let mut child = self.start(&output)?;
        let input = child.stdin.take();
        let ended = timeout(self.limit, async {
            let fed = async {
                if let (Some(mut input), Some(bytes)) = (input, self.input) {
                    // One that reads no more of it has its reasons; its end tells.
                    let _ = input.write_all(bytes).await;
                    let _ = input.shutdown().await;
                }
            };
            tokio::join!(fed, child.wait()).1
        })
        .await;
        let is_too_late = ended.is_err();
        if is_too_late {
            // It is gone then: nothing else can be done about one that can't be killed.
            let _ = child.kill().await;
        }
        let status = ended.ok().and_then(Result::ok);
        Ok(Ended {
            code: status.and_then(|status| status.code()),
            is_too_late,
            said: self
                .last_words(began_at)
                .map_err(|source| self.trouble(source))?,
        })
    }

    /// The program with its arguments, for people; what it reads and its environment are not told.
    fn line(&self) -> String {
        format!("{} {}", self.path.display(), self.arguments.join(" "))
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.record.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.record)
    }

    fn start(&self, output: &File) -> Result<Child, AmiError> {
        let printed = || output.try_clone().map(Stdio::from);
        let printed = printed().and_then(|stdout| Ok((stdout, printed()?)));
        let (stdout, stderr) = printed.map_err(|source| self.trouble(source))?;
        let input = match self.input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let mut command = Command::new(self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(input)
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true);
        command.spawn().map_err(|source| AmiError::Start {
            program: self.path.to_owned(),
            source,
        })
    }

    fn last_words(&self, began_at: u64) -> io::Result<String> {
        let mut file = File::open(&self.record)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            began_at.max(length.saturating_sub(TAIL_BYTES)),
        ))?;
        let mut printed = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut printed)?;
        Ok(last_words(&String::from_utf8_lossy(&printed)))
    }

    fn trouble(&self, source: io::Error) -> AmiError {
        AmiError::File {
            path: self.record.clone(),
            source,
        }
    }
}

/// The last lines of what was printed, as one.
pub(super) fn last_words(printed: &str) -> String {
    let lines: Vec<String> = printed
        .lines()
        .map(|line| line.trim().chars().filter(|c| !c.is_control()).collect())
        .filter(|line: &String| !line.is_empty())
        .collect();
    match lines.len() {
        0 => "nothing".to_owned(),
        length => lines[length.saturating_sub(TAIL_LINES)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program<'a>(folder: &Path, script: &str, limit: Duration) -> Program<'a> {
        Program {
            path: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::from([("GIVEN".to_owned(), "given".to_owned())]),
            input: Some(b"read\n"),
            record: folder.join("records/x.log"),
            limit,
        }
    }

    #[tokio::test]
    async fn it_gets_what_it_is_given_and_all_that_it_prints_is_kept() {
        let folder = tempfile::TempDir::new().unwrap();
        let script = "read x; echo $x $GIVEN ${HOME:-homeless}; echo oh >&2; exit 3";
        let program = program(folder.path(), script, Duration::from_secs(20));
        let ended = program.run().await.unwrap();
        assert_eq!((ended.code, ended.is_too_late), (Some(3), false));
        assert_eq!(ended.said, "read given homeless; oh");
        // Another one's words are not its own.
        let silent = Program {
            arguments: vec!["-c".to_owned(), "exit 0".to_owned()],
            ..program
        };
        assert_eq!(silent.run().await.unwrap().said, "nothing");
        let kept = fs::read_to_string(folder.path().join("records/x.log")).unwrap();
        assert!(kept.contains("read given homeless\noh\n"), "{kept}");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_stopped() {
        let folder = tempfile::TempDir::new().unwrap();
        let program = program(
            folder.path(),
            "echo on; exec sleep 100",
            Duration::from_millis(300),
        );
        let ended = program.run().await.unwrap();
        assert!(ended.is_too_late && ended.code.is_none(), "{ended:?}");
        assert_eq!(ended.said, "on");
    }
}
