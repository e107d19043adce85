//! The image that hosts start from, by what the file says: used as it is, looked up, copied from elsewhere, built.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ami::{
    self, AmiError, Buckets, BuildOrder, CopyOrder, Ledger, Pace, named, resolve, unfit,
};
use crate::asset::Arch;
use crate::cloud::{Cloud, CloudSettings, Image, ImageState};
use crate::cluster::{ClusterFile, ImageBuild, ImageCopy};
use crate::events::Observer;

/// What a look tells of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSight {
    /// For each kind of processor that needs it, as kops takes it: `ami-…`, `OWNER/NAME`; `not-copied-yet/NAME` and `not-built-yet/NAME`
    /// stand for one that is to be made.
    pub images: BTreeMap<Arch, String>,
    /// What will be done first, in a sentence; None where the image is there.
    pub to_come: Option<String>,
}

/// What images are made with.
#[derive(Debug, Clone)]
pub struct ImageMaker {
    pub cloud: Cloud,
    /// What the caller has in its environment.
    pub callers: BTreeMap<String, String>,
    /// The program that logs in to builders.
    pub ssh: PathBuf,
    /// Where it is kept how far copies and builds are.
    pub folder: PathBuf,
    /// Whether what a copy has made goes when it fails.
    pub rollback: bool,
}

/// Looks for the image; makes nothing.
pub async fn look_up(cloud: &Cloud, file: &ClusterFile) -> Result<ImageSight, AmiError> {
    let archs = file.archs_of_image();
    let mut sight = ImageSight::default();
    if let Some(used) = &file.image.used {
        for arch in archs {
            named(cloud, used, arch).await?;
            sight.images.insert(arch, used.clone());
        }
    } else if let Some(query) = &file.image.resolve {
        for arch in archs {
            let found = resolve(cloud, query, arch).await?;
            sight.images.insert(arch, found.pinned);
        }
    } else if let Some(arch) = only(&archs)? {
        sight = made(cloud, file, arch).await?;
    }
    Ok(sight)
}

/// An image that is made here is for one kind of processor.
fn only(archs: &[Arch]) -> Result<Option<Arch>, AmiError> {
    match archs {
        [] => Ok(None),
        [arch] => Ok(Some(*arch)),
        _ => Err(AmiError::Refused(
            "an image that is copied or built is for one kind of processor, and hosts have two: give the groups of the other an \
             image of their own"
                .to_owned(),
        )),
    }
}

async fn made(cloud: &Cloud, file: &ClusterFile, arch: Arch) -> Result<ImageSight, AmiError> {
    let (found, stand_in, to_come) = if let Some(copy) = &file.image.copy {
        let found = ami::copied(cloud, &copy.from_region, &copy.source).await?;
        (
            found,
            format!("not-copied-yet/{}", name_of(copy)),
            copying(copy),
        )
    } else if let Some(build) = &file.image.build {
        let found = ami::built(cloud, build).await?;
        (
            found,
            format!("not-built-yet/{}", build.name),
            building(build),
        )
    } else {
        return Ok(ImageSight::default());
    };
    let (image, to_come) = match found {
        None => (stand_in, Some(to_come)),
        Some(image) if image.state == ImageState::Available => {
            if let Some(why) = unfit(&image, arch) {
                let what = format!("the image {} {why}", image.image_id);
                return Err(AmiError::Refused(what));
            }
            (image.image_id, None)
        }
        Some(image) => {
            let what = format!(
                "the image {} is {}, and is waited for",
                image.image_id, image.state
            );
            (image.image_id, Some(what))
        }
    };
    Ok(ImageSight {
        images: BTreeMap::from([(arch, image)]),
        to_come,
    })
}

fn name_of(copy: &ImageCopy) -> &str {
    copy.name.as_deref().unwrap_or(&copy.source)
}

fn copying(copy: &ImageCopy) -> String {
    let (source, region) = (&copy.source, &copy.from_region);
    format!(
        "the image {source} will be copied from {region} as {}",
        name_of(copy)
    )
}

fn building(build: &ImageBuild) -> String {
    format!(
        "the image {} will be built from {} on an instance in {}",
        build.name, build.base, build.subnet
    )
}

impl ImageMaker {
    /// Copies or builds the image that the file asks for, or finds what has been made of it; None where none is to be made.
    pub async fn make(
        &self,
        file: &ClusterFile,
        ledger: Ledger<'_>,
        observer: &dyn Observer,
    ) -> Result<Option<Image>, AmiError> {
        if let Some(copy) = &file.image.copy {
            return self.copy(file, copy, ledger, observer).await.map(Some);
        }
        let Some(build) = &file.image.build else {
            return Ok(None);
        };
        let order = BuildOrder {
            build: build.clone(),
            cluster: Some(file.name.clone()),
            folder: self.folder.clone(),
            ssh: self.ssh.clone(),
            callers: self.callers.clone(),
            pace: pace(file),
            keeps_instance: false,
        };
        let built = ami::build(&self.cloud, &order, ledger, observer).await?;
        Ok(Some(built.image))
    }

    async fn copy(
        &self,
        file: &ClusterFile,
        copy: &ImageCopy,
        ledger: Ledger<'_>,
        observer: &dyn Observer,
    ) -> Result<Image, AmiError> {
        let source = source_of(copy).await?;
        let buckets = buckets_of(copy, &source, &self.cloud).await?;
        let order = self.copy_order(file, copy);
        let copied = ami::copy(&source, &self.cloud, buckets.as_ref(), &order, observer).await?;
        ledger(ami::Kind::Image, &copied.image.image_id);
        Ok(copied.image)
    }

    fn copy_order(&self, file: &ClusterFile, copy: &ImageCopy) -> CopyOrder {
        CopyOrder {
            source: copy.source.clone(),
            name: copy.name.clone(),
            engine: copy.engine,
            cluster: Some(file.name.clone()),
            journal: self.folder.clone(),
            pace: pace(file),
            rollback: self.rollback,
        }
    }

    /// Takes away what a copy has left on its way: in the source's region and in the buckets.
    pub async fn clear_way(
        &self,
        file: &ClusterFile,
        copy: &ImageCopy,
        observer: &dyn Observer,
    ) -> Result<(), AmiError> {
        let source = source_of(copy).await?;
        let buckets = buckets_of(copy, &source, &self.cloud).await?;
        let order = self.copy_order(file, copy);
        ami::clear_way(&source, &self.cloud, buckets.as_ref(), &order, observer).await
    }
}

/// The account that a copy comes from.
pub(super) async fn source_of(copy: &ImageCopy) -> Result<Cloud, AmiError> {
    let mut settings = CloudSettings::new(&copy.from_region);
    settings.profile = copy.from_profile.clone();
    Ok(Cloud::connect(settings).await?)
}

async fn buckets_of(
    copy: &ImageCopy,
    source: &Cloud,
    target: &Cloud,
) -> Result<Option<Buckets>, AmiError> {
    match (&copy.from_bucket, &copy.to_bucket) {
        (Some(from), Some(to)) => Ok(Some(Buckets::connect(from, source, to, target).await?)),
        _ => Ok(None),
    }
}

fn pace(file: &ClusterFile) -> Pace {
    Pace {
        deadline: file.timeouts.image,
        ..Pace::default()
    }
}
