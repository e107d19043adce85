//! Turns what the disk says into one sentence: what failed, where, why, and what to do.

use std::io;
use std::path::Path;

use super::Folder;
use crate::asset::Key;
use crate::store::{StoreError, StoreErrorKind};

impl Folder {
    pub(super) fn spool_failed(&self, key: &Key, error: io::Error) -> StoreError {
        let path = self.path(key);
        let what = format!("can't put {}: the spool can't be read", path.display());
        StoreError::new(StoreErrorKind::Spool, what).caused_by(error)
    }

    #[expect(clippy::unused_self, reason = "reads as its sibling does")]
    pub(super) fn changed(&self, action: &str, path: &Path, why: &str) -> StoreError {
        let what = format!("can't {action} {}: {why}", path.display());
        StoreError::new(StoreErrorKind::ConditionFailed, what)
    }

    pub(super) fn failed(&self, action: &str, path: &Path, error: io::Error) -> StoreError {
        use io::ErrorKind as Io;
        let (kind, advice) = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded => (StoreErrorKind::Full, "the disk is full"),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => (
                StoreErrorKind::Denied,
                "this user may not do it: look at the folder's owner and mode",
            ),
            Io::IsADirectory | Io::DirectoryNotEmpty => FOLDER_IN_THE_WAY,
            Io::AlreadyExists if path.is_dir() => FOLDER_IN_THE_WAY,
            Io::NotADirectory | Io::AlreadyExists => (
                StoreErrorKind::Permanent,
                "a file stands where a folder is needed: move it away",
            ),
            Io::InvalidFilename => (
                StoreErrorKind::Permanent,
                "a name in it is too long for this file system",
            ),
            Io::NotFound if !self.root.exists() => {
                (StoreErrorKind::NoSuchBucket, "the mirror's folder is gone")
            }
            _ => (StoreErrorKind::Transient, "the disk did not do it"),
        };
        let what = format!("can't {action} {}: {advice}", path.display());
        StoreError::new(kind, what).caused_by(error)
    }
}

const FOLDER_IN_THE_WAY: (StoreErrorKind, &str) = (
    StoreErrorKind::Permanent,
    "a folder stands where the file is to be: move it away",
);

pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind as Io;
    matches!(
        error.kind(),
        Io::NotFound | Io::NotADirectory | Io::InvalidFilename
    )
}

#[cfg(test)]
mod tests {
    use super::super::FolderStore;
    use super::*;
    use crate::retry::Class;

    #[test]
    fn what_the_disk_says_is_told_by_kind() {
        let store = FolderStore::new("/srv/mirror");
        let path = Path::new("/srv/mirror/file");
        for (said, kind) in [
            (rustix::io::Errno::NOSPC, StoreErrorKind::Full),
            (rustix::io::Errno::DQUOT, StoreErrorKind::Full),
            (rustix::io::Errno::ACCESS, StoreErrorKind::Denied),
            (rustix::io::Errno::ROFS, StoreErrorKind::Denied),
            (rustix::io::Errno::NAMETOOLONG, StoreErrorKind::Permanent),
        ] {
            let error = store.0.failed("put", path, said.into());
            assert_eq!(error.kind, kind, "{error}");
            assert_eq!(error.class(), Class::Permanent);
            assert!(error.what.starts_with("can't put /srv/mirror/file: "));
        }
        let failing = store.0.failed("put", path, rustix::io::Errno::IO.into());
        assert_eq!(failing.class(), Class::Transient);
    }
}
