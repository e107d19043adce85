//! What may be typed to run the service, to ask it, and to do by hand what it does by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use url::Url;

use super::{FetchArgs, PublishArgs, TargetArgs, path};
use crate::config::{self, Layer};
use crate::retention::Keep;
use crate::sync::Shard;

const SERVICE: &str = "The service";

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people
    Text,
    /// An object a line
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    #[command(flatten)]
    pub service: ServiceArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    #[command(flatten)]
    pub shard: ShardArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = SERVICE)]
pub struct ServiceArgs {
    /// Where to answer over HTTP; port 0 takes a free one [default: 127.0.0.1:8430]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Keep the history here [default: systemd's STATE_DIRECTORY, or $XDG_STATE_HOME/kops-mirror]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// The token that starting and cancelling runs need is in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
}

/// One of several workers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = SERVICE)]
pub struct ShardArgs {
    /// Bring only this worker's share of the files: 0/4 is the first of four. Whoever is last marks the release
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// So many workers there are; which one this is, JOB_COMPLETION_INDEX says, as in an Indexed Job
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    pub shards: Option<i64>,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The service [default: http:// and the address it listens on]
    #[arg(long, value_name = "URL", value_parser = config::source)]
    pub url: Option<Url>,
}

#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// What stays: 'latest 4 minors', 'for 180d', v1.32.4, 'kops latest 2 minors' (repeatable)
    #[arg(long, value_name = "RULE", conflicts_with = "set")]
    pub keep: Vec<Keep>,
    /// Keep what the settings say for this set, and what it follows today
    #[arg(long, value_name = "NAME", required_unless_present = "keep")]
    pub set: Option<String>,
    /// Mark what is not kept, and delete what was marked longer than the time of grace ago; without, only show it
    #[arg(long)]
    pub delete: bool,
    /// The time of grace [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    pub grace: Option<std::time::Duration>,
    #[command(flatten)]
    pub fetch: FetchArgs,
}

#[derive(Debug, Clone, Args)]
pub struct NotifyTestArgs {
    /// Only these of the settings' hooks [default: all]
    #[arg(value_name = "HOOK")]
    pub hooks: Vec<String>,
}

impl DaemonArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        self.service.say(layer);
        self.target.say(layer);
        self.publish.say(layer);
        self.fetch.say(layer);
        self.shard.say(layer);
    }
}

impl ServiceArgs {
    fn say(&self, layer: &mut Layer) {
        layer.set_some(
            "service.listen",
            self.listen.map(|listen| listen.to_string()),
        );
        layer.set_some("service.state", self.state.as_deref().map(path));
        layer.set_some("service.token_file", self.token_file.as_deref().map(path));
    }
}

impl ShardArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        layer.set_some("shard", self.shard.map(|shard| shard.to_string()));
        layer.set_some("shards", self.shards);
    }
}

impl PruneArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        self.target.say(layer);
        self.fetch.say(layer);
    }
}
