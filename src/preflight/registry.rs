//! Where images of containers come from: P14, P15 and P16.

use super::facts::Facts;
use super::findings::Findings;
use super::{Finding, Told};
use crate::cluster::{ClusterFile, dead};
use crate::partition::Partition;

/// How many images are told by name.
const TOLD: usize = 5;

/// P14: the registry has every image.
pub(super) fn images(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(14);
    let Some(registry) = &facts.registry else {
        if file.naming().is_none() {
            found.warning(
                "images come from registry.k8s.io, which is slow or blocked in China",
                "mirror them with 'kops-mirror sync --images --to-registry …' and name registry.containerRegistry",
            );
        }
        return found.or_fine("");
    };
    let Some(audit) = found.known(registry) else {
        return found.or_fine("");
    };
    if audit.images == 0 {
        found.error(
            format!(
                "no release of the mirror says what images it has, so {} can't be compared",
                audit.place
            ),
            "run 'kops-mirror sync --images --to-registry …' for this release",
        );
    }
    let wrong: Vec<String> = audit
        .findings
        .iter()
        .filter_map(|(image, findings)| Some(format!("{image}: {}", findings.first()?)))
        .collect();
    if !wrong.is_empty() {
        let more = match wrong.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        found.error(
            format!(
                "{} of {} images are not as they should be at {}: {}{more}",
                wrong.len(),
                audit.images,
                audit.place,
                wrong[..wrong.len().min(TOLD)].join("; ")
            ),
            "run 'kops-mirror sync --images --to-registry …' again, or 'kops-mirror repair'",
        );
    }
    found.or_fine(format!(
        "{} has all {} images under their digests",
        audit.place, audit.images
    ))
}

/// P15: the registry's name is one that kubelet logs in to.
pub(super) fn name(file: &ClusterFile) -> Vec<Finding> {
    let mut found = Findings::of(15);
    let registry = file
        .registry
        .container_registry
        .as_ref()
        .or(file.registry.container_proxy.as_ref());
    let Some(registry) = registry else {
        return found.or_fine("no registry stands in for others");
    };
    let host = registry.split("://").last().unwrap_or(registry);
    let host = host.split('/').next().unwrap_or_default();
    if !host.contains(".dkr.ecr.") {
        return found.or_fine(format!(
            "{host} is no ECR: hosts pull from it without a login"
        ));
    }
    let partition = Partition::of_region(&file.region);
    let suffix = partition.dns_suffix();
    let parts: Vec<&str> = host.splitn(5, '.').collect();
    let region = parts.get(3).copied().unwrap_or_default();
    if parts.get(4) != Some(&suffix) {
        found.error(
            format!(
                "{host} does not end in .{suffix}, so kubelet of hosts in {} has no login for it",
                file.region
            ),
            format!("name it ACCOUNT.dkr.ecr.{}.{suffix}", file.region),
        );
    } else if region != file.region {
        found.warning(
            format!(
                "{host} is in {region}, and the hosts are in {}",
                file.region
            ),
            "take a registry in the same region: traffic between regions is slow and paid for",
        );
    }
    let iam = file
        .overrides
        .cluster
        .as_ref()
        .map(|over| &over["iam"]["allowContainerRegistry"]);
    if iam.and_then(serde_yaml_ng::Value::as_bool) == Some(false) {
        found.error(
            "overrides set iam.allowContainerRegistry to false, so hosts may not read ECR",
            "leave that out",
        );
    }
    // kops PR 15490: the pattern for ECR's hosts in China was wrong in what kubelet was given; such providers are known since 1.20.
    if partition.is_china() && (20..27).contains(&file.kops_version.minor) {
        found.warning(
            format!("kops {} may give kubelet a pattern that no ECR in China fits, and pulls end with Unauthorized", file.kops_version),
            "take kops 1.27 or newer (github.com/kubernetes/kops pull request 15490), or watch the first nodes",
        );
    }
    found.or_fine(format!("{host} is an ECR that kubelet logs in to"))
}

/// P16: the mirrors of registries are alive.
pub(super) fn mirrors(facts: &Facts, told: &Told) -> Vec<Finding> {
    let mut found = Findings::of(16);
    for url in &told.registry_mirrors {
        if let Some(gone) = dead(url) {
            found.error(
                format!("{url} is no mirror any more: {gone}"),
                "take it out of registry.mirrors",
            );
            continue;
        }
        match facts.registry_mirrors.get(url) {
            Some(Ok(200 | 401)) | None => {}
            Some(Ok(status)) => found.warning(
                format!("{url}/v2/ is answered with {status}, as no registry does"),
                "take another mirror, or mirror the images yourself",
            ),
            Some(Err(why)) => found.warning(
                why.clone(),
                "hosts would wait for it at each pull: take it out if it stays so",
            ),
        }
    }
    found.or_fine(match told.registry_mirrors.len() {
        0 => "no mirrors of registries are named".to_owned(),
        count => format!("{count} mirrors of registries answer"),
    })
}
