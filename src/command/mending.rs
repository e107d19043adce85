//! Brings back what an audit of shelves found missing, by the digests of the indexes: what a tag upstream leads to by now is nothing to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{imaging, parts};
use crate::config::Config;
use crate::digest::Digest;
use crate::events::{Observer, told};
use crate::image::{Manifest, Reference};
use crate::images::audit::{self, Audit, Finding, Named};
use crate::images::plan::plan_mending;
use crate::images::shelf::Shelf;
use crate::images::{self, ByImage, Carried, Gather, GatherError, Image, Missed};
use crate::record::FailureClass;
use crate::report::{Outcome, Report};
use crate::sync;
use crate::transfer::Ended;

/// Images that are gathered at a time; the connections to each host have their own limit.
const GATHERED_AT_ONCE: usize = 8;

/// What is to be brought back: images by the names that are to lead to them and their digests, and which shelves lack them.
type Lacking = BTreeMap<(Reference, Digest), Vec<bool>>;

/// Mends the shelves that were audited, in their order. None where nothing is wrong.
pub(super) async fn images(
    config: &Config,
    shelves: &[Arc<dyn Shelf>],
    audits: &[Audit],
    observer: &Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Report>> {
    if audits.iter().all(Audit::is_clean) {
        return Ok(None);
    }
    let begun = Instant::now();
    let blobs = shelves.iter().map(|shelf| shelf.blobs()).collect();
    let telling = Arc::new(ByImage::new(Arc::clone(observer)));
    let listener = Arc::clone(&telling) as Arc<dyn Observer>;
    let origins = parts::origins(config)?;
    let mirror =
        parts::mirror_of_blobs(origins, config, blobs, listener, CancellationToken::new()).await?;
    let gather = Gather {
        origins: &mirror.origins,
        limits: &mirror.limits,
        policy: mirror.policy,
    };
    let gathering = gather_all(gather, config, audits);
    let Some((images, missed)) = stop.run_until_cancelled(gathering).await else {
        return Ok(Some(imaging::interrupted()));
    };
    let planning = plan_mending(images, shelves, &config.registry.blob_regions);
    let Some(planned) = stop.run_until_cancelled(planning).await else {
        return Ok(Some(imaging::interrupted()));
    };
    telling.plan(&planned);
    let mut carried = images::carry(planned, shelves, &mirror, stop).await;
    let looking = look_again(shelves, &mut carried);
    if let Some(looked) = stop.run_until_cancelled(looking).await {
        looked?;
    }
    let mut report = images::report(&carried, missed, &mirror);
    report.outcomes.extend(beyond(audits));
    Ok(Some(Report {
        elapsed: begun.elapsed(),
        interrupted: stop.is_cancelled(),
        ..report
    }))
}

/// The images that shelves lack, and those that could not be had, with the reason.
async fn gather_all(
    gather: Gather<'_>,
    config: &Config,
    audits: &[Audit],
) -> (Vec<(Image, Vec<bool>)>, Vec<Missed>) {
    let mut lacking = Lacking::new();
    let mut known: BTreeMap<Digest, Manifest> = BTreeMap::new();
    for (at, audit) in audits.iter().enumerate() {
        for image in &audit.lacking {
            let shelves = lacking.entry(image.clone());
            shelves.or_insert_with(|| vec![false; audits.len()])[at] = true;
        }
        let manifests = audit.known.iter();
        known.extend(manifests.map(|(digest, manifest)| (*digest, manifest.clone())));
    }
    let known = &known;
    let gathering = lacking
        .into_iter()
        .map(|((name, digest), shelves)| async move {
            let image = image(gather, config, &name, digest, known).await;
            (name, shelves, image)
        });
    let mut gathering = stream::iter(gathering).buffered(GATHERED_AT_ONCE);
    let (mut images, mut missed) = (Vec::new(), Vec::new());
    while let Some((name, shelves, image)) = gathering.next().await {
        match image {
            Ok(image) => images.push((image, shelves)),
            Err(why) => missed.push(Missed::new(&name, FailureClass::Origin, why)),
        }
    }
    (images, missed)
}

/// The image of a digest. An index that was thinned here is at no source, and is made again where its shelves have lost it.
async fn image(
    gather: Gather<'_>,
    config: &Config,
    name: &Reference,
    digest: Digest,
    known: &BTreeMap<Digest, Manifest>,
) -> Result<Image, String> {
    let error = match gather.image_of(name, digest, known).await {
        Ok(image) => return Ok(image),
        Err(error) => error,
    };
    let is_absent = matches!(&error, GatherError::Origin(error) if error.is_absent());
    let platforms = &config.registry.platforms;
    if is_absent && !platforms.is_empty() {
        let again = gather.image(name, platforms).await;
        if let Some(image) = again.ok().filter(|image| image.root().digest == digest) {
            return Ok(image);
        }
    }
    let mut why = told(&error);
    if is_absent {
        why += "; its registry has no such digest any more: 'kops-mirror sync' of its release brings what there is now";
    }
    Err(why)
}

/// Believes that an image is whole again only where the shelf shows it.
async fn look_again(shelves: &[Arc<dyn Shelf>], carried: &mut [Carried]) -> anyhow::Result<()> {
    for (at, shelf) in shelves.iter().enumerate() {
        let stored = |carried: &&mut Carried| carried.places[at] == Ended::Stored;
        let mut stored: Vec<&mut Carried> = carried.iter_mut().filter(stored).collect();
        if stored.is_empty() {
            continue;
        }
        let names = stored.iter().map(|carried| {
            let image = &carried.image;
            (image.reference.clone(), vec![image.root().digest])
        });
        let named: Named = names.collect();
        let found = audit::audit(shelf, &named, false).await?.findings;
        for carried in &mut stored {
            let Some(findings) = found.get(&carried.image.reference) else {
                continue;
            };
            carried.places[at] = Ended::Failed {
                class: FailureClass::Store,
                why: format!(
                    "{}: it was put there, but {}",
                    shelf.place(),
                    sentence(findings)
                ),
            };
        }
    }
    Ok(())
}

/// What putting things there again can't mend.
fn beyond(audits: &[Audit]) -> Vec<Outcome> {
    let mut lines = Vec::new();
    for audit in audits {
        for (image, findings) in &audit.findings {
            let findings: Vec<Finding> = findings
                .iter()
                .filter(|finding| !finding.is_mendable())
                .cloned()
                .collect();
            if findings.is_empty() {
                continue;
            }
            let mut why = format!("{}: {}", audit.place, sentence(&findings));
            let is_rotten = |finding: &Finding| matches!(finding, Finding::BlobRotten { .. });
            if findings.iter().any(is_rotten) {
                why += "; nothing else is taken under that digest while it is there: remove it there, then repair again";
            }
            lines.push(sync::failed_line(
                images::key(image),
                FailureClass::Store,
                why,
            ));
        }
    }
    lines
}

fn sentence(findings: &[Finding]) -> String {
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    findings.join("; ")
}
