//! `apply --rollback`: what a run has made goes when the run fails, and nothing that was there before.

use anyhow::{Context, bail};

use super::destroying::{Bucket, remove_all};
use super::worksite::Worksite;
use crate::events::Event;
use crate::kops::Kops;
use crate::provision::{self, Made, MadeKind, Remnant, StepName, StepState};

/// What was there when the run began.
pub(super) struct Before {
    pub(super) made: Vec<Made>,
    pub(super) has_cluster: bool,
}

impl Before {
    /// Where kops was given nothing yet.
    pub(super) fn without_kops(made: Vec<Made>) -> Self {
        Self {
            made,
            has_cluster: false,
        }
    }
}

/// Removes what was made since, under the lock, and writes that down at the step that failed. kops is None where it was given nothing yet.
pub(super) async fn roll_back(
    worksite: &mut Worksite,
    kops: Option<&Kops>,
    before: &Before,
    step: StepName,
) -> anyhow::Result<()> {
    let (kept, stop) = (worksite.site()?.kept.clone(), worksite.stop());
    let undoing = undo(worksite, kops, before, step);
    let undone = match kept {
        Some(kept) => kept.while_locked(&stop, undoing).await?,
        None => undoing.await,
    };
    let mut failures = undone.context("the rollback failed; 'provision destroy' tries again")?;
    failures.extend(remove_bucket(worksite, before).await?);
    match failures.is_empty() {
        true => Ok(()),
        false => bail!(
            "not all of it could be rolled back; 'provision destroy' tries again:\n  {}",
            failures.join("\n  ")
        ),
    }
}

/// All but the bucket. Gives what could not be removed.
async fn undo(
    worksite: &mut Worksite,
    kops: Option<&Kops>,
    before: &Before,
    step: StepName,
) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    // Hosts may start from the image, and kops' state is in the bucket: where this fails, both stay for the next try.
    if let Some(kops) = kops
        && !before.has_cluster
        && kops.read().await?.is_some()
    {
        kops.delete().await?;
        removed.push(format!("the cluster {}", worksite.file.name));
    }
    let new = made_since(worksite, before)?;
    let cloud = worksite.cloud().await?;
    let observer = worksite.observer();
    let found = provision::remnants(&cloud, &worksite.file, &new, observer.as_ref()).await?;
    let ours: Vec<Remnant> = found
        .into_iter()
        .filter(|remnant| new.contains(&remnant.made()))
        .collect();
    let (gone, failures) = remove_all(ours.clone()).await;
    removed.extend(gone.iter().map(Remnant::words));
    let left: Vec<Made> = ours
        .iter()
        .map(Remnant::made)
        .filter(|made| !gone.iter().any(|remnant| remnant.made() == *made))
        .collect();
    let site = worksite.site_mut()?;
    for made in new.iter().filter(|made| made.kind != MadeKind::Bucket) {
        if !left.contains(made) {
            site.journal.remove_made(made);
        }
    }
    note(worksite, before, step, &removed).await?;
    Ok(failures)
}

fn made_since(worksite: &Worksite, before: &Before) -> anyhow::Result<Vec<Made>> {
    let made = worksite.site()?.journal.made.iter();
    Ok(made
        .filter(|made| !before.made.contains(made))
        .cloned()
        .collect())
}

/// In the journal here, and in the state store's where that still has something to tell of.
async fn note(
    worksite: &mut Worksite,
    before: &Before,
    step: StepName,
    removed: &[String],
) -> anyhow::Result<()> {
    let observer = worksite.observer();
    let site = worksite.site_mut()?;
    let entry = site.journal.steps.get(&step);
    let why = entry.map(|entry| entry.note.clone()).unwrap_or_default();
    let what = match removed {
        [] => "rolled back: nothing had been made".to_owned(),
        removed => format!("rolled back: removed {}", removed.join(", ")),
    };
    site.journal
        .note(step, StepState::Failed, format!("{why}; {what}"));
    provision::keep_in(&site.folder, &site.journal)?;
    let is_bare = |made: &Made| made.kind == MadeKind::Bucket;
    let is_undone = !before.has_cluster && site.journal.made.iter().all(is_bare);
    match site.kept.clone() {
        Some(kept) if is_undone => kept.forget().await?,
        Some(kept) => kept.keep(&site.journal).await?,
        None => {}
    }
    observer.event(&Event::Stepped {
        step: step.to_string(),
        what,
    });
    Ok(())
}

/// The state store, where this run made it. Gives why it stays.
async fn remove_bucket(worksite: &mut Worksite, before: &Before) -> anyhow::Result<Option<String>> {
    let new = made_since(worksite, before)?;
    let Some(made) = new.iter().find(|made| made.kind == MadeKind::Bucket) else {
        return Ok(None);
    };
    let Some(bucket) = Bucket::look(worksite).await? else {
        return Ok(None);
    };
    if !bucket.others.is_empty() {
        return Ok(Some(bucket.refusal()));
    }
    bucket.remove().await?;
    let site = worksite.site_mut()?;
    site.journal.remove_made(made);
    (site.kept, site.state) = (None, None);
    provision::keep_in(&site.folder, &site.journal)?;
    Ok(None)
}
