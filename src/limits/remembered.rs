//! What an earlier run found out about hosts: how many connections were worth having. A cache: losing it costs a few seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Links change; what was found out longer ago than this is no better than nothing.
const WORTH_FOR: Duration = Duration::from_hours(7 * 24);

fn file(folder: &Path) -> PathBuf {
    folder.join("connections.json")
}

/// Connections by host; empty where nothing can be read.
pub(super) fn read(folder: &Path) -> BTreeMap<String, usize> {
    let recent = || {
        let written = fs::metadata(file(folder)).ok()?.modified().ok()?;
        let age = written.elapsed().unwrap_or_default();
        let text = (age < WORTH_FOR).then(|| fs::read(file(folder)))?.ok()?;
        serde_json::from_slice(&text).ok()
    };
    recent().unwrap_or_default()
}

/// Writes them; it is no failure where that can't be done.
pub(super) fn write(folder: &Path, connections: &BTreeMap<String, usize>) {
    let text = serde_json::to_vec(connections).unwrap_or_default();
    if let Err(error) = fs::write(file(folder), text) {
        tracing::debug!(%error, "connections can't be remembered in {}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let connections = BTreeMap::from([("dl.k8s.io:443".to_owned(), 48)]);
        write(folder.path(), &connections);
        assert_eq!(read(folder.path()), connections);
        fs::write(file(folder.path()), b"{rubbish").unwrap();
        assert!(read(folder.path()).is_empty());
    }

    #[test]
    fn what_is_old_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &BTreeMap::from([("a".to_owned(), 1)]));
        let file = fs::File::options()
            .write(true)
            .open(file(folder.path()))
            .unwrap();
        let long_ago = std::time::SystemTime::now() - WORTH_FOR - Duration::from_mins(1);
        file.set_modified(long_ago).unwrap();
        assert!(read(folder.path()).is_empty());
    }
}
