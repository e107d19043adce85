//! Holds one opened file for one answer, so that its ETag and its bytes are of the same file even while it is replaced.

use std::fs::Metadata;
use std::future::{Ready, ready};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as ServedFile};

use crate::digest::{Algorithm, Digest, Hasher};

/// An opened file. As a backend of `tower-http` it is the only file there is.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    file: Arc<std::fs::File>,
    metadata: Metadata,
}

/// Tells the states of a file apart: another file at its path, or another content written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Opened {
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let metadata = file.metadata().await?;
        let file = Arc::new(file.into_std().await);
        Ok(Self { file, metadata })
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            inode: self.metadata.ino(),
            length: self.metadata.len(),
            modified: (self.metadata.mtime(), self.metadata.mtime_nsec()),
        }
    }

    /// Hashes the whole file, and leaves the handle at its start.
    pub(super) async fn md5(&self) -> io::Result<Digest> {
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || hash(&file))
            .await
            .map_err(io::Error::other)?
    }
}

fn hash(mut file: &std::fs::File) -> io::Result<Digest> {
    use std::io::Seek as _;
    let mut hasher = Hasher::new(&[]);
    let mut buffer = vec![0; 256 * 1024];
    file.rewind()?;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    file.rewind()?;
    Ok(hasher
        .finish()
        .get(Algorithm::Md5)
        .expect("MD5 is always computed"))
}

impl Backend for Opened {
    type File = Reader;
    type Metadata = Metadata;
    type OpenFuture = Ready<io::Result<Reader>>;
    type MetadataFuture = Ready<io::Result<Metadata>>;

    fn open(&self, _: PathBuf) -> Self::OpenFuture {
        ready(self.file.try_clone().map(|file| Reader {
            file: File::from_std(file),
            metadata: self.metadata.clone(),
        }))
    }

    fn metadata(&self, _: PathBuf) -> Self::MetadataFuture {
        ready(Ok(self.metadata.clone()))
    }
}

/// Reads the opened file.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    metadata: Metadata,
}

impl ServedFile for Reader {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Ready<io::Result<Metadata>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.metadata.clone()))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(context, buffer)
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(context)
    }
}
