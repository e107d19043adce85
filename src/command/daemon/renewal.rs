//! What a running service takes from settings that are read again: all but what it was built on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use super::hooks;
use super::process::Process;
use super::sets;
use crate::config::Config;
use crate::history::History;
use crate::notify::{Hook, Notifier};
use crate::service::Set;
use crate::web::Token;

/// What follows the settings, and those that the service was started with.
#[derive(Debug)]
pub(super) struct Renewal<'a> {
    pub(super) started: &'a Config,
    pub(super) process: &'a Arc<Process>,
    pub(super) history: &'a History,
    pub(super) notifier: &'a Notifier,
    pub(super) sets: watch::Sender<Vec<Set>>,
    pub(super) token: watch::Sender<Option<Token>>,
    pub(super) drain: watch::Sender<Duration>,
}

impl Renewal<'_> {
    /// Takes other settings, all or, where something in them is wrong, none.
    pub(super) fn renew(&self, config: &Config) -> anyhow::Result<()> {
        let sets = sets::sets(config, self.process)?;
        let hooks = hooks::hooks(config)?.into_iter().map(|(_, hook)| hook);
        let hooks: Vec<Hook> = hooks.collect();
        let token = token(config)?;
        let fixed = self.fixed(config)?;
        // Nothing fails from here on.
        let count = sets.len();
        self.notifier.renew(&hooks);
        self.token.send_replace(token);
        self.drain.send_replace(config.service.drain);
        self.history.keep(config.service.runs_kept.get() as u64);
        // What remains of [service] comes with the sets, for their next runs.
        self.sets.send_replace(sets);
        tracing::info!(
            sets = count,
            hooks = hooks.len(),
            "the settings were read again"
        );
        if !fixed.is_empty() {
            tracing::warn!(
                "these changes take effect when the service is started again: {}",
                fixed.join(", ")
            );
        }
        Ok(())
    }

    /// The settings that differ from those of the start and can't be changed under way, by name.
    fn fixed(&self, config: &Config) -> anyhow::Result<Vec<&'static str>> {
        let differs = [
            (
                "service.listen",
                config.service.listen != self.started.service.listen,
            ),
            (
                "service.state",
                config.state_folder()? != self.started.state_folder()?,
            ),
        ];
        let differs = differs.into_iter().filter(|(_, differs)| *differs);
        Ok(differs.map(|(name, _)| name).collect())
    }
}

/// The token that changes need, from its file.
pub(super) fn token(config: &Config) -> anyhow::Result<Option<Token>> {
    let Some(file) = &config.service.token_file else {
        return Ok(None);
    };
    let token = Token::new(&hooks::content(file)?);
    token
        .map(Some)
        .with_context(|| format!("the token in {} can't be used", file.display()))
}
