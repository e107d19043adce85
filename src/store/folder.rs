//! Keeps a mirror in a folder, with the same contract as a bucket.
//!
//! A file is written beside its final place, synced, and moved there whole. Its `ETag` is its MD5, remembered in a cache so that a
//! listing is cheap. Names that start with a dot are not part of the mirror. A folder keeps no content types and no metadata.

mod draft;
mod errors;
mod etags;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use md5::{Digest as _, Md5};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use self::draft::Draft;
use self::errors::is_absent;
use self::etags::Etags;
use super::{
    Attributes, Condition, Content, ETag, Listing, Object, SERVICE_FOLDER, SINGLE_PART_MAX_BYTES,
    Stat, Store, StoreError, StoreErrorKind,
};
use crate::asset::Key;
use crate::digest::Digest;
use crate::verify::Publishable;

/// One step of writing on the blocking pool: long enough to be worth the way there.
const STEP_BYTES: usize = 4 << 20;

const READ_BYTES: usize = 256 * 1024;

/// In the service's folder: held from looking at a condition to moving the file.
const SERVICE_LOCK: &str = ".lock";

/// A folder that holds a mirror.
#[derive(Debug, Clone)]
pub struct FolderStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    place: String,
    etags: Etags,
    /// Held from looking at a condition to moving the file.
    commits: Mutex<()>,
}

impl FolderStore {
    /// A mirror in this folder, which `prepare` makes when it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self(Arc::new(Folder {
            place: root.display().to_string(),
            etags: Etags::new(&root),
            root,
            commits: Mutex::new(()),
        }))
    }

    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Does something slow with files. Where the caller goes away it is still done, or notices by its own means.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || act(&folder)).await {
            Ok(done) => done,
            Err(ended) => Err(StoreError::new(
                StoreErrorKind::Transient,
                format!("{} was left in the middle of it", self.0.place),
            )
            .caused_by(ended)),
        }
    }

    async fn write(
        &self,
        key: &Key,
        content: &dyn Publishable,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        let mut chunks = content.chunks();
        let mut draft = {
            let key = key.clone();
            self.blocking(move |folder| folder.begin(&key)).await?
        };
        loop {
            let (step, last) = gather(&mut chunks)
                .await
                .map_err(|error| self.0.spool_failed(key, error))?;
            let key = key.clone();
            draft = self
                .blocking(move |folder| match draft.append(&step) {
                    Ok(()) => Ok(draft),
                    Err(error) => Err(folder.failed("put", &folder.path(&key), error)),
                })
                .await?;
            if last {
                break;
            }
        }
        let (key, condition, md5) = (key.clone(), condition.clone(), content.md5());
        self.blocking(move |folder| folder.commit(draft, &key, md5, &condition))
            .await
    }
}

/// The next few chunks, and whether they are the last.
async fn gather(
    chunks: &mut (impl futures::Stream<Item = io::Result<Bytes>> + Unpin),
) -> io::Result<(Vec<Bytes>, bool)> {
    let mut step = Vec::new();
    let mut length = 0;
    while length < STEP_BYTES {
        match chunks.next().await {
            Some(chunk) => {
                let chunk = chunk?;
                length += chunk.len();
                step.push(chunk);
            }
            None => return Ok((step, true)),
        }
    }
    Ok((step, false))
}

