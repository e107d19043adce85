//! Copies an image, within a partition by CopyImage, between partitions by one of two engines.
//!
//! An image that is not the account's own can't be stored nor read by blocks, so a copy of its own in the source's region comes first.
//! Each step looks for what it would make, by its tags, before it makes it: so a copy that was killed is taken up, and asking twice
//! gives the same image. What is only for the way goes at the end.

mod blocks;
mod ebs_direct;
mod object;
mod store_restore;

use std::path::PathBuf;

use super::failure::AmiError;
use super::leftovers::gone;
use super::mark::{Mark, Role, is_ours, made_of};
use super::pace::Pace;
use super::wait::{Which, available};
use crate::cloud::{Cloud, CopyOf, Image, ImageState, Images, Tag};
use crate::cluster::CopyEngine;
use crate::events::{Event, Observer};
use crate::partition::Partition;
use crate::store::StoreError;
use crate::store::s3::{Depot, S3Options};

/// What is to be copied, and how.
#[derive(Debug, Clone)]
pub struct CopyOrder {
    /// `ami-…` in the source's region.
    pub source: String,
    /// What the copy is called; None: as the source.
    pub name: Option<String>,
    /// Between partitions.
    pub engine: CopyEngine,
    pub cluster: Option<String>,
    /// Where it is kept which blocks have been carried. It can be lost: then they are carried again.
    pub journal: PathBuf,
    pub pace: Pace,
    /// Whether what was made goes when the copy fails; else the next try takes it up.
    pub rollback: bool,
}

/// Where the object is on its way, for [`CopyEngine::StoreRestore`].
#[derive(Debug)]
pub struct Buckets {
    /// In the source's region.
    pub from: Depot,
    /// In the target's region.
    pub to: Depot,
}

impl Buckets {
    /// A private bucket of the account at either end.
    pub async fn connect(
        from: &str,
        source: &Cloud,
        to: &str,
        target: &Cloud,
    ) -> Result<Self, AmiError> {
        Ok(Self {
            from: depot(from, source).await?,
            to: depot(to, target).await?,
        })
    }
}

async fn depot(bucket: &str, cloud: &Cloud) -> Result<Depot, StoreError> {
    let settings = cloud.settings().clone();
    let options = S3Options {
        region: Some(settings.region),
        profile: settings.profile,
        keys: settings.keys,
        endpoint: settings.endpoint,
        ..S3Options::new(bucket, "")
    };
    Depot::connect(&options).await
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub image: Image,
    /// `copy-image`, `store-restore`, `ebs-direct`; None where it was there already.
    pub by: Option<&'static str>,
    /// What crossed between the partitions, in this run.
    pub carried_bytes: u64,
    /// What of it was there from an earlier run.
    pub resumed_bytes: u64,
    /// Of the object, where all of it passed here in one run.
    pub sha256: Option<String>,
}

/// Copies an image from one region to another.
pub async fn copy(
    source: &Cloud,
    target: &Cloud,
    buckets: Option<&Buckets>,
    order: &CopyOrder,
    observer: &dyn Observer,
) -> Result<Copied, AmiError> {
    let trip = Trip {
        source,
        target,
        buckets,
        order,
        observer,
    };
    let copied = trip.go().await;
    let cleared = match &copied {
        Ok(_) => trip.clear_the_way().await,
        Err(_) if order.rollback => trip.undo().await,
        Err(_) => Ok(()),
    };
    if let Err(error) = cleared {
        let what = format!(
            "something is left of the way, which kops-mirror provision ami gc takes away: {error}"
        );
        observer.event(&Event::Warned { what });
    }
    copied
}

/// Takes away what a copy has left on its way; the copy itself stays.
pub async fn clear_way(
    source: &Cloud,
    target: &Cloud,
    buckets: Option<&Buckets>,
    order: &CopyOrder,
    observer: &dyn Observer,
) -> Result<(), AmiError> {
    let trip = Trip {
        source,
        target,
        buckets,
        order,
        observer,
    };
    trip.clear_the_way().await
}

/// The copy, where an earlier run has made it, available or on its way; asks only.
pub async fn copied(
    target: &Cloud,
    from_region: &str,
    source: &str,
) -> Result<Option<Image>, AmiError> {
    let which = Images {
        owners: vec!["self".to_owned()],
        filters: made_of(&format!("{from_region}/{source}"), Role::Image),
        ..Images::default()
    };
    let found = target.images(&which).await?.into_iter();
    let coming = found.filter(|image| {
        matches!(
            image.state,
            ImageState::Available | ImageState::Pending | ImageState::Transient
        )
    });
    Ok(coming.max_by(|a, b| a.creation_date.cmp(&b.creation_date)))
}

/// One copy.
struct Trip<'a> {
    source: &'a Cloud,
    target: &'a Cloud,
    buckets: Option<&'a Buckets>,
    order: &'a CopyOrder,
    observer: &'a dyn Observer,
}

