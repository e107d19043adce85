//! `provision plan`: what is so, and what would be done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_yaml_ng::Value;

use super::super::{document, say};
use super::preflight;
use super::worksite::Worksite;
use crate::audit::Audit;
use crate::catalogue::version;
use crate::cli::{Output, PlanArgs};
use crate::cluster::{self, ClusterFile, Manifest};
use crate::digest::{Algorithm, Digest};
use crate::preflight::Asked;
use crate::provision::{
    self, Coverage, Dropped, Journal, Plan, Proposed, Remedy, Scratch, Sights, steps,
};
use crate::report::Exit;
use crate::store::Store;

pub(super) async fn plan(
    mut site: Worksite,
    args: &PlanArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let plan = make(&mut site, None).await?;
    provision::write_in(&site.folder, "plan.json", &plan.json())?;
    if let Some(out) = &args.out {
        std::fs::write(out, plan.json())
            .with_context(|| format!("can't write {}", out.display()))?;
    }
    show(&plan, "provision apply", output)?;
    Ok(exit(&plan))
}

pub(super) fn show(plan: &Plan, command: &str, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => say(&plan.told(command)),
        output => document(plan, output),
    }
}

/// 0 where nothing is to be done, 3 where something is, 1 where something stands in the way.
fn exit(plan: &Plan) -> Exit {
    match (plan.obstacles().is_empty(), plan.has_changes) {
        (false, _) => Exit::SomeFailed,
        (true, true) => Exit::Differs,
        (true, false) => Exit::Done,
    }
}

/// Looks at everything and lets kops say what it would do, unless something stands in the way already. With a plan that was made before,
/// what it saw must still be so.
pub(super) async fn make(site: &mut Worksite, given: Option<&Plan>) -> anyhow::Result<Plan> {
    site.look_up().await?;
    let manifest = site.render()?;
    let has_state = open_state_store(site).await?;
    let state = match has_state {
        true => site.site()?.state.clone(),
        false => None,
    };
    let journal = site.site_mut()?.journal.clone();
    let sights = sights(site, &manifest, state.as_ref()).await?;
    if let Some(given) = given {
        refuse_what_moved(given, &sights)?;
    }
    let mut plan = Plan::new(&site.file.name, sights);
    plan.is_new = !plan.sights.state.contains_key("config");
    plan.findings = preflight::findings(site, &Asked::of(&[], &[]), &[]).await?;
    let audit = site.audit().await?;
    plan.coverage = coverage(site, &audit)?;
    plan.notes = notes(site);
    if !plan.obstacles().is_empty() {
        return Ok(plan);
    }
    let options = site.kops_options().await?;
    let key = site.file.ssh.public_key.clone();
    let Some(scratch) = scratch(site, state.is_some()).await? else {
        plan.notes.push(format!(
            "kops {} needs a state store for its dry run, and there is none yet: it is asked once that is there",
            site.file.kops_version
        ));
        plan.has_changes = true;
        return Ok(plan);
    };
    let proposed = Proposed {
        manifest: &manifest,
        is_written: steps::is_written(&journal, &manifest),
        public_key: key.as_deref(),
        lacking: site.image_to_come.as_deref(),
    };
    let previewed = provision::preview(options, &scratch, state.as_ref(), proposed).await?;
    if let Some(listed) = &previewed.assets {
        let (layout, base) = (site.file.layout(), site.base_url()?);
        let listed = provision::of_listing(listed, layout, &base, &audit);
        let listed = listed.context("kops' own list of what it will ask for can't be read")?;
        plan.coverage.add_uncovered(listed.uncovered);
        plan.notes.extend(elsewhere(&listed.elsewhere));
    }
    plan.is_new = previewed.before.is_none();
    plan.changes = site.image_to_come.clone().into_iter().collect();
    if let Some(before) = &previewed.before {
        plan.changes
            .extend(changes(before, &manifest, &journal, key.as_deref())?);
        plan.refusals.extend(bad_upgrade(before, &site.file));
    }
    plan.notes
        .extend(not_kept(&site.file, &manifest, &previewed.after));
    let is_residue = journal.residue == Some(previewed.preview.digest());
    if is_residue {
        plan.notes.push(steps::RESIDUE.to_owned());
    }
    let lists_changes = previewed.preview.has_changes && !is_residue;
    plan.has_changes = plan.is_new || !plan.changes.is_empty() || lists_changes;
    plan.preview = previewed.preview.text;
    Ok(plan)
}

/// What is otherwise in the cluster that kops has than in the one that is wanted.
fn changes(
    before: &[Value],
    manifest: &Manifest,
    journal: &Journal,
    key: Option<&Path>,
) -> anyhow::Result<Vec<String>> {
    let dropped = provision::dropped(manifest, before);
    let mut changes: Vec<_> = dropped.iter().map(Dropped::to_string).collect();
    let surplus = provision::surplus(manifest, before).into_iter();
    changes.extend(surplus.map(|group| {
        format!("InstanceGroup {group} is not wanted: it is removed, with its hosts")
    }));
    if changes.is_empty() && !steps::is_written(journal, manifest) {
        changes.push(steps::TAKEN_OUT.to_owned());
    }
    if let Some(key) = key {
        changes.extend(steps::key_to_give(journal, key)?);
    }
    Ok(changes)
}

