//! `sync` and `plan`: one run, from what was asked to what came of it.

use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::leases::{All, Leases, Taker};
use super::targets::{Bears, Purpose, Targets};
use super::{close, document, imaging, parts, places, say, select as selecting};
use crate::cli::{Output, SyncArgs};
use crate::config::Config;
use crate::events::Observer;
use crate::images;
use crate::lease::{Lost, Owner};
use crate::plan::summary::Summary;
use crate::report::{Exit, Report};
use crate::sync::{self, Prepared, Shard, SyncError, Wanted};
use crate::terminal::Screen;
use crate::transfer::Mirror;
use crate::vouch::Hearing;

const NOTHING_LEFT: &str = "without files nothing is left: name images, or give --images";

/// What is wanted, and everything to bring it with.
#[derive(Debug)]
struct Run {
    mirror: Mirror,
    targets: Targets,
    wanted: Vec<Wanted>,
}

pub(super) async fn sync(
    args: &SyncArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    if !config.files || !names_release(args, config) {
        return images_alone(args, output, config, observer, stop, screen).await;
    }
    let reaching = reach(args, config, &observer, Purpose::Write);
    let Some(run) = stop.run_until_cancelled(reaching).await else {
        return Ok(Exit::Interrupted);
    };
    let mut run = run?;
    let (wanted, here) = (&mut run.wanted, &run.targets.here);
    let images = imaging::bring(config, wanted, here, &observer, stop).await?;
    let (images, others) = images.map(|images| (images.report, images.others)).unzip();
    let (files, lost) = if stop.is_cancelled() {
        drop(run);
        (None, None)
    } else {
        run.under_leases(config, others.flatten().as_ref(), stop)
            .await?
    };
    drop(observer); // and with it the bars
    let report = match (files, images) {
        (Some(files), Some(images)) => files.after(images),
        (Some(report), None) | (None, Some(report)) => report,
        (None, None) => return lost.map_or(Ok(Exit::Interrupted), |lost| Err(lost.into())),
    };
    let exit = close(&report, output, config, screen)?;
    lost.map_or(Ok(exit), |lost| Err(lost.into()))
}

/// Whether a release is wanted, and not only images that are named one by one.
fn names_release(args: &SyncArgs, config: &Config) -> bool {
    let names_images = !config.registry.also.is_empty() || config.registry.from_layout.is_some();
    let names_versions = config.kops.is_some() || !config.kubernetes.is_empty();
    args.selection.assets.is_some() || names_versions || !names_images
}

async fn images_alone(
    args: &SyncArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    let mut wanted = Vec::new();
    if names_release(args, config) {
        let selecting = select(args, config, observer.as_ref());
        match stop.run_until_cancelled(selecting).await {
            None => return Ok(Exit::Interrupted),
            Some(selected) => wanted = selected?,
        }
    }
    let images = imaging::bring(config, &mut wanted, &[], &observer, stop).await?;
    drop(observer); // and with it the bars
    let images = images.context(NOTHING_LEFT)?;
    close(&images.report, output, config, screen)
}

impl Run {
    /// Runs while nobody else does. No report when it was interrupted before it could begin; the lease is told that was lost
    /// meanwhile.
    async fn under_leases(
        mut self,
        config: &Config,
        others: Option<&imaging::Others>,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Option<Report>, Option<Lost>)> {
        let stop = stop.child_token();
        let begun = stop
            .run_until_cancelled(self.begin(config, &stop))
            .await
            .unwrap_or(Ok(None))?;
        let Some((leases, prepared)) = begun else {
            return Ok((None, None));
        };
        let working = self.work(prepared, config.shard, others, &stop);
        let (report, lost) = match leases {
            Some(leases) => leases.during(&stop, working).await,
            None => (working.await, None),
        };
        Ok((report?, lost))
    }

