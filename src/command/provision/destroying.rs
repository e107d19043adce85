//! `provision destroy`: the cluster, and what was made for it.
//!
//! What was made is found by its tags and by the journal, so that it goes even where the journal or all of kops' state is lost. Each part
//! is removed for itself: one that fails stops no other, and the command can be given again.

use std::path::PathBuf;

use anyhow::Context;

use super::super::say;
use super::planning::is_absent;
use super::worksite::{KEPT, Worksite};
use crate::cli::{DestroyArgs, Include};
use crate::events::{Event, told};
use crate::kops::Kops;
use crate::provision::{self, Journal, Made, MadeKind, Remnant};
use crate::report::Exit;
use crate::store::s3::Emptying;

/// The tag of a state store that was made here.
const MADE_BY: (&str, &str) = ("kops-mirror/made-by", "kops-mirror");

pub(super) async fn destroy(mut site: Worksite, args: &DestroyArgs) -> anyhow::Result<Exit> {
    let doomed = Doomed::look(&mut site).await?;
    if !args.yes {
        let is_there = doomed.show(&site, args).await?;
        if !is_there {
            return Ok(Exit::Done);
        }
        say("Nothing was removed: give --yes.\n")?;
        return Ok(Exit::Differs);
    }
    let (kept, stop) = (site.site()?.kept.clone(), site.stop());
    let removing = stop.run_until_cancelled(doomed.remove(&mut site, args));
    let removed = match kept {
        Some(kept) => kept.while_locked(&stop, removing).await?,
        None => removing.await,
    };
    let Some(removed) = removed else {
        let what = "stopped: the same command goes on from there".to_owned();
        tell(&site, what);
        return Ok(Exit::Interrupted);
    };
    let mut failures = removed.context("'provision destroy' goes on from there")?;
    if let Some(bucket) = &doomed.bucket
        && args.include.contains(&Include::Bucket)
        && failures.is_empty()
    {
        failures.extend(bucket.go(&mut site).await?);
    }
    if failures.is_empty() {
        return Ok(Exit::Done);
    }
    let what = format!(
        "not all of it is removed; the same command tries again:\n  {}",
        failures.join("\n  ")
    );
    site.observer().event(&Event::Warned { what });
    Ok(Exit::SomeFailed)
}

/// Says how far it is.
fn tell(site: &Worksite, what: String) {
    let step = "destroy".to_owned();
    site.observer().event(&Event::Stepped { step, what });
}

/// All that there is of a cluster.
struct Doomed {
    /// Where kops has the cluster.
    kops: Option<Kops>,
    remnants: Vec<Remnant>,
    /// The state store, where it was made here.
    bucket: Option<Bucket>,
    /// Hosts that kops can't find any more.
    stray: Vec<String>,
}

impl Doomed {
    async fn look(site: &mut Worksite) -> anyhow::Result<Self> {
        let has_state = match site.open_state_store().await {
            Ok(()) => true,
            Err(error) if is_absent(&error) => {
                say(&format!(
                    "There is no state store {}: what is left is looked for by its tags.\n",
                    site.file.state_store.bucket
                ))?;
                false
            }
            Err(error) => return Err(error.context("can't look into the state store")),
        };
        let journal = &site.site_mut()?.journal;
        let made = journal.made.clone();
        let cloud = site.cloud().await?;
        let mut kops = None;
        if has_state {
            let called = site.kops().await?;
            if called.read().await?.is_some() {
                kops = Some(called);
            }
        }
        let stray = match &kops {
            Some(_) => Vec::new(),
            None => provision::hosts(&cloud, &site.file.name).await?,
        };
        let observer = site.observer();
        Ok(Self {
            remnants: provision::remnants(&cloud, &site.file, &made, observer.as_ref()).await?,
            bucket: Bucket::look(site).await?,
            kops,
            stray,
        })
    }

    /// Tells all that would be removed; whether there is anything.
    async fn show(&self, site: &Worksite, args: &DestroyArgs) -> anyhow::Result<bool> {
        let mut is_there = false;
        match &self.kops {
            Some(kops) => {
                is_there = true;
                say(&kops.list_for_deletion().await?)?;
            }
            None => say(&format!("kops has no cluster {}\n", site.file.name))?,
        }
        for remnant in &self.remnants {
            let goes = !remnant.is_image() || args.include.contains(&Include::Image);
            is_there |= goes;
            say(&line(&remnant.words(), goes, "image"))?;
        }
        if let Some(bucket) = &self.bucket {
            let goes = args.include.contains(&Include::Bucket);
            is_there |= goes;
            say(&line(&bucket.words(), goes, "bucket"))?;
        }
        if let Some(why) = self.stray(site) {
            say(&format!("{why}\n"))?;
        }
        Ok(is_there)
    }

    fn stray(&self, site: &Worksite) -> Option<String> {
        let (name, region) = (&site.file.name, &site.file.region);
        let stray = self.stray.join(", ");
        (!stray.is_empty()).then(|| {
            format!(
                "kops knows nothing of {name} any more, and hosts of it are there: {stray}; remove them with \
                 'kops delete cluster --external --region {region} --name {name} --yes'"
            )
        })
    }

