//! Carries out one subcommand each: settings to parts, parts to stages, and what came of it to an exit code.

mod auditing;
mod bench;
mod consumer;
mod daemon;
mod demo;
mod imaging;
mod leases;
mod mending;
mod operator;
mod parts;
mod policy;
mod provision;
mod select;
mod syncing;
mod targets;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use clap::CommandFactory;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::asset::Asset;
use crate::catalogue::listing::Listing;
use crate::cli::{AssetsArgs, Cli, Command, Output, ServeArgs};
use crate::config::{Config, Environment};
use crate::events::{Event, Logged, Observer};
use crate::report::{Exit, Report};
use crate::serve;
use crate::terminal::Screen;
use crate::transfer::Mirror;

/// Runs what was typed. An error is one that stopped it before it could begin: a failed asset is not.
pub fn run(cli: &Cli, screen: &Screen) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Completions { shell } => completions(*shell),
        Command::Man { dir: None } => man(),
        Command::Man { dir: Some(dir) } => man_pages(dir),
        Command::Daemon(_) => {
            let config = cli.settings(&Environment::of_process())?;
            let runtime = runtime().context("can't start the runtime")?;
            let exit = runtime.block_on(daemon::daemon(cli, config));
            runtime.shutdown_background();
            exit
        }
        Command::Provision(args) => {
            let environment = Environment::of_process();
            let observer = screen.observer(cli.showing(), environment.get("NO_COLOR").is_none());
            let observer: Arc<dyn Observer> = Arc::new(Logged(observer));
            let config = cli.settings(&environment)?;
            let output = cli.everywhere.output;
            let runtime = runtime().context("can't start the runtime")?;
            runtime.block_on(async {
                let stop = CancellationToken::new();
                let mut signals = JoinSet::new();
                signals.spawn(stop_on_signal(stop.clone())?);
                provision::provision(args, output, &environment, &config, observer, &stop).await
            })
        }
        command => {
            let config = cli.settings(&Environment::of_process())?;
            let observer = screen.observer(cli.showing(), config.colour);
            let observer: Arc<dyn Observer> = Arc::new(Logged(observer));
            let output = cli.everywhere.output;
            let runtime = runtime().context("can't start the runtime")?;
            let exit = runtime.block_on(run_with(command, output, &config, observer, screen));
            // What still reads or writes a file is not waited for: nothing half-done can be seen.
            runtime.shutdown_background();
            exit
        }
    }
}

/// The runtime of every command. Threads that wait for the disk are bounded, since each keeps memory of its own that it has freed;
/// names are looked up on the same threads, and one that nobody answers holds its thread for many seconds, so they are not few.
pub fn runtime() -> io::Result<Runtime> {
    const BLOCKING_THREADS_MAX: usize = 128;
    Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
}

/// Runs what needs settings. Ctrl-C and SIGTERM stop it at once; the next run goes on from there.
async fn run_with(
    command: &Command,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    let mut signals = JoinSet::new();
    signals.spawn(stop_on_signal(stop.clone())?);
    match command {
        Command::Sync(args) => syncing::sync(args, output, config, observer, &stop, screen).await,
        Command::Plan(args) => syncing::plan(args, output, config, observer, &stop).await,
        Command::Assets(args) => assets(args, output, config, observer.as_ref()),
        Command::Verify(args) => stop
            .run_until_cancelled(auditing::verify(args, output, config))
            .await
            .unwrap_or(Ok(Exit::Interrupted)),
        Command::Repair(args) => {
            auditing::repair(args, output, config, observer, &stop, screen).await
        }
        Command::Env(args) => consumer::env(args, output, config, observer.as_ref()).await,
        Command::Serve(args) => serve(args, stop).await,
        Command::Bench(args) => bench::bench(args, output, config, observer, &stop).await,
        Command::BucketPolicy(args) => policy::policy(args, config),
        Command::Demo(args) => {
            let played = stop.run_until_cancelled(demo::demo(args, output)).await;
            played.unwrap_or(Ok(Exit::Interrupted))
        }
        Command::Status(args) => operator::status(args, output, config).await,
        Command::Prune(args) => stop
            .run_until_cancelled(operator::prune(args, output, config))
            .await
            .unwrap_or(Ok(Exit::Interrupted)),
        Command::NotifyTest(args) => operator::notify_test(args, config).await,
        Command::Daemon(_)
        | Command::Provision(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {
            unreachable!("they are run before")
        }
    }
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("can't listen to signals");
    let (mut interrupt, mut terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    })
}

/// Prints the report and ends.
fn close(
    report: &Report,
    output: Output,
    config: &Config,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    match output {
        Output::Table => say(&report.table(config.colour && screen.is_terminal()))?,
        _ => document(report, output)?,
    }
    Ok(report.exit())
}

fn places(mirror: &Mirror) -> Vec<String> {
    let targets = mirror.targets.iter();
    targets.map(|target| target.place().to_owned()).collect()
}

fn assets(
    args: &AssetsArgs,
    output: Output,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Exit> {
    let selected = select::offline(config, args.selection.assets.as_deref(), observer)?;
    let mut assets: Vec<Asset> = Vec::new();
    for asset in selected
        .releases
        .into_iter()
        .flat_map(|release| release.assets)
    {
        if !assets.iter().any(|other| other.key == asset.key) {
            assets.push(asset);
        }
    }
    let mut images = Vec::new();
    if config.images {
        let catalogue = select::catalogue(config)?;
        for selection in &selected.selections {
            images.extend(catalogue.images(selection)?);
            for warning in catalogue.image_warnings(selection)? {
                observer.event(&Event::Warned {
                    what: warning.to_string(),
                });
            }
        }
        images.sort();
        images.dedup();
    }
    let listing = Listing::new(&assets, &images, args.base_url.as_ref());
    match output {
        Output::Table => say(&listing.table())?,
        Output::Json => say(&listing.json())?,
        Output::Yaml => say(&listing.yaml())?,
    }
    Ok(Exit::Done)
}

async fn serve(args: &ServeArgs, stop: CancellationToken) -> anyhow::Result<Exit> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("can't listen on {}", args.listen))?;
    let address = listener
        .local_addr()
        .context("the listening socket has no address")?;
    let server = serve::open(&args.dir).await?;
    say(&format!(
        "serving {} at http://{address}/\n",
        args.dir.display()
    ))?;
    server.run(listener, stop).await?;
    Ok(Exit::Done)
}

/// Prints a result as a document.
fn document(result: &impl Serialize, output: Output) -> anyhow::Result<()> {
    let text = match output {
        Output::Yaml => serde_yaml_ng::to_string(result).context("can't write YAML")?,
        _ => serde_json::to_string_pretty(result).context("can't write JSON")? + "\n",
    };
    say(&text)
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever read it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.context("can't print the result"),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its output is closed early (`| head`).
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kops-mirror", &mut script);
    say(&String::from_utf8(script).context("the completions are no text")?)?;
    Ok(Exit::Done)
}

fn man() -> anyhow::Result<Exit> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .context("can't make the manual's page")?;
    say(&String::from_utf8(page).context("the manual's page is no text")?)?;
    Ok(Exit::Done)
}

fn man_pages(dir: &Path) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .with_context(|| format!("can't write the manual's pages into {}", dir.display()))?;
    Ok(Exit::Done)
}
