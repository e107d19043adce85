//! A set's scrub of images: compares its registries with the indexes of its targets, and brings back what is missing.
//!
//! Manifests are read and hashed, blobs are looked for: a registry compares the digest of what it takes, and reading all of it again would
//! cross the border for each scrub. 'kops-mirror verify --deep' does that.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;

use super::runner::SetRunner;
use crate::command::leases::All;
use crate::command::targets::Targets;
use crate::command::{mending, parts};
use crate::events::{Observer, told};
use crate::images::audit::{self, Audit, Finding, Named};
use crate::images::key;
use crate::images::shelf::Shelf;
use crate::notify::Occasion;
use crate::record::End;
use crate::report::{Kind, Report};
use crate::service::{Closing, Ran};
use crate::sync;

/// The shelves that could be looked at, with what was found.
#[derive(Debug, Default)]
struct Looked {
    shelves: Vec<Arc<dyn Shelf>>,
    audits: Vec<Audit>,
    /// What could not be looked at.
    notes: Vec<String>,
}

impl Looked {
    fn wrong(&self) -> u64 {
        let wrong = self.audits.iter().map(|audit| audit.findings.len() as u64);
        wrong.sum()
    }
}

impl SetRunner {
    /// None where the indexes name no images, or the settings no place for them.
    pub(super) async fn scrub_images(
        &self,
        targets: &mut Targets,
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Option<Ran>> {
        let shelves = parts::shelves(&self.config)?;
        if shelves.is_empty() {
            return Ok(None);
        }
        let looking = self.look_at(shelves, targets);
        let Some(Some(looked)) = closing.stop.run_until_cancelled(looking).await else {
            return Ok(None);
        };
        let manifests = looked.audits.iter().map(|audit| audit.manifests as u64);
        let mut ran = Ran {
            scrubbed: manifests.sum(),
            damaged: looked.wrong(),
            notes: looked.notes.clone(),
            ..Ran::nothing(End::Done, None)
        };
        if ran.damaged > 0 {
            let mended = self
                .mend_images(targets, &looked, observer, closing)
                .await?;
            ran.occasions = self.damages_of(&looked, mended.as_ref().ok());
            match mended {
                Ok(report) => ran.report = Some(report),
                Err(why) => ran.why = Some(why),
            }
        }
        let failed = |report: &Report| report.of(Kind::Failed).next().is_some();
        let is_short = ran.why.is_some() || ran.report.as_ref().is_some_and(failed);
        if is_short || !ran.notes.is_empty() {
            ran.end = End::SomeFailed;
        }
        Ok(Some(ran))
    }

    async fn look_at(&self, shelves: Vec<Arc<dyn Shelf>>, targets: &Targets) -> Option<Looked> {
        let mut indexes = Vec::new();
        for target in &targets.here {
            // One that can't be read is told by the scrub of its files.
            if let Ok(seen) = sync::look_whole(target.as_ref()).await {
                indexes.extend(seen.indexes);
            }
        }
        let named: Named = audit::named(&indexes);
        if named.is_empty() {
            return None;
        }
        let mut looked = Looked::default();
        for shelf in shelves {
            match audit::audit(&shelf, &named, false).boxed().await {
                Ok(mut audit) => {
                    let unread = take_unreadable(&mut audit);
                    let unread = unread
                        .map(|why| format!("{} was not scrubbed whole: {why}", shelf.place()));
                    looked.notes.extend(unread);
                    looked.audits.push(audit);
                    looked.shelves.push(shelf);
                }
                Err(error) => {
                    let why = told(&error);
                    looked
                        .notes
                        .push(format!("{} was not scrubbed: {why}", shelf.place()));
                }
            }
        }
        Some(looked)
    }

    /// Brings back what is wrong; else says in one line why that has to wait.
    async fn mend_images(
        &self,
        targets: &mut Targets,
        looked: &Looked,
        observer: Arc<dyn Observer>,
        closing: &Closing,
    ) -> anyhow::Result<Result<Report, String>> {
        let leases = match self.leases(targets, self.config.shard).await {
            Ok(All::Ours(leases)) => leases,
            Ok(All::Theirs { why, .. }) => return Ok(Err(why)),
            Err(error) => return Ok(Err(told(error.as_ref()))),
        };
        let stop = closing.stop.child_token();
        let (shelves, audits) = (&looked.shelves, &looked.audits);
        let mending = mending::images(&self.config, shelves, audits, &observer, &stop).boxed();
        let (mended, lost) = leases.during(&stop, mending).await;
        Ok(match lost {
            None => Ok(mended?.unwrap_or_default()),
            Some(lost) => Err(told(&lost)),
        })
    }

    fn damages_of(&self, looked: &Looked, mended: Option<&Report>) -> Vec<Occasion> {
        let failed: Option<BTreeSet<_>> = mended.map(|report| {
            let failed = report.of(Kind::Failed).map(|line| line.key.clone());
            failed.collect()
        });
        let wrong = looked.audits.iter().filter(|audit| !audit.is_clean());
        let told = wrong.map(|audit| {
            let mut images = audit.findings.keys();
            let repaired = failed.as_ref().map_or(0, |failed| {
                images
                    .by_ref()
                    .filter(|image| !failed.contains(&key(image)))
                    .count()
            });
            let findings = audit.findings.iter();
            let lines = findings.flat_map(|(image, findings)| {
                findings
                    .iter()
                    .map(move |finding| format!("{image}: {finding}"))
            });
            Occasion::Damaged {
                set: self.name.clone(),
                place: audit.place.clone(),
                damaged: audit.findings.len() as u64,
                repaired: repaired as u64,
                files: lines.collect(),
            }
        });
        told.collect()
    }
}

/// Takes out what is no damage: the line to it was bad. The first of it is returned.
fn take_unreadable(audit: &mut Audit) -> Option<String> {
    let mut first = None;
    for (image, findings) in &mut audit.findings {
        findings.retain(|finding| match finding {
            Finding::Unreadable { why } => {
                first.get_or_insert_with(|| format!("{image}: {why}"));
                false
            }
            _ => true,
        });
    }
    audit.findings.retain(|_, findings| !findings.is_empty());
    first
}
