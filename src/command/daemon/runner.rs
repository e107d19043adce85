//! The runs of one set, with the engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::following::{Following, following};
use super::process::{Process, Versions};
use super::sets;
use super::standing::{Told, standing};
use crate::board::{ReleaseState, ReleaseStatus};
use crate::command::leases::{All, Leases};
use crate::command::{parts, places};
use crate::config::{Config, SetSettings, Target};
use crate::events::{self, Observer, Silent, told};
use crate::notify::{Change, Occasion};
use crate::record::{End, Purpose};
use crate::report::{Exit, Report};
use crate::service::{Closing, Ran, Runner};
use crate::store::{Store, StoreError};
use crate::sync::{self, Changed, Prepared, Shard, SyncError};
use crate::transfer::Mirror;
use crate::upstream::Wire;

/// What one set's runs are made of.
#[derive(Debug)]
pub(super) struct SetRunner {
    pub(super) name: String,
    /// With the set's own on them.
    pub(super) config: Config,
    pub(super) set: SetSettings,
    /// All sets: several may share a target.
    pub(super) all: Arc<sets::All>,
    pub(super) process: Arc<Process>,
}

#[async_trait]
impl Runner for SetRunner {
    async fn run(&self, purpose: Purpose, observer: Arc<dyn Observer>, closing: &Closing) -> Ran {
        let run = async {
            match purpose {
                Purpose::Sync => self.sync(observer, closing).await,
                Purpose::Scrub => self.scrub(observer, closing).await,
                Purpose::Prune => self.prune(observer, closing).await,
            }
        };
        match run.await {
            Ok(ran) => ran,
            Err(error) => Ran::nothing(End::Failed, Some(told(error.as_ref()))),
        }
    }

    async fn plan(&self, closing: &Closing) -> Result<serde_json::Value, String> {
        let planned = self.planned(closing).await;
        planned.map_err(|error| told(error.as_ref()))
    }
}

impl SetRunner {
    async fn sync(&self, observer: Arc<dyn Observer>, closing: &Closing) -> anyhow::Result<Ran> {
        // Until a lease is taken there is nothing to be given back.
        let begun = closing
            .stop
            .run_until_cancelled(self.begin(observer.as_ref()));
        let (following, targets) = match begun.await {
            None => return Ok(Ran::nothing(End::Interrupted, None)),
            Some(begun) => begun?,
        };
        if following.wanted.is_empty() {
            return Ok(Ran {
                notes: following.notes,
                ..Ran::nothing(End::Failed, Some(following.unmet.join("; ")))
            });
        }
        let mut leases = match self.leases(&targets, self.config.shard).await? {
            All::Ours(leases) => leases,
            All::Theirs { why, until } => {
                return Ok(self.held_by_other(why, until, following, &targets).await);
            }
        };
        let mut notes = std::mem::take(&mut leases.notes);
        let stop = closing.stop.child_token();
        let working = self.sync_under_lease(following, &targets, observer, closing, &stop);
        let (ran, lost) = leases.during(&stop, working).await;
        let mut ran = ran?;
        ran.notes.append(&mut notes);
        Ok(ran.unless(lost))
    }

    async fn begin(
        &self,
        observer: &dyn Observer,
    ) -> anyhow::Result<(Following, Vec<Arc<dyn Store>>)> {
        let following = self.following(observer).await?;
        Ok((following, self.targets(true).await?))
    }

    /// The leases of all targets.
    pub(super) async fn leases(
        &self,
        targets: &[Arc<dyn Store>],
        shard: Option<Shard>,
    ) -> Result<All, StoreError> {
        let ttl = self.config.service.lease;
        Leases::take(targets, shard, &self.process.owner, ttl).await
    }

    async fn sync_under_lease(
        &self,
        following: Following,
        targets: &[Arc<dyn Store>],
        observer: Arc<dyn Observer>,
        closing: &Closing,
        stop: &CancellationToken,
    ) -> anyhow::Result<Ran> {
        let draining = closing.draining.clone();
        let origins = self.all.origins.clone();
        let mirror =
            parts::mirror_from(origins, &self.config, targets.to_vec(), observer, draining);
        let Some(mirror) = stop.run_until_cancelled(mirror).await else {
            return Ok(Ran::nothing(End::Interrupted, None));
        };
        let mirror = mirror?;
        let wanted = following.wanted.clone();
        let mut prepared = match sync::prepare(&mirror, wanted, stop).await {
            Err(SyncError::Interrupted) => return Ok(Ran::nothing(End::Interrupted, None)),
            prepared => prepared?,
        };
        let changed = prepared.hold_changed();
        let marked_before = prepared.marked_before();
        prepared.measure(&mirror, stop).await;
        let report = self.carry_out(&mirror, prepared, stop).await;
        drop(mirror);
        let told = Told {
            failed: Told::failed_in(&report),
            changed: changed
                .iter()
                .flat_map(|one| one.releases.clone())
                .collect(),
            withdrawn: following.withdrawn.clone(),
        };
        let standing = self.standing(targets, &following, &told);
        let releases = stop.run_until_cancelled(standing).await.flatten();
        let all = releases.iter().flatten();
        let before = all.filter(|release| marked_before.contains(&release.name));
        self.process.remember_completed(&self.name, before).await;
        let gone = self.process.take_untold().await;
        let mut occasions = self.changes(&changed, &gone);
        occasions.extend(self.mirrored(releases.as_deref(), &marked_before));
        let is_all = following.unmet.is_empty();
        Ok(Ran {
            end: match end(&report) {
                End::Done if !is_all => End::SomeFailed,
                end => end,
            },
            why: (!is_all).then(|| following.unmet.join("; ")),
            releases,
            notes: following.notes,
            occasions,
            report: Some(report),
            ..Ran::nothing(End::Done, None)
        })
    }

