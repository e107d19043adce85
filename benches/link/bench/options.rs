//! What may be asked of the bench.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::line::By;
use super::line::emulator::Line;
use super::scenario::{ALL, SMOKE, Scenario};
use super::tools::{PEERS, Peer};

/// Measures whole commands over a slow, lossy link that it makes itself.
#[derive(Debug, Clone, Parser)]
#[command(name = "link", bin_name = "cargo bench --bench link --")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Fail where it can't be measured
    #[arg(long)]
    pub(crate) require: bool,
    /// A few small files and a small image over one link, without peers: does it work?
    #[arg(long)]
    quick: bool,
    /// Only rows whose names contain one of these
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    rows: Vec<String>,
    /// none, all, or names [default: all but the variants]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = peers)]
    peers: Option<Vec<Peers>>,
    /// How often each is measured, each time with other losses; the table has the median
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Minutes after which a tool is stopped
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0)]
    cap: f64,
    /// Flags for our program after those of the row, in one word
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    flags: Option<String>,
    /// What makes the link [default: netem where the kernel has it]
    #[arg(long, value_name = "WAY")]
    pub(crate) line: Option<By>,
    /// Every figure of every run
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A plot: shares of the link
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// The tables
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// What Cargo says when it wants numbers
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this process is for, where it is not the bench.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Emulate(Line),
}

/// What a word after `--peers` stands for.
type Peers = Vec<Peer>;

fn peers(word: &str) -> Result<Peers, String> {
    match word {
        "none" => Ok(Vec::new()),
        "all" => Ok(PEERS.to_vec()),
        name => match PEERS.iter().find(|peer| peer.name == name) {
            Some(peer) => Ok(vec![*peer]),
            None => Err(format!("there is no such peer; there are {}", names())),
        },
    }
}

fn names() -> String {
    let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
    names.join(", ")
}

impl Options {
    /// What is asked of the bench by `cargo test`.
    pub(crate) fn of_a_test() -> Self {
        Self::parse_from(["link", "--quick"])
    }

    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        if self.quick {
            return SMOKE.to_vec();
        }
        let is_chosen = |scenario: &Scenario| {
            let mut names = self.rows.iter();
            self.rows.is_empty() || names.any(|name| scenario.name.contains(name.as_str()))
        };
        ALL.into_iter().filter(is_chosen).collect()
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        match &self.peers {
            Some(peers) => peers.concat(),
            None if self.quick => Vec::new(),
            None => PEERS.into_iter().filter(|peer| peer.is_usual).collect(),
        }
    }

    /// The seeds of the runs.
    pub(crate) fn seeds(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.runs
    }

    pub(crate) fn cap(&self) -> Duration {
        Duration::from_secs_f64(self.cap * 60.0)
    }

    /// Flags for our program besides those of the row.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &str> {
        let flags = self.flags.iter();
        flags.flat_map(|flags| flags.split_whitespace())
    }
}
