//! What was made here for a cluster and is still there: found by its tags and by the journal, either of which may be lost.

use super::image::source_of;
use super::journal::{Made, MadeKind};
use crate::ami::{self, AmiError, Kind, Leftover, Role};
use crate::cloud::{CLUSTER_TAG, Cloud, Filter};
use crate::cluster::ClusterFile;
use crate::events::{Event, Observer, told};

/// Something that was made here.
#[derive(Debug, Clone)]
pub struct Remnant {
    pub leftover: Leftover,
    cloud: Cloud,
}

impl Remnant {
    /// As the journal has it.
    pub fn made(&self) -> Made {
        Made {
            kind: self.leftover.kind.into(),
            id: self.leftover.id.clone(),
            region: self.cloud.region().to_owned(),
        }
    }

    /// Whether it is what was asked for, which others may use by now: it goes only when that is said.
    pub fn is_image(&self) -> bool {
        self.leftover.kind == Kind::Image && self.leftover.role == Role::Image.name()
    }

    /// In a reader's words.
    pub fn words(&self) -> String {
        let kind = match self.leftover.kind {
            Kind::Image => "image",
            Kind::Snapshot => "snapshot",
            Kind::Instance => "instance",
        };
        let name = self.leftover.name.as_deref().unwrap_or("without a name");
        let (id, region) = (&self.leftover.id, self.cloud.region());
        format!("{kind} {id} in {region} ({name})")
    }

    pub async fn remove(&self) -> Result<(), AmiError> {
        ami::remove(&self.cloud, &self.leftover).await
    }
}

/// What is left in the cluster's region, and in the one that its image comes from. An account there that can't be asked is told of, and
/// stops nothing.
pub async fn remnants(
    cloud: &Cloud,
    file: &ClusterFile,
    made: &[Made],
    observer: &dyn Observer,
) -> Result<Vec<Remnant>, AmiError> {
    let mut found = in_region(cloud, file, made).await?;
    if let Some(copy) = &file.image.copy {
        let elsewhere = async {
            let source = source_of(copy).await?;
            in_region(&source, file, made).await
        };
        match elsewhere.await {
            Ok(more) => found.extend(more),
            Err(error) => {
                let what = format!(
                    "what is left of the image's copy in {} is not known: {}",
                    copy.from_region,
                    told(&error)
                );
                observer.event(&Event::Warned { what });
            }
        }
    }
    // Instances first: they hold what the others are made of.
    found.sort_by_key(|remnant| match remnant.leftover.kind {
        Kind::Instance => 0,
        Kind::Image => 1,
        Kind::Snapshot => 2,
    });
    Ok(found)
}

async fn in_region(
    cloud: &Cloud,
    file: &ClusterFile,
    made: &[Made],
) -> Result<Vec<Remnant>, AmiError> {
    let mut found = ami::leftovers(cloud, Some(&file.name)).await?;
    for made in made.iter().filter(|made| made.region == cloud.region()) {
        let Some(kind) = kind_of(made.kind) else {
            continue;
        };
        let is_known =
            |leftover: &Leftover| leftover.id == made.id || leftover.snapshots.contains(&made.id);
        if !found.iter().any(is_known) {
            found.extend(ami::standing(cloud, kind, &made.id).await?);
        }
    }
    let remnant = |leftover| Remnant {
        leftover,
        cloud: cloud.clone(),
    };
    Ok(found.into_iter().map(remnant).collect())
}

fn kind_of(kind: MadeKind) -> Option<Kind> {
    match kind {
        MadeKind::Bucket => None,
        MadeKind::Image => Some(Kind::Image),
        MadeKind::Snapshot => Some(Kind::Snapshot),
        MadeKind::Instance => Some(Kind::Instance),
    }
}

/// Hosts of the cluster that are there, by their tag. Without its state kops does not find them.
pub async fn hosts(cloud: &Cloud, cluster: &str) -> Result<Vec<String>, AmiError> {
    let found = cloud
        .living(vec![Filter::tag(CLUSTER_TAG, cluster)])
        .await?;
    Ok(found
        .into_iter()
        .map(|instance| instance.instance_id)
        .collect())
}
