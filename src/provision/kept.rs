//! What is kept of a cluster beside kops' own state: the journal, the newest plan, the manifest, and who is at work.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::journal::{BadJournal, Journal};
use crate::asset::Key;
use crate::lease::{self, Lease, Owner, Taken};
use crate::retry::{Attempts, Policy};
use crate::store::{Attributes, Condition, Store, StoreError};
use crate::verify::Verified;

/// The journal's name, in the folder and in the state store.
const JOURNAL: &str = "state.json";

/// A second operator waits so long for one that was cut off.
const LEASE_TTL: std::time::Duration = std::time::Duration::from_secs(60);

/// The part of a state store that is ours: `s3://BUCKET/_provision/CLUSTER`.
#[derive(Debug, Clone)]
pub struct Kept {
    store: Arc<dyn Store>,
}

/// Why what is kept can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("can't read or write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the journal at {place}: {problem}")]
    Journal { place: String, problem: BadJournal },
    #[error(
        "{place} is being worked on by {owner}, until {until} if nobody renews that: wait for it"
    )]
    Taken {
        place: String,
        owner: Owner,
        until: Timestamp,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lost(#[from] lease::Lost),
}

impl Kept {
    /// In this store, whose prefix is the cluster's own.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Does what is to be done while the lock against two operators is held and renewed; gives it up when the lock is lost.
    pub async fn while_locked<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, KeptError> {
        let mut lease = self.lock().await?;
        let done = {
            let held = stop.child_token();
            let keeping = lease.keep(&Timestamp::now, &held);
            tokio::pin!(keeping, work);
            tokio::select! {
                done = &mut work => done,
                kept = &mut keeping => {
                    kept?;
                    work.await
                }
            }
        };
        // The place may be gone, with what was in it; else the others see it expire.
        let _ = lease.release(Timestamp::now()).await;
        Ok(done)
    }

    async fn lock(&self) -> Result<Lease, KeptError> {
        let (owner, now) = (Owner::this_process(), Timestamp::now());
        match Lease::take(&self.store, lease::Name::Whole, &owner, LEASE_TTL, now).await? {
            Taken::Ours(lease) | Taken::Unguarded(lease) => Ok(lease),
            Taken::Theirs { owner, until } => Err(KeptError::Taken {
                place: self.store.place().to_owned(),
                owner,
                until,
            }),
        }
    }

    /// The journal there; None where there is none.
    pub async fn journal(&self, cluster: &str) -> Result<Option<Journal>, KeptError> {
        let Some(text) = self.read(JOURNAL).await? else {
            return Ok(None);
        };
        let journal = Journal::parse(&text, cluster);
        journal.map(Some).map_err(|problem| KeptError::Journal {
            place: format!("{}/{JOURNAL}", self.store.place()),
            problem,
        })
    }

    /// Keeps the journal there.
    pub async fn keep(&self, journal: &Journal) -> Result<(), KeptError> {
        self.write(JOURNAL, journal.json()).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, KeptError> {
        let Some(content) = self.store.open(&key(name)).await? else {
            return Ok(None);
        };
        let chunks: Vec<Bytes> = content.chunks.try_collect().await?;
        Ok(Some(chunks.concat().into()))
    }

    /// Keeps a document there, again where that may help.
    pub async fn write(&self, name: &str, text: Vec<u8>) -> Result<(), KeptError> {
        let content = Verified::composed(text);
        let attributes = Attributes {
            content_type: "application/octet-stream".to_owned(),
            ..Attributes::default()
        };
        let (key, anything) = (key(name), Condition::Any);
        let mut attempts = Attempts::new(Policy::default());
        loop {
            let put = self.store.put(&key, &content, &attributes, &anything);
            let Err(error) = put.await else { return Ok(()) };
            let again =
                (error.class() == crate::retry::Class::Transient).then(|| attempts.failed());
            match again.flatten() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error.into()),
            }
        }
    }

    /// Removes everything that is kept there.
    pub async fn forget(&self) -> Result<(), KeptError> {
        let listing = self.store.list().await?;
        for object in listing.objects {
            self.store.delete(&object.key).await?;
        }
        Ok(())
    }
}

fn key(name: &str) -> Key {
    name.parse().expect("a file's name is a key")
}

/// The journal in a folder; None where there is none.
pub fn journal_in(folder: &Path, cluster: &str) -> Result<Option<Journal>, KeptError> {
    let path = folder.join(JOURNAL);
    match std::fs::read(&path) {
        Ok(text) => {
            let journal = Journal::parse(&text, cluster);
            journal.map(Some).map_err(|problem| KeptError::Journal {
                place: path.display().to_string(),
                problem,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeptError::File { path, source }),
    }
}

/// Keeps a document in a folder, whole or not at all.
pub fn write_in(folder: &Path, name: &str, text: &[u8]) -> Result<(), KeptError> {
    let path = folder.join(name);
    let written = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut file, text)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|source| KeptError::File {
        path: path.clone(),
        source,
    })
}

/// Removes the journal from a folder; one that is not there is none the worse.
pub fn forget_in(folder: &Path) -> Result<(), KeptError> {
    let path = folder.join(JOURNAL);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(KeptError::File { path, source })
        }
        _ => Ok(()),
    }
}

/// Keeps the journal in a folder.
pub fn keep_in(folder: &Path, journal: &Journal) -> Result<(), KeptError> {
    write_in(folder, JOURNAL, &journal.json())
}
