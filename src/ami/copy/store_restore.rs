//! As one object: EC2 puts the image into a bucket, the object crosses, EC2 makes an image of it. This is the way that AWS documents
//! for images between partitions ("Store and restore an AMI using S3"); the crossing it leaves to others.

use std::collections::BTreeSet;

use super::object::{Carriage, Carried};
use super::{Buckets, Copied, Trip, object_key};
use crate::ami::failure::AmiError;
use crate::ami::mark::Role;
use crate::ami::wait::{Which, available};
use crate::cloud::{Image, StoreState, StoreTask};
use crate::events::Event;
use crate::retry::Class;

pub(super) async fn bring(trip: &Trip<'_>, own: &Image, name: &str) -> Result<Copied, AmiError> {
    let buckets = trip.buckets.ok_or_else(|| {
        AmiError::Refused(
            "store-restore needs a private bucket at both ends: give --from-bucket and --to-bucket, or use --engine ebs-direct"
                .to_owned(),
        )
    })?;
    let key = stored(trip, own, buckets).await?;
    let tags = trip
        .tags(Role::Way)
        .into_iter()
        .map(|tag| (tag.key, tag.value));
    let mut tags: std::collections::BTreeMap<_, _> = tags.collect();
    // What EC2 wrote to the object goes along: it is not told what restoring reads of it.
    tags.extend(buckets.from.tags(&key).await?);
    let carriage = Carriage {
        from: &buckets.from,
        to: &buckets.to,
        key: &key,
        tags,
        observer: trip.observer,
    };
    let Carried {
        bytes,
        resumed,
        sha256,
    } = carriage.carry().await?;
    let tags = trip.tags(Role::Image);
    let id = trip
        .target
        .restore_image(buckets.to.bucket(), &key, name, &tags)
        .await?;
    let image = available(trip.target, Which::Id(&id), trip.order.pace, trip.observer).await?;
    Ok(Copied {
        image,
        by: Some("store-restore"),
        carried_bytes: bytes,
        resumed_bytes: resumed,
        sha256: sha256.map(|digest| digest.hex()),
    })
}

/// Lets EC2 put the image into the bucket, unless it has; gives the object's key.
async fn stored(trip: &Trip<'_>, own: &Image, buckets: &Buckets) -> Result<String, AmiError> {
    let id = &own.image_id;
    let bucket = buckets.from.bucket();
    let of_bucket =
        |tasks: Vec<StoreTask>| tasks.into_iter().filter(move |task| task.bucket == bucket);
    let tasks: Vec<StoreTask> = of_bucket(trip.source.store_tasks(id).await?).collect();
    let failed: BTreeSet<String> = tasks
        .iter()
        .filter(|task| task.state == StoreState::Failed)
        .map(|task| task.task_start_time.clone())
        .collect();
    let is_under_way = tasks
        .iter()
        .any(|task| task.state == StoreState::InProgress);
    let key = object_key(id);
    if !is_under_way {
        if buckets.from.look(&key).await?.is_some() {
            return Ok(key);
        }
        trip.source
            .store_image(id, bucket, &trip.tags(Role::Way))
            .await?;
    }
    let mut wait = trip.order.pace.begin();
    let mut told = None;
    loop {
        let tasks = match trip.source.store_tasks(id).await {
            Ok(tasks) => tasks,
            Err(error) if error.class() == Class::Transient => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut tasks = of_bucket(tasks).filter(|task| !failed.contains(&task.task_start_time));
        match tasks.next() {
            // The object is seen only when all of it is there, but a task of long ago may have been for one that was removed.
            Some(task)
                if task.state == StoreState::Completed
                    && buckets.from.look(&task.key).await?.is_some() =>
            {
                return Ok(task.key);
            }
            Some(task) if task.state == StoreState::Failed => {
                let what = format!("store {id} in s3://{bucket}");
                return Err(AmiError::GaveUp {
                    what,
                    why: task.why,
                });
            }
            Some(task) if told != Some(task.progress_percentage) => {
                told = Some(task.progress_percentage);
                let what = format!(
                    "EC2 to store {id} in s3://{bucket} ({} %)",
                    task.progress_percentage
                );
                trip.observer.event(&Event::Waiting { what });
            }
            _ => {}
        }
        if !wait.pause().await {
            let what = format!("{id} in s3://{bucket}");
            return Err(AmiError::TooLate {
                what,
                until: "stored",
                waited: wait.waited(),
            });
        }
    }
}
