//! What may be typed to measure a link.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use url::Url;

use super::{FetchArgs, SelectionArgs, TargetArgs};
use crate::config::{self, Layer, Size};
use crate::store::s3::Congestion;

const MEASURED: &str = "What is measured";

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Measure by this file in place of the largest of each host of the release
    #[arg(long, value_name = "URL", value_parser = config::source, help_heading = MEASURED)]
    pub url: Option<Url>,
    /// Measure this end alone [default: the origins, and the store if it is a bucket]
    #[arg(long, value_name = "END", help_heading = MEASURED)]
    pub only: Option<End>,
    /// Measure uploads with this congestion control alone: system, bbr, cubic, … [default: each that can be chosen]
    #[arg(long, value_name = "NAME", help_heading = MEASURED)]
    pub congestion: Option<Congestion>,
    /// The most that is carried in all, shared by the ends; on a slow link the time ends it sooner
    #[arg(long, value_name = "SIZE", default_value = "256MiB", help_heading = MEASURED)]
    pub budget: Size,
    /// The longest that one number of connections is looked at; the first two fifths are for slow start
    #[arg(long, value_name = "N", default_value = "5", help_heading = MEASURED)]
    pub seconds: NonZeroU64,
    /// Draw the plot into this file too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = MEASURED)]
    pub svg: Option<PathBuf>,
}

/// The ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum End {
    /// Where files come from
    Origin,
    /// Where they go
    Store,
}

impl BenchArgs {
    pub(super) fn say(&self, layer: &mut Layer) {
        self.selection.say(layer);
        self.target.say(layer);
        self.fetch.say(layer);
        let congestion = self.congestion.as_ref().map(ToString::to_string);
        layer.set_some("s3.congestion", congestion);
    }
}
