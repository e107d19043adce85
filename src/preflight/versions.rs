//! What this release of kops takes, and what the cluster had before: P08, P18 and P19.

use semver::Version;
use serde_yaml_ng::Value;

use super::Finding;
use super::account::is_public;
use super::facts::Facts;
use super::findings::Findings;
use crate::catalogue::Catalogue;
use crate::cluster::{ClusterFile, Dns};
use crate::partition::Partition;

/// P08: the API is not public on port 443.
pub(super) fn api(file: &ClusterFile) -> Vec<Finding> {
    let mut found = Findings::of(8);
    if is_public(file) {
        let remedy = "use api.type: internal and reach it by a VPN or a bastion; acknowledge P08 where a filing is there";
        match Partition::of_region(&file.region).is_china() {
            true => found.error(
                "the API is public on port 443, which is blocked in China without an ICP filing",
                remedy,
            ),
            false => found.warning(
                "the API is public",
                "use api.type: internal, or narrow api.access",
            ),
        }
    }
    found.or_fine("the API's load balancer is inside the VPC")
}

/// P18: names and load balancers suit this kops.
pub(super) fn names(file: &ClusterFile) -> Vec<Finding> {
    let mut found = Findings::of(18);
    let kops = &file.kops_version;
    let dns = file.era().dns(&file.name);
    let over = |path: &[&str]| {
        let spec = file.overrides.cluster.as_ref()?;
        path.iter()
            .try_fold(spec, |at, name| at.get(*name))
            .and_then(Value::as_str)
    };
    let class = over(&["api", "loadBalancer", "class"]);
    if dns == Dns::None && class == Some("Classic") {
        found.error(
            format!("overrides ask for a classic load balancer, and without DNS kops {kops} needs a network load balancer"),
            "leave api.loadBalancer.class out",
        );
    }
    let wanted = over(&["topology", "dns", "type"]);
    let is_local = file.name.ends_with(".k8s.local");
    match wanted {
        Some("None") if dns != Dns::None => found.error(
            format!("overrides ask for topology.dns.type None, which kops {kops} does not know: it came with 1.26"),
            "leave it out, or take a newer kops",
        ),
        Some("Public" | "Private") if is_local && kops.minor >= 35 => found.error(
            format!("overrides ask for gossip, which kops {kops} makes no more clusters with: it was removed in 1.37"),
            "leave topology.dns out",
        ),
        _ => {}
    }
    if dns == Dns::Zone {
        found.warning(
            format!("{} needs a zone of Route 53", file.name),
            "see that it is there, or let the name end in .k8s.local",
        );
    }
    found.or_fine(match dns {
        Dns::None => "hosts find the API by the name of its network load balancer",
        Dns::Gossip => "hosts find each other by gossip",
        Dns::Zone => "names are in a zone",
    })
}

/// P19: the versions of kops and Kubernetes fit the cluster's last.
pub(super) fn versions(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(19);
    let (kops, kubernetes) = (&file.kops_version, &file.kubernetes_version);
    if !Catalogue::builtin().supports(kops, kubernetes) {
        found.error(
            format!("kops {kops} does not take Kubernetes {kubernetes}"),
            "take a pair that fits",
        );
    }
    match &facts.kops {
        Ok(Some(program)) if program == kops => {}
        Ok(Some(program)) => found.error(
            format!("the program is kops {program}, and the cluster wants {kops}"),
            "give the right one with --kops: another release writes what that one can't read",
        ),
        // The mirrored one is taken then, by the version in its name, and held against the index.
        Ok(None) => {}
        Err(why) => found.error(why.clone(), "give the program of kops with --kops"),
    }
    if let Some(Some(kept)) = found.known(&facts.kept) {
        judge_last(
            &mut found,
            file,
            kept.kops.as_ref(),
            kept.kubernetes.as_ref(),
        );
    }
    found.or_fine(format!(
        "kops {kops} takes Kubernetes {kubernetes}, and the cluster had nothing newer"
    ))
}

fn judge_last(
    found: &mut Findings,
    file: &ClusterFile,
    kops: Option<&Version>,
    kubernetes: Option<&Version>,
) {
    let wanted = &file.kops_version;
    if let Some(last) = kops.filter(|last| *last > wanted) {
        found.error(
            format!("the cluster was last updated by kops {last}, and {wanted} is older: it refuses, or undoes what that one did"),
            format!("take kops {last} or newer"),
        );
    }
    let Some(last) = kubernetes else { return };
    let wanted = &file.kubernetes_version;
    if wanted.minor < last.minor {
        found.error(
            format!("the cluster has Kubernetes {last}, and {wanted} is older: etcd's content does not go back"),
            format!("take Kubernetes {last} or newer"),
        );
    } else if wanted.minor > last.minor + 1 {
        found.error(
            format!("the cluster has Kubernetes {last}, and {wanted} skips a minor version"),
            format!("go by 1.{} first", last.minor + 1),
        );
    }
}
