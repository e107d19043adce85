//! `sync` and `plan`: one run, from what was asked to what came of it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::leases::{All, Taker};
use super::{close, document, parts, places, say, select as selecting};
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
    let reaching = reach(args, config, &observer, Purpose::Write);
    let Some(run) = stop.run_until_cancelled(reaching).await else {
        return Ok(Exit::Interrupted);
    };
    let Run { mirror, wanted } = run?;
    let (report, lost) = under_leases(&mirror, wanted, config, observer.as_ref(), stop).await?;
    let exit = match report {
        Some(report) => close(&report, output, config, mirror, screen)?,
        None => Exit::Interrupted,
    };
    lost.map_or(Ok(exit), |lost| Err(lost.into()))
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
    let origins = parts::origins(config)?;
    let limits = parts::limits(config);
    let hearing = Hearing::new(&origins, &limits, config.retry.policy());
    let list = args.selection.assets.as_deref();
    let selected = selecting::online(config, list, &hearing, observer.as_ref()).await?;
    let targets = parts::targets(config).await?;
    for (to, target) in config.to.iter().zip(&targets) {
        let makes = config.s3.create_bucket || matches!(to, Target::Folder(_));
        target.prepare(purpose == Purpose::Write && makes).await?;
    }
    let draining = CancellationToken::new();
    let mirror = parts::mirror(config, targets, Arc::clone(observer), draining).await?;
    Ok(Run {
        mirror,
        wanted: selected.releases,
    })
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
