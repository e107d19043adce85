//! What is carried over a link, and how one sees at its ends what became of it: files into a bucket, or an image into a registry.

use kops_mirror::loopback::registry::{Exchanged, Operation};
use kops_mirror::store::ETag;

use super::image::Image;
use super::lab::{BUCKET, Lab};
use super::release::{Files, Release};

/// Which freight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Files(Files),
    /// Six layers, 120 MB.
    Image,
    /// Six layers, 600 kB.
    SmallImage,
}

/// What tools differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Files,
    Image,
}

#[derive(Debug)]
pub(crate) enum Freight {
    Files(Release),
    Image(&'static Image),
}

impl Freight {
    pub(crate) fn new(load: Load) -> Self {
        match load {
            Load::Files(files) => Self::Files(Release::new(files)),
            Load::Image => Self::Image(Image::large()),
            Load::SmallImage => Self::Image(Image::small()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Files(_) => Kind::Files,
            Self::Image(_) => Kind::Image,
        }
    }

    /// Bytes that are wanted: of the files without their sidecars, of the image's blobs without its manifests.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Files(release) => release.bytes,
            Self::Image(image) => image.bytes(),
        }
    }

    pub(crate) fn publish(&self, lab: &Lab) {
        match self {
            Self::Files(release) => release.publish(&lab.origin),
            Self::Image(image) => image.publish(&lab.source),
        }
    }

    /// Whether all of it is where it should be: files in one part with their MD5 as ETag, an image under its tag.
    pub(crate) fn is_whole(&self, lab: &Lab) -> bool {
        match self {
            Self::Files(release) => {
                let bucket = lab.s3.bucket(BUCKET);
                release.files.iter().all(|file| {
                    let object = bucket.object(&file.path);
                    object.is_some_and(|object| ETag::new(&object.etag) == ETag::from(file.md5))
                })
            }
            Self::Image(image) => image.is_at(&lab.target),
        }
    }

    /// The bodies that the origin wrote.
    pub(crate) fn served(&self, lab: &Lab) -> u64 {
        match self {
            Self::Files(_) => {
                let exchanges = lab.origin.log().exchanges();
                exchanges.iter().map(|exchange| exchange.body_bytes).sum()
            }
            Self::Image(_) => lab.source.log().blob_bytes_sent(),
        }
    }

    /// The most that the origin was asked for at once: connections for files, requests for an image's blobs.
    pub(crate) fn at_once(&self, lab: &Lab) -> u64 {
        match self {
            Self::Files(_) => lab.origin.log().connections().peak,
            Self::Image(_) => {
                let log = lab.source.log();
                let mut exchanges = log.all();
                exchanges.extend(log.under_way());
                exchanges.retain(|exchange| exchange.operation == Operation::GetBlob);
                peak(&exchanges)
            }
        }
    }
}

/// The most requests that were under way at once.
fn peak(exchanges: &[Exchanged]) -> u64 {
    let begun_or_ended = exchanges
        .iter()
        .flat_map(|exchange| [(exchange.began, 1), (exchange.began + exchange.took, -1)]);
    let mut steps: Vec<_> = begun_or_ended.collect();
    // Where one ends as another begins they were not both under way: -1 is before 1.
    steps.sort_unstable();
    let mut under_way = 0_i64;
    let counts = steps.into_iter().map(|(_, step)| {
        under_way += step;
        under_way
    });
    counts.max().unwrap_or(0).unsigned_abs()
}
