//! Reads what the service follows, when, and whom it tells: `[service]`, `[sets.NAME]`, `[hooks.NAME]`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::target::Target;
use super::units::{Rate, duration, parsed};
use crate::asset::Arch;
use crate::digest::Digest;
use crate::follow::Rule;
use crate::layout::Layout;
use crate::notify::{Body, Language};
use crate::retention::Keep;
use crate::schedule::Schedule;

/// How the service lives, whatever it follows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    pub listen: SocketAddr,
    /// None: see [`super::Config::state_folder`].
    pub state: Option<PathBuf>,
    /// The token that changes need is in this file.
    pub token_file: Option<PathBuf>,
    /// How long runs under way may go on once it is to end.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// How long a target stays ours after the last sign of life.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// So many runs are remembered.
    pub runs_kept: NonZeroUsize,
}

/// One set of releases that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSettings {
    #[serde(default)]
    pub kubernetes: Vec<Rule>,
    #[serde(default, deserialize_with = "rules")]
    pub kops: Vec<Rule>,
    /// Files besides, each with its digest.
    #[serde(default)]
    pub urls: Vec<ExtraFile>,
    /// None: the settings' own.
    pub to: Option<Vec<Target>>,
    pub arch: Option<Vec<Arch>>,
    pub networking: Option<String>,
    pub layout: Option<Layout>,
    #[serde(default = "hourly", deserialize_with = "parsed")]
    pub schedule: Schedule,
    /// None: it is not read again.
    #[serde(default, deserialize_with = "some_parsed")]
    pub scrub: Option<Schedule>,
    pub scrub_rate: Option<Rate>,
    /// Empty: all is kept.
    #[serde(default)]
    pub keep: Vec<Keep>,
    /// None: nothing is deleted by itself.
    #[serde(default, deserialize_with = "some_parsed")]
    pub prune: Option<Schedule>,
    /// How long what is not kept stays after it was marked.
    #[serde(default = "a_week", deserialize_with = "duration")]
    pub grace: Duration,
}

/// A file that no catalogue knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraFile {
    pub url: Url,
    #[serde(deserialize_with = "parsed")]
    pub digest: Digest,
}

/// Whom to tell, and how.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// Has the right to send: printed without its path.
    pub url: Option<Url>,
    /// In place of `url`, a file with it.
    pub url_file: Option<PathBuf>,
    pub kind: Body,
    /// A file with what messages are signed with.
    pub secret_file: Option<PathBuf>,
    /// Empty: all.
    #[serde(default)]
    pub on: Vec<String>,
    #[serde(default)]
    pub language: Language,
}

impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSettings")
            .field("host", &self.url.as_ref().and_then(Url::host_str))
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8430)),
            state: None,
            token_file: None,
            drain: Duration::from_secs(30),
            lease: Duration::from_secs(120),
            runs_kept: NonZeroUsize::new(10_000).expect("not zero"),
        }
    }
}

fn hourly() -> Schedule {
    "every 1h, jitter 5m".parse().expect("a good schedule")
}

fn a_week() -> Duration {
    Duration::from_hours(7 * 24)
}

fn some_parsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Schedule>, D::Error> {
    parsed(deserializer).map(Some)
}

/// One rule, or a list of them.
fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    texts
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

/// The sets and hooks by name.
pub type Named<T> = BTreeMap<String, T>;
