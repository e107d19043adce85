//! The images of a run: gathered, brought to their shelves, and told to the releases that they belong to.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::parts;
use crate::config::Config;
use crate::events::{Event, Observer, told};
use crate::image::Reference;
use crate::images::layout::LayoutShelf;
use crate::images::shelf::Shelf;
use crate::images::vetting::{vet, vet_folder};
use crate::images::{self, ByImage, Carried, Gather, GatherError, Image, Missed};
use crate::index::ImageEntry;
use crate::origin::Origins;
use crate::record::FailureClass;
use crate::report::Report;
use crate::service::Closing;
use crate::signature::Policies;
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
    /// By whom images must be signed.
    policies: Policies,
}

/// Images whose signatures are looked at at a time; the connections to each host have their own limit.
const VETTED_AT_ONCE: usize = 16;

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
    let (images, missed) = gathered?;
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
        ..images::report(&carried, missed, &imaging.mirror)
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
        let policies = parts::policies(config)?;
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
            policies,
        })
    }

    /// The images with all their manifests, and those that could not be had or may not come, with the reason.
    async fn gather(
        &self,
        config: &Config,
        names: Vec<Reference>,
        observer: &dyn Observer,
    ) -> anyhow::Result<(Vec<Image>, Vec<Missed>)> {
        if let Some(from) = &self.from {
            return self.gather_from(from, names).await;
        }
        let gather = Gather {
            origins: &self.mirror.origins,
            limits: &self.mirror.limits,
            policy: self.mirror.policy,
        };
        let gathered = gather
            .all(names, &config.registry.platforms, observer)
            .await;
        let vetting = gathered.into_iter().map(|(name, image)| {
            let with_attached = config.registry.signatures;
            async move { (name, self.vetted(gather, image, with_attached).await) }
        });
        let vetting: Vec<_> = vetting.collect();
        let mut vetted = stream::iter(vetting).buffered(VETTED_AT_ONCE);
        let (mut images, mut missed) = (Vec::new(), Vec::new());
        while let Some((name, vetted)) = vetted.next().await {
            match vetted {
                Ok(vetted) => images.extend(vetted),
                Err((class, why)) => missed.push(Missed::new(&name, class, why)),
            }
        }
        Ok((images, missed))
    }

    /// An image if it may come, with what is attached to it if that is to come along.
    async fn vetted(
        &self,
        gather: Gather<'_>,
        gathered: Result<Image, GatherError>,
        with_attached: bool,
    ) -> Result<Vec<Image>, (FailureClass, String)> {
        let unhad = |error: GatherError| (FailureClass::Origin, told(&error));
        let image = gathered.map_err(unhad)?;
        let vetted = vet(&image, &self.policies, &gather).await;
        vetted.map_err(|error| (error.class(), told(&error)))?;
        let attached = match with_attached {
            true => gather.signatures(&image).await.map_err(unhad)?,
            false => Vec::new(),
        };
        Ok(std::iter::once(image).chain(attached).collect())
    }

    async fn gather_from(
        &self,
        from: &LayoutShelf,
        names: Vec<Reference>,
    ) -> anyhow::Result<(Vec<Image>, Vec<Missed>)> {
        let all = from.images().await?;
        let (images, mut missed) = vet_folder(from, &all, &names, &self.policies).await;
        let is_missing = |name: &&Reference| !all.iter().any(|image| image.reference == **name);
        let why = || format!("{} has no such image", from.place());
        let absent = names.iter().filter(is_missing);
        missed.extend(absent.map(|name| Missed::new(name, FailureClass::Origin, why())));
        Ok((images, missed))
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
