//! The image that hosts start from: P11.

use super::Finding;
use super::facts::{Facts, HostImage};
use super::findings::Findings;
use crate::asset::Arch;
use crate::cloud::{Image, ImageState};
use crate::partition::Partition;

/// Accounts whose images are known, in the partition that they are accounts of: the same number elsewhere is somebody else's.
///
/// Where from: `k` is the list that kops itself has (kubernetes/kops, `WellKnownAccount…` in upup/pkg/fi/cloudup/awsup/aws_cloud.go), all
/// of it of the global partition; `c` is Canonical's own page (canonical/ubuntu-cloud-docs, "Find Ubuntu images on AWS"); `e` is
/// what AWS's own recipe for images of nodes starts from (awslabs/amazon-eks-ami, `source_ami_owners` in Makefile); `r` is Red Hat's
/// own list (cloudigrade, `RHEL_IMAGES_AWS_ACCOUNTS`), and AWS's (aws-parallelcluster, `RHEL_OWNERS`).
///
/// Debian and Flatcar publish nothing in China that is known to be theirs: there, their images come by a copy.
const PUBLISHERS: [(&str, &str, &str); 12] = [
    ("aws", "099720109477", "Canonical"),        // k, c
    ("aws-cn", "837727238323", "Canonical"),     // c
    ("aws-us-gov", "513442679011", "Canonical"), // c
    ("aws", "137112412989", "Amazon"),           // k
    ("aws-cn", "141808717104", "Amazon"),        // e
    ("aws-us-gov", "045324592363", "Amazon"),    // e
    ("aws", "309956199498", "Red Hat"),          // k, r
    ("aws-cn", "841258680906", "Red Hat"),       // r
    ("aws-us-gov", "219670896067", "Red Hat"),   // r
    ("aws", "136693071363", "Debian"),           // k
    ("aws", "075585003325", "Flatcar"),          // k
    ("aws", "792107900819", "Rocky Linux"),      // k
];

/// Whose account it is, if its images are known.
fn publisher(partition: Partition, account: &str) -> Option<&'static str> {
    let known = PUBLISHERS
        .iter()
        .find(|(of, number, _)| *of == partition.id() && *number == account);
    known.map(|(.., name)| *name)
}

/// P11: the image is there, available and of the right processors.
pub(super) fn images(facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::of(11);
    for host in &facts.images {
        let Some(image) = found.known(&host.image) else {
            continue;
        };
        match image {
            Ok(image) => judge(&mut found, facts, host, image),
            Err(why) if host.is_to_be_made => found.error(
                format!(
                    "{why}, which the image of {} is to be made from",
                    host.whose
                ),
                "correct image.copy.source or image.build.base",
            ),
            Err(why) => found.error(
                format!("{}: {why}", host.whose),
                "find one with 'provision ami resolve', or copy one with 'provision ami copy'",
            ),
        }
    }
    let told: Vec<String> = facts.images.iter().map(told).collect();
    found.or_fine(told.join("; "))
}

fn told(host: &HostImage) -> String {
    let name = match &host.image {
        Ok(Ok(image)) => image.pinned(),
        _ => host.asked.clone(),
    };
    match host.is_to_be_made {
        true => format!("{}: to be made from {name}, which is there", host.whose),
        false => format!("{}: {name}", host.whose),
    }
}

fn judge(found: &mut Findings, facts: &Facts, host: &HostImage, image: &Image) {
    let name = format!("the image {} for {}", image.image_id, host.whose);
    if image.state != ImageState::Available {
        found.error(
            format!("{name} is {}", image.state),
            "wait for it with 'provision ami wait', or take another",
        );
    }
    let wanted = match host.arch {
        Arch::Arm64 => "arm64",
        Arch::Amd64 => "x86_64",
    };
    if let Some(arch) = image.architecture.as_deref().filter(|arch| *arch != wanted) {
        found.error(
            format!("{name} is for {arch}, and the machines have {wanted}"),
            "take an image or machines of the same kind",
        );
    }
    if image.ena_support == Some(false) && needs_ena(facts) {
        found.error(
            format!("{name} has no driver for the network of these machines (ENA)"),
            "take a newer image",
        );
    }
    let partition = Partition::of_region(&host.region);
    let identities = [facts.source.as_ref(), Some(&facts.identity)];
    let own =
        identities.into_iter().flatten().flatten().any(|identity| {
            identity.account == image.owner && identity.partition == Some(partition)
        });
    if !own && publisher(partition, &image.owner).is_none() {
        found.warning(
            format!(
                "{name} is of the account {}, which is no known publisher's in {partition}: whoever owns it owns the cluster",
                image.owner
            ),
            "take one of Canonical's or Amazon's, or copy it into your own account",
        );
    }
}

fn needs_ena(facts: &Facts) -> bool {
    facts
        .types
        .as_ref()
        .is_ok_and(|types| types.iter().any(crate::cloud::InstanceType::needs_ena))
}
