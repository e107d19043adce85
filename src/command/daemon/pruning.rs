//! A set's prune: what all sets that share its targets keep stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::bail;

use super::following::Following;
use super::runner::SetRunner;
use crate::asset::Key;
use crate::command::leases::All;
use crate::command::targets::{Purpose, Targets};
use crate::events::Observer;
use crate::prune::{self, Mode};
use crate::record::End;
use crate::retention::Keeping;
use crate::service::{Closing, Ran};

impl SetRunner {
    pub(super) async fn prune(
        &self,
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Ran> {
        let mut targets = self.targets(Purpose::Look).await?;
        let keeping = self.keeping(observer.as_ref()).await?;
        let leases = match self.leases(&mut targets, None).await? {
            All::Ours(leases) => leases,
            All::Theirs { why, until } => {
                return Ok(Ran {
                    again_at: Some(until),
                    ..Ran::nothing(End::HeldByOther, Some(why))
                });
            }
        };
        let stop = closing.stop.child_token();
        let pruning = stop.run_until_cancelled(self.prune_all(&mut targets, &keeping));
        let (pruned, lost) = leases.during(&stop, pruning).await;
        let ran = match pruned {
            None => Ran::nothing(End::Interrupted, None),
            Some(notes) => Ran {
                notes: notes?,
                ..Self::ended(&targets)
            },
        };
        Ok(ran.unless(lost))
    }

    async fn prune_all(
        &self,
        targets: &mut Targets,
        keeping: &Keeping,
    ) -> anyhow::Result<Vec<String>> {
        let mode = Mode {
            dry_run: false,
            grace: self.set.grace,
        };
        let mut notes = Vec::new();
        let mut failed = Vec::new();
        for (at, target) in targets.here.iter().enumerate() {
            let now = self.process.clock.now();
            match prune::prune(target.as_ref(), keeping, now, mode).await {
                Ok(pruned) => {
                    tracing::info!(set = self.name, "pruned:\n{pruned}");
                    notes.extend(pruned.notes);
                }
                Err(error) => failed.push((at, error)),
            }
        }
        targets.leave_out(failed)?;
        Ok(notes)
    }

    /// What this set keeps, and what others do that share one of its targets.
    pub(super) async fn keeping(&self, observer: &dyn Observer) -> anyhow::Result<Keeping> {
        let mut keeping: Option<Keeping> = None;
        for (name, set) in &self.all.named {
            let config = self.all.config.of_set(set);
            if !config
                .to
                .iter()
                .any(|target| self.config.to.contains(target))
            {
                continue;
            }
            let following = self.following_of(name, set, &config, observer).await?;
            if !following.unmet.is_empty() {
                bail!(
                    "what the set '{name}' follows is not known, so nothing is deleted: {}",
                    following.unmet.join("; ")
                );
            }
            let keeps = Keeping {
                rules: set.keep.clone(),
                followed: followed(following),
            };
            keeping = Some(match keeping {
                Some(others) => others.unite(keeps),
                None => keeps,
            });
        }
        Ok(keeping.unwrap_or_default())
    }
}

fn followed(following: Following) -> BTreeMap<String, BTreeSet<Key>> {
    let releases = following.wanted.into_iter();
    releases
        .map(|wanted| {
            let keys = wanted.assets.into_iter().map(|asset| asset.key);
            (wanted.release.name, keys.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::process::Process;
    use super::super::sets::{self, All};
    use crate::config::Config;
    use crate::events::Silent;

    /// Exact versions are followed without asking anybody.
    const SETTINGS: &str = r#"
        to = ["/here"]
        [sets.elsewhere]
        kubernetes = ["v1.34.8"]
        kops = "1.36.2"
        to = ["/elsewhere"]
        arch = ["arm64"]
        keep = ["followed"]
        [sets.here]
        kubernetes = ["v1.33.1"]
        kops = "1.36.2"
        keep = ["followed"]
        [sets.here-too]
        kubernetes = ["v1.32.1"]
        kops = "1.36.2"
        to = ["/here"]
        keep = ["followed"]
    "#;

    #[tokio::test]
    async fn sets_keep_what_others_follow_at_their_targets_and_no_more() {
        let config: Config = toml::from_str(SETTINGS).unwrap();
        let all = std::sync::Arc::new(All::new(&config).unwrap());
        let process = std::sync::Arc::new(Process::alone("/nowhere".into()));
        for (name, kept) in [
            ("elsewhere", &["1.34.8"][..]),
            ("here", &["1.32.1", "1.33.1"]),
            ("here-too", &["1.32.1", "1.33.1"]),
        ] {
            let runner = sets::runner(name, &all.named[name], &all, &process);
            let keeping = runner.keeping(&Silent).await.unwrap();
            let releases: Vec<&String> = keeping.followed.keys().collect();
            let expected: Vec<String> = kept
                .iter()
                .map(|version| format!("kops-1.36.2_kubernetes-{version}"))
                .collect();
            assert_eq!(releases, expected.iter().collect::<Vec<_>>(), "{name}");
        }
    }
}
