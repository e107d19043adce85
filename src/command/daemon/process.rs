//! What the runs of all sets share: what upstream said, the history, the clock, the name of this process.

use std::collections::BTreeSet;
use std::path::PathBuf;

use semver::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::board::ReleaseStatus;
use crate::config::SetSettings;
use crate::events::told;
use crate::follow::{self, Known, Needs, Product};
use crate::history::{Completed, History};
use crate::index::{self, Release};
use crate::lease::Owner;
use crate::service::Clock;
use crate::upstream::{Upstreams, Wire};

/// The name that the history has for what upstream said.
const UPSTREAMS: &str = "upstream";

/// Versions by their product.
pub(super) type Versions = BTreeSet<(Product, Version)>;

/// Shared by all runs of a process.
#[derive(Debug)]
pub(super) struct Process {
    /// None in a command that only asks.
    history: Option<History>,
    pub(super) owner: Owner,
    /// What ages are told by: of what upstream said, of marks, of what was read again.
    pub(super) clock: Clock,
    /// The folder of what can be lost.
    pub(super) state: PathBuf,
    heard: Mutex<Heard>,
}

/// What upstream said, and what it has taken back.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Heard {
    upstreams: Upstreams,
    /// At any time, and not brought again.
    withdrawn: Versions,
    /// Those of them that nobody was told of yet: whoever looks, be it for a plan, may be the one who notices.
    untold: Versions,
}

/// What upstream has, seen from the needs of a set.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) known: Known,
    pub(super) notes: Vec<String>,
    /// What it has taken back at any time and not brought again.
    pub(super) withdrawn: Versions,
}

impl Upstream {
    /// Whether it has taken back one of the versions of a release.
    pub(super) fn withdrew(&self, release: &Release) -> bool {
        let of = |product, version: &Option<String>| {
            let version = version.as_deref().and_then(|version| version.parse().ok());
            version.is_some_and(|version| self.withdrawn.contains(&(product, version)))
        };
        of(Product::Kubernetes, &release.kubernetes) || of(Product::Kops, &release.kops)
    }
}

impl Process {
    pub(super) async fn new(history: History, state: PathBuf, clock: Clock) -> Self {
        let heard = kept(&history, UPSTREAMS).await;
        Self {
            history: Some(history),
            owner: Owner::this_process(),
            clock,
            state,
            heard: Mutex::new(heard),
        }
    }

    /// One that knows nothing from before and keeps nothing.
    pub(super) fn alone(state: PathBuf) -> Self {
        Self {
            history: None,
            owner: Owner::this_process(),
            clock: Clock::Wall,
            state,
            heard: Mutex::default(),
        }
    }

    /// Asks upstream for what has changed. What does not answer stays as it was.
    pub(super) async fn look(&self, set: &SetSettings, wire: &Wire<'_>) -> Upstream {
        let needs = Needs::of(&set.kubernetes, &set.kops);
        let mut heard = self.heard.lock().await;
        let before = heard.upstreams.known(&needs);
        let now = self.clock.now();
        let look = heard.upstreams.look(&needs, wire, now).await;
        let of = |product| {
            let versions = follow::withdrawn(product, &before, &look.known);
            versions.into_iter().map(move |version| (product, version))
        };
        let gone: Versions = of(Product::Kubernetes).chain(of(Product::Kops)).collect();
        heard.withdrawn.extend(gone.iter().cloned());
        heard.untold.extend(gone);
        let is_gone =
            |(product, version): &(Product, Version)| !is_known(&look.known, *product, version);
        heard.withdrawn.retain(is_gone);
        heard.untold.retain(is_gone);
        self.keep(UPSTREAMS, &*heard).await;
        Upstream {
            withdrawn: heard.withdrawn.clone(),
            known: look.known,
            notes: look.notes,
        }
    }

    /// What upstream has taken back, for who tells it: nobody else is given it.
    pub(super) async fn take_untold(&self) -> Versions {
        let mut heard = self.heard.lock().await;
        let untold = std::mem::take(&mut heard.untold);
        if !untold.is_empty() {
            self.keep(UPSTREAMS, &*heard).await;
        }
        untold
    }

    /// Where the history is empty, it has what the targets tell of before.
    pub(super) async fn remember_completed<'a>(
        &self,
        set: &str,
        releases: impl Iterator<Item = &'a ReleaseStatus>,
    ) {
        let Some(history) = &self.history else { return };
        let at_targets = releases.flat_map(|release| {
            let targets = release.targets.iter();
            targets.filter_map(move |target| Some((release, target, target.completed?)))
        });
        let completed: Vec<Completed> = at_targets
            .map(|(release, target, at)| Completed {
                set: set.to_owned(),
                index: format!("{}/{}{}.json", target.place, index::FOLDER, release.name),
                at,
                files: target.files,
                bytes: target.bytes,
            })
            .collect();
        match history.rebuild(&completed).await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(
                set,
                runs,
                "the history was empty: it is taken from the targets' indexes"
            ),
            Err(error) => tracing::warn!(
                "the history can't be taken from the targets: {}",
                told(&error)
            ),
        }
    }

    /// Keeps a state over restarts. What can't be written is told, and found out anew then.
    pub(super) async fn keep(&self, name: &str, state: &impl Serialize) {
        let Some(history) = &self.history else { return };
        let text = serde_json::to_string(state).expect("it has only strings for keys");
        if let Err(error) = history.set(name, &text).await {
            tracing::warn!("{name} can't be kept: {}", told(&error));
        }
    }

    /// What was kept; what can't be read is as if it had never been.
    pub(super) async fn kept<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        match &self.history {
            Some(history) => kept(history, name).await,
            None => T::default(),
        }
    }
}

async fn kept<T: DeserializeOwned + Default>(history: &History, name: &str) -> T {
    match history.get(name).await {
        Ok(text) => text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
        Err(error) => {
            tracing::warn!("{name} of before is not known: {}", told(&error));
            T::default()
        }
    }
}

fn is_known(known: &Known, product: Product, version: &Version) -> bool {
    match product {
        Product::Kubernetes => known.kubernetes.contains(version),
        Product::Kops => known.kops.contains(version),
    }
}
