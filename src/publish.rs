//! Puts verified content at a target, or content that is being verified while it arrives, and its sidecars after it.
//!
//! The only retry loop on the store's side: a put is one attempt, and what it needs is in the spool, so nothing is fetched
//! again. Whoever writes the same key at the same time writes the same verified content; a condition that fails is therefore
//! looked into, not feared.

mod staged;

use std::collections::BTreeMap;

use tokio::time::sleep;

pub use self::staged::Batch;
use crate::asset::{Asset, Key};
use crate::digest::{Algorithm, Digests};
use crate::events::{Event, Observer, told};
use crate::index;
use crate::retry::{Attempts, Class, Policy};
use crate::store::{Attributes, Condition, ETag, Store, StoreError, StoreErrorKind};
use crate::verify::{Arriving, Verified};

/// Puts content at one key while it still arrives: one attempt, whose failure is nobody's but this file's, which is then put when
/// it is whole. Says whether it is there.
pub async fn while_arriving(
    store: &dyn Store,
    key: &Key,
    content: &Arriving,
    attributes: &Attributes,
    condition: &Condition,
) -> bool {
    match store.put(key, content, attributes, condition).await {
        Ok(_) => true,
        Err(error) => {
            tracing::info!("{key} is put when it is whole: {}", told(&error));
            false
        }
    }
}

/// Puts content at one key until it is there. `condition` says what was there when it was planned.
pub async fn object(
    store: &dyn Store,
    key: &Key,
    content: &Verified,
    attributes: &Attributes,
    condition: Condition,
    policy: Policy,
    observer: &dyn Observer,
) -> Result<(), StoreError> {
    let patience = Patience {
        key,
        policy,
        observer,
    };
    let put = |condition| async move { store.put(key, content, attributes, &condition).await };
    patience.until_there(store, content, condition, put).await
}

/// Writes sidecars from what was verified, in the given order.
pub async fn sidecars(
    store: &dyn Store,
    key: &Key,
    digests: &Digests,
    sidecars: &[Algorithm],
    policy: Policy,
    observer: &dyn Observer,
) -> Result<(), StoreError> {
    for &algorithm in sidecars {
        let digest = digests
            .get(algorithm)
            .expect("sidecars are only planned for algorithms that are computed");
        let content = index::sidecar(&digest);
        let attributes = Attributes {
            content_type: "text/plain".to_owned(),
            metadata: BTreeMap::new(),
        };
        let sidecar = key.sidecar(algorithm);
        let patience = Patience {
            key: &sidecar,
            policy,
            observer,
        };
        let put = || store.put(&sidecar, &content, &attributes, &Condition::Any);
        patience.with(put).await?;
    }
    Ok(())
}

/// How what is done for one key is tried again.
#[derive(Debug, Clone, Copy)]
struct Patience<'a> {
    key: &'a Key,
    policy: Policy,
    observer: &'a dyn Observer,
}

impl Patience<'_> {
    /// Tries until it succeeds, for as long as it is worth another attempt.
    async fn with<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempts = Attempts::new(self.policy);
        loop {
            match attempt().await {
                Err(error) if error.class() == Class::Transient => {
                    self.pause(&mut attempts, error).await?;
                }
                ended => return ended,
            }
        }
    }

    /// Tries until the content is at the key, under a condition that follows what is there.
    async fn until_there<F>(
        &self,
        store: &dyn Store,
        content: &Verified,
        mut condition: Condition,
        mut attempt: impl FnMut(Condition) -> F,
    ) -> Result<(), StoreError>
    where
        F: Future<Output = Result<ETag, StoreError>>,
    {
        let wanted = ETag::from(content.digests().md5);
        let mut attempts = Attempts::new(self.policy);
        loop {
            let Err(error) = attempt(condition.clone()).await else {
                return Ok(());
            };
            let lost_the_race = error.kind == StoreErrorKind::ConditionFailed;
            if lost_the_race {
                // Another run was here, or an earlier attempt of ours whose answer was lost.
                let there = store.stat(self.key).await?.map(|stat| stat.object.etag);
                if there.as_ref() == Some(&wanted) {
                    return Ok(());
                }
                condition = there.map_or(Condition::Absent, Condition::Unchanged);
            }
            if !lost_the_race && error.class() != Class::Transient {
                return Err(error);
            }
            self.pause(&mut attempts, error).await?;
        }
    }

    /// Pauses after a failure, or gives it back when it is time to give up.
    async fn pause(&self, attempts: &mut Attempts, error: StoreError) -> Result<(), StoreError> {
        let Some(pause) = attempts.failed() else {
            return Err(error);
        };
        self.observer.event(&Event::Retrying {
            key: self.key.clone(),
            why: told(&error),
            pause,
        });
        sleep(pause).await;
        Ok(())
    }
}

/// What goes with an asset's object: enough to know what it is without any index.
pub fn attributes(asset: &Asset, digests: &Digests) -> Attributes {
    let metadata = BTreeMap::from([
        ("sha256".to_owned(), digests.sha256.hex()),
        ("md5".to_owned(), digests.md5.hex()),
        ("canonical-url".to_owned(), asset.canonical.to_string()),
    ]);
    Attributes {
        content_type: content_type(&asset.key).to_owned(),
        metadata,
    }
}

fn content_type(key: &Key) -> &'static str {
    let name = key.file_name();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "xz" => "application/x-xz",
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "txt" | "sha1" | "sha256" | "docker_tag" => "text/plain",
        _ => "application/octet-stream",
    }
}
