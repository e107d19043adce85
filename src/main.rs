//! Parses the command line, runs one command, and turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use kops_mirror::cli::{Cli, LogForm};
use kops_mirror::command;
use kops_mirror::events::told;
use kops_mirror::report::Exit;
use kops_mirror::terminal::Screen;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let screen = Screen::standard_error();
    log_to(&screen, &cli);
    match command::run(&cli, &screen) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", told(error.as_ref()));
            Exit::Unusable.into()
        }
    }
}

/// Our own lines first, those of the libraries only when asked for: they are many.
fn log_to(screen: &Screen, cli: &Cli) {
    let verbose = cli.everywhere.verbose;
    let (ours, theirs) = match verbose {
        0 if cli.is_service() => (Level::INFO, Level::ERROR),
        0 => (Level::WARN, Level::ERROR),
        1 => (Level::INFO, Level::ERROR),
        2 => (Level::DEBUG, Level::WARN),
        _ => (Level::TRACE, Level::DEBUG),
    };
    let levels = Targets::new()
        .with_default(theirs)
        .with_target("kops_mirror", ours);
    // The demo's S3 server logs as errors what it refuses to order.
    let levels = match verbose {
        0..=2 => levels.with_target("s3s", LevelFilter::OFF),
        _ => levels,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(screen.clone());
    let lines = match cli.everywhere.log {
        LogForm::Text => lines.boxed(),
        LogForm::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .init();
}