impl Folder {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Makes sure that the folder can be read, or that there is none yet. Whoever only looks changes nothing.
    fn check(&self) -> Result<(), StoreError> {
        match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            ended => ended
                .map(drop)
                .map_err(|e| self.failed("look at", &self.root, e)),
        }
    }

    fn prepare(&self) -> Result<(), StoreError> {
        fs::create_dir_all(&self.root).map_err(|e| self.failed("make", &self.root, e))?;
        // Writing shows what permissions only suggest.
        Draft::begin(&self.root)
            .map(drop)
            .map_err(|e| self.failed("write in", &self.root, e))?;
        self.remove_abandoned(&self.root)
    }

    fn remove_abandoned(&self, folder: &Path) -> Result<(), StoreError> {
        for entry in self.entries(folder)? {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry
                .file_type()
                .map_err(|e| self.failed("look at", &path, e))?;
            if kind.is_dir() && (!name.starts_with('.') || path == self.path_of_service()) {
                self.remove_abandoned(&path)?;
            } else if kind.is_file() && name.starts_with(draft::PREFIX) && name != etags::FILE_NAME
            {
                draft::remove_abandoned(&path).map_err(|e| self.failed("clean up", &path, e))?;
            }
        }
        Ok(())
    }

    fn entries(&self, folder: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
        let listed = fs::read_dir(folder).and_then(Iterator::collect);
        listed.map_err(|e| self.failed("list", folder, e))
    }

    fn begin(&self, key: &Key) -> Result<Draft, StoreError> {
        let path = self.path(key);
        let told = key.as_str();
        let told = told.strip_prefix(SERVICE_FOLDER).unwrap_or(told);
        if told.split('/').any(|name| name.starts_with('.')) {
            return Err(StoreError::new(
                StoreErrorKind::Permanent,
                format!(
                    "can't put {}: names that start with a dot are not part of a mirror in a folder",
                    path.display()
                ),
            ));
        }
        let parent = path.parent().unwrap_or(&self.root);
        // Somebody may remove the folder, empty as it is, before the draft is in it.
        let begun = Draft::begin(parent).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Draft::begin(parent),
            _ => Err(error),
        });
        begun.map_err(|error| self.failed("put", &path, error))
    }

    fn commit(
        &self,
        mut draft: Draft,
        key: &Key,
        md5: Digest,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        let path = self.path(key);
        let written = draft.finish().map_err(|e| self.failed("put", &path, e))?;
        if written != md5.bytes() {
            return Err(StoreError::new(
                StoreErrorKind::EtagMismatch,
                format!(
                    "{} was written with the MD5 {} where it is {}: the spool has changed; nothing was put",
                    path.display(),
                    hex::encode(written),
                    md5.hex()
                ),
            ));
        }
        let _one_at_a_time = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let _also_across_processes = self.lock_service(key);
        let file = match condition {
            Condition::Absent => draft.place(&path),
            Condition::Any => draft.replace(&path),
            Condition::Unchanged(etag) => {
                self.check_unchanged("put", key, etag)?;
                draft.replace(&path)
            }
        };
        match file {
            Ok(file) => self.etags.note(key, &file, md5),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !path.is_dir() => {
                return Err(self.changed("put", &path, "something is there by now"));
            }
            Err(error) => return Err(self.failed("put", &path, error)),
        }
        Ok(ETag::from(md5))
    }

    fn path_of_service(&self) -> PathBuf {
        self.root.join(SERVICE_FOLDER.trim_end_matches('/'))
    }

    /// Waits until no other process commits in the service's folder, where conditions must hold between processes too. None for
    /// the mirror's own keys, whose content is the same whoever writes it, and where files can't be locked.
    fn lock_service(&self, key: &Key) -> Option<File> {
        key.as_str().strip_prefix(SERVICE_FOLDER)?;
        let path = self.path_of_service().join(SERVICE_LOCK);
        let lock = File::options().create(true).append(true).open(path).ok()?;
        lock.lock().ok()?;
        Some(lock)
    }

    fn check_unchanged(&self, action: &str, key: &Key, etag: &ETag) -> Result<(), StoreError> {
        let path = self.path(key);
        match self.stat(key)? {
            Some(there) if there.etag == *etag => Ok(()),
            Some(there) => {
                Err(self.changed(action, &path, &format!("its MD5 is {} by now", there.etag)))
            }
            None => Err(self.changed(action, &path, "it is gone")),
        }
    }

    fn list(&self, stop: &CancellationToken) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        if !self.root.exists() {
            return Ok(listing);
        }
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in self.entries(&folder)? {
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                let kind = entry
                    .file_type()
                    .map_err(|e| self.failed("look at", &entry.path(), e))?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else {
                    self.sort_in(&entry.path(), stop, &mut listing)?;
                }
            }
        }
        listing.objects.sort_by(|a, b| a.key.cmp(&b.key));
        listing.service = self.list_service()?;
        let listed: HashSet<&str> = listing.objects.iter().map(|o| o.key.as_str()).collect();
        self.etags.keep(|key| listed.contains(key));
        Ok(listing)
    }

    fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        let folder = self.path_of_service();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let (mut listing, stop) = (Listing::default(), CancellationToken::new());
        for entry in self.entries(&folder)? {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                self.sort_in(&entry.path(), &stop, &mut listing)?;
            }
        }
        listing.objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listing.objects)
    }

    fn sort_in(
        &self,
        path: &Path,
        stop: &CancellationToken,
        listing: &mut Listing,
    ) -> Result<(), StoreError> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let key = below.to_str().and_then(|below| below.parse().ok());
        let object = match key {
            Some(key) => self.look(key, path, stop)?,
            None => None,
        };
        match object {
            Some(object) => listing.objects.push(object),
            None => listing.foreign.push(below.to_string_lossy().into_owned()),
        }
        Ok(())
    }

    fn stat(&self, key: &Key) -> Result<Option<Object>, StoreError> {
        self.look(key.clone(), &self.path(key), &CancellationToken::new())
    }

    /// None when there is no regular file.
    fn look(
        &self,
        key: Key,
        path: &Path,
        stop: &CancellationToken,
    ) -> Result<Option<Object>, StoreError> {
        let file = match fs::symlink_metadata(path) {
            Ok(file) if file.is_file() => file,
            Ok(_) => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed("look at", path, error)),
        };
        let md5 = match self.etags.get(&key, &file) {
            Some(md5) => md5,
            None => match self.hash(&key, path, stop)? {
                Some(md5) => md5,
                None => return Ok(None),
            },
        };
        Ok(Some(Object {
            key,
            length: file.len(),
            etag: ETag::from(md5),
        }))
    }

    fn hash(
        &self,
        key: &Key,
        path: &Path,
        stop: &CancellationToken,
    ) -> Result<Option<Digest>, StoreError> {
        match md5_of(path, stop) {
            Ok((file, md5)) => {
                self.etags.note(key, &file, md5);
                Ok(Some(md5))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed("read", path, error)),
        }
    }

    fn open(&self, key: &Key) -> Result<Option<(File, Object)>, StoreError> {
        let path = self.path(key);
        let Some(mut object) = self.stat(key)? else {
            return Ok(None);
        };
        let opened = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        match opened {
            Ok((file, length)) => {
                object.length = length;
                Ok(Some((file, object)))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed("read", &path, error)),
        }
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key);
        self.etags.forget(key);
        match fs::remove_file(&path) {
            Ok(()) => self.remove_empty_folders(&path),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(self.failed("remove", &path, error)),
        }
        Ok(())
    }

    /// A bucket has no empty folders either, and one could stand where a file is to be.
    fn remove_empty_folders(&self, path: &Path) {
        let mut folders = path.ancestors().skip(1);
        while let Some(folder) = folders.next().filter(|folder| *folder != self.root) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// Hashes a file; what it was before it was read goes with it.
fn md5_of(path: &Path, stop: &CancellationToken) -> io::Result<(Metadata, Digest)> {
    let mut file = File::open(path)?;
    let before = file.metadata()?;
    let mut md5 = Md5::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if stop.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer)? {
            0 => break,
            read => md5.update(&buffer[..read]),
        }
    }
    let digest = hex::encode(md5.finalize())
        .parse()
        .expect("32 hexadecimal digits are an MD5");
    Ok((before, digest))
}

