//! `status`, `prune` and `notify-test`: what an operator of the service does by hand.

use std::sync::Arc;

use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::Client;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::daemon::hooks;
use super::leases::{All, Leases, Taker};
use super::targets::Bears;
use super::{document, parts, say};
use crate::board::Status;
use crate::cli::{NotifyTestArgs, Output, PruneArgs, StatusArgs};
use crate::config::Config;
use crate::events::told;
use crate::lease::Owner;
use crate::notify;
use crate::prune::{self, Mode, Pruned};
use crate::report::Exit;
use crate::retention::Keeping;
use crate::store::{Store, StoreError};
use crate::web;

/// How the service is, as it says itself.
pub(super) async fn status(
    args: &StatusArgs,
    output: Output,
    config: &Config,
) -> anyhow::Result<Exit> {
    let listen = config.service.listen;
    let here = || Url::parse(&format!("http://{listen}/")).context("the address is no URL");
    let base = args.url.clone().map_or_else(here, Ok)?;
    let url = base
        .join("api/v1/status")
        .context("the address is no URL")?;
    // The service is reached directly or not at all: a proxy for the upstreams is not the way to it.
    let client = Client::builder()
        .no_proxy()
        .build()
        .context("there is no HTTP client")?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(reqwest::Error::without_url);
    let answer = answer.with_context(|| {
        format!("no service answers at {base}: is it running ('kops-mirror daemon'), and is this where it listens?")
    })?;
    if !answer.status().is_success() {
        bail!(
            "{base} answers {}: is this the service of kops-mirror?",
            answer.status()
        );
    }
    let status: Status = answer
        .json()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("{base} does not answer as this version of kops-mirror does"))?;
    match output {
        Output::Table => say(&web::table(&status, Timestamp::now()))?,
        _ => document(&status, output)?,
    }
    Ok(Exit::Done)
}

/// What would go from the targets, or what went.
pub(super) async fn prune(
    args: &PruneArgs,
    output: Output,
    config: &Config,
) -> anyhow::Result<Exit> {
    let (config, keeping, grace) = match &args.set {
        None => {
            let keeping = Keeping {
                rules: args.keep.clone(),
                ..Keeping::default()
            };
            (config.clone(), keeping, prune::GRACE)
        }
        Some(name) => super::daemon::kept_by_set(config, name).await?,
    };
    let mode = Mode {
        dry_run: !args.delete,
        grace: args.grace.unwrap_or(grace),
    };
    let targets = parts::targets(&config).await?;
    for target in &targets {
        target.prepare(false).await?;
    }
    let pruning = prune_all(&targets, &keeping, mode);
    let pruned = if args.delete {
        let stop = CancellationToken::new();
        let pruning = stop.run_until_cancelled(pruning);
        let (pruned, lost) = leases(&config, &targets)
            .await?
            .during(&stop, pruning)
            .await;
        lost.map_or(Ok(()), Err)?;
        pruned.context("it was stopped")??
    } else {
        pruning.await?
    };
    match output {
        Output::Table => pruned
            .iter()
            .try_for_each(|pruned| say(&pruned.to_string()))?,
        _ => document(&pruned, output)?,
    }
    Ok(Exit::Done)
}

async fn prune_all(
    targets: &[Arc<dyn Store>],
    keeping: &Keeping,
    mode: Mode,
) -> Result<Vec<Pruned>, StoreError> {
    let mut pruned = Vec::new();
    for target in targets {
        pruned.push(prune::prune(target.as_ref(), keeping, Timestamp::now(), mode).await?);
    }
    Ok(pruned)
}

/// The targets, as long as nobody else runs there: a sync may have found in place what is about to go.
async fn leases(config: &Config, targets: &[Arc<dyn Store>]) -> anyhow::Result<Leases> {
    let owner = Owner::this_process();
    let taker = Taker {
        shard: None,
        owner: &owner,
        ttl: config.service.lease,
    };
    match taker.take(targets, Bears::Nothing).await? {
        All::Ours(leases) => Ok(leases),
        All::Theirs { why, .. } => bail!("{why}"),
    }
}

/// Sends each hook a message, and says what came of it.
pub(super) async fn notify_test(args: &NotifyTestArgs, config: &Config) -> anyhow::Result<Exit> {
    let all = hooks::hooks(config)?;
    for name in &args.hooks {
        if !all.iter().any(|(known, _)| known == name) {
            bail!("the settings have no hook '{name}'");
        }
    }
    let is_chosen = |name: &String| args.hooks.is_empty() || args.hooks.contains(name);
    let (names, hooks): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|(name, _)| is_chosen(name)).unzip();
    if hooks.is_empty() {
        bail!("the settings have no hooks: [hooks.oncall] say, as config/mirror.toml shows");
    }
    let answers = notify::test(&hooks, Timestamp::now()).await;
    let mut exit = Exit::Done;
    for ((name, hook), answer) in names.iter().zip(&hooks).zip(&answers) {
        match answer {
            Ok(()) => say(&format!("sent      {name}: {hook} took the message\n"))?,
            Err(error) => {
                exit = Exit::SomeFailed;
                say(&format!("failed    {name}: {}\n", told(error)))?;
            }
        }
    }
    Ok(exit)
}
