//! A set's scrub of files: reads its targets again in portions, so that a pass that is stopped goes on where it was, and mends what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::runner::SetRunner;
use crate::asset::Key;
use crate::audit::Finding;
use crate::command::leases::All;
use crate::command::parts;
use crate::command::targets::{Purpose, Targets};
use crate::config::Rate;
use crate::events::{Observer, told};
use crate::notify::Occasion;
use crate::record::End;
use crate::report::Report;
use crate::scrub::{self, Budget, Position};
use crate::service::{Closing, Ran};
use crate::store::{Store, StoreError};
use crate::sync::SyncError;

/// After each portion it is written down how far the pass has come.
const PORTION: Duration = Duration::from_secs(30);

/// What a pass over all targets has come to.
#[derive(Debug, Default)]
struct Pass {
    read: u64,
    /// By target: how far it is, and what is wrong there.
    positions: Vec<Position>,
    notes: Vec<String>,
}

impl SetRunner {
    /// Boxed, so that the compiler sees that it can be sent between threads.
    pub(super) fn scrub<'a>(
        &'a self,
        observer: Arc<dyn Observer>,
        closing: &'a Closing,
    ) -> BoxFuture<'a, anyhow::Result<Ran>> {
        self.read_and_mend(observer, closing).boxed()
    }

    async fn read_and_mend(
        &self,
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Ran> {
        let mut targets = self.targets(Purpose::Look).await?;
        let files = self
            .read_files(&mut targets, Arc::clone(&observer), closing)
            .await?;
        if closing.draining.is_cancelled() || closing.stop.is_cancelled() {
            return Ok(files);
        }
        let images = self.scrub_images(&mut targets, observer, closing).await?;
        Ok(match images {
            Some(images) => both(files, images),
            None => files,
        })
    }

    async fn read_files(
        &self,
        targets: &mut Targets,
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Ran> {
        let mut pass = Pass::default();
        let mut failed = Vec::new();
        for (at, target) in targets.here.iter().enumerate() {
            if let Err(error) = self.read_again(target, closing, &mut pass).await {
                failed.push((at, error));
            }
        }
        targets.leave_out(failed)?;
        let read = targets.here.clone();
        let damaged: Vec<BTreeMap<Key, Finding>> = pass
            .positions
            .iter()
            .map(|position| position.damaged.clone())
            .collect();
        let count: u64 = damaged.iter().map(|of| of.len() as u64).sum();
        let mut ran = Ran {
            scrubbed: pass.read,
            damaged: count,
            notes: std::mem::take(&mut pass.notes),
            ..Self::ended(targets)
        };
        if count == 0 {
            return Ok(ran);
        }
        let mending = self.mend(targets, &read, &damaged, observer, closing);
        let why_not = match mending.await? {
            Ok(report) => {
                let positions = read.iter().zip(&mut pass.positions);
                for (_, position) in positions.filter(|(target, _)| targets.has(target)) {
                    position.mended(&report);
                }
                ran.report = Some(report);
                None
            }
            Err(why) => Some(why),
        };
        let short: Vec<String> = why_not.into_iter().chain(targets.why()).collect();
        ran.why = (!short.is_empty()).then(|| short.join("; "));
        for (target, position) in read.iter().zip(&pass.positions) {
            self.process.keep(&position_name(target), position).await;
        }
        let is_mended = pass
            .positions
            .iter()
            .all(|position| position.damaged.is_empty());
        ran.end = if is_mended && targets.away.is_empty() {
            End::Done
        } else {
            End::SomeFailed
        };
        ran.occasions = self.damages(&read, &damaged, &pass.positions);
        Ok(ran)
    }

    /// Reads one target on to the end of a pass, or until the service ends.
    async fn read_again(
        &self,
        target: &Arc<dyn Store>,
        closing: &Closing,
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        let name = position_name(target);
        let mut position: Position = self.process.kept(&name).await;
        let budget = Budget {
            rate: self.set.scrub_rate.map(Rate::bytes_per_second),
            bytes: None,
            time: Some(PORTION),
        };
        loop {
            let now = self.process.clock.now();
            let scrubbed =
                scrub::scrub(target.as_ref(), position, &budget, now, &closing.stop).await?;
            pass.read += scrubbed.objects;
            position = scrubbed.position;
            self.process.keep(&name, &position).await;
            if scrubbed.complete || closing.stop.is_cancelled() {
                break;
            }
            if let Some(why) = scrubbed.held_up {
                pass.notes.push(why);
                break;
            }
        }
        pass.positions.push(position);
        Ok(())
    }

    /// Brings back what is wrong; else says in one line why that has to wait.
    async fn mend(
        &self,
        targets: &mut Targets,
        read: &[Arc<dyn Store>],
        damaged: &[BTreeMap<Key, Finding>],
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Result<Report, String>> {
        let leases = match self.leases(targets, self.config.shard).await {
            Ok(All::Ours(leases)) => leases,
            Ok(All::Theirs { why, .. }) => return Ok(Err(why)),
            Err(error) => return Ok(Err(told(error.as_ref()))),
        };
        let of_targets = read.iter().zip(damaged);
        let damaged: Vec<_> = of_targets
            .filter(|(target, _)| targets.has(target))
            .map(|(_, damaged)| damaged.clone())
            .collect();
        let here = targets.here.clone();
        let stop = closing.stop.child_token();
        let draining = closing.draining.clone();
        let mending = async {
            let mirror = parts::mirror(&self.config, here, observer, draining).await?;
            let repaired = scrub::repair(&Arc::new(mirror), &damaged, &stop).await;
            anyhow::Ok(match repaired {
                // What was found is told all the same, and mended the next time.
                Err(SyncError::Store(error)) => Err(told(&error)),
                repaired => Ok(repaired?),
            })
        };
        let (mended, lost) = leases.during(&stop, mending).await;
        match lost {
            None => mended,
            Some(lost) => Ok(Err(told(&lost))),
        }
    }

    fn damages(
        &self,
        targets: &[Arc<dyn Store>],
        damaged: &[BTreeMap<Key, Finding>],
        now: &[Position],
    ) -> Vec<Occasion> {
        let of_targets = targets.iter().zip(damaged).zip(now);
        of_targets
            .filter(|((_, damaged), _)| !damaged.is_empty())
            .map(|((target, damaged), now)| Occasion::Damaged {
                set: self.name.clone(),
                place: target.place().to_owned(),
                damaged: damaged.len() as u64,
                repaired: damaged.len().saturating_sub(now.damaged.len()) as u64,
                files: damaged
                    .iter()
                    .map(|(key, finding)| format!("{key}: {finding}"))
                    .collect(),
            })
            .collect()
    }
}

/// What was read again of files and of images, as one run.
fn both(files: Ran, images: Ran) -> Ran {
    let why: Vec<String> = files.why.into_iter().chain(images.why).collect();
    let report = match (files.report, images.report) {
        (Some(files), Some(images)) => Some(files.after(images)),
        (files, images) => files.or(images),
    };
    Ran {
        end: match files.end {
            End::Done => images.end,
            end => end,
        },
        why: (!why.is_empty()).then(|| why.join("; ")),
        report,
        notes: [files.notes, images.notes].concat(),
        occasions: [files.occasions, images.occasions].concat(),
        scrubbed: files.scrubbed + images.scrubbed,
        damaged: files.damaged + images.damaged,
        ..images
    }
}

/// The name that the history has for how far a target was read.
fn position_name(target: &Arc<dyn Store>) -> String {
    format!("scrub {}", target.place())
}