    /// Removes all but the bucket. Gives what could not be.
    async fn remove(&self, site: &mut Worksite, args: &DestroyArgs) -> anyhow::Result<Vec<String>> {
        if let Some(kops) = &self.kops {
            let what = format!(
                "kops removes {}, which takes minutes; what it prints is in {}",
                site.file.name,
                site.folder.join("calls").display()
            );
            tell(site, what);
            kops.delete().await?;
            say(&format!("{} is removed\n", site.file.name))?;
        } else {
            say(&format!("kops has no cluster {}\n", site.file.name))?;
        }
        let (goes, stays): (Vec<_>, Vec<_>) = self
            .remnants
            .iter()
            .cloned()
            .partition(|remnant| !remnant.is_image() || args.include.contains(&Include::Image));
        let (gone, mut failures) = remove_all(goes).await;
        for remnant in &gone {
            say(&format!("{} is removed\n", remnant.words()))?;
        }
        for remnant in &stays {
            say(&line(&remnant.words(), false, "image"))?;
        }
        if let Some(copy) = site.file.image.copy.clone() {
            let maker = site.image_maker(PathBuf::new(), false).await?;
            let observer = site.observer();
            let cleared = maker.clear_way(&site.file, &copy, observer.as_ref()).await;
            if let Err(error) = cleared {
                // An account that the image once came from may be nobody's any more.
                let what = format!("what the image's copy left on its way: {}", told(&error));
                observer.event(&Event::Warned { what });
            }
        }
        failures.extend(self.stray(site));
        let made = site.site()?.journal.made.clone();
        let left = made.into_iter().filter(|made| {
            let is_bucket = made.kind == MadeKind::Bucket && self.bucket.is_some();
            is_bucket || stays.iter().any(|remnant| remnant.made() == *made)
        });
        match failures.is_empty() {
            true => forget(site, left.collect()).await?,
            false => keep(site, &gone).await?,
        }
        Ok(failures)
    }
}

fn line(what: &str, goes: bool, include: &str) -> String {
    match goes {
        true => format!("{what} would be removed\n"),
        false => format!("{what} stays, unless --include {include} is given\n"),
    }
}

/// Removes one after the other. Gives what is gone, and why the others are not.
pub(super) async fn remove_all(
    remnants: impl IntoIterator<Item = Remnant>,
) -> (Vec<Remnant>, Vec<String>) {
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    for remnant in remnants {
        match remnant.remove().await {
            Ok(()) => gone.push(remnant),
            Err(error) => failures.push(format!("{}: {}", remnant.words(), told(&error))),
        }
    }
    (gone, failures)
}

/// The steps are all undone: what stays is all that there is to know.
async fn forget(site: &mut Worksite, left: Vec<Made>) -> anyhow::Result<()> {
    let site = site.site_mut()?;
    if let Some(kept) = &site.kept {
        kept.forget().await?;
    }
    site.journal = Journal::new(&site.file.name);
    site.journal.made = left;
    match site.journal.made.is_empty() {
        true => provision::forget_in(&site.folder)?,
        false => provision::keep_in(&site.folder, &site.journal)?,
    }
    Ok(())
}

/// For the next try.
async fn keep(site: &mut Worksite, gone: &[Remnant]) -> anyhow::Result<()> {
    let site = site.site_mut()?;
    for remnant in gone {
        site.journal.remove_made(&remnant.made());
    }
    provision::keep_in(&site.folder, &site.journal)?;
    if let Some(kept) = site.kept.clone() {
        kept.keep(&site.journal).await?;
    }
    Ok(())
}

/// The state store, where it was made here.
pub(super) struct Bucket {
    emptying: Emptying,
    /// What it holds besides this cluster's.
    pub(super) others: Vec<String>,
}

impl Bucket {
    /// None where it is not there, or somebody else made it.
    pub(super) async fn look(site: &Worksite) -> anyhow::Result<Option<Self>> {
        let emptying = site.emptying().await?;
        let Some(tags) = emptying.tags().await? else {
            return Ok(None);
        };
        let made = &site.site()?.journal.made;
        let is_made = |made: &Made| made.kind == MadeKind::Bucket && made.id == emptying.bucket();
        let is_tagged = tags.get(MADE_BY.0).is_some_and(|maker| maker == MADE_BY.1);
        if !is_tagged && !made.iter().any(is_made) {
            return Ok(None);
        }
        let own = format!("{}/", site.file.name);
        let (folder, marker) = (format!("{KEPT}/"), KEPT);
        let mut others = emptying.names("").await?;
        others.retain(|name| *name != own && *name != folder && name != marker);
        let at_work = emptying.names(&folder).await?;
        others.extend(at_work.into_iter().filter(|name| *name != own));
        others.sort();
        others.dedup();
        Ok(Some(Self { emptying, others }))
    }

    fn words(&self) -> String {
        format!(
            "the state store {}, with all versions of what it held,",
            self.emptying.bucket()
        )
    }

    pub(super) fn refusal(&self) -> String {
        format!(
            "the bucket {} is not removed, since it holds more than this cluster's: {}",
            self.emptying.bucket(),
            self.others.join(", ")
        )
    }

    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        let bucket = self.emptying.bucket();
        let removed = self.emptying.remove().await;
        let removed = removed.with_context(|| format!("can't remove the bucket {bucket}"))?;
        say(&format!(
            "the bucket {bucket} is removed, with {removed} versions of objects\n"
        ))
    }

    /// Removes it, and what the journal says of it. Gives why it stays.
    async fn go(&self, site: &mut Worksite) -> anyhow::Result<Option<String>> {
        if !self.others.is_empty() {
            return Ok(Some(self.refusal()));
        }
        self.remove().await?;
        let site = site.site_mut()?;
        let bucket = self.emptying.bucket();
        site.journal
            .made
            .retain(|made| made.kind != MadeKind::Bucket || made.id != bucket);
        if site.journal.made.is_empty() {
            provision::forget_in(&site.folder)?;
        } else {
            provision::keep_in(&site.folder, &site.journal)?;
        }
        Ok(None)
    }
}