impl Trip<'_> {
    async fn go(&self) -> Result<Copied, AmiError> {
        let account = partition_of(self.source).await?;
        partition_of(self.target).await?;
        let original = self.original().await?;
        if let Some(image) = self.earlier().await? {
            return Ok(Copied {
                image,
                by: None,
                carried_bytes: 0,
                resumed_bytes: 0,
                sha256: None,
            });
        }
        let name = self.order.name.as_deref().or(original.name.as_deref());
        let name = name.unwrap_or(&self.order.source).to_owned();
        if self.source.partition() == self.target.partition() {
            return self.within(&original, &name).await;
        }
        let own = match original.owner == account {
            true => original,
            false => self.own(&original, &name).await?,
        };
        match self.order.engine {
            CopyEngine::StoreRestore => store_restore::bring(self, &own, &name).await,
            CopyEngine::EbsDirect => ebs_direct::bring(self, &own, &name).await,
        }
    }

    async fn original(&self) -> Result<Image, AmiError> {
        let id = &self.order.source;
        let none = |why: String| AmiError::None {
            region: self.source.region().to_owned(),
            wanted: format!("called {id}"),
            why,
        };
        let found = self.source.image(id).await?;
        let image =
            found.ok_or_else(|| none(format!("{} sees none", self.source.settings().who())))?;
        match image.state {
            ImageState::Available if image.root_device_type == "instance-store" => Err(none(
                "it has no snapshots: only images that live on EBS can be copied".to_owned(),
            )),
            ImageState::Available => Ok(image),
            state => Err(none(format!("it is {state}"))),
        }
    }

    async fn available(&self, cloud: &Cloud, id: &str) -> Result<Image, AmiError> {
        available(cloud, Which::Id(id), self.order.pace, self.observer).await
    }

    /// What an earlier run has made, or begun to make.
    async fn earlier(&self) -> Result<Option<Image>, AmiError> {
        let mut found = self.found(self.target, Role::Image).await?;
        found.sort_by(|a, b| a.creation_date.cmp(&b.creation_date));
        for image in found.iter().rev() {
            let ended = self.available(self.target, &image.image_id).await;
            match ended {
                Ok(image) => return Ok(Some(image)),
                // It never will be: it is in the way of its name.
                Err(AmiError::Dead { .. }) => gone(self.target, image).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// A copy within the partition.
    async fn within(&self, original: &Image, name: &str) -> Result<Copied, AmiError> {
        let image = self
            .copy_image(self.target, original, name, Role::Image)
            .await?;
        Ok(Copied {
            image,
            by: Some("copy-image"),
            carried_bytes: 0,
            resumed_bytes: 0,
            sha256: None,
        })
    }

    /// A copy of the account's own, in the source's region.
    async fn own(&self, original: &Image, name: &str) -> Result<Image, AmiError> {
        for image in self.found(self.source, Role::Way).await? {
            let ended = self.available(self.source, &image.image_id).await;
            match ended {
                Err(AmiError::Dead { .. }) => gone(self.source, &image).await?,
                ended => return ended,
            }
        }
        self.copy_image(self.source, original, name, Role::Way)
            .await
    }

    async fn copy_image(
        &self,
        into: &Cloud,
        original: &Image,
        name: &str,
        role: Role,
    ) -> Result<Image, AmiError> {
        let tags = self.tags(role);
        let copy = CopyOf {
            source: &original.image_id,
            source_region: self.source.region(),
            name,
            description: original.description.as_deref(),
            token: &token(),
            tags: &tags,
        };
        let id = into.copy_image(copy).await?;
        self.available(into, &id).await
    }

    /// What was made for this copy.
    async fn found(&self, cloud: &Cloud, role: Role) -> Result<Vec<Image>, AmiError> {
        let owners = vec!["self".to_owned()];
        let filters = made_of(&self.what(), role);
        Ok(cloud
            .images(&Images {
                owners,
                filters,
                ..Images::default()
            })
            .await?)
    }

    /// `us-east-1/ami-…`
    fn what(&self) -> String {
        format!("{}/{}", self.source.region(), self.order.source)
    }

    fn tags(&self, role: Role) -> Vec<Tag> {
        let mark = Mark {
            cluster: self.order.cluster.clone(),
            role,
            source: Some(self.what()),
        };
        mark.tags()
    }

    /// Takes away what is only for the way: the objects, the copy in the source's region.
    async fn clear_the_way(&self) -> Result<(), AmiError> {
        for image in self.found(self.source, Role::Way).await? {
            self.clear_objects(&image.image_id).await?;
            gone(self.source, &image).await?;
        }
        self.clear_objects(&self.order.source).await
    }

    async fn clear_objects(&self, image: &str) -> Result<(), AmiError> {
        let Some(buckets) = self.buckets else {
            return Ok(());
        };
        let key = object_key(image);
        // At the source it is EC2 that may be at work.
        if let Some(arrival) = buckets.to.arrival(&key).await? {
            buckets.to.abandon(&arrival).await?;
        }
        for depot in [&buckets.to, &buckets.from] {
            if depot.look(&key).await?.is_none() {
                continue;
            }
            let tags = depot.tags(&key).await?;
            let tags = tags
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()));
            if is_ours(tags) {
                depot.remove(&key).await?;
            }
        }
        Ok(())
    }

    /// Takes away all that was made.
    async fn undo(&self) -> Result<(), AmiError> {
        self.clear_the_way().await?;
        for image in self.found(self.target, Role::Image).await? {
            gone(self.target, &image).await?;
        }
        for snapshot in self
            .target
            .snapshots(&[], &made_of(&self.what(), Role::Way))
            .await?
        {
            self.target.delete_snapshot(&snapshot.snapshot_id).await?;
        }
        Ok(())
    }
}

/// As EC2 names what it stores.
fn object_key(image: &str) -> String {
    format!("{image}.bin")
}

/// For one call and its repetitions. Not of what is made: EC2 remembers a token longer than what it made may live.
fn token() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// The account, once its partition is known to be the region's.
async fn partition_of(cloud: &Cloud) -> Result<String, AmiError> {
    let identity = cloud.identity().await?;
    let wanted = cloud.partition();
    match identity.partition {
        Some(partition) if partition != wanted => {
            let id = |partition: Partition| partition.id();
            Err(AmiError::Refused(format!(
                "{} is of the partition {}, and {} is in {}: their accounts have nothing to do with each other; name a profile \
                 of the other",
                cloud.settings().who(),
                id(partition),
                cloud.region(),
                id(wanted)
            )))
        }
        _ => Ok(identity.account),
    }
}
