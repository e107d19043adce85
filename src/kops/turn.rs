//! One kops at a time, whatever became of who called it: a file is locked while one runs that changes something.
//!
//! The lock is the child's as well, since it reads from that file: where its caller is killed it lasts until the child ends, so that the next run does
//! not make a second one of everything that the first is about to make.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::KopsError;

/// Another looks again so often.
const PAUSE: Duration = Duration::from_millis(500);

/// The right to run a kops that changes something.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    file: File,
}

impl Turn {
    /// Waits for a kops in this folder that runs already, for as long as one may run.
    pub(super) async fn wait(folder: &Path, limit: Duration) -> Result<Self, KopsError> {
        let path = folder.join("kops.lock");
        let trouble = |source| KopsError::Record {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(trouble)?;
        let deadline = Instant::now() + limit;
        let mut is_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path, file }),
                Err(TryLockError::Error(source)) => return Err(trouble(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(KopsError::Busy { path, limit });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if !is_told {
                tracing::warn!(
                    "a kops that an earlier run began still works on this cluster: it is waited for"
                );
                is_told = true;
            }
            sleep(PAUSE).await;
        }
    }

    /// An empty file to read from, with the lock.
    pub(super) fn stdin(&self) -> Result<Stdio, KopsError> {
        let file = self.file.try_clone();
        file.map(Stdio::from).map_err(|source| KopsError::Record {
            path: self.path.clone(),
            source,
        })
    }
}

/// Whether a call changes anything that another could change as well.
pub(super) fn is_needed(arguments: &[&str]) -> bool {
    let writes = ["create", "replace"]
        .map(Some)
        .contains(&arguments.first().copied());
    writes || arguments.contains(&"--yes")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_child_has_the_turn_until_it_ends_though_its_caller_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(20);
        let turn = Turn::wait(folder.path(), short).await.unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(turn.stdin().unwrap())
            .spawn()
            .unwrap();
        drop(turn);
        let busy = Turn::wait(folder.path(), short).await.unwrap_err();
        assert!(matches!(busy, KopsError::Busy { .. }), "{busy}");
        child.kill().unwrap();
        child.wait().unwrap();
        Turn::wait(folder.path(), short).await.unwrap();
    }

    #[test]
    fn only_what_changes_something_waits() {
        assert!(is_needed(&["update", "cluster", "a", "--yes"]));
        assert!(is_needed(&["replace", "--force", "-f", "m.yaml"]));
        assert!(!is_needed(&["update", "cluster", "a"]));
        assert!(!is_needed(&["validate", "cluster", "a"]));
    }
}
