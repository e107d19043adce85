//! `provision`: from a mirrored release to a cluster.

mod ami;
mod applying;
mod destroying;
mod place;
mod planning;
mod preflight;
mod rolling_back;
mod state_bucket;
mod worksite;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use self::worksite::Worksite;
use super::{document, say};
use crate::cli::{Output, ProvisionArgs, ProvisionCommand, RenderArgs, ValidateArgs, WorkArgs};
use crate::config::{Config, Environment};
use crate::events::{Event, Observer};
use crate::kops::Health;
use crate::provision::{self, Step, steps};
use crate::report::Exit;
use std::sync::Arc;

pub(super) async fn provision(
    args: &ProvisionArgs,
    output: Output,
    environment: &Environment,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let Some(work) = args.command.work() else {
        return without_cluster(
            &args.command,
            output,
            environment,
            config,
            observer.as_ref(),
            stop,
        )
        .await;
    };
    let site = Worksite::open(work, environment, config, observer, stop.clone())?;
    match &args.command {
        ProvisionCommand::Render(args) => render(site, args).await,
        ProvisionCommand::Preflight(args) => preflight::preflight(site, args, output).await,
        ProvisionCommand::StateBucket(args) => {
            state_bucket::state_bucket(site, &args.command, output).await
        }
        ProvisionCommand::Plan(args) => planning::plan(site, args, output).await,
        ProvisionCommand::Apply(args) => applying::apply(site, args, output, false).await,
        ProvisionCommand::Upgrade(args) => applying::apply(site, args, output, true).await,
        ProvisionCommand::Validate(args) => validate(site, args).await,
        ProvisionCommand::Kubeconfig(_) => kubeconfig(site).await,
        ProvisionCommand::Destroy(args) => destroying::destroy(site, args).await,
        ProvisionCommand::Status(args) => status(site, args, output).await,
        ProvisionCommand::Env(_) => env(&site),
        ProvisionCommand::Ami(_) => unreachable!("it needs no cluster"),
    }
}

async fn without_cluster(
    command: &ProvisionCommand,
    output: Output,
    environment: &Environment,
    config: &Config,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let ProvisionCommand::Ami(args) = command else {
        unreachable!("all others are about a cluster");
    };
    let step = ami::ami(&args.command, output, environment, config, observer);
    // What is half done is taken up by the same command.
    let ended = stop.run_until_cancelled(step).await;
    ended.unwrap_or(Ok(Exit::Interrupted))
}

async fn render(mut site: Worksite, args: &RenderArgs) -> anyhow::Result<Exit> {
    if !args.offline {
        site.look_up().await?;
        if let Some(what) = &site.image_to_come {
            let images: Vec<_> = site.found.images.values().map(String::as_str).collect();
            let what = format!("{what}; until then '{}' stands for it", images.join("', '"));
            site.observer().event(&Event::Warned { what });
        }
    }
    let mut manifest = site.render();
    if args.offline {
        manifest = manifest
            .context("--offline asks nobody; without it, what the file does not say is looked up");
    }
    say(&manifest?.to_string())?;
    Ok(Exit::Done)
}

async fn validate(mut site: Worksite, args: &ValidateArgs) -> anyhow::Result<Exit> {
    let kops = Arc::new(site.kops().await?);
    if args.wait {
        let ready: [Box<dyn Step>; 1] = [Box::new(steps::Ready(kops))];
        return applying::ended(provision::run(&ready, site.site_mut()?).await);
    }
    let (word, said, exit) = match kops.validate().await? {
        Health::Ready => ("ready", String::new(), Exit::Done),
        Health::Failing(said) => ("not well", format!(": {said}"), Exit::SomeFailed),
        Health::Unreachable(said) => ("not to be reached", format!(": {said}"), Exit::SomeFailed),
    };
    say(&format!("{} is {word}{said}\n", site.file.name))?;
    Ok(exit)
}

async fn kubeconfig(site: Worksite) -> anyhow::Result<Exit> {
    let kops = site.kops().await?;
    kops.export().await?;
    say(&format!("{}\n", kops.kubeconfig().display()))?;
    Ok(Exit::Done)
}

async fn status(mut site: Worksite, _args: &WorkArgs, output: Output) -> anyhow::Result<Exit> {
    site.open_state_store()
        .await
        .context("can't read what is kept of the cluster")?;
    let journal = &site.site()?.journal;
    if output != Output::Table {
        document(journal, output)?;
        return Ok(Exit::Done);
    }
    if journal.steps.is_empty() {
        say(&format!(
            "nothing has been done for {} yet\n",
            journal.cluster
        ))?;
    }
    for (step, entry) in &journal.steps {
        let state = format!("{:?}", entry.state).to_lowercase();
        say(&format!(
            "{:<14} {state:<7} {}  {}\n",
            step.words(),
            entry.at,
            entry.note
        ))?;
    }
    for made in &journal.made {
        say(&format!("made           {} in {}\n", made.id, made.region))?;
    }
    Ok(Exit::Done)
}

fn env(site: &Worksite) -> anyhow::Result<Exit> {
    let variables = site.environment()?;
    if variables.is_empty() {
        bail!("there are no variables");
    }
    for (name, value) in variables {
        say(&format!(
            "export {name}={}\n",
            crate::consumer::quoted(&value)
        ))?;
    }
    Ok(Exit::Done)
}
