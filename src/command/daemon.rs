//! `daemon`: the service, from its settings to its end.

mod following;
pub(super) mod hooks;
mod memory;
mod process;
mod pruning;
mod renewal;
mod runner;
mod scrubbing;
pub(super) mod sets;
mod shelves;
mod signals;
mod standing;
mod systemd;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::process::Process;
use self::renewal::Renewal;
use self::signals::Signals;
use self::systemd::Watchdog;
use super::say;
use crate::board::Board;
use crate::cli::Cli;
use crate::config::{Config, Environment};
use crate::events::{Silent, told};
use crate::history::History;
use crate::notify::{Hook, Notifier, Patience};
use crate::report::Exit;
use crate::retention::Keeping;
use crate::service::{Clock, Closing, Service};
use crate::web::Web;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const HISTORY: &str = "history.redb";

/// Runs until a signal ends it. An error is one that keeps it from beginning.
pub(super) async fn daemon(cli: &Cli, config: Config) -> anyhow::Result<Exit> {
    let watchdog = Watchdog::found();
    let signals = Signals::listen()?;
    let history = history(&config).await?;
    let clock = Clock::Wall;
    let process = Process::new(history.clone(), config.state_folder()?, clock).await;
    let process = Arc::new(process);
    let (sets, followed) = watch::channel(sets::sets(&config, &process)?);
    let (token, entitling) = watch::channel(renewal::token(&config)?);
    let (drain, draining) = watch::channel(config.service.drain);
    let board = Arc::new(Board::new(VERSION, clock.now()));
    let notifier = Arc::new(notifier(&config, history.clone(), clock).await?);
    let service = Service::new(
        Arc::clone(&board),
        Arc::new(history.clone()),
        Arc::clone(&notifier) as Arc<dyn crate::service::Teller>,
        clock,
    );
    let closing = Closing::default();
    let web = Web {
        desk: Arc::new(service.desk().planning(followed.clone(), &closing)),
        board: Arc::clone(&board),
        token: entitling,
    };
    let renewal = Renewal {
        started: &config,
        process: &process,
        history: &history,
        notifier: &notifier,
        sets,
        token,
        drain,
    };
    let listener = listener(&config).await?;
    systemd::ready();
    let ended = CancellationToken::new();
    let serving = async {
        service.run(followed, &closing).await;
        systemd::stopping();
        ended.cancel();
    };
    let heeding = async {
        let reload = || reload(cli, &renewal);
        let heeding = signals.heed(&closing, draining, reload);
        // Without a signal it ends with the service.
        ended.run_until_cancelled(heeding).await;
    };
    let ((), (), served, (), ()) = tokio::join!(
        serving,
        heeding,
        web.run(listener, ended.clone()),
        notifier.run(&ended),
        watching(&board, &notifier, watchdog, &ended),
    );
    served.context("the page and the API ended")?;
    Ok(Exit::Done)
}

async fn history(config: &Config) -> anyhow::Result<History> {
    let runs = config.service.runs_kept.get() as u64;
    Ok(History::open(&config.state_folder()?.join(HISTORY), runs).await?)
}

/// The settings of a set with what it and those beside it keep, and its time of grace.
pub(super) async fn kept_by_set(
    config: &Config,
    name: &str,
) -> anyhow::Result<(Config, Keeping, Duration)> {
    let all = Arc::new(sets::All::new(config)?);
    let set = all
        .named
        .get(name)
        .with_context(|| format!("the settings have no set '{name}'"))?;
    if set.keep.is_empty() {
        bail!("the set '{name}' has no 'keep', which says what stays");
    }
    let (grace, state) = (set.grace, config.state_folder()?);
    let process = Arc::new(Process::alone(state));
    let runner = sets::runner(name, set, &all, &process);
    let keeping = runner.keeping(&Silent).await?;
    Ok((runner.config, keeping, grace))
}

async fn notifier(config: &Config, history: History, clock: Clock) -> anyhow::Result<Notifier> {
    let hooks: Vec<Hook> = hooks::hooks(config)?
        .into_iter()
        .map(|(_, hook)| hook)
        .collect();
    let now = Arc::new(move || clock.now());
    Ok(Notifier::new(hooks, history, Patience::default(), now).await?)
}

async fn listener(config: &Config) -> anyhow::Result<TcpListener> {
    let listen = config.service.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}"))?;
    let address = listener
        .local_addr()
        .context("the listening socket has no address")?;
    say(&format!("listening at http://{address}/\n"))?;
    Ok(listener)
}

/// Reads the settings again. Bad ones are told, and those of before stay.
fn reload(cli: &Cli, renewal: &Renewal<'_>) {
    systemd::reloading();
    let renewed = cli
        .settings(&Environment::of_process())
        .map_err(anyhow::Error::from)
        .and_then(|config| renewal.renew(&config));
    if let Err(error) = renewed {
        tracing::error!("the settings stay as they were: {}", told(error.as_ref()));
    }
    systemd::ready();
}

/// Keeps the watchdog quiet and the board's numbers of messages right, until the end.
async fn watching(
    board: &Board,
    notifier: &Notifier,
    watchdog: Watchdog,
    ended: &CancellationToken,
) {
    let mut beat = tokio::time::interval(watchdog.beat());
    loop {
        tokio::select! {
            _ = beat.tick() => watchdog.alive(),
            () = ended.cancelled() => return,
        }
        let counts = notifier.counts();
        let shown = board.status().counters;
        if (shown.told, shown.untold) != (counts.told, counts.untold) {
            board.update(|status| {
                status.counters.told = counts.told;
                status.counters.untold = counts.untold;
            });
        }
    }
}
