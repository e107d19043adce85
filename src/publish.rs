//! Puts verified content at a target, or content that is being verified while it arrives, and its sidecars after it.
//!
//! The only retry loop on the store's side: a put is one attempt, and what it needs is in the spool, so nothing is fetched
//! again. Whoever writes the same key at the same time writes the same verified content; a condition that fails is therefore
//! looked into, not feared.

use std::collections::BTreeMap;

use tokio::time::sleep;

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
    mut condition: Condition,
    policy: Policy,
    observer: &dyn Observer,
) -> Result<(), StoreError> {
    let wanted = ETag::from(content.digests().md5);
    let mut attempts = Attempts::new(policy);
    loop {
        let Err(error) = store.put(key, content, attributes, &condition).await else {
            return Ok(());
        };
        if error.kind == StoreErrorKind::ConditionFailed {
            // Another run was here, or an earlier attempt of ours whose answer was lost.
            let there = store.stat(key).await?.map(|stat| stat.object.etag);
            if there.as_ref() == Some(&wanted) {
                return Ok(());
            }
            condition = there.map_or(Condition::Absent, Condition::Unchanged);
        }
        let again =
            error.class() == Class::Transient || error.kind == StoreErrorKind::ConditionFailed;
        let Some(pause) = again.then(|| attempts.failed()).flatten() else {
            return Err(error);
        };
        observer.event(&Event::Retrying {
            key: key.clone(),
            why: told(&error),
            pause,
        });
        sleep(pause).await;
    }
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
        let mut attempts = Attempts::new(policy);
        while let Err(error) = store
            .put(&sidecar, &content, &attributes, &Condition::Any)
            .await
        {
            let pause = (error.class() == Class::Transient)
                .then(|| attempts.failed())
                .flatten();
            let Some(pause) = pause else {
                return Err(error);
            };
            observer.event(&Event::Retrying {
                key: sidecar.clone(),
                why: told(&error),
                pause,
            });
            sleep(pause).await;
        }
    }
    Ok(())
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