    /// How the releases stand is for people: a run that did its work does not fail for it.
    async fn standing(
        &self,
        targets: &[Arc<dyn Store>],
        following: &Following,
        told: &Told,
    ) -> Option<Vec<ReleaseStatus>> {
        let standing = standing(targets, &following.wanted, told).await;
        let unknown = |error: &StoreError| {
            tracing::warn!(
                set = self.name,
                "how the releases stand is not known: {}",
                events::told(error)
            );
        };
        standing.inspect_err(unknown).ok()
    }

    async fn carry_out(
        &self,
        mirror: &Arc<Mirror>,
        prepared: Prepared,
        stop: &CancellationToken,
    ) -> Report {
        match self.config.shard {
            Some(shard) => sync::carry_out_share(mirror, prepared, shard, stop).await,
            None => sync::carry_out(mirror, prepared, stop).await,
        }
    }

    /// What the rules say today.
    async fn following(&self, observer: &dyn Observer) -> anyhow::Result<Following> {
        self.following_of(&self.name, &self.set, &self.config, observer)
            .await
    }

    pub(super) async fn following_of(
        &self,
        name: &str,
        set: &SetSettings,
        config: &Config,
        observer: &dyn Observer,
    ) -> anyhow::Result<Following> {
        let limits = parts::limits(config);
        let wire = Wire {
            origins: &self.all.origins,
            limits: &limits,
            policy: config.retry.policy(),
        };
        let upstream = self.process.look(set, &wire).await;
        following(name, set, config, &upstream, observer)
    }

    /// The targets, fit to hold a mirror.
    pub(super) async fn targets(&self, is_to_write: bool) -> anyhow::Result<Vec<Arc<dyn Store>>> {
        let targets = parts::targets(&self.config).await?;
        for (to, target) in self.config.to.iter().zip(&targets) {
            let makes = self.config.s3.create_bucket || matches!(to, Target::Folder(_));
            target.prepare(is_to_write && makes).await?;
        }
        Ok(targets)
    }

    /// Another process runs there: how the releases stand is known all the same.
    async fn held_by_other(
        &self,
        why: String,
        until: Timestamp,
        following: Following,
        targets: &[Arc<dyn Store>],
    ) -> Ran {
        let told = Told {
            withdrawn: following.withdrawn.clone(),
            ..Told::default()
        };
        Ran {
            releases: self.standing(targets, &following, &told).await,
            notes: following.notes,
            again_at: Some(until),
            ..Ran::nothing(End::HeldByOther, Some(why))
        }
    }

    /// What people are told of upstream.
    fn changes(&self, changed: &[Changed], gone: &Versions) -> Vec<Occasion> {
        let upstream = |release: &str, change, what| Occasion::Upstream {
            set: self.name.clone(),
            release: release.to_owned(),
            change,
            what,
        };
        let changed = changed.iter().flat_map(|one| {
            let what = format!("{}: {}", one.key, one.why);
            let releases = one.releases.iter();
            releases.map(move |release| upstream(release, Change::Changed, Some(what.clone())))
        });
        let gone = gone.iter().map(|(product, version)| {
            upstream(&format!("{product} {version}"), Change::Withdrawn, None)
        });
        changed.chain(gone).collect()
    }

    /// Releases that are complete at all targets now and were not before.
    fn mirrored(
        &self,
        releases: Option<&[ReleaseStatus]>,
        before: &BTreeSet<String>,
    ) -> Vec<Occasion> {
        let is_complete = |release: &&ReleaseStatus| {
            let mut targets = release.targets.iter();
            targets.all(|target| target.state == ReleaseState::Complete)
        };
        let new = releases
            .unwrap_or_default()
            .iter()
            .filter(|release| !before.contains(&release.name));
        new.filter(is_complete)
            .map(|release| Occasion::Mirrored {
                set: self.name.clone(),
                release: release.name.clone(),
                targets: release
                    .targets
                    .iter()
                    .map(|target| target.place.clone())
                    .collect(),
                files: release.targets.first().map_or(0, |target| target.files),
                bytes: release.targets.first().map_or(0, |target| target.bytes),
            })
            .collect()
    }

    async fn planned(&self, closing: &Closing) -> anyhow::Result<serde_json::Value> {
        let observer: Arc<dyn Observer> = Arc::new(Silent);
        let following = self.following(observer.as_ref()).await?;
        let targets = self.targets(false).await?;
        // A run may hold the spool; a plan needs none.
        let mut config = self.config.clone();
        config.spool.dir = Some(self.process.state.join("plans"));
        let looking = parts::mirror(&config, targets, observer, closing.draining.clone()).await?;
        let mut prepared = sync::prepare(&looking, following.wanted, &closing.stop).await?;
        prepared.hold_changed();
        Ok(serde_json::to_value(prepared.summary(&places(&looking)))?)
    }
}

fn end(report: &Report) -> End {
    match report.exit() {
        Exit::Done => End::Done,
        Exit::SomeFailed => End::SomeFailed,
        Exit::Unusable => End::Failed,
        Exit::Interrupted => End::Interrupted,
    }
}
