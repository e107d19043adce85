//! As blocks: each disk's snapshot is read and written block by block, each compared with its SHA-256 at both ends. No bucket is
//! needed, and what is not used of a disk does not cross.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::blocks::Blocks;
use super::{Copied, Trip, token};
use crate::ami::failure::AmiError;
use crate::ami::mark::{Role, made_of};
use crate::ami::wait::{Which, available};
use crate::asset::Key;
use crate::cloud::{
    BLOCK_BYTES, BlockDevice, Image, Listed, NewSnapshot, RegisteredImage, Snapshot, SnapshotState,
    Tag,
};
use crate::events::Event;

/// Blocks on their way at a time: 32 MiB of memory.
const ABREAST: usize = 64;

/// Which disk of the image a snapshot is.
const DEVICE: &str = "kops-mirror/device";

/// How long AWS keeps a snapshot that nothing is written to, in minutes: a run that broke may be taken up a day later.
const KEPT_MINUTES: u32 = 24 * 60;

/// What of a disk crossed.
#[derive(Default)]
struct Crossed {
    carried: AtomicU64,
    resumed: AtomicU64,
}

pub(super) async fn bring(trip: &Trip<'_>, own: &Image, name: &str) -> Result<Copied, AmiError> {
    let crossed = Crossed::default();
    let mut devices = Vec::new();
    let mut snapshots = Vec::new();
    for device in &own.devices {
        let mut device = device.clone();
        if let Some(ebs) = &mut device.ebs
            && let Some(source) = ebs.snapshot_id.take()
        {
            let snapshot = disk(trip, &device.device_name, &source, &crossed).await?;
            ebs.snapshot_id = Some(snapshot.clone());
            snapshots.push(snapshot);
        }
        devices.push(device);
    }
    let image = registered(trip, own, name, &devices, &snapshots).await?;
    Ok(Copied {
        image,
        by: Some("ebs-direct"),
        carried_bytes: crossed.carried.into_inner(),
        resumed_bytes: crossed.resumed.into_inner(),
        sha256: None,
    })
}

async fn registered(
    trip: &Trip<'_>,
    own: &Image,
    name: &str,
    devices: &[BlockDevice],
    snapshots: &[String],
) -> Result<Image, AmiError> {
    let tags = trip.tags(Role::Image);
    let new = RegisteredImage {
        name,
        like: own,
        devices,
        tags: &tags,
    };
    let id = trip.target.register_image(new).await?;
    let image = available(trip.target, Which::Id(&id), trip.order.pace, trip.observer).await?;
    let ids: Vec<&str> = snapshots.iter().map(String::as_str).collect();
    if !ids.is_empty() {
        trip.target.tag(&ids, &tags).await?;
    }
    Ok(image)
}

/// Carries one disk; gives the snapshot's id in the target's region.
async fn disk(
    trip: &Trip<'_>,
    device: &str,
    source: &str,
    crossed: &Crossed,
) -> Result<String, AmiError> {
    let begun = begun(trip, device).await?;
    if let Some(snapshot) = &begun
        && snapshot.state == SnapshotState::Completed
    {
        return Ok(snapshot.snapshot_id.clone());
    }
    let first = trip.source.blocks(source, None).await?;
    let snapshot = match begun {
        Some(snapshot) => snapshot.snapshot_id,
        None => begin(trip, device, source, first.volume_size).await?,
    };
    let blocks = Blocks::open(&trip.order.journal, &snapshot)?;
    let key: Option<Key> = snapshot.parse().ok();
    if let Some(key) = key.clone() {
        let resumed_bytes = blocks.count() * BLOCK_BYTES as u64;
        crossed.resumed.fetch_add(resumed_bytes, Ordering::Relaxed);
        trip.observer.event(&Event::Started {
            key,
            length: None,
            resumed_bytes,
        });
    }
    let mut page = first;
    loop {
        let missing: Vec<Listed> = page
            .blocks
            .into_iter()
            .filter(|block| !blocks.has(block.block_index))
            .collect();
        let carrying: Vec<_> = missing
            .iter()
            .map(|listed| {
                block(
                    trip,
                    (source, &snapshot),
                    listed,
                    &blocks,
                    (crossed, key.as_ref()),
                )
            })
            .collect();
        stream::iter(carrying)
            .buffer_unordered(ABREAST)
            .try_collect::<()>()
            .await?;
        let Some(next) = page.next_token.filter(|next| !next.is_empty()) else {
            break;
        };
        page = trip.source.blocks(source, Some(&next)).await?;
    }
    trip.target
        .complete_snapshot(&snapshot, blocks.count(), blocks.linear())
        .await?;
    completed(trip, &snapshot).await?;
    blocks.forget();
    Ok(snapshot)
}

/// A snapshot of this disk from an earlier run, unless AWS has given it up.
async fn begun(trip: &Trip<'_>, device: &str) -> Result<Option<Snapshot>, AmiError> {
    let found = trip
        .target
        .snapshots(&[], &made_of(&trip.what(), Role::Way))
        .await?;
    let of_device = found
        .into_iter()
        .filter(|snapshot| snapshot.tag(DEVICE) == Some(device));
    let usable = of_device.filter(|snapshot| {
        matches!(
            snapshot.state,
            SnapshotState::Pending | SnapshotState::Completed
        )
    });
    Ok(usable.max_by(|a, b| {
        (a.state == SnapshotState::Completed).cmp(&(b.state == SnapshotState::Completed))
    }))
}

async fn begin(
    trip: &Trip<'_>,
    device: &str,
    source: &str,
    volume_size: u64,
) -> Result<String, AmiError> {
    let mut tags = trip.tags(Role::Way);
    tags.push(Tag::new(DEVICE, device));
    let description = format!("{device} of {}, from {source}", trip.what());
    let new = NewSnapshot {
        volume_size,
        description: &description,
        token: &token(),
        tags: &tags,
        timeout_minutes: KEPT_MINUTES,
    };
    Ok(trip.target.start_snapshot(&new).await?.snapshot_id)
}

async fn block(
    trip: &Trip<'_>,
    (from, to): (&str, &str),
    listed: &Listed,
    blocks: &Blocks,
    (crossed, key): (&Crossed, Option<&Key>),
) -> Result<(), AmiError> {
    let block = trip.source.block(from, listed).await?;
    let bytes = block.data.len() as u64;
    crossed.carried.fetch_add(bytes, Ordering::Relaxed);
    if let Some(key) = key {
        trip.observer.event(&Event::Received {
            key: key.clone(),
            bytes,
        });
    }
    if block.is_zero() {
        return blocks.add(listed.block_index, None);
    }
    trip.target
        .put_block(to, listed.block_index, &block)
        .await?;
    blocks.add(listed.block_index, Some(block.sha256))
}

async fn completed(trip: &Trip<'_>, snapshot: &str) -> Result<(), AmiError> {
    let mut wait = trip.order.pace.begin();
    loop {
        let found = match trip.target.snapshots(&[snapshot], &[]).await {
            Ok(found) => found.into_iter().next(),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(found) if found.state == SnapshotState::Completed => return Ok(()),
            Some(found) if found.state == SnapshotState::Error => {
                let what = format!("complete {snapshot} in {}", trip.target.region());
                return Err(AmiError::GaveUp {
                    what,
                    why: found.status_message,
                });
            }
            _ => {}
        }
        if !wait.pause().await {
            let what = format!("{snapshot} in {}", trip.target.region());
            return Err(AmiError::TooLate {
                what,
                until: "completed",
                waited: wait.waited(),
            });
        }
    }
}
