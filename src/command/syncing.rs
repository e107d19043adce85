//! `sync` and `plan`: one run, from what was asked to what came of it.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::leases::{All, Taker};
use super::{close, document, imaging, parts, places, say, select as selecting};
use crate::cli::{Output, SyncArgs};
use crate::config::{Config, Target};
use crate::events::Observer;
use crate::lease::{Lost, Owner};
use crate::report::{Exit, Report};
use crate::sync::{self, Prepared, Shard, SyncError, Wanted};
use crate::terminal::Screen;
use crate::transfer::Mirror;
use crate::vouch::Hearing;

/// What a command is there for at its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Look,
    Write,
}

/// What is wanted, and everything to bring it with.
#[derive(Debug)]
struct Run {
    mirror: Arc<Mirror>,
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
    let Run { mirror, mut wanted } = run?;
    let images = imaging::bring(config, &mut wanted, &observer, stop).await?;
    let (files, lost) = if stop.is_cancelled() {
        (None, None)
    } else {
        under_leases(&mirror, wanted, config, observer.as_ref(), stop).await?
    };
    drop((mirror, observer)); // and with them the bars
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
    let report = imaging::bring(config, &mut wanted, &observer, stop).await?;
    drop(observer); // and with it the bars
    let report = report.context("without files nothing is left: name images, or give --images")?;
    close(&report, output, config, screen)
}

/// Runs while nobody else does. No report when it was interrupted before it could begin; the lease is told that was lost meanwhile.
async fn under_leases(
    mirror: &Arc<Mirror>,
    wanted: Vec<Wanted>,
    config: &Config,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> anyhow::Result<(Option<Report>, Option<Lost>)> {
    let owner = Owner::this_process();
    let taker = Taker {
        targets: &mirror.targets,
        shard: config.shard,
        owner: &owner,
        ttl: config.service.lease,
    };
    let stop = stop.child_token();
    let beginning = async {
        let Some(mut prepared) = planned(mirror, wanted.clone(), &stop).await? else {
            return Ok(None);
        };
        if !prepared.has_work(config.shard) {
            return Ok(Some((None, Some(prepared))));
        }
        let (taken, ()) = tokio::join!(taker.take(), prepared.measure(mirror, &stop));
        anyhow::Ok(Some(match taken? {
            All::Ours(leases) if leases.are_next_after(prepared.service(), config.shard) => {
                (Some(leases), Some(prepared))
            }
            // Others may have changed what was seen.
            All::Ours(leases) => (Some(leases), None),
            All::Theirs { .. } => (Some(taker.wait(observer).await?), None),
        }))
    };
    let begun = stop
        .run_until_cancelled(beginning)
        .await
        .unwrap_or(Ok(None))?;
    let Some((leases, prepared)) = begun else {
        return Ok((None, None));
    };
    let working = async {
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => match planned(mirror, wanted, &stop).await? {
                Some(mut prepared) => {
                    prepared.measure(mirror, &stop).await;
                    prepared
                }
                None => return Ok(None),
            },
        };
        let report = carry_out(mirror, prepared, config.shard, &stop).await;
        anyhow::Ok(Some(report))
    };
    let (report, lost) = match leases {
        Some(leases) => leases.during(&stop, working).await,
        None => (working.await, None),
    };
    Ok((report?, lost))
}

async fn carry_out(
    mirror: &Arc<Mirror>,
    prepared: Prepared,
    shard: Option<Shard>,
    stop: &CancellationToken,
) -> Report {
    match shard {
        Some(shard) => sync::carry_out_share(mirror, prepared, shard, stop).await,
        None => sync::carry_out(mirror, prepared, stop).await,
    }
}

pub(super) async fn plan(
    args: &SyncArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let preparing = async {
        let Run { mirror, wanted } = reach(args, config, &observer, Purpose::Look).await?;
        let Some(mut prepared) = planned(&mirror, wanted, stop).await? else {
            return Ok(None);
        };
        prepared.measure(&mirror, stop).await;
        anyhow::Ok(Some((places(&mirror), prepared)))
    };
    let prepared = stop
        .run_until_cancelled(preparing)
        .await
        .unwrap_or(Ok(None));
    let Some((places, mut prepared)) = prepared? else {
        return Ok(Exit::Interrupted);
    };
    if let Some(shard) = config.shard {
        prepared.only_of(shard);
    }
    let summary = prepared.summary(&places);
    match output {
        Output::Table => say(&summary.to_string())?,
        _ => document(&summary, output)?,
    }
    Ok(if prepared.refused.is_empty() {
        Exit::Done
    } else {
        Exit::SomeFailed
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
    let targets = parts::targets(config).await?;
    for (to, target) in config.to.iter().zip(&targets) {
        let makes = config.s3.create_bucket || matches!(to, Target::Folder(_));
        target.prepare(purpose == Purpose::Write && makes).await?;
    }
    let draining = CancellationToken::new();
    let mirror = parts::mirror(config, targets, Arc::clone(observer), draining).await?;
    Ok(Run { mirror, wanted })
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
    Ok(selecting::online(config, list, &hearing, observer)
        .await?
        .releases)
}

/// Hears the witnesses and plans. None when it was interrupted.
async fn planned(
    mirror: &Mirror,
    wanted: Vec<Wanted>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Prepared>> {
    match sync::prepare(mirror, wanted, stop).await {
        Ok(prepared) => Ok(Some(prepared)),
        Err(SyncError::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
