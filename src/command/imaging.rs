//! The images of a run: gathered, brought to their shelves, and told to the releases that they belong to.

mod others;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use futures::stream::{self, StreamExt};
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
use crate::images::vetting::{vet, vet_folder};
use crate::images::{self, ByImage, Gather, GatherError, Image, Missed, Summary, key};
use crate::index::Index;
use crate::origin::Origins;
use crate::record::FailureClass;
use crate::report::Report;
use crate::service::Closing;
use crate::signature::Policies;
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
    /// By whom images must be signed.
    policies: Policies,
}

/// What is known of the images before a blob moves.
struct Looked {
    planned: Vec<Planned>,
    /// Those that could not be had or may not come, with the reason.
    missed: Vec<Missed>,
    others: Others,
}

/// What came of the images.
pub(super) struct Brought {
    pub(super) report: Report,
    /// What other shards bring of them.
    pub(super) others: Option<Others>,
}

/// Images whose signatures are looked at at a time; the connections to each host have their own limit.
const VETTED_AT_ONCE: usize = 16;

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
        missed,
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
    let mut report = images::report(&carried, missed, &imaging.mirror);
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
        missed,
        others,
    } = looked.await?;
    let of_others = others.names().count();
    Ok(Some(Summary::new(
        &planned,
        &imaging.shelves,
        missed,
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
    /// Those that could not be had or may not come, with the reason.
    missed: Vec<Missed>,
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
            missed: gathered.missed,
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
        if let Some(from) = &self.from {
            return self.gather_from(from, names, is_ours).await;
        }
        let gather = Gather {
            origins: &self.mirror.origins,
            limits: &self.mirror.limits,
            policy: self.mirror.policy,
        };
        let (names, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_ours);
        let platforms = &config.registry.platforms;
        let mut gathered = Gathered {
            names_of_others: others.iter().cloned().collect(),
            others: self.vetted_roots(gather, others, config).await,
            ..Gathered::default()
        };
        let looked_at = gather.all(names, platforms, observer).await;
        let vetting = looked_at.into_iter().map(|(name, image)| {
            let with_attached = config.registry.signatures;
            async move { (name, self.vetted(gather, image, with_attached).await) }
        });
        let vetting: Vec<_> = vetting.collect();
        let mut vetted = stream::iter(vetting).buffered(VETTED_AT_ONCE);
        while let Some((name, vetted)) = vetted.next().await {
            match vetted {
                Ok(vetted) => gathered.images.extend(vetted),
                Err((class, why)) => gathered.missed.push(Missed::new(&name, class, why)),
            }
        }
        Ok(gathered)
    }

    /// The roots of images that other shards bring, as far as they may come: a release is not marked for what this shard would refuse.
    async fn vetted_roots(
        &self,
        gather: Gather<'_>,
        names: Vec<Reference>,
        config: &Config,
    ) -> Vec<Image> {
        let roots = gather.roots(names, &config.registry.platforms).await;
        let vetting = roots.into_iter().map(|image| async move {
            let vetted = vet(&image, &self.policies, &gather).await;
            vetted.ok().map(|()| image)
        });
        let vetting: Vec<_> = vetting.collect();
        let vetted = stream::iter(vetting).buffered(VETTED_AT_ONCE);
        vetted.filter_map(std::future::ready).collect().await
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
        is_ours: impl Fn(&Reference) -> bool,
    ) -> anyhow::Result<Gathered> {
        let all = from.images().await?;
        let (images, mut missed) = vet_folder(from, &all, &names, &self.policies).await;
        let is_missing = |name: &&Reference| !all.iter().any(|image| image.reference == **name);
        let why = || format!("{} has no such image", from.place());
        let absent = names.iter().filter(is_missing);
        missed.extend(absent.map(|name| Missed::new(name, FailureClass::Origin, why())));
        let (missed, of_others): (Vec<_>, Vec<_>) = missed
            .into_iter()
            .partition(|missed| is_ours(&missed.image));
        let (images, others): (Vec<_>, Vec<_>) = images
            .into_iter()
            .partition(|image| is_ours(&image.reference));
        let there = others.iter().map(|image| &image.reference);
        let not = of_others.iter().map(|missed| &missed.image);
        Ok(Gathered {
            names_of_others: there.chain(not).cloned().collect(),
            images,
            missed,
            others,
        })
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
