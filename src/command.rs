//! Carries out one subcommand each: settings to parts, parts to stages, and what came of it to an exit code.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::config::{Config, Environment};
use crate::report::Exit;
use crate::terminal::Screen;

/// Runs what was typed. An error is one that stopped it before it could begin: a failed asset is not.
pub fn run(cli: Cli, screen: &Screen) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Completions { shell } => completions(shell),
        Command::Man { dir: None } => man(&mut io::stdout().lock()),
        Command::Man { dir: Some(dir) } => man_pages(&dir),
        _ => {
            let config = cli.settings(&Environment::of_process())?;
            run_with(&cli, &config, screen)
        }
    }
}

/// Runs what needs settings.
fn run_with(cli: &Cli, config: &Config, screen: &Screen) -> anyhow::Result<Exit> {
    let _observer = screen.observer(cli.showing(), config.colour);
    anyhow::bail!("no arm for {:?} yet", cli.command)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its output is closed early (`| head`).
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kops-mirror", &mut script);
    io::stdout()
        .write_all(&script)
        .context("can't print the completions")?;
    Ok(Exit::Done)
}

fn man(page: &mut impl Write) -> anyhow::Result<Exit> {
    clap_mangen::Man::new(Cli::command())
        .render(page)
        .context("can't print the manual")?;
    Ok(Exit::Done)
}

fn man_pages(dir: &Path) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .with_context(|| format!("can't write the manual's pages into {}", dir.display()))?;
    Ok(Exit::Done)
}
