//! What each shelf lacks of an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Image;
use super::holdings::Holdings;
use super::shelf::{Shelf, blob_key};
use super::source::{self, BlobRegion};
use crate::asset::{Asset, Role, Voucher};
use crate::digest::Digest;
use crate::events::told;
use crate::image::{Blob, Reference};
use crate::plan::{Action, Item};
use crate::store::StoreError;
use crate::vouch::Vouched;
use url::Url;

/// Images that are looked for at a time, and blobs of each.
const LOOKED_FOR_AT_ONCE: usize = 8;

/// What is to be done about an image.
#[derive(Debug)]
pub struct Planned {
    pub image: Image,
    /// At each shelf, in order.
    pub steps: Vec<Step>,
    /// The blobs that a shelf lacks, for the engine. One that several images have is in each of them.
    pub items: Vec<Item>,
    /// At each shelf, in order: which other repository there has a blob that this image lacks.
    pub mounts: Vec<BTreeMap<Digest, String>>,
}

/// What is to be done about an image at one shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Its name leads to this very image.
    Held,
    Put {
        repository: String,
    },
    /// It can't be named there, or it can't be found out what is there.
    Refused {
        why: String,
    },
    /// The shelf can't be reached, which was told.
    Away {
        why: String,
    },
}

impl Planned {
    /// Whether every shelf has it.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| *step == Step::Held)
    }

    /// The blobs that have to come from elsewhere: those that some shelf lacks and can't have of itself.
    pub fn crossing(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| {
            let mut actions = item.actions.iter().zip(&self.mounts);
            actions.any(|(action, mounts)| {
                *action != Action::Skip
                    && item
                        .wanted
                        .name()
                        .is_none_or(|it| !mounts.contains_key(&it))
            })
        })
    }
}

/// Why shelves can't be reached, in their order; each is asked once, before anything else.
pub async fn away(shelves: &[Arc<dyn Shelf>]) -> Vec<Option<String>> {
    let asking = shelves.iter().map(|shelf| async move {
        let reached = shelf.reach().await;
        reached.err().map(|error| told(&error))
    });
    join_all(asking).await
}

/// Which of these images are at every shelf, by name, with the digests of their roots; none where a shelf can't be reached. Of the images
/// only the roots need be known.
pub async fn standing(images: &[Image], shelves: &[Arc<dyn Shelf>]) -> BTreeMap<Reference, Digest> {
    if images.is_empty() || away(shelves).await.iter().any(Option::is_some) {
        return BTreeMap::new();
    }
    let looks = images.iter().map(|image| async move {
        let steps = shelves.iter().map(|shelf| step(shelf, image));
        let steps = try_join_all(steps).await.unwrap_or_default();
        let is_there = !steps.is_empty() && steps.iter().all(|step| *step == Step::Held);
        is_there.then(|| (image.reference.clone(), image.root().digest))
    });
    let looks: Vec<_> = looks.collect();
    let looked = stream::iter(looks).buffered(LOOKED_FOR_AT_ONCE);
    let looked: Vec<Option<_>> = looked.collect().await;
    looked.into_iter().flatten().collect()
}

/// Looks what is there. What can't be looked at is refused there, and the rest goes on. `away` are shelves that are not looked at, and why.
pub async fn plan(
    images: Vec<Image>,
    shelves: &[Arc<dyn Shelf>],
    away: &[Option<String>],
    regions: &[BlobRegion],
) -> Vec<Planned> {
    let looks = images
        .into_iter()
        .map(|image| look(image, None, shelves, away));
    let looks: Vec<_> = looks.collect();
    let looked = stream::iter(looks).buffered(LOOKED_FOR_AT_ONCE);
    planned(looked.collect().await, shelves, regions)
}

/// The same for images that are known to lack something at some of the shelves, whatever their names lead to there.
pub async fn plan_mending(
    images: Vec<(Image, Vec<bool>)>,
    shelves: &[Arc<dyn Shelf>],
    regions: &[BlobRegion],
) -> Vec<Planned> {
    let looks = images
        .into_iter()
        .map(|(image, lacking)| look(image, Some(lacking), shelves, &[]));
    let looks: Vec<_> = looks.collect();
    let looked = stream::iter(looks).buffered(LOOKED_FOR_AT_ONCE);
    planned(looked.collect().await, shelves, regions)
}

fn planned(
    looked: Vec<Looked>,
    shelves: &[Arc<dyn Shelf>],
    regions: &[BlobRegion],
) -> Vec<Planned> {
    let holders = holders(&looked);
    let mut there = Holdings::of(shelves);
    for Looked { steps, has, .. } in &looked {
        for (at, (step, has)) in steps.iter().zip(has).enumerate() {
            if let Some((repository, blobs)) = has {
                there.note(at, repository, blobs, *step == Step::Held);
            }
        }
    }
    let planned = looked.into_iter().map(|looked| {
        let Looked {
            image,
            steps,
            missing,
            ..
        } = looked;
        let items = missing.iter().map(|(blob, lacking)| {
            let references = &holders[&blob.digest];
            item(blob, references, regions, lacking)
        });
        Planned {
            items: items.collect(),
            mounts: there.mounts(&missing),
            image,
            steps,
        }
    });
    planned.collect()
}

/// An image, and which of its blobs are missing: at which shelves.
struct Looked {
    image: Image,
    steps: Vec<Step>,
    missing: Vec<(Blob, Vec<bool>)>,
    /// At each shelf, the repository and which blobs of the image are there.
    has: Vec<Option<(String, Vec<Digest>)>>,
}