    /// Plans, and takes the leases where something is to be done. The plan is kept if nobody can have changed what it was made from.
    async fn begin(
        &mut self,
        config: &Config,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<(Option<Leases>, Option<Prepared>)>> {
        let Some(mut prepared) = self.planned(stop).await? else {
            return Ok(None);
        };
        if !prepared.has_work(config.shard) {
            return Ok(Some((None, Some(prepared))));
        }
        let owner = Owner::this_process();
        let taker = Taker {
            shard: config.shard,
            owner: &owner,
            ttl: config.service.lease,
        };
        let before = self.targets.here.len();
        let taking = self.targets.leases(&taker);
        let (taken, ()) = tokio::join!(taking, prepared.measure(&self.mirror, stop));
        let (leases, is_next) = match taken? {
            All::Ours(leases) => {
                let is_next = self.targets.here.len() == before
                    && leases.are_next_after(prepared.service(), config.shard);
                (leases, is_next)
            }
            All::Theirs { .. } => (self.targets.leases_in_turn(&taker).await?, false),
        };
        Ok(Some((Some(leases), Some(prepared).filter(|_| is_next))))
    }

    async fn work(
        mut self,
        prepared: Option<Prepared>,
        shard: Option<Shard>,
        others: Option<&imaging::Others>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Report>> {
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => match self.planned(stop).await? {
                Some(mut prepared) => {
                    prepared.measure(&self.mirror, stop).await;
                    prepared
                }
                None => return Ok(None),
            },
        };
        let mut report = carry_out(&Arc::new(self.mirror), prepared, shard, others, stop).await;
        report.away = self.targets.away;
        Ok(Some(report))
    }

    /// Hears the witnesses and plans. None when it was interrupted.
    async fn planned(&mut self, stop: &CancellationToken) -> anyhow::Result<Option<Prepared>> {
        let planning = self.targets.plan(&mut self.mirror, &self.wanted, stop);
        match planning.await {
            Ok(prepared) => Ok(Some(prepared)),
            Err(SyncError::Interrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

async fn carry_out(
    mirror: &Arc<Mirror>,
    prepared: Prepared,
    shard: Option<Shard>,
    others: Option<&imaging::Others>,
    stop: &CancellationToken,
) -> Report {
    let others = others.map(|others| others as &dyn sync::Others);
    match shard {
        Some(shard) => sync::carry_out_share(mirror, prepared, shard, others, stop).await,
        None => sync::carry_out(mirror, prepared, stop).await,
    }
}

/// What `plan` shows.
#[derive(Debug, Serialize)]
struct Planned {
    #[serde(flatten)]
    files: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<images::Summary>,
    #[serde(skip)]
    is_all: bool,
}

pub(super) async fn plan(
    args: &SyncArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let planning = async {
        if config.files && names_release(args, config) {
            plan_all(args, config, observer, stop).await
        } else {
            plan_images(args, config, observer).await.map(Some)
        }
    };
    let planned = stop.run_until_cancelled(planning).await;
    let Some(planned) = planned.unwrap_or(Ok(None))? else {
        return Ok(Exit::Interrupted);
    };
    match output {
        Output::Table => {
            let (files, images) = (planned.files.iter(), planned.images.iter());
            let images = images.map(ToString::to_string);
            let parts: Vec<String> = files.map(ToString::to_string).chain(images).collect();
            say(&parts.join("\n"))?;
        }
        _ => document(&planned, output)?,
    }
    Ok(match planned.is_all {
        true => Exit::Done,
        false => Exit::SomeFailed,
    })
}

/// Files, and the images that are wanted besides. None when it was interrupted.
async fn plan_all(
    args: &SyncArgs,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Planned>> {
    let mut run = reach(args, config, &observer, Purpose::Look).await?;
    let Some(mut prepared) = run.planned(stop).await? else {
        return Ok(None);
    };
    let (origins, here) = (parts::origins(config)?, &run.targets.here);
    let images = imaging::planned(origins, config, &run.wanted, here, observer).await?;
    prepared.measure(&run.mirror, stop).await;
    if let Some(shard) = config.shard {
        prepared.only_of(shard);
    }
    let has_images = images
        .as_ref()
        .is_none_or(|images| images.totals.refused == 0);
    Ok(Some(Planned {
        is_all: run.targets.away.is_empty() && prepared.refused.is_empty() && has_images,
        files: Some(prepared.summary(&places(&run.mirror))),
        images,
    }))
}

async fn plan_images(
    args: &SyncArgs,
    config: &Config,
    observer: Arc<dyn Observer>,
) -> anyhow::Result<Planned> {
    let wanted = match names_release(args, config) {
        true => select(args, config, observer.as_ref()).await?,
        false => Vec::new(),
    };
    let origins = parts::origins(config)?;
    let images = imaging::planned(origins, config, &wanted, &[], observer).await?;
    let images = images.context(NOTHING_LEFT)?;
    Ok(Planned {
        is_all: images.totals.refused == 0,
        files: None,
        images: Some(images),
    })
}

/// Selects and reaches the targets.
async fn reach(
    args: &SyncArgs,
    config: &Config,
    observer: &Arc<dyn Observer>,
    purpose: Purpose,
) -> anyhow::Result<Run> {
    let wanted = select(args, config, observer.as_ref()).await?;
    let observer = Arc::clone(observer);
    let targets = Targets::reach(config, purpose, Bears::Passing, Arc::clone(&observer)).await?;
    let draining = CancellationToken::new();
    let mirror = parts::mirror(config, targets.here.clone(), observer, draining).await?;
    Ok(Run {
        mirror,
        targets,
        wanted,
    })
}

/// The releases that are wanted.
async fn select(
    args: &SyncArgs,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Wanted>> {
    let origins = parts::origins(config)?;
    let limits = parts::limits(config);
    let hearing = Hearing::new(&origins, &limits, config.retry.policy());
    let list = args.selection.assets.as_deref();
    let selected = selecting::online(config, list, &hearing, observer).await?;
    Ok(selected.releases)
}
