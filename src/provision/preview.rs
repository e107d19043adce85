//! kops' own dry run, on a copy: writing the manifest into the state store would already change the cluster's configuration, so what is
//! there is copied into a folder, and kops works on that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_yaml_ng::Value;

use super::StepError;
use super::kept::{Kept, KeptError, write_in};
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

/// Copies what kops has of the cluster, and lets it say what it would do. Nothing outside of the scratch is changed.
pub async fn preview(
    options: KopsOptions,
    scratch: &Scratch,
    state: Option<&Arc<dyn Store>>,
    manifest: &Manifest,
    public_key: Option<&Path>,
) -> Result<Previewed, StepError> {
    let folder = options.folder.join("preview");
    start_anew(&folder)?;
    let copy = folder.join("state").join(&options.cluster);
    let state_store = match scratch {
        Scratch::Folder => format!("file://{}", folder.join("state").display()),
        Scratch::Bucket { state_store, .. } => state_store.clone(),
    };
    if let Scratch::Bucket { store, .. } = scratch {
        empty(store).await?;
    }
    if let Some(state) = state {
        copy_all(state, scratch, &copy).await?;
    }
    let options = KopsOptions {
        state_store,
        folder,
        ..options
    };
    let previewed = on_copy(options, state.is_some(), manifest, public_key).await;
    if let Scratch::Bucket { store, .. } = scratch {
        empty(store).await?;
    }
    previewed
}

async fn on_copy(
    options: KopsOptions,
    has_state: bool,
    manifest: &Manifest,
    public_key: Option<&Path>,
) -> Result<Previewed, StepError> {
    let base = format!("{}/{}", options.state_store, options.cluster);
    let folder = options.folder.clone();
    let kops = Kops::new(options).await?;
    let before = match has_state {
        true => kops.read().await?,
        false => None,
    };
    let mut local = manifest.clone();
    local.cluster["spec"]["configBase"] = Value::String(base);
    write_in(&folder, "manifest.yaml", local.to_string().as_bytes())?;
    kops.replace(&folder.join("manifest.yaml")).await?;
    if let Some(key) = public_key {
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
    Ok(Previewed {
        preview: kops.preview().await?,
        assets,
        before,
        after,
    })
}

fn start_anew(folder: &Path) -> Result<(), StepError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(file(folder, source)),
        _ => Ok(()),
    }
}

async fn copy_all(
    state: &Arc<dyn Store>,
    scratch: &Scratch,
    folder: &Path,
) -> Result<(), StepError> {
    let listing = state.list().await.map_err(KeptError::from)?;
    let keys = listing.objects.into_iter().map(|object| object.key);
    let copies: Vec<_> = keys
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
