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
use crate::command::imaging;
use crate::command::leases::{All, Taker};
use crate::command::targets::{Bears, Purpose as At, Targets};
use crate::command::{parts, places};
use crate::config::{Config, SetSettings};
use crate::events::{self, Event, Observer, Silent, told};
use crate::lease::Lost;
use crate::notify::{Change, Occasion};
use crate::record::{End, Purpose};
use crate::report::{Exit, Report};
use crate::service::{Closing, Ran, Runner};
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
        let (following, reached) = match begun.await {
            None => return Ok(Ran::nothing(End::Interrupted, None)),
            Some(begun) => begun?,
        };
        if following.wanted.is_empty() {
            return Ok(Ran {
                notes: following.notes,
                ..Ran::nothing(End::Failed, Some(following.unmet.join("; ")))
            });
        }
        let mut targets = match reached {
            Ok(targets) => targets,
            Err(error) => return Ok(self.nowhere(following, &error).await),
        };
        let mut leases = match self.leases(&mut targets, self.config.shard).await {
            Ok(All::Ours(leases)) => leases,
            Ok(All::Theirs { why, until }) => {
                return Ok(self.held_by_other(why, until, following, &targets).await);
            }
            Err(error) => return Ok(self.nowhere(following, &error).await),
        };
        let mut notes = std::mem::take(&mut leases.notes);
        let stop = closing.stop.child_token();
        let working = self.sync_under_lease(following, targets, observer, closing, &stop);
        let (ran, lost) = leases.during(&stop, working).await;
        let mut ran = ran?;
        ran.notes.append(&mut notes);
        // A target that went away stops this run: the next one goes without it, and need not wait.
        ran.again_at = matches!(lost, Some(Lost::Expired { .. })).then(|| self.process.clock.now());
        Ok(ran.unless(lost))
    }

    async fn begin(
        &self,
        observer: &dyn Observer,
    ) -> anyhow::Result<(Following, anyhow::Result<Targets>)> {
        let following = self.following(observer).await?;
        Ok((following, self.targets(At::Write).await))
    }

    /// The targets that can be used. An error where none can.
    pub(super) async fn targets(&self, purpose: At) -> anyhow::Result<Targets> {
        let observer = Arc::new(Warned(self.name.clone()));
        Targets::reach(&self.config, purpose, Bears::Anything, observer).await
    }

    /// Their leases. An error where none can be had.
    pub(super) async fn leases(
        &self,
        targets: &mut Targets,
        shard: Option<Shard>,
    ) -> anyhow::Result<All> {
        let taker = Taker {
            shard,
            owner: &self.process.owner,
            ttl: self.config.service.lease,
        };
        targets.leases(&taker).await
    }

    async fn sync_under_lease(
        &self,
        mut following: Following,
        mut targets: Targets,
        observer: Arc<dyn Observer>,
        closing: &Closing,
        stop: &CancellationToken,
    ) -> anyhow::Result<Ran> {
        let origins = self.all.origins.clone();
        let (wanted, here) = (&mut following.wanted, &targets.here);
        let ending = Closing {
            draining: closing.draining.clone(),
            stop: stop.clone(),
        };
        let images =
            imaging::bring_from(origins, &self.config, wanted, here, &observer, &ending).await?;
        let (images, others) = images.map(|images| (images.report, images.others)).unzip();
        let others = others.flatten();
        let draining = closing.draining.clone();
        let (origins, here) = (self.all.origins.clone(), targets.here.clone());
        let mirror = parts::mirror_from(origins, &self.config, here, observer, draining);
        let Some(mirror) = stop.run_until_cancelled(mirror).await else {
            return Ok(Ran::nothing(End::Interrupted, None));
        };
        let mut mirror = mirror?;
        let mut prepared = match targets.plan(&mut mirror, &following.wanted, stop).await {
            Err(SyncError::Interrupted) => return Ok(Ran::nothing(End::Interrupted, None)),
            Err(error @ SyncError::Target { .. }) => {
                return Ok(self.nowhere(following, &error.into()).await);
            }
            prepared => prepared?,
        };
        let mirror = Arc::new(mirror);
        let changed = prepared.hold_changed();
        let marked_before = prepared.marked_before();
        prepared.measure(&mirror, stop).await;
        let mut report = self
            .carry_out(&mirror, prepared, others.as_ref(), stop)
            .await;
        if let Some(images) = images {
            report = report.after(images);
        }
        report.away.clone_from(&targets.away);
        drop(mirror);
        let told = Told {
            failed: Told::failed_in(&report),
            changed: changed
                .iter()
                .flat_map(|one| one.releases.clone())
                .collect(),
            withdrawn: following.withdrawn.clone(),
        };
        let standing = self.standing(Some(&targets), &following, &told);
        let releases = stop.run_until_cancelled(standing).await;
        let all = releases.iter().flatten();
        let before = all.filter(|release| marked_before.contains(&release.name));
        self.process.remember_completed(&self.name, before).await;
        let gone = self.process.take_untold().await;
        let mut occasions = self.changes(&changed, &gone);
        occasions.extend(self.mirrored(releases.as_deref(), &marked_before));
        let is_all = following.unmet.is_empty();
        let short: Vec<String> = following.unmet.into_iter().chain(targets.why()).collect();
        Ok(Ran {
            end: match end(&report) {
                End::Done if !is_all => End::SomeFailed,
                end => end,
            },
            why: (!short.is_empty()).then(|| short.join("; ")),
            releases,
            notes: following.notes,
            occasions,
            report: Some(report),
            ..Ran::nothing(End::Done, None)
        })
    }

    /// How the releases stand at all targets of the set, those that are away included.
    async fn standing(
        &self,
        targets: Option<&Targets>,
        following: &Following,
        told: &Told,
    ) -> Vec<ReleaseStatus> {
        let places: Vec<String> = self.config.to.iter().map(ToString::to_string).collect();
        let here = targets.map_or(&[][..], |targets| &targets.here);
        standing(&places, here, &following.wanted, told).await
    }

    async fn carry_out(
        &self,
        mirror: &Arc<Mirror>,
        prepared: Prepared,
        others: Option<&imaging::Others>,
        stop: &CancellationToken,
    ) -> Report {
        let others = others.map(|others| others as &dyn sync::Others);
        match self.config.shard {
            Some(shard) => sync::carry_out_share(mirror, prepared, shard, others, stop).await,
            None => sync::carry_out(mirror, prepared, stop).await,
        }
    }

    /// A run that did its work at these targets.
    pub(super) fn ended(targets: &Targets) -> Ran {
        let why = targets.why();
        let end = if why.is_none() {
            End::Done
        } else {
            End::SomeFailed
        };
        Ran::nothing(end, why)
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

    /// No target can be used: what they have is not known.
    async fn nowhere(&self, following: Following, error: &anyhow::Error) -> Ran {
        let told = Told::default();
        Ran {
            releases: Some(self.standing(None, &following, &told).await),
            notes: following.notes,
            ..Ran::nothing(End::Failed, Some(events::told(error.as_ref())))
        }
    }

    /// Another process runs there: how the releases stand is known all the same.
    async fn held_by_other(
        &self,
        why: String,
        until: Timestamp,
        following: Following,
        targets: &Targets,
    ) -> Ran {
        let told = Told {
            withdrawn: following.withdrawn.clone(),
            ..Told::default()
        };
        Ran {
            releases: Some(self.standing(Some(targets), &following, &told).await),
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
        let targets = self.targets(At::Look).await?;
        // A run may hold the spool; a plan needs none.
        let mut config = self.config.clone();
        config.spool.dir = Some(self.process.state.join("plans"));
        let here = targets.here;
        let origins = self.all.origins.clone();
        let wanted = &following.wanted;
        let images =
            imaging::planned(origins, &config, wanted, &here, Arc::clone(&observer)).await?;
        let looking = parts::mirror(&config, here, observer, closing.draining.clone()).await?;
        let mut prepared = sync::prepare(&looking, following.wanted, &closing.stop).await?;
        prepared.hold_changed();
        let mut planned = serde_json::to_value(prepared.summary(&places(&looking)))?;
        if let Some(images) = images {
            planned["images"] = serde_json::to_value(images)?;
        }
        Ok(planned)
    }
}

/// Writes warnings into the log: what is on the board says why a run is short of a target.
#[derive(Debug)]
struct Warned(String);

impl Observer for Warned {
    fn event(&self, event: &Event) {
        if let Event::Warned { what } = event {
            tracing::warn!(set = self.0, "{what}");
        }
    }
}

fn end(report: &Report) -> End {
    match report.exit() {
        Exit::Done => End::Done,
        Exit::SomeFailed => End::SomeFailed,
        Exit::Unusable | Exit::Differs => End::Failed,
        Exit::Interrupted => End::Interrupted,
    }
}
