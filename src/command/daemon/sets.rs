//! The sets that the settings name, as the service runs them.

use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::process::Process;
use super::runner::SetRunner;
use crate::command::parts;
use crate::config::{Config, Named, SetSettings};
use crate::origin::Origins;
use crate::record::Purpose;
use crate::schedule::Schedule;
use crate::service::Set;

/// The name of the set that settings without any come to.
const ONLY: &str = "default";

/// The sets and the settings that they stand on.
#[derive(Debug)]
pub(super) struct All {
    pub(super) config: Config,
    pub(super) named: Named<SetSettings>,
    /// As all sets reach them, from run to run.
    pub(super) origins: Origins,
}

impl All {
    /// An error where nothing is followed, or where the upstreams can't be reached as it is said.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            config: config.clone(),
            named: named(config)?,
            origins: parts::origins(config)?,
        })
    }
}

/// All sets; an error where nothing is followed.
pub(super) fn sets(config: &Config, process: &Arc<Process>) -> anyhow::Result<Vec<Set>> {
    config.check_service()?;
    let all = Arc::new(All::new(config)?);
    let sets = all.named.iter().map(|(name, set)| {
        let runner = runner(name, set, &all, process);
        Set {
            name: name.clone(),
            targets: runner.config.to.iter().map(ToString::to_string).collect(),
            jobs: jobs(set),
            runner: Arc::new(runner),
        }
    });
    Ok(sets.collect())
}

/// Who runs one set of all.
pub(super) fn runner(
    name: &str,
    set: &SetSettings,
    all: &Arc<All>,
    process: &Arc<Process>,
) -> SetRunner {
    SetRunner {
        name: name.to_owned(),
        config: all.config.of_set(set),
        set: set.clone(),
        all: Arc::clone(all),
        process: Arc::clone(process),
    }
}

/// The sets of the settings; without any, what `sync` would mirror is one.
fn named(config: &Config) -> anyhow::Result<Named<SetSettings>> {
    if !config.sets.is_empty() {
        return Ok(config.sets.clone());
    }
    if config.kubernetes.is_empty() && config.kops.is_none() {
        bail!(
            "there is nothing to follow: give the settings a set, [sets.production] with kubernetes = [\"stable\"] and \
             kops = \"latest\" say, as config/mirror.toml shows"
        );
    }
    let mut only = toml::Table::new();
    only.insert("kubernetes".to_owned(), config.kubernetes.clone().into());
    let kops: Vec<String> = config.kops.iter().cloned().collect();
    only.insert("kops".to_owned(), kops.into());
    let only = SetSettings::deserialize(only).context("the settings can't be followed")?;
    Ok(Named::from([(ONLY.to_owned(), only)]))
}

fn jobs(set: &SetSettings) -> Vec<(Purpose, Schedule)> {
    let sync = (Purpose::Sync, Some(&set.schedule));
    let scrub = (Purpose::Scrub, set.scrub.as_ref());
    let prune = (Purpose::Prune, set.prune.as_ref());
    [sync, scrub, prune]
        .into_iter()
        .filter_map(|(purpose, schedule)| Some((purpose, schedule?.clone())))
        .collect()
}
