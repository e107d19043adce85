//! `sync` and `plan`: one run, from what was asked to what came of it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::leases::{All, Leases, Taker};
use super::targets::{Bears, Purpose, Targets};
use super::{close, document, parts, places, say, select as selecting};
use crate::cli::{Output, SyncArgs};
use crate::config::Config;
use crate::events::Observer;
use crate::lease::{Lost, Owner};
use crate::report::{Exit, Report};
use crate::sync::{self, Prepared, Shard, SyncError, Wanted};
use crate::terminal::Screen;
use crate::transfer::Mirror;
use crate::vouch::Hearing;

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
    let reaching = reach(args, config, &observer, Purpose::Write);
    let Some(run) = stop.run_until_cancelled(reaching).await else {
        return Ok(Exit::Interrupted);
    };
    let (report, lost) = run?.under_leases(config, stop).await?;
    drop(observer); // and with it the bars
    let exit = match report {
        Some(report) => close(&report, output, config, screen)?,
        None => Exit::Interrupted,
    };
    lost.map_or(Ok(exit), |lost| Err(lost.into()))
}

impl Run {
    /// Runs while nobody else does. No report when it was interrupted before it could begin; the lease is told that was lost
    /// meanwhile.
    async fn under_leases(
        mut self,
        config: &Config,
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
        let working = self.work(prepared, config.shard, &stop);
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
        let mut report = carry_out(&Arc::new(self.mirror), prepared, shard, stop).await;
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
        let mut run = reach(args, config, &observer, Purpose::Look).await?;
        let Some(mut prepared) = run.planned(stop).await? else {
            return Ok(None);
        };
        prepared.measure(&run.mirror, stop).await;
        let is_all = run.targets.away.is_empty();
        anyhow::Ok(Some((places(&run.mirror), is_all, prepared)))
    };
    let prepared = stop
        .run_until_cancelled(preparing)
        .await
        .unwrap_or(Ok(None));
    let Some((places, is_all, mut prepared)) = prepared? else {
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
    Ok(if is_all && prepared.refused.is_empty() {
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
    let observer = Arc::clone(observer);
    let targets = Targets::reach(config, purpose, Bears::Passing, Arc::clone(&observer)).await?;
    let draining = CancellationToken::new();
    let mirror = parts::mirror(config, targets.here.clone(), observer, draining).await?;
    Ok(Run {
        mirror,
        targets,
        wanted: selected.releases,
    })
}
