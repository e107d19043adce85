//! `provision apply` and `upgrade`: the steps to a cluster, under a lock.

use std::sync::Arc;

use anyhow::{Context, bail};

use super::super::say;
use super::planning;
use super::rolling_back::{self, Before};
use super::worksite::Worksite;
use crate::cli::{ApplyArgs, Output};
use crate::cluster::TargetKind;
use crate::events::Event;
use crate::kops::Kops;
use crate::provision::{self, ImageMaker, Made, Plan, Step, StepError, StepName, steps};
use crate::report::Exit;

pub(super) async fn apply(
    mut site: Worksite,
    args: &ApplyArgs,
    output: Output,
    rolls: bool,
) -> anyhow::Result<Exit> {
    let given = given(&site, args)?;
    let plan = planning::make(&mut site, given.as_ref()).await?;
    if given.is_none() {
        let command = if rolls {
            "provision upgrade"
        } else {
            "provision apply"
        };
        planning::show(&plan, command, output)?;
    }
    let obstacles = plan.obstacles();
    if !obstacles.is_empty() {
        bail!(
            "nothing was done, since this stands in the way:\n  {}",
            obstacles.join("\n  ")
        );
    }
    if args.plan.is_none() && !args.yes {
        say("Nothing was done: give --yes, or a plan with --plan.\n")?;
        return Ok(Exit::Differs);
    }
    provision::write_in(&site.folder, "plan.json", &plan.json())?;
    // The lock is in the state store, which is not there before its step.
    let first: [Box<dyn Step>; 2] = [
        Box::new(steps::Preflight(plan.findings)),
        Box::new(steps::StateStore(site.state_bucket().await?)),
    ];
    let had = site.site_mut()?.journal.made.clone();
    if let Err((step, error)) = provision::run(&first, site.site_mut()?).await {
        let before = Before::without_kops(had);
        take_back(&mut site, args, None, &before, (step, &error)).await;
        return ended(Err((step, error)));
    }
    let ready = match ready(&mut site, args, rolls, &had).await {
        Ok(ready) => ready,
        Err(error) => {
            if args.rollback {
                let before = Before::without_kops(had);
                undone(&mut site, None, &before, StepName::StateStore).await;
            }
            return Err(error);
        }
    };
    let Ready {
        kops,
        steps,
        before,
    } = ready;
    let result = under_lock(site.site_mut()?, &steps).await?;
    if let Err((step, error)) = &result {
        take_back(&mut site, args, Some(&kops), &before, (*step, error)).await;
    }
    ended(result)
}

/// What the steps after the state store's need.
struct Ready {
    kops: Arc<Kops>,
    steps: Vec<Box<dyn Step>>,
    before: Before,
}

/// Opens the state store, which is there by now; `had` was made by earlier runs, as far as the journal here tells.
async fn ready(
    site: &mut Worksite,
    args: &ApplyArgs,
    rolls: bool,
    had: &[Made],
) -> anyhow::Result<Ready> {
    let mut made_now = site.site()?.journal.made.clone();
    made_now.retain(|made| !had.contains(made));
    site.open_state_store().await?;
    let cloud = site.cloud().await?;
    let kops = Arc::new(site.kops().await?);
    let maker = site.image_maker(args.ssh.clone(), args.rollback).await?;
    let mut all: Vec<Box<dyn Step>> = vec![Box::new(steps::Network(cloud))];
    all.extend(steps(site, &kops, maker, args, rolls));
    let before = Before {
        made: without(&site.site()?.journal.made, &made_now),
        has_cluster: kops.read().await?.is_some(),
    };
    Ok(Ready {
        kops,
        steps: all,
        before,
    })
}

/// Rolls back where that was asked for, and nobody has stopped the run.
async fn take_back(
    site: &mut Worksite,
    args: &ApplyArgs,
    kops: Option<&Kops>,
    before: &Before,
    (step, error): (StepName, &StepError),
) {
    if args.rollback && !matches!(error, StepError::Stopped) {
        undone(site, kops, before, step).await;
    }
}

/// Rolls back; that it failed is told beside why the run did, which the command ends with.
async fn undone(site: &mut Worksite, kops: Option<&Kops>, before: &Before, step: StepName) {
    if let Err(error) = rolling_back::roll_back(site, kops, before, step).await {
        let what = format!("{error:#}");
        site.observer().event(&Event::Warned { what });
    }
}

/// What had been made before this run.
fn without(all: &[Made], now: &[Made]) -> Vec<Made> {
    let is_old = |made: &&Made| !now.contains(made);
    all.iter().filter(is_old).cloned().collect()
}

/// The plan that was given, read.
fn given(site: &Worksite, args: &ApplyArgs) -> anyhow::Result<Option<Plan>> {
    let Some(path) = &args.plan else {
        return Ok(None);
    };
    let text = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    let plan = Plan::parse(&text, &site.file.name);
    let plan = plan.with_context(|| format!("{} is no plan of this cluster", path.display()))?;
    Ok(Some(plan))
}

fn steps(
    site: &Worksite,
    kops: &Arc<Kops>,
    maker: ImageMaker,
    args: &ApplyArgs,
    rolls: bool,
) -> Vec<Box<dyn Step>> {
    let mut steps: Vec<Box<dyn Step>> = vec![
        Box::new(steps::Image(maker)),
        Box::new(steps::Manifest),
        Box::new(steps::Config(Arc::clone(kops))),
        Box::new(steps::Keys(Arc::clone(kops))),
        Box::new(steps::Resources {
            kops: Arc::clone(kops),
            rolls,
        }),
    ];
    // What terraform is to make is not there yet.
    if site.file.target.kind == TargetKind::Direct {
        steps.push(Box::new(steps::Kubeconfig(Arc::clone(kops))));
        if !args.no_wait {
            steps.push(Box::new(steps::Ready(Arc::clone(kops))));
        }
    }
    steps
}

/// Runs the steps while the lock is held, and stops when it is lost.
async fn under_lock(
    site: &mut provision::Site,
    steps: &[Box<dyn Step>],
) -> anyhow::Result<Result<(), (StepName, StepError)>> {
    let kept = site
        .kept
        .clone()
        .context("the state store has not been opened")?;
    let stop = site.stop.child_token();
    site.stop = stop.clone();
    let running = provision::run(steps, site);
    Ok(kept.while_locked(&stop, running).await?)
}

/// How the steps ended, for the shell.
pub(super) fn ended(result: Result<(), (StepName, StepError)>) -> anyhow::Result<Exit> {
    match result {
        Ok(()) => Ok(Exit::Done),
        Err((_, StepError::Stopped)) => Ok(Exit::Interrupted),
        Err((step, error)) => Err(error).with_context(|| {
            format!("{step}: it failed, and 'provision apply' goes on from there")
        }),
    }
}