/// `lacking` says at which shelves something is known to be missing; None where their names tell.
async fn look(
    image: Image,
    lacking: Option<Vec<bool>>,
    shelves: &[Arc<dyn Shelf>],
    away: &[Option<String>],
) -> Looked {
    let places = shelves.iter().enumerate().map(|(at, shelf)| {
        let lacks = lacking.as_ref().map(|lacking| lacking[at]);
        let (image, away) = (&image, away.get(at).cloned().flatten());
        async move {
            match away {
                Some(why) => (Step::Away { why }, Vec::new()),
                None => place(shelf, image, lacks).await,
            }
        }
    });
    let places: Vec<_> = places.collect();
    let places = join_all(places).await;
    let (steps, lacks): (Vec<Step>, Vec<Vec<bool>>) = places.into_iter().unzip();
    let blobs = image.blobs().into_iter().enumerate().map(|(at, blob)| {
        let lacking = lacks.iter().map(|lacks| lacks.get(at) == Some(&true));
        (blob.clone(), lacking.collect::<Vec<bool>>())
    });
    let missing = blobs
        .filter(|(_, lacking)| lacking.contains(&true))
        .collect();
    let places = shelves.iter().zip(steps.iter().zip(&lacks));
    let found = places.map(|(shelf, (step, lacks))| has(shelf, &image, step, lacks));
    Looked {
        has: found.collect(),
        image,
        steps,
        missing,
    }
}

/// The image's repository at a shelf, and what of its blobs is there.
fn has(
    shelf: &Arc<dyn Shelf>,
    image: &Image,
    step: &Step,
    lacks: &[bool],
) -> Option<(String, Vec<Digest>)> {
    let blobs = image.blobs().into_iter().map(|blob| blob.digest);
    let is_there = |at: usize| lacks.get(at) == Some(&false);
    let there = match step {
        // Its root names them all, and is not put before they are there.
        Step::Held => blobs.collect(),
        Step::Put { .. } => {
            let blobs = blobs.enumerate().filter(|(at, _)| is_there(*at));
            blobs.map(|(_, digest)| digest).collect()
        }
        Step::Refused { .. } | Step::Away { .. } => return None,
    };
    Some((shelf.repository(&image.reference).ok()?, there))
}

/// What is to be done at one shelf, and which of the image's blobs it lacks.
async fn place(shelf: &Arc<dyn Shelf>, image: &Image, lacks: Option<bool>) -> (Step, Vec<bool>) {
    let looking = async {
        let step = match lacks {
            None => step(shelf, image).await?,
            Some(true) => put(shelf, image),
            Some(false) => Step::Held,
        };
        let Step::Put { repository } = &step else {
            return Ok((step, Vec::new()));
        };
        let looks = image.blobs().into_iter();
        let looks: Vec<_> = looks.map(|blob| shelf.has_blob(repository, blob)).collect();
        let looks = stream::iter(looks).buffered(LOOKED_FOR_AT_ONCE);
        let has: Vec<bool> = looks.try_collect().await?;
        let lacks = has.into_iter().map(|has| !has).collect();
        Ok::<_, StoreError>((step, lacks))
    };
    looking.await.unwrap_or_else(|error| {
        let why = told(&error);
        (Step::Refused { why }, Vec::new())
    })
}

async fn step(shelf: &Arc<dyn Shelf>, image: &Image) -> Result<Step, StoreError> {
    let put = put(shelf, image);
    let Step::Put { repository } = &put else {
        return Ok(put);
    };
    let root = image.root().digest;
    let there = shelf.root(repository, &image.reference, root).await?;
    Ok(if there == Some(root) { Step::Held } else { put })
}

fn put(shelf: &Arc<dyn Shelf>, image: &Image) -> Step {
    match shelf.repository(&image.reference) {
        Ok(repository) => Step::Put { repository },
        Err(bad) => Step::Refused { why: told(&bad) },
    }
}

/// Every image that has a blob: each of their registries can bring it.
fn holders(looked: &[Looked]) -> BTreeMap<Digest, Vec<Reference>> {
    let mut holders: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for Looked { image, missing, .. } in looked {
        for (blob, _) in missing {
            holders
                .entry(blob.digest)
                .or_default()
                .push(image.reference.clone());
        }
    }
    holders
}

fn item(blob: &Blob, holders: &[Reference], regions: &[BlobRegion], lacking: &[bool]) -> Item {
    let urls: Vec<Url> = holders
        .iter()
        .map(|image| source::blob(image, blob.digest))
        .collect();
    let besides = holders
        .iter()
        .flat_map(|image| source::alternates(image, blob.digest, regions));
    let mut alternates: Vec<Url> = Vec::new();
    for url in urls[1..].iter().cloned().chain(besides) {
        if url != urls[0] && !alternates.contains(&url) {
            alternates.push(url);
        }
    }
    let action = |is_missing: &bool| match is_missing {
        true => Action::Transfer {
            why: "it is missing".to_owned(),
        },
        false => Action::Skip,
    };
    let known = Voucher::Known {
        digest: blob.digest,
        source: "the image's manifest".to_owned(),
    };
    let asset = Asset {
        key: blob_key(blob.digest),
        canonical: urls[0].clone(),
        alternates,
        witnesses: vec![vec![known]],
        unvouched: None,
        sidecars: Vec::new(),
        role: Role::File,
        arch: None,
        listed_by_kops: false,
    };
    Item {
        wanted: Vouched {
            asset,
            expected: vec![blob.digest],
            vouched_by: vec!["the image's manifest".to_owned()],
            content: None,
            overruled: None,
            is_public_alone: false,
            names_version: None,
        },
        actions: lacking.iter().map(action).collect(),
        held: None,
        length: Some(blob.length),
        told_length: None,
        entry: None,
        sidecars: vec![BTreeMap::new(); lacking.len()],
        replaces: vec![None; lacking.len()],
    }
}
