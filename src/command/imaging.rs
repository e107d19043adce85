//! The images of a run: gathered, brought to their shelves, and told to the releases that they belong to.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::parts;
use crate::config::Config;
use crate::events::{Event, Observer, told};
use crate::image::Reference;
use crate::images::layout::LayoutShelf;
use crate::images::shelf::Shelf;
use crate::images::{self, ByImage, Carried, Gather, Image};
use crate::index::ImageEntry;
use crate::origin::Origins;
use crate::report::Report;
use crate::service::Closing;
use crate::sync::Wanted;
use crate::transfer::Mirror;

/// Where images come from and go to.
#[derive(Debug)]
struct Imaging {
    /// In place of their registries.
    from: Option<Arc<LayoutShelf>>,
    /// With the folder that they come from as the first, if they come from one.
    shelves: Vec<Arc<dyn Shelf>>,
    mirror: Arc<Mirror>,
}

/// Brings the images that are wanted, and notes in each release what came of its own. None when there are none.
pub(super) async fn bring(
    config: &Config,
    wanted: &mut [Wanted],
    observer: &Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Report>> {
    let closing = Closing {
        stop: stop.clone(),
        ..Closing::default()
    };
    bring_from(parts::origins(config)?, config, wanted, observer, &closing).await
}

/// The same, from upstreams that others work with as well, until the service that asks is to end.
pub(super) async fn bring_from(
    origins: Origins,
    config: &Config,
    wanted: &mut [Wanted],
    observer: &Arc<dyn Observer>,
    closing: &Closing,
) -> anyhow::Result<Option<Report>> {
    let names = names(config, wanted);
    let registry = &config.registry;
    if names.is_empty() && registry.from_layout.is_none() {
        return Ok(None);
    }
    if !registry.has_place() {
        bail!("where do images go? Give --to-registry HOST[/PATH] or --to-layout DIR");
    }
    if config.shard.is_some() {
        bail!(
            "images are not shared among workers: leave them out of those with --shard, and bring them by one 'sync --no-files'"
        );
    }
    let (begun, stop) = (Instant::now(), &closing.stop);
    let is_closing = || stop.is_cancelled() || closing.draining.is_cancelled();
    let telling = Arc::new(ByImage::new(Arc::clone(observer)));
    let listener = Arc::clone(&telling) as Arc<dyn Observer>;
    let imaging = Imaging::new(origins, config, listener, closing.draining.clone()).await?;
    let gathering = imaging.gather(config, names, observer.as_ref());
    let Some(gathered) = stop.run_until_cancelled(gathering).await else {
        return Ok(Some(interrupted()));
    };
    let (images, failed) = gathered?;
    let planning = images::plan::plan(images, &imaging.shelves, &registry.blob_regions);
    let Some(planned) = stop.run_until_cancelled(planning).await else {
        return Ok(Some(interrupted()));
    };
    telling.plan(&planned);
    let carried = images::carry(planned, &imaging.shelves, &imaging.mirror, stop).await;
    for wanted in wanted {
        imaging.note(wanted, &carried);
        if let (Some(why), false) = (&wanted.lacks, is_closing()) {
            let what = format!("{} is not marked as ready: {why}", wanted.release.name);
            observer.event(&Event::Warned { what });
        }
    }
    Ok(Some(Report {
        elapsed: begun.elapsed(),
        interrupted: is_closing(),
        ..images::report(&carried, failed, &imaging.mirror)
    }))
}

pub(super) fn interrupted() -> Report {
    Report {
        interrupted: true,
        ..Report::default()
    }
}

fn names(config: &Config, wanted: &[Wanted]) -> Vec<Reference> {
    let of_releases = wanted.iter().flat_map(|wanted| &wanted.images);
    let names: BTreeSet<&Reference> = of_releases.chain(&config.registry.also).collect();
    names.into_iter().cloned().collect()
}

impl Imaging {
    async fn new(
        origins: Origins,
        config: &Config,
        observer: Arc<dyn Observer>,
        draining: CancellationToken,
    ) -> anyhow::Result<Self> {
        let from = config.registry.from_layout.as_deref();
        let from = from.map(|dir| Arc::new(LayoutShelf::new(dir)));
        let mut shelves: Vec<Arc<dyn Shelf>> = Vec::new();
        shelves.extend(from.iter().map(|from| Arc::clone(from) as Arc<dyn Shelf>));
        shelves.extend(parts::shelves(config)?);
        let blobs = shelves.iter().map(|shelf| shelf.blobs()).collect();
        let mirror = parts::mirror_of_blobs(origins, config, blobs, observer, draining).await?;
        Ok(Self {
            from,
            shelves,
            mirror,
        })
    }

    /// The images with all their manifests, and those that could not be had, with the reason.
    async fn gather(
        &self,
        config: &Config,
        names: Vec<Reference>,
        observer: &dyn Observer,
    ) -> anyhow::Result<(Vec<Image>, Vec<(Reference, String)>)> {
        if let Some(from) = &self.from {
            let mut images = from.images().await?;
            let missing = |name: &Reference| !images.iter().any(|image| image.reference == *name);
            let why = || format!("{} has no such image", from.place());
            let missing = names.iter().filter(|name| missing(name));
            let missing = missing.map(|name| (name.clone(), why())).collect();
            images.retain(|image| names.is_empty() || names.contains(&image.reference));
            return Ok((images, missing));
        }
        let gather = Gather {
            origins: &self.mirror.origins,
            limits: &self.mirror.limits,
            policy: self.mirror.policy,
        };
        let gathered = gather
            .all(names, &config.registry.platforms, observer)
            .await;
        let (mut images, mut failed) = (Vec::new(), Vec::new());
        for (name, gathered) in gathered {
            let attached = match &gathered {
                Ok(image) if config.registry.signatures => gather.signatures(image).await,
                _ => Ok(Vec::new()),
            };
            match gathered.and_then(|image| Ok((image, attached?))) {
                Ok((image, attached)) => {
                    images.push(image);
                    images.extend(attached);
                }
                Err(error) => failed.push((name, told(&error))),
            }
        }
        Ok((images, failed))
    }

    /// Notes in a release what came of its images.
    fn note(&self, wanted: &mut Wanted, carried: &[Carried]) {
        let mut lacking = Vec::new();
        for name in &wanted.images {
            let carried = carried
                .iter()
                .find(|carried| carried.image.reference == *name);
            match carried.filter(|carried| carried.is_done()) {
                Some(carried) => wanted.release.images.push(self.entry(carried)),
                None => lacking.push(name.to_string()),
            }
        }
        wanted.release.images.sort_unstable();
        wanted.release.images.dedup();
        if !lacking.is_empty() {
            wanted.lacks = Some(format!("images are missing: {}", lacking.join(", ")));
        }
    }

    fn entry(&self, carried: &Carried) -> ImageEntry {
        let image = &carried.image.reference;
        let names = self
            .shelves
            .iter()
            .filter_map(|shelf| shelf.pull_name(image));
        let at: BTreeSet<String> = names.collect();
        ImageEntry {
            image: image.clone(),
            digest: carried.image.root().digest,
            at: at.into_iter().collect(),
        }
    }
}