#[async_trait]
impl Store for FolderStore {
    fn place(&self) -> &str {
        &self.0.place
    }

    /// Makes the folder whether or not `create` is said: nothing but a name depends on it.
    async fn prepare(&self, create: bool) -> Result<(), StoreError> {
        if !create {
            return self.blocking(Folder::check).await;
        }
        self.blocking(Folder::prepare).await
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        let stop = CancellationToken::new();
        let _stopped_with_the_caller = stop.clone().drop_guard();
        self.blocking(move |folder| folder.list(&stop)).await
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        self.blocking(Folder::list_service).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        let key = key.clone();
        let there = self.blocking(move |folder| folder.stat(&key)).await?;
        Ok(there.map(|object| Stat {
            object,
            metadata: BTreeMap::new(),
        }))
    }

    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError> {
        let wanted = key.clone();
        let Some((file, object)) = self.blocking(move |folder| folder.open(&wanted)).await? else {
            return Ok(None);
        };
        let (folder, path) = (Arc::clone(&self.0), self.0.path(key));
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES)
            .map(move |chunk| chunk.map_err(|error| folder.failed("read", &path, error)));
        Ok(Some(Content {
            length: object.length,
            etag: object.etag,
            chunks: chunks.boxed(),
        }))
    }

    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        _attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        if content.length() > SINGLE_PART_MAX_BYTES {
            return Err(StoreError::new(
                StoreErrorKind::TooLarge,
                format!(
                    "can't put {}: it has {} bytes, and no bucket could hold it as a single-part object",
                    self.0.path(key).display(),
                    content.length()
                ),
            ));
        }
        self.write(key, content, condition).await
    }

    /// A file's `ETag` is its MD5 always, so there is nothing to rewrite.
    async fn restate(
        &self,
        key: &Key,
        etag: &ETag,
        _attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        let (key, etag) = (key.clone(), etag.clone());
        self.blocking(move |folder| {
            folder.check_unchanged("restate", &key, &etag)?;
            Ok(etag)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let key = key.clone();
        self.blocking(move |folder| folder.delete(&key)).await
    }
}
