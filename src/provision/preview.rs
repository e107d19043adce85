//! kops' own dry run, on a copy: writing the manifest into the state store would already change the cluster's configuration, so what is
//! there is copied into a folder, and kops works on that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_yaml_ng::Value;

use super::StepError;
use super::kept::{KeptError, write_in};
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

/// Copies what kops has of the cluster, and lets it say what it would do. Nothing outside of the folder is changed.
///
/// `lacking` says what is not there yet that kops' dry run would stumble over: then kops is not asked for one.
pub async fn preview(
    options: KopsOptions,
    state: Option<&Arc<dyn Store>>,
    manifest: &Manifest,
    public_key: Option<&Path>,
    lacking: Option<&str>,
) -> Result<Previewed, StepError> {
    let folder = options.folder.join("preview");
    let cluster = options.cluster.clone();
    start_anew(&folder)?;
    let copied = folder.join("state");
    std::fs::create_dir_all(&copied).map_err(|source| file(&copied, source))?;
    if let Some(state) = state {
        copy(state, &copied.join(&cluster)).await?;
    }
    let store = format!("file://{}", copied.display());
    let kops = Kops::new(KopsOptions {
        state_store: store.clone(),
        folder: folder.clone(),
        ..options
    })
    .await?;
    let before = match state {
        Some(_) => kops.read().await?,
        None => None,
    };
    let mut local = manifest.clone();
    local.cluster["spec"]["configBase"] = Value::String(format!("{store}/{cluster}"));
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
    let preview = match lacking {
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

fn start_anew(folder: &Path) -> Result<(), StepError> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(file(folder, source)),
        _ => Ok(()),
    }
}

async fn copy(state: &Arc<dyn Store>, folder: &Path) -> Result<(), StepError> {
    let listing = state.list().await.map_err(KeptError::from)?;
    let keys = listing.objects.into_iter().map(|object| object.key);
    let copies: Vec<_> = keys
        .map(|key| async move {
            let Some(content) = state.open(&key).await? else {
                return Ok(());
            };
            let chunks: Vec<_> = content
                .chunks
                .try_collect()
                .await
                .map_err(KeptError::from)?;
            let path = PathBuf::from(key.as_str());
            let folder = folder.join(path.parent().unwrap_or(Path::new("")));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            write_in(&folder, &name, &chunks.concat())
        })
        .collect();
    stream::iter(copies)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(())
}

fn file(path: &Path, source: std::io::Error) -> StepError {
    StepError::Kept(KeptError::File {
        path: path.to_owned(),
        source,
    })
}
