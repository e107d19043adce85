//! What was made here and is still there.

use serde::Serialize;

use super::failure::AmiError;
use super::mark::{self, CLUSTER, ROLE, Role, SOURCE};
use crate::cloud::{Cloud, CloudError, Image, Images, Instance, Snapshot, Tag};

/// Something that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    pub id: String,
    pub kind: Kind,
    /// `image` or `way`
    pub role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// ISO 8601.
    pub since: String,
    /// The snapshots that go with an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Image,
    /// One that belongs to no image of ours.
    Snapshot,
    /// A builder.
    Instance,
}

/// What there is of a cluster's, or of all; the newest last.
pub async fn leftovers(cloud: &Cloud, cluster: Option<&str>) -> Result<Vec<Leftover>, AmiError> {
    let filters = mark::made(cluster);
    let which = Images {
        owners: vec!["self".to_owned()],
        filters: filters.clone(),
        ..Images::default()
    };
    let mut found: Vec<Leftover> = cloud.images(&which).await?.iter().map(of_image).collect();
    let of_images: Vec<String> = found
        .iter()
        .flat_map(|image| image.snapshots.clone())
        .collect();
    let snapshots = cloud.snapshots(&[], &filters).await?;
    let alone = snapshots
        .iter()
        .filter(|snapshot| !of_images.contains(&snapshot.snapshot_id));
    found.extend(alone.map(of_snapshot));
    let instances = cloud.living(filters).await?;
    found.extend(instances.iter().map(of_instance));
    found.sort_by(|a, b| (&a.since, a.kind, &a.id).cmp(&(&b.since, b.kind, &b.id)));
    Ok(found)
}

/// Takes it away, an image with its snapshots.
pub async fn remove(cloud: &Cloud, leftover: &Leftover) -> Result<(), AmiError> {
    match leftover.kind {
        Kind::Image => {
            cloud.deregister_image(&leftover.id).await?;
            for snapshot in &leftover.snapshots {
                cloud.delete_snapshot(snapshot).await?;
            }
        }
        Kind::Snapshot => cloud.delete_snapshot(&leftover.id).await?,
        Kind::Instance => cloud.terminate_instance(&leftover.id).await?,
    }
    tracing::info!("removed {} in {}", leftover.id, cloud.region());
    Ok(())
}

/// Takes an image and its snapshots away.
pub async fn gone(cloud: &Cloud, image: &Image) -> Result<(), AmiError> {
    remove(cloud, &of_image(image)).await
}

/// What stands there by this id, whatever its tags; None where it is gone.
pub async fn standing(cloud: &Cloud, kind: Kind, id: &str) -> Result<Option<Leftover>, AmiError> {
    let gone = |error: CloudError| match error.is_not_found() {
        true => Ok(None),
        false => Err(error.into()),
    };
    match kind {
        Kind::Image => Ok(cloud.image(id).await?.as_ref().map(of_image)),
        Kind::Snapshot => match cloud.snapshots(&[id], &[]).await {
            Ok(found) => Ok(found.first().map(of_snapshot)),
            Err(error) => gone(error),
        },
        Kind::Instance => match cloud.instances(&[id], &[]).await {
            Ok(found) => {
                let living = found.iter().find(|found| found.is_living());
                Ok(living.map(of_instance))
            }
            Err(error) => gone(error),
        },
    }
}

fn of_image(image: &Image) -> Leftover {
    let snapshots = image.snapshots().map(str::to_owned).collect();
    let since = image.creation_date.clone();
    of_tags(
        &image.image_id,
        Kind::Image,
        &image.tags,
        image.name.clone(),
        since,
        snapshots,
    )
}

fn of_snapshot(snapshot: &Snapshot) -> Leftover {
    let name = snapshot.description.clone();
    of_tags(
        &snapshot.snapshot_id,
        Kind::Snapshot,
        &snapshot.tags,
        name,
        snapshot.start_time.clone(),
        Vec::new(),
    )
}

fn of_instance(instance: &Instance) -> Leftover {
    of_tags(
        &instance.instance_id,
        Kind::Instance,
        &instance.tags,
        instance.tag("Name").map(str::to_owned),
        instance.launch_time.clone(),
        Vec::new(),
    )
}

fn of_tags(
    id: &str,
    kind: Kind,
    tags: &[Tag],
    name: Option<String>,
    since: String,
    snapshots: Vec<String>,
) -> Leftover {
    let tag = |key: &str| {
        tags.iter()
            .find(|tag| tag.key == key)
            .map(|tag| tag.value.clone())
    };
    Leftover {
        id: id.to_owned(),
        kind,
        role: Role::named(&tag(ROLE).unwrap_or_default()).name(),
        cluster: tag(CLUSTER),
        source: tag(SOURCE),
        name,
        since,
        snapshots,
    }
}
