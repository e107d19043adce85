//! Whose account it is: P01 and P02.

use super::Finding;
use super::facts::{Facts, Known};
use super::findings::Findings;
use crate::cloud::Identity;
use crate::cluster::{ApiKind, ClusterFile};
use crate::partition::Partition;

/// P01: the credentials are of the region's partition.
pub(super) fn partition(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(1);
    let wanted = Partition::of_region(&file.region);
    let whose = whose(file.profile.as_deref());
    judge(&mut found, &facts.identity, wanted, &file.region, &whose);
    let account = facts
        .identity
        .as_ref()
        .map_or("", |identity| &identity.account);
    found.or_fine(format!(
        "{whose} belong to the account {account} of {wanted}, where {} is",
        file.region
    ))
}

fn whose(profile: Option<&str>) -> String {
    match profile {
        Some(profile) => format!("the credentials of the profile {profile}"),
        None => "the credentials of the environment".to_owned(),
    }
}

fn judge(
    found: &mut Findings,
    identity: &Known<Identity>,
    wanted: Partition,
    region: &str,
    whose: &str,
) {
    // AWS does not know keys of another partition at all, so that this is an error and nothing unknown.
    let identity = match identity {
        Ok(identity) => identity,
        Err(why) => return found.error(why.clone(), "name a profile of an account there"),
    };
    if identity.partition != Some(wanted) {
        let of = identity
            .partition
            .map_or("an unknown partition", |partition| partition.id());
        found.error(
            format!("{whose} are of {of} ({}), and {region} is in {wanted}", identity.arn),
            format!("name a profile of an account in {wanted}: accounts of one partition are not known in another"),
        );
    }
}

/// P02: both ends of a copied image are in the partitions that were named.
pub(super) fn source(file: &ClusterFile, facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(2);
    let (Some(copy), Some(source)) = (&file.image.copy, &facts.source) else {
        return found.or_fine("no image is copied");
    };
    let wanted = Partition::of_region(&copy.from_region);
    let whose = whose(copy.from_profile.as_deref());
    judge(&mut found, source, wanted, &copy.from_region, &whose);
    let here = Partition::of_region(&file.region);
    if wanted != here && copy.from_profile == file.profile {
        found.error(
            format!(
                "{} is in {wanted} and {} in {here}, and one profile is to do for both",
                copy.from_region, file.region
            ),
            "name image.copy.fromProfile: no account is in two partitions",
        );
    }
    found.or_fine(format!(
        "{whose} are of {wanted}, where {} is",
        copy.from_region
    ))
}

/// Whether the API's load balancer is public.
pub(super) fn is_public(file: &ClusterFile) -> bool {
    file.api.kind == ApiKind::Public
}
