//! The images of a run: gathered, brought to their shelves, and told to the releases that they belong to.

mod others;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::others::Others;
use super::parts;
use crate::config::Config;
use crate::digest::Digest;
use crate::events::{Event, Observer, told};
use crate::image::Reference;
use crate::images::holdings::{lacks_unknown, look_elsewhere};
use crate::images::layout::LayoutShelf;
use crate::images::plan::{self, Planned, away, standing};
use crate::images::shelf::Shelf;
use crate::images::{self, ByImage, Gather, Image, Summary, key};
use crate::index::Index;
use crate::origin::Origins;
use crate::report::Report;
use crate::service::Closing;
use crate::store::Store;
use crate::sync::{self, Wanted};
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

/// What is known of the images before a blob moves.
struct Looked {
    planned: Vec<Planned>,
    /// Those that could not be had, with the reason.
    failed: Vec<(Reference, String)>,
    others: Others,
}

/// What came of the images.
pub(super) struct Brought {
    pub(super) report: Report,
    /// What other shards bring of them.
    pub(super) others: Option<Others>,
}

/// Brings the images that are wanted, and notes in each release what came of its own. None when there are none. The indexes of what is at
/// `targets` tell what the registries have already.
pub(super) async fn bring(
    config: &Config,
    wanted: &mut [Wanted],
    targets: &[Arc<dyn Store>],
    observer: &Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Brought>> {
    let closing = Closing {
        stop: stop.clone(),
        ..Closing::default()
    };
    let origins = parts::origins(config)?;
    bring_from(origins, config, wanted, targets, observer, &closing).await
}

/// The same, from upstreams that others work with as well, until the service that asks is to end.
pub(super) async fn bring_from(
    origins: Origins,
    config: &Config,
    wanted: &mut [Wanted],
    targets: &[Arc<dyn Store>],
    observer: &Arc<dyn Observer>,
    closing: &Closing,
) -> anyhow::Result<Option<Brought>> {
    let Some(names) = names(config, wanted)? else {
        return Ok(None);
    };
    let (begun, stop) = (Instant::now(), &closing.stop);
    let is_closing = || stop.is_cancelled() || closing.draining.is_cancelled();
    let telling = Arc::new(ByImage::new(Arc::clone(observer)));
    let listener = Arc::clone(&telling) as Arc<dyn Observer>;
    let imaging = Imaging::new(origins, config, listener, closing.draining.clone()).await?;
    let looking = imaging.look(config, names, targets, observer.as_ref());
    let Some(looked) = stop.run_until_cancelled(looking).await else {
        let report = interrupted();
        return Ok(Some(Brought {
            report,
            others: None,
        }));
    };
    let Looked {
        planned,
        failed,
        mut others,
    } = looked?;
    telling.plan(&planned);
    let carried = images::carry(planned, &imaging.shelves, &imaging.mirror, stop).await;
    let done = carried.iter().filter(|carried| carried.is_done());
    let done = done.map(|carried| &carried.image);
    others.have(done.map(|image| (image.reference.clone(), image.root().digest)));
    others.belong_to(wanted);
    for wanted in wanted {
        others.note(wanted);
        if let (Some(why), false) = (&wanted.lacks, is_closing()) {
            let what = format!("{} is not marked as ready: {why}", wanted.release.name);
            observer.event(&Event::Warned { what });
        }
    }
    let mut report = images::report(&carried, failed, &imaging.mirror);
    let left = others.names().map(images::of_another_shard);
    report.outcomes.extend(left);
    report.outcomes.sort_by(|a, b| a.key.cmp(&b.key));
    let report = Report {
        elapsed: begun.elapsed(),
        interrupted: is_closing(),
        ..report
    };
    Ok(Some(Brought {
        report,
        others: Some(others),
    }))
}

/// What would be brought; None when no images are wanted. Nothing is changed anywhere.
pub(super) async fn planned(
    origins: Origins,
    config: &Config,
    wanted: &[Wanted],
    targets: &[Arc<dyn Store>],
    observer: Arc<dyn Observer>,
) -> anyhow::Result<Option<Summary>> {
    let Some(names) = names(config, wanted)? else {
        return Ok(None);
    };
    let draining = CancellationToken::new();
    let imaging = Imaging::new(origins, config, Arc::clone(&observer), draining).await?;
    let looked = imaging.look(config, names, targets, observer.as_ref());
    let Looked {
        planned,
        failed,
        others,
    } = looked.await?;
    let of_others = others.names().count();
    Ok(Some(Summary::new(
        &planned,
        &imaging.shelves,
        failed,
        of_others,
    )))
}

pub(super) fn interrupted() -> Report {
    Report {
        interrupted: true,
        ..Report::default()
    }
}

/// The images that are wanted; None where there are none. An error where nothing says where they go.
fn names(config: &Config, wanted: &[Wanted]) -> anyhow::Result<Option<Vec<Reference>>> {
    let of_releases = wanted.iter().flat_map(|wanted| &wanted.images);
    let names: BTreeSet<&Reference> = of_releases.chain(&config.registry.also).collect();
    if names.is_empty() && config.registry.from_layout.is_none() {
        return Ok(None);
    }
    if !config.registry.has_place() {
        bail!("where do images go? Give --to-registry HOST[/PATH] or --to-layout DIR");
    }
    Ok(Some(names.into_iter().cloned().collect()))
}

/// Images as their source has them.
#[derive(Default)]
struct Gathered {
    images: Vec<Image>,
    /// With the reason.
    failed: Vec<(Reference, String)>,
    /// Those that other shards bring, of which only the roots are known.
    others: Vec<Image>,
    /// The names of all of these.
    names_of_others: BTreeSet<Reference>,
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

    /// Gathers the images, and looks what the shelves lack of them.
    async fn look(
        &self,
        config: &Config,
        names: Vec<Reference>,
        targets: &[Arc<dyn Store>],
        observer: &dyn Observer,
    ) -> anyhow::Result<Looked> {
        let gathering = self.gather(config, names, observer);
        let (gathered, away) = tokio::join!(gathering, away(&self.shelves));
        let gathered = gathered?;
        for (shelf, why) in self.shelves.iter().zip(&away) {
            if let Some(why) = why {
                let what = format!("no image goes to {}: {why}", shelf.place());
                observer.event(&Event::Warned { what });
            }
        }
        let regions = &config.registry.blob_regions;
        let mut planned = plan::plan(gathered.images, &self.shelves, &away, regions).await;
        if lacks_unknown(&planned, &self.shelves) {
            let there = named_at(targets).await;
            look_elsewhere(&mut planned, &self.shelves, &there).await;
        }
        let there = standing(&gathered.others, &self.shelves).await;
        let mut others = Others::new(
            self.shelves.clone(),
            gathered.others,
            gathered.names_of_others,
        );
        others.have(there);
        Ok(Looked {
            planned,
            failed: gathered.failed,
            others,
        })
    }

    async fn gather(
        &self,
        config: &Config,
        names: Vec<Reference>,
        observer: &dyn Observer,
    ) -> anyhow::Result<Gathered> {
        let is_ours = |name: &Reference| config.shard.is_none_or(|shard| shard.takes(&key(name)));
        let mut gathered = Gathered::default();
        if let Some(from) = &self.from {
            let mut images = from.images().await?;
            let missing = |name: &Reference| !images.iter().any(|image| image.reference == *name);
            let why = || format!("{} has no such image", from.place());
            let missing = names.iter().filter(|name| missing(name));
            gathered.failed = missing.map(|name| (name.clone(), why())).collect();
            images.retain(|image| names.is_empty() || names.contains(&image.reference));
            let (ours, others) = images
                .into_iter()
                .partition(|image| is_ours(&image.reference));
            (gathered.images, gathered.others) = (ours, others);
            let others = gathered.others.iter().map(|image| image.reference.clone());
            gathered.names_of_others = others.collect();
            return Ok(gathered);
        }
        let gather = Gather {
            origins: &self.mirror.origins,
            limits: &self.mirror.limits,
            policy: self.mirror.policy,
        };
        let (names, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_ours);
        let platforms = &config.registry.platforms;
        gathered.names_of_others = others.iter().cloned().collect();
        gathered.others = gather.roots(others, platforms).await;
        for (name, looked_at) in gather.all(names, platforms, observer).await {
            let attached = match &looked_at {
                Ok(image) if config.registry.signatures => gather.signatures(image).await,
                _ => Ok(Vec::new()),
            };
            match looked_at.and_then(|image| Ok((image, attached?))) {
                Ok((image, attached)) => {
                    gathered.images.push(image);
                    gathered.images.extend(attached);
                }
                Err(error) => gathered.failed.push((name, told(&error))),
            }
        }
        Ok(gathered)
    }
}

/// The images that the indexes at the first target name, the newest releases' first. Nothing where they can't be read: what they would
/// save is brought then.
async fn named_at(targets: &[Arc<dyn Store>]) -> Vec<(Reference, Digest)> {
    let Some(target) = targets.first() else {
        return Vec::new();
    };
    let mut indexes = match sync::look_whole(target.as_ref()).await {
        Ok(seen) => seen.indexes,
        Err(error) => {
            tracing::info!(
                "what registries have already is not known: {}",
                told(&error)
            );
            return Vec::new();
        }
    };
    indexes.sort_by(|a: &Index, b| b.completed_at.cmp(&a.completed_at));
    let entries = indexes.into_iter().flat_map(|index| index.release.images);
    let mut seen = BTreeSet::new();
    let new = entries.filter(|entry| seen.insert(entry.digest));
    new.map(|entry| (entry.image, entry.digest)).collect()
}
