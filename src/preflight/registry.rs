//! Where images of containers come from: P14, P15 and P16.

use super::facts::{Facts, Registry};
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
                "images come from public registries, which are slow or blocked in China",
                "mirror them with 'kops-mirror sync --images --to-registry …' and name registry.containerRegistry",
            );
        }
        return found.or_fine("");
    };
    let Some(Registry { audit, unnamed }) = found.known(registry) else {
        return found.or_fine("");
    };
    let place = &audit.place;
    if audit.images == 0 {
        found.error(
            format!(
                "no release of the mirror says what images it has, so {place} can't be compared"
            ),
            "run 'kops-mirror sync --images --to-registry …' for this release",
        );
    } else if !unnamed.is_empty() {
        found.error(
            format!(
                "{} of {} images that the cluster asks for are in no release of the mirror: {}",
                unnamed.len(),
                unnamed.len() + audit.images,
                some(unnamed)
            ),
            "run 'kops-mirror sync --images --to-registry …' for this release, with the same networking and options",
        );
    }
    let wrong: Vec<String> = audit
        .findings
        .iter()
        .filter_map(|(image, findings)| Some(format!("{image}: {}", findings.first()?)))
        .collect();
    if !wrong.is_empty() {
        found.error(
            format!(
                "{} of {} images are not as they should be at {place}: {}",
                wrong.len(),
                audit.images,
                some(&wrong)
            ),
            "run 'kops-mirror sync --images --to-registry …' again, or 'kops-mirror repair'",
        );
    }
    found.or_fine(format!(
        "{place} has all {} images under their digests",
        audit.images
    ))
}

/// The first few, and how many more there are.
fn some(all: &[String]) -> String {
    let first = all[..all.len().min(TOLD)].join("; ");
    match all.len().saturating_sub(TOLD) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
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
    if !may_read_ecr(file) {
        found.error(
            "overrides take iam.allowContainerRegistry away, so hosts may not read ECR",
            "leave that out",
        );
    }
    if partition.is_china()
        && let Some((why, remedy)) = unknown_in_china(file)
    {
        found.error(why, remedy);
    }
    found.or_fine(format!("{host} is an ECR that kubelet logs in to"))
}

/// Whether the manifest keeps `iam.allowContainerRegistry`, which every kops since 1.8 knows (pkg/apis/kops/cluster.go) and which is
/// always rendered, once the overrides are over it.
fn may_read_ecr(file: &ClusterFile) -> bool {
    let Some(iam) = file
        .overrides
        .cluster
        .as_ref()
        .and_then(|over| over.get("iam"))
    else {
        return true;
    };
    let allows = iam.get("allowContainerRegistry");
    iam.is_mapping() && allows.is_none_or(|allows| allows.as_bool() == Some(true))
}

/// Why kubelet has no login for any ECR in China, and what to do; None where it has.
///
/// Up to Kubernetes 1.26 kubelet logs in by itself, and knows China's hosts since 1.9 (kubernetes/kubernetes pull request 50108; what kops
/// 1.8.1 vendors of 1.8 has amazonaws.com alone). From 1.27 on a program does that (`UsesExternalECRCredentialsProvider`), for hosts that
/// fit the patterns that kops writes: the one for China was wrong in the one pre-release that had it first, 1.27.0-alpha.2, and right
/// in 1.27.0-beta.1 (kubernetes/kops pull request 15490).
fn unknown_in_china(file: &ClusterFile) -> Option<(String, &'static str)> {
    let (kops, kubernetes) = (&file.kops_version, &file.kubernetes_version);
    let is_new = kubernetes.minor >= 27;
    if kubernetes.minor < 9 {
        let why = format!(
            "kubelet {kubernetes} logs in to no ECR in China: it looks for hosts under amazonaws.com alone"
        );
        return Some((
            why,
            "take Kubernetes 1.9 or newer, or a registry without a login",
        ));
    }
    let is_wrong = is_new && kops.minor == 27 && kops.pre.as_str().starts_with("alpha.");
    let why = format!(
        "kops {kops} gives kubelet a pattern that no ECR in China fits, and pulls end with Unauthorized"
    );
    is_wrong.then_some((why, "take kops 1.27.0 or newer"))
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
