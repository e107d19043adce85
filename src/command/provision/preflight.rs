//! `provision preflight`: what would go wrong, before anything is changed.

use std::sync::Arc;

use super::super::{document, parts, say};
use super::worksite::{KEPT, Worksite};
use crate::cli::{Output, PreflightArgs};
use crate::cloud::{Cloud, CloudSettings};
use crate::cluster::CheckId;
use crate::image::Naming;
use crate::images::shelf::Shelf;
use crate::preflight::{self, Asked, Finding, MIRROR_CHECKS, Surroundings, Told, is_of_bucket};
use crate::provision::{self, StepName};
use crate::report::Exit;
use crate::store::registry::Address;
use crate::store::s3::Bucket;

pub(super) async fn preflight(
    site: Worksite,
    args: &PreflightArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let asked = Asked::of(&args.only, &args.skip);
    let findings = findings(&site, &asked, &args.ack).await?;
    match output {
        Output::Table => {
            for finding in &findings {
                say(&format!("{finding}\n"))?;
            }
        }
        output => document(&findings, output)?,
    }
    Ok(match findings.iter().any(Finding::stops) {
        true => Exit::SomeFailed,
        false => Exit::Done,
    })
}

/// What the checks find that are asked for; those in `accepted` stop nothing, besides those of the file.
pub(super) async fn findings(
    site: &Worksite,
    asked: &Asked,
    accepted: &[CheckId],
) -> anyhow::Result<Vec<Finding>> {
    let told = Told::new(&site.file, site.settings()?, site.base_url()?);
    let at = surroundings(site, asked).await?;
    Ok(preflight::look(&site.file, told, &at, asked, accepted).await)
}

async fn surroundings(site: &Worksite, asked: &Asked) -> anyhow::Result<Surroundings> {
    let file = &site.file;
    let name = &file.name;
    let source = match &file.image.copy {
        Some(copy) => {
            let mut settings = CloudSettings::new(&copy.from_region);
            settings.profile = copy.from_profile.clone();
            Some(Cloud::connect(settings).await?)
        }
        None => None,
    };
    Ok(Surroundings {
        cloud: site.cloud().await?,
        source,
        state_bucket: site.state_bucket().await?,
        state: site.state_part(name).await?,
        kept: site.state_part(&format!("{KEPT}/{name}")).await?,
        is_journaled: is_journaled(site)?,
        audit: match asked.any(&MIRROR_CHECKS) {
            true => Some(site.audit().await.map_err(|error| format!("{error:#}"))),
            false => None,
        },
        mirror_bucket: mirror_bucket(site).await?,
        shelf: shelf(site).await?,
        kops: match site.has_kops() {
            true => Some(site.kops_options().await?),
            false => None,
        },
    })
}

/// Whether the journal here says that kops was given the cluster from here.
fn is_journaled(site: &Worksite) -> anyhow::Result<bool> {
    let journal = provision::journal_in(&site.folder, &site.file.name)?;
    Ok(journal.is_some_and(|journal| journal.steps.contains_key(&StepName::Config)))
}

/// The mirror's bucket, where nodes read it as what it is.
async fn mirror_bucket(site: &Worksite) -> anyhow::Result<Option<(Bucket, String)>> {
    let Some(options) = site.mirror_options()? else {
        return Ok(None);
    };
    let is_read_so = site
        .file
        .mirror
        .url
        .as_ref()
        .is_none_or(|url| is_of_bucket(url, &options.bucket));
    if !is_read_so {
        return Ok(None);
    }
    let bucket = Bucket::connect(&options).await?;
    Ok(Some((bucket, options.prefix)))
}

/// Where images of containers are to be; None where they come from their own registries, or by a proxy that fetches them itself.
async fn shelf(site: &Worksite) -> anyhow::Result<Option<Arc<dyn Shelf>>> {
    let registry = &site.file.registry;
    let address = registry
        .container_registry
        .as_ref()
        .or(registry.container_proxy.as_ref());
    let (Some(address), Some(naming)) = (address, site.file.naming()) else {
        return Ok(None);
    };
    if naming == Naming::ContainerProxy && are_left_to_it(site).await? {
        return Ok(None);
    }
    let address: Address = address.parse()?;
    let profile = site.file.profile.as_deref();
    Ok(Some(parts::shelf_at(
        site.config(),
        &address,
        naming,
        profile,
    )?))
}

/// Whether the mirror says of no image that it was carried to the proxy; where it can't be read, that is told by others.
async fn are_left_to_it(site: &Worksite) -> anyhow::Result<bool> {
    let Ok(audit) = site.audit().await else {
        return Ok(false);
    };
    let images = provision::of_images(&site.file, audit.indexes())?;
    Ok(images.is_left_to_proxy)
}
