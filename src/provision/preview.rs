//! kops' own dry run, on a copy: writing the manifest into the state store would already change the cluster's configuration, so that is
//! copied into a folder, and kops works on the copy. Keys and what else kops has made stay where they are: a dry run only reads them, and with
//! any other place for them kops would find each file that names the place to be changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_yaml_ng::Value;

use super::kept::{Kept, KeptError, write_in};
use super::{StepError, readback};
use crate::asset::Key;
use crate::cluster::Manifest;
use crate::kops::{Kops, KopsOptions, Preview};
use crate::store::Store;

/// Objects copied at a time.
const AT_ONCE: usize = 16;

/// What kops would do with the manifest, and what it says that it will download.
#[derive(Debug)]
pub struct Previewed {
    pub preview: Preview,
    /// As JSON; None where this release can't say, or could not.
    pub assets: Option<String>,
    /// The cluster as kops has it before; None where it has none.
    pub before: Option<Vec<Value>>,
    /// And after.
    pub after: Vec<Value>,
}

/// Where kops works on the copy.
#[derive(Debug, Clone)]
pub enum Scratch {
    /// Below the folder of the work.
    Folder,
    /// A part of the state store that is nobody's, for releases that take no folder, as kops has it and as it is written to.
    Bucket {
        state_store: String,
        store: Arc<dyn Store>,
    },
}

/// Where kops has the cluster's keys and what it has made of its configuration, while it works on the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// Where the cluster has them.
    Own,
    /// In the copy: there is nothing of a new cluster yet, and a key that kops lacks must not be written elsewhere.
    Copy,
}

impl Base {
    fn of(keys: &[Key], public_key: Option<&Path>) -> Self {
        let has = |prefix: &str| keys.iter().any(|key| key.as_str().starts_with(prefix));
        let has_key = public_key.is_none() || has("pki/ssh/public/");
        match keys.iter().any(|key| key.as_str() == "config") && has_key {
            true => Self::Own,
            false => Self::Copy,
        }
    }

    fn is_copied(self, key: &Key) -> bool {
        let key = key.as_str();
        self == Self::Copy || key == "config" || key.starts_with("instancegroup/")
    }
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Proposed<'a> {
    pub manifest: &'a Manifest,
    /// Whether this very manifest is what was last written into the state store.
    pub is_written: bool,
    /// The key that hosts are to let in.
    pub public_key: Option<&'a Path>,
    /// What is not there yet that kops' dry run would stumble over: then it is not asked for one.
    pub lacking: Option<&'a str>,
}

/// Copies what kops has of the cluster, and lets it say what it would do. Nothing outside of the scratch is changed, and no copy stays.
pub async fn preview(
    options: KopsOptions,
    scratch: &Scratch,
    state: Option<&Arc<dyn Store>>,
    proposed: Proposed<'_>,
) -> Result<Previewed, StepError> {
    let folder = options.folder.join("preview");
    remove(&folder)?;
    let copy = folder.join("state").join(&options.cluster);
    let state_store = match scratch {
        Scratch::Folder => format!("file://{}", folder.join("state").display()),
        Scratch::Bucket { state_store, .. } => state_store.clone(),
    };
    if let Scratch::Bucket { store, .. } = scratch {
        empty(store).await?;
    }
    let keys = match state {
        Some(state) => keys(state).await?,
        None => Vec::new(),
    };
    let base = Base::of(&keys, proposed.public_key);
    if let Some(state) = state {
        copy_all(state, scratch, &copy, keys, base).await?;
    }
    let options = KopsOptions {
        state_store,
        folder: folder.clone(),
        ..options
    };
    let previewed = on_copy(options, state.is_some(), base, proposed).await;
    if let Scratch::Bucket { store, .. } = scratch {
        empty(store).await?;
    }
    remove(&folder.join("state"))?;
    previewed
}

async fn on_copy(
    options: KopsOptions,
    has_state: bool,
    base: Base,
    proposed: Proposed<'_>,
) -> Result<Previewed, StepError> {
    let copied = format!("{}/{}", options.state_store, options.cluster);
    let folder = options.folder.clone();
    let kops = Kops::new(options).await?;
    let before = match has_state {
        true => kops.read().await?,
        false => None,
    };
    let mut local = proposed.manifest.clone();
    if base == Base::Copy {
        local.cluster["spec"]["configBase"] = Value::String(copied);
    }
    // What is there already is not written again: that alone would be a change to kops.
    let is_there = |before: &Vec<Value>| readback::dropped(&local, before).is_empty();
    if !(proposed.is_written && before.as_ref().is_some_and(is_there)) {
        write_in(&folder, "manifest.yaml", local.to_string().as_bytes())?;
        kops.replace(&folder.join("manifest.yaml")).await?;
    }
    if let (Some(key), Base::Copy) = (proposed.public_key, base) {
        let key = std::path::absolute(key).unwrap_or_else(|_| key.to_owned());
        kops.add_key(&key).await?;
    }
    let after = kops.read().await?.unwrap_or_default();
    let assets = match kops.assets().await {
        Ok(assets) => assets,
        Err(error) => {
            // Releases read digests from hosts that can't be reached for this; the catalogue's list stands alone then.
            tracing::info!(
                "kops can't list its assets: {}",
                crate::events::told(&error)
            );
            None
        }
    };
    let preview = match proposed.lacking {
        None => kops.preview().await?,
        Some(what) => Preview {
            text: format!("(it is asked when the rest is there: {what})"),
            has_changes: true,
        },
    };
    Ok(Previewed {
        preview,
        assets,
        before,
        after,
    })
}

async fn keys(state: &Arc<dyn Store>) -> Result<Vec<Key>, StepError> {
    let listing = state.list().await.map_err(KeptError::from)?;
    let keys = listing.objects.into_iter().map(|object| object.key);
    Ok(keys.collect())
}

fn remove(folder: &Path) -> Result<(), StepError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(file(folder, source)),
        _ => Ok(()),
    }
}

async fn copy_all(
    state: &Arc<dyn Store>,
    scratch: &Scratch,
    folder: &Path,
    keys: Vec<Key>,
    base: Base,
) -> Result<(), StepError> {
    let copies: Vec<_> = keys
        .into_iter()
        .filter(|key| base.is_copied(key))
        .map(|key| copy_one(state, scratch, folder, key))
        .collect();
    stream::iter(copies)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(())
}

async fn copy_one(
    state: &Arc<dyn Store>,
    scratch: &Scratch,
    folder: &Path,
    key: Key,
) -> Result<(), KeptError> {
    let Some(content) = state.open(&key).await? else {
        return Ok(());
    };
    let chunks: Vec<_> = content.chunks.try_collect().await?;
    match scratch {
        Scratch::Folder => {
            let path = PathBuf::from(key.as_str());
            let folder = folder.join(path.parent().unwrap_or(Path::new("")));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            write_in(&folder, &name, &chunks.concat())
        }
        Scratch::Bucket { store, .. } => {
            let kept = Kept::new(Arc::clone(store));
            kept.write(key.as_str(), chunks.concat()).await
        }
    }
}

async fn empty(store: &Arc<dyn Store>) -> Result<(), StepError> {
    Ok(Kept::new(Arc::clone(store)).forget().await?)
}

fn file(path: &Path, source: std::io::Error) -> StepError {
    StepError::Kept(KeptError::File {
        path: path.to_owned(),
        source,
    })
}
