//! The mirrored program of kops: of the cluster's version, and the bytes that the mirror's index speaks of, before it is run.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::asset::Arch;
use crate::catalogue::{Catalogue, CatalogueError};
use crate::cluster::ClusterFile;
use crate::digest::{Digest, Hasher};
use crate::index::{Entry, Index};
use crate::store::{Content, Store, StoreError};

/// What is read of a file at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error(
        "the mirror at {place} has no program of kops {kops} for this machine: mirror it with 'kops-mirror sync' (without --no-clients), or \
         give one with --kops"
    )]
    NotMirrored {
        place: String,
        kops: semver::Version,
    },
    #[error(
        "{what} is not what the mirror's index says: it has {got} where {expected} was stored; 'kops-mirror repair' brings it back"
    )]
    Changed {
        what: String,
        expected: Digest,
        got: Digest,
    },
    #[error("can't keep the program of kops at {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The program in the folder, brought there from the mirror where it is not there or is another.
pub async fn program(
    mirror: &dyn Store,
    indexes: &[Index],
    file: &ClusterFile,
    folder: &Path,
) -> Result<PathBuf, ProgramError> {
    let missing = || ProgramError::NotMirrored {
        place: mirror.place().to_owned(),
        kops: file.kops_version.clone(),
    };
    let entry = mirrored(indexes, file)?.ok_or_else(missing)?;
    let path = folder.join(format!("kops-{}", file.kops_version));
    let kept = |source| ProgramError::File {
        path: path.clone(),
        source,
    };
    if hash(&path).await.map_err(kept)? != Some(entry.sha256) {
        let content = mirror.open(&entry.key).await?.ok_or_else(missing)?;
        let what = format!("{}/{}", mirror.place(), entry.key);
        bring(content, entry, what, folder, &path).await?;
    }
    Ok(path)
}

/// What the indexes have of the program for this machine.
fn mirrored<'a>(
    indexes: &'a [Index],
    file: &ClusterFile,
) -> Result<Option<&'a Entry>, CatalogueError> {
    let arch = match std::env::consts::ARCH {
        "aarch64" => Arch::Arm64,
        _ => Arch::Amd64,
    };
    let mut selection = file.selection();
    selection.clients = true;
    let wanted = Catalogue::builtin().assets(&selection)?;
    let names = ["kops".to_owned(), format!("kops-linux-{}", arch.name())];
    let asset = wanted.assets.iter().find(|asset| {
        asset.arch == Some(arch) && names.iter().any(|name| asset.key.file_name() == name)
    });
    let entries = indexes.iter().flat_map(|index| &index.files);
    Ok(asset.and_then(|asset| entries.clone().find(|entry| entry.key == asset.key)))
}

/// What is in a file; None where there is none.
async fn hash(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut hasher = Hasher::new(&[]);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).await? {
            0 => return Ok(Some(hasher.finish().sha256)),
            length => hasher.update(&chunk[..length]),
        }
    }
}

/// It stands at its path once it is whole and right.
async fn bring(
    mut content: Content,
    entry: &Entry,
    what: String,
    folder: &Path,
    path: &Path,
) -> Result<(), ProgramError> {
    let kept = |source| ProgramError::File {
        path: path.to_owned(),
        source,
    };
    tokio::fs::create_dir_all(folder).await.map_err(kept)?;
    let arriving = NamedTempFile::new_in(folder).map_err(kept)?;
    let mut file = tokio::fs::File::from_std(arriving.reopen().map_err(kept)?);
    let mut hasher = Hasher::new(&[]);
    while let Some(chunk) = content.chunks.try_next().await? {
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(kept)?;
    }
    file.sync_all().await.map_err(kept)?;
    drop(file);
    let got = hasher.finish().sha256;
    if got != entry.sha256 {
        return Err(ProgramError::Changed {
            what,
            expected: entry.sha256,
            got,
        });
    }
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(arriving.path(), executable).map_err(kept)?;
    arriving.persist(path).map_err(|error| kept(error.error))?;
    Ok(())
}
