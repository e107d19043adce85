//! `apply --rollback`: what a run has made goes when the run fails, and nothing that was there before.

use anyhow::bail;

use super::destroying::{Bucket, remove_all};
use super::worksite::Worksite;
use crate::events::{Event, told};
use crate::kops::Kops;
use crate::provision::{self, Made, MadeKind, StepName, StepState};

/// What was there when the run began.
pub(super) struct Before {
    pub(super) made: Vec<Made>,
    pub(super) has_cluster: bool,
}

/// Removes what was made since, and writes that down at the step that failed.
pub(super) async fn roll_back(
    worksite: &mut Worksite,
    kops: &Kops,
    before: &Before,
    step: StepName,
) -> anyhow::Result<()> {
    let observer = worksite.observer();
    let mut removed = Vec::new();
    let mut failures = Vec::new();
    if !before.has_cluster && matches!(kops.read().await, Ok(Some(_))) {
        match kops.delete().await {
            Ok(()) => removed.push(format!("the cluster {}", worksite.file.name)),
            // Hosts may start from the image, and kops' state is in the bucket: both stay for the next try.
            Err(error) => bail!("the rollback failed: {}", told(&error)),
        }
    }
    let made = worksite.site()?.journal.made.clone();
    let new: Vec<Made> = made
        .into_iter()
        .filter(|made| !before.made.contains(made))
        .collect();
    let cloud = worksite.cloud().await?;
    let found = provision::remnants(&cloud, &worksite.file, &new, observer.as_ref()).await?;
    let ours = found
        .into_iter()
        .filter(|remnant| new.contains(&remnant.made()));
    let (gone, failed) = remove_all(ours).await;
    failures.extend(failed);
    removed.extend(gone.iter().map(provision::Remnant::words));
    let bucket = new.iter().find(|made| made.kind == MadeKind::Bucket);
    let site = worksite.site_mut()?;
    let is_left = |made: &Made| {
        failures
            .iter()
            .any(|failure: &String| failure.contains(&made.id))
    };
    for made in new
        .iter()
        .filter(|made| made.kind != MadeKind::Bucket && !is_left(made))
    {
        site.journal.remove_made(made);
    }
    let entry = site.journal.steps.get(&step);
    let why = entry.map(|entry| entry.note.clone()).unwrap_or_default();
    let what = match removed.as_slice() {
        [] => "nothing had been made".to_owned(),
        removed => format!("removed {}", removed.join(", ")),
    };
    let note = format!("{why}; rolled back: {what}");
    site.journal.note(step, StepState::Failed, note.clone());
    provision::keep_in(&site.folder, &site.journal)?;
    if let Some(kept) = site.kept.clone() {
        kept.keep(&site.journal).await?;
    }
    if let Some(made) = bucket {
        let bucket = Bucket::look(worksite).await?;
        match bucket {
            Some(bucket) if bucket.others.is_empty() => {
                bucket.remove().await?;
                let site = worksite.site_mut()?;
                site.journal.remove_made(made);
                (site.kept, site.state) = (None, None);
                provision::keep_in(&site.folder, &site.journal)?;
            }
            Some(bucket) => failures.push(bucket.refusal()),
            None => {}
        }
    }
    observer.event(&Event::Stepped {
        step: step.to_string(),
        what: note,
    });
    match failures.is_empty() {
        true => Ok(()),
        false => bail!(
            "not all of it could be rolled back; 'provision destroy' tries again:\n  {}",
            failures.join("\n  ")
        ),
    }
}