/// What kops loses of the manifest, but for where it keeps its configuration: that is the copy's own.
fn not_kept(file: &ClusterFile, manifest: &Manifest, after: &[Value]) -> Vec<String> {
    let mut local = manifest.clone();
    local.cluster["spec"]
        .as_mapping_mut()
        .map(|spec| spec.remove("configBase"));
    let kops = &file.kops_version;
    let dropped = provision::dropped(&local, after).into_iter();
    let told = dropped.map(|dropped| format!("kops {kops} does not keep this: {dropped}"));
    told.collect()
}

/// What is said of files that nodes fetch past the mirror.
fn elsewhere(hosts: &BTreeSet<String>) -> Option<String> {
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    (!hosts.is_empty()).then(|| {
        format!(
            "kops lets nodes fetch some files from {}, past the mirror: from kops 1.22 on 'mirror.mode: assets' redirects all of them",
            hosts.join(", ")
        )
    })
}

/// Where kops can do its dry run.
async fn scratch(site: &Worksite, has_state: bool) -> anyhow::Result<Option<Scratch>> {
    Ok(
        match (site.file.era().takes_folder_for_state(), has_state) {
            (true, _) => Some(Scratch::Folder),
            (false, true) => Some(site.scratch().await?),
            (false, false) => None,
        },
    )
}

/// Why the cluster that kops has can't become the one that is wanted; None where it can.
fn bad_upgrade(documents: &[Value], file: &ClusterFile) -> Option<String> {
    let cluster = documents
        .iter()
        .find(|document| document["kind"] == "Cluster")?;
    let runs = cluster["spec"]["kubernetesVersion"].as_str()?;
    // In mode B it is the address of a release, with the version at its end.
    let runs = runs.trim_end_matches('/').rsplit('/').next()?;
    let runs = version::kubernetes(runs).ok()?;
    let refused = cluster::upgrade(&runs, &file.kubernetes_version).err()?;
    Some(refused.to_string())
}

fn refuse_what_moved(given: &Plan, now: &Sights) -> anyhow::Result<()> {
    let moved = given.sights.moved(now);
    if moved.is_empty() {
        return Ok(());
    }
    let told: Vec<_> = moved.iter().map(ToString::to_string).collect();
    bail!(
        "the plan is not carried out, because this has moved since it was made:\n  {}\nmake another with 'provision plan'",
        told.join("\n  ")
    )
}

/// Whether there is a state store to look into.
async fn open_state_store(site: &mut Worksite) -> anyhow::Result<bool> {
    match site.open_state_store().await {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) && site.file.state_store.create => Ok(false),
        Err(error) => Err(error.context("can't look into the state store")),
    }
}

pub(super) fn is_absent(error: &anyhow::Error) -> bool {
    let kind = error
        .downcast_ref::<crate::store::StoreError>()
        .map(|error| error.kind);
    kind == Some(crate::store::StoreErrorKind::NoSuchBucket)
}

async fn sights(
    site: &Worksite,
    manifest: &Manifest,
    state: Option<&Arc<dyn Store>>,
) -> anyhow::Result<Sights> {
    let mut objects = BTreeMap::new();
    if let Some(state) = state {
        for object in state.list().await?.objects {
            objects.insert(object.key.to_string(), object.etag.to_string());
        }
    }
    let images = site.found.images.iter();
    Ok(Sights {
        file: Some(site.digest()),
        manifest: Some(Digest::of(
            Algorithm::Sha256,
            manifest.to_string().as_bytes(),
        )),
        images: images
            .map(|(arch, image)| (arch.name().to_owned(), image.clone()))
            .collect(),
        state: objects,
    })
}

/// What the cluster will ask the mirror for, and whether it is there.
fn coverage(site: &Worksite, audit: &Audit) -> anyhow::Result<Coverage> {
    let mut coverage = provision::of_files(&site.file.files()?.assets, audit);
    if let Some(channel) = site.channel_key()? {
        coverage.files += 1;
        coverage
            .uncovered
            .extend(provision::of_channel(&channel, audit));
    }
    let images = provision::of_images(&site.file, audit.indexes())?;
    coverage.images = images.mirrored;
    coverage.is_left_to_proxy = images.is_left_to_proxy;
    coverage.uncovered.extend(images.uncovered);
    coverage.remedy = Some(Remedy::of(&site.file, images.mirrored > 0));
    Ok(coverage)
}

fn notes(site: &Worksite) -> Vec<String> {
    let file = &site.file;
    let mut notes = Vec::new();
    notes.push(match file.era().dns(&file.name) {
        crate::cluster::Dns::Gossip => format!(
            "hosts find each other by gossip: kops {} knows no other way without a zone; from 1.26 on it is None-DNS, and 1.37 has no gossip any more",
            file.kops_version
        ),
        crate::cluster::Dns::None => "hosts find each other by the load balancer: no zone and no gossip (topology.dns.type: None)".to_owned(),
        crate::cluster::Dns::Zone => "names are in a zone of Route 53".to_owned(),
    });
    notes.extend(file.spread().warning());
    if file.era().hashes_with_sha1() {
        notes.push(
            "this kops hands nodes no digest of their CNI archive: that the mirror verified it is the only check there is".to_owned(),
        );
    }
    notes
}
