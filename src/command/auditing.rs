//! `verify` and `repair`: the files of the targets and the images of the shelves, against the indexes.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::leases::Taker;
use super::targets::Bears;
use super::{close, document, mending, parts, places, say};
use crate::audit::{self, Audit};
use crate::cli::{Output, RepairArgs, VerifyArgs};
use crate::config::Config;
use crate::events::Observer;
use crate::image::Reference;
use crate::images::audit as images;
use crate::images::shelf::Shelf;
use crate::lease::{Lost, Owner};
use crate::report::{Exit, Report};
use crate::store::Store;
use crate::terminal::Screen;
use crate::transfer::Mirror;

/// What was found, at every target and every shelf.
#[derive(Debug)]
struct Audits {
    files: Vec<Audit>,
    images: Vec<images::Audit>,
}

/// One of them as the document has it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum One<'a> {
    Files(&'a Audit),
    Images(&'a images::Audit),
}

impl Audits {
    async fn of(
        targets: &[Arc<dyn Store>],
        shelves: &[Arc<dyn Shelf>],
        deep: bool,
    ) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for target in targets {
            files.push(audit::audit(target.as_ref(), deep).await?);
        }
        let named = images::named(files.iter().flat_map(|audit| &audit.seen.indexes));
        let mut images = Vec::new();
        for shelf in shelves {
            images.push(images::audit(shelf, &named, deep).await?);
        }
        Ok(Self { files, images })
    }

    fn are_clean(&self) -> bool {
        self.files.iter().all(Audit::is_clean) && self.images.iter().all(images::Audit::is_clean)
    }

    fn document(&self) -> Vec<One<'_>> {
        let files = self.files.iter().map(One::Files);
        files.chain(self.images.iter().map(One::Images)).collect()
    }

    /// The images that indexes name while no shelf was named to look for them.
    fn unlooked(&self) -> usize {
        let indexes = self.files.iter().flat_map(|audit| &audit.seen.indexes);
        let entries = indexes.flat_map(|index| &index.release.images);
        let images: BTreeSet<&Reference> = entries.map(|entry| &entry.image).collect();
        if self.images.is_empty() {
            images.len()
        } else {
            0
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        for audit in &self.files {
            say(&audit.to_string())?;
        }
        for audit in &self.images {
            say(&audit.to_string())?;
        }
        match self.unlooked() {
            0 => Ok(()),
            unlooked => say(&format!(
                "Not checked  {unlooked} images of these releases: name their registry with --to-registry, or their folder with --to-layout\n"
            )),
        }
    }
}

pub(super) async fn verify(
    args: &VerifyArgs,
    output: Output,
    config: &Config,
) -> anyhow::Result<Exit> {
    let targets = parts::targets(config).await?;
    for target in &targets {
        target.prepare(false).await?;
    }
    let audits = Audits::of(&targets, &parts::shelves(config)?, args.deep).await?;
    match output {
        Output::Table => audits.print()?,
        _ => document(&audits.document(), output)?,
    }
    Ok(if audits.are_clean() {
        Exit::Done
    } else {
        Exit::SomeFailed
    })
}

/// What a repair works with.
#[derive(Debug)]
struct Repair<'a> {
    mirror: Arc<Mirror>,
    shelves: Vec<Arc<dyn Shelf>>,
    deep: bool,
    config: &'a Config,
    observer: &'a Arc<dyn Observer>,
}

pub(super) async fn repair(
    args: &RepairArgs,
    output: Output,
    config: &Config,
    observer: Arc<dyn Observer>,
    stop: &CancellationToken,
    screen: &Screen,
) -> anyhow::Result<Exit> {
    let begun = stop.run_until_cancelled(async {
        let targets = parts::targets(config).await?;
        for target in &targets {
            target.prepare(false).await?;
        }
        let draining = CancellationToken::new();
        let mirror = parts::mirror(config, targets, Arc::clone(&observer), draining).await?;
        let repair = Repair {
            mirror: Arc::new(mirror),
            shelves: parts::shelves(config)?,
            deep: args.deep,
            config,
            observer: &observer,
        };
        let audits = repair.audits().await?;
        anyhow::Ok((repair, audits))
    });
    let Some(begun) = begun.await else {
        return Ok(Exit::Interrupted);
    };
    let (repair, audits) = begun?;
    if audits.files.iter().all(|audit| audit.releases.is_empty()) {
        bail!(
            "no release is marked as ready at {}, so nothing says what should be there: is this the right place? \
             'kops-mirror sync' fills it",
            places(&repair.mirror).join(" or ")
        );
    }
    let (report, lost) = repair.under_leases(audits, stop).await?;
    let exit = match report {
        Some(report) => {
            drop(repair);
            drop(observer); // and with them the bars
            close(&report, output, config, screen)?
        }
        None => Exit::Interrupted,
    };
    lost.map_or(Ok(exit), |lost| Err(lost.into()))
}

impl Repair<'_> {
    async fn audits(&self) -> anyhow::Result<Audits> {
        Audits::of(&self.mirror.targets, &self.shelves, self.deep).await
    }

    /// No report when it was stopped before it had begun to repair; the lease is told that was lost meanwhile.
    async fn under_leases(
        &self,
        before: Audits,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Option<Report>, Option<Lost>)> {
        if before.are_clean() {
            return Ok((Some(self.mend(before, stop).await?), None));
        }
        let taker = Taker {
            shard: None,
            owner: &Owner::this_process(),
            ttl: self.config.service.lease,
        };
        let taking = taker.wait(&self.mirror.targets, Bears::Nothing, self.observer.as_ref());
        let Some(leases) = stop.run_until_cancelled(taking).await else {
            return Ok((None, None));
        };
        let leases = leases?;
        let seen = before.files.iter().map(|audit| &audit.seen.service[..]);
        let is_fresh = leases.are_next_after(seen, None);
        let stop = stop.child_token();
        let repairing = async {
            let audits = if is_fresh {
                Some(before)
            } else {
                stop.run_until_cancelled(self.audits()).await.transpose()?
            };
            anyhow::Ok(match audits {
                Some(audits) => Some(self.mend(audits, &stop).await?),
                None => None,
            })
        };
        let (report, lost) = leases.during(&stop, repairing).await;
        Ok((report?, lost))
    }

    /// Images first, as a sync does: whoever sees a release whole finds its images.
    async fn mend(&self, audits: Audits, stop: &CancellationToken) -> anyhow::Result<Report> {
        let Audits { files, images } = audits;
        let images =
            mending::images(self.config, &self.shelves, &images, self.observer, stop).await?;
        let files = audit::repair(&self.mirror, files, stop).await?;
        Ok(match images {
            Some(images) => files.after(images),
            None => files,
        })
    }
}
