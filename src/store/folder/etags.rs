//! Remembers the MD5 of each file, so that a listing need not read the whole mirror.
//!
//! It is a cache: one line is appended for each file put or hashed, a file that was touched since is hashed again, and when it is
//! lost all are. Nothing is synced; a torn or foreign line is passed over.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::asset::Key;
use crate::digest::{Algorithm, Digest};
use crate::store::SERVICE_FOLDER;

/// In the mirror's root. Hidden, so no listing shows it.
pub(super) const FILE_NAME: &str = ".kops-mirror-etags";

/// The file is rewritten when this many lines are of no use any more, and they are more than half of it.
const STALE_LINES: usize = 1000;

/// What tells that a file is still the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    length: u64,
    inode: u64,
    /// Nanoseconds since the epoch.
    modified: i128,
    /// As `modified`, of the inode: no tool can set it back.
    changed: i128,
}

impl Mark {
    fn of(file: &Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            length: file.len(),
            inode: file.ino(),
            modified: nanoseconds(file.mtime(), file.mtime_nsec()),
            changed: nanoseconds(file.ctime(), file.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Etags {
    path: PathBuf,
    state: Mutex<Option<State>>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, (Mark, Digest)>,
    lines: usize,
    appending: Option<File>,
}

impl Etags {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            path: root.join(FILE_NAME),
            state: Mutex::new(None),
        }
    }

    /// The MD5 of a file that is as it was when it was noted.
    pub(super) fn get(&self, key: &Key, file: &Metadata) -> Option<Digest> {
        self.with(|state| {
            let (mark, md5) = state.known.get(key.as_str())?;
            (*mark == Mark::of(file)).then_some(*md5)
        })
    }

    /// Notes the MD5 of a file; `file` was looked at before it was hashed. What the service keeps for itself is short, changes
    /// all the time and is in no listing: it is hashed whenever it is looked at.
    pub(super) fn note(&self, key: &Key, file: &Metadata, md5: Digest) {
        if key.as_str().starts_with(SERVICE_FOLDER) {
            return;
        }
        let mark = Mark::of(file);
        self.with(|state| {
            state.known.insert(key.to_string(), (mark, md5));
            if let Err(error) = state.append(&self.path, &line(key.as_str(), &mark, &md5)) {
                tracing::debug!(path = %self.path.display(), %error, "can't remember an MD5");
            }
        });
    }

    pub(super) fn forget(&self, key: &Key) {
        self.with(|state| state.known.remove(key.as_str()));
    }

    /// Drops what a whole listing did not show, and rewrites the file when most of it is stale.
    pub(super) fn keep(&self, listed: impl Fn(&str) -> bool) {
        self.with(|state| {
            state.known.retain(|key, _| listed(key));
            let stale = state.lines.saturating_sub(state.known.len());
            if stale > STALE_LINES
                && stale > state.known.len()
                && let Err(error) = state.rewrite(&self.path)
            {
                tracing::debug!(path = %self.path.display(), %error, "can't rewrite the MD5s");
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, _> =
            self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(state.get_or_insert_with(|| State::read(&self.path)))
    }
}

impl State {
    fn read(path: &Path) -> Self {
        let text = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Self {
            known: text.lines().filter_map(parse).collect(),
            lines: text.lines().count(),
            appending: None,
        }
    }

    /// One write per line, so that two processes' lines do not mix.
    fn append(&mut self, path: &Path, line: &str) -> io::Result<()> {
        let file = match &mut self.appending {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).open(path)?),
        };
        self.lines += 1;
        file.write_all(line.as_bytes())
    }

    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let text = self
            .known
            .iter()
            .fold(String::new(), |mut text, (key, (mark, md5))| {
                text.push_str(&line(key, mark, md5));
                text
            });
        let draft = path.with_added_extension("new");
        fs::write(&draft, text)?;
        fs::rename(&draft, path)?;
        self.lines = self.known.len();
        self.appending = None;
        Ok(())
    }
}

/// A line starts anew, so that one after a torn one is whole, and ends with the key: it may have spaces, but no line ends.
fn line(key: &str, mark: &Mark, md5: &Digest) -> String {
    let Mark {
        length,
        inode,
        modified,
        changed,
    } = mark;
    let mut line = String::with_capacity(key.len() + 120);
    writeln!(
        line,
        "{} {length} {inode} {modified} {changed} {key}",
        md5.hex()
    )
    .expect("a String takes all");
    line
}

fn parse(line: &str) -> Option<(String, (Mark, Digest))> {
    let mut words = line.splitn(6, ' ');
    let md5: Digest = words.next()?.parse().ok()?;
    let mark = Mark {
        length: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        modified: words.next()?.parse().ok()?,
        changed: words.next()?.parse().ok()?,
    };
    let key = words.next()?.to_owned();
    (md5.algorithm() == Algorithm::Md5).then_some((key, (mark, md5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn another_process_finds_what_was_noted_and_skips_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file");
        fs::write(&path, b"abc").unwrap();
        let file = fs::metadata(&path).unwrap();
        let md5 = Digest::of(Algorithm::Md5, b"abc");
        Etags::new(dir.path()).note(&key("a file"), &file, md5);
        let mut all = fs::read(dir.path().join(FILE_NAME)).unwrap();
        all.extend_from_slice(b"rubbish \xff\n9001509");
        fs::write(dir.path().join(FILE_NAME), all).unwrap();

        let again = Etags::new(dir.path());
        assert_eq!(again.get(&key("a file"), &file), Some(md5));
        assert_eq!(again.get(&key("another"), &file), None);
        fs::write(&path, b"abd").unwrap();
        assert_eq!(
            again.get(&key("a file"), &fs::metadata(&path).unwrap()),
            None
        );
    }

    #[test]
    fn stays_as_small_as_the_mirror() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::metadata(dir.path()).unwrap();
        let etags = Etags::new(dir.path());
        for n in 0..2 * STALE_LINES {
            let md5 = Digest::of(Algorithm::Md5, &n.to_le_bytes());
            etags.note(&key(&format!("file-{}", n % 2)), &file, md5);
        }
        etags.keep(|key| key == "file-1");
        let left = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(left.lines().count(), 1);
        assert!(Etags::new(dir.path()).get(&key("file-1"), &file).is_some());
    }
}
