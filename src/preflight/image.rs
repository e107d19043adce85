//! The image that hosts start from: P11.

use super::Finding;
use super::facts::{Facts, HostImage};
use super::findings::Findings;
use crate::asset::Arch;
use crate::cloud::{Image, ImageState};

/// Accounts whose images are known, by their names: Canonical's and Amazon's, of each partition, and Debian's and Flatcar's.
const PUBLISHERS: [(&str, &str); 7] = [
    ("099720109477", "Canonical"),
    ("837727238323", "Canonical"),
    ("137112412989", "Amazon"),
    ("141071453412", "Amazon"),
    ("136693071363", "Debian"),
    ("075585003325", "Flatcar"),
    ("amazon", "Amazon"),
];

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
    let own = facts
        .identity
        .as_ref()
        .is_ok_and(|identity| identity.account == image.owner);
    let is_known = PUBLISHERS
        .iter()
        .any(|(account, _)| *account == image.owner);
    if !own && !is_known {
        found.warning(
            format!("{name} is of the account {}, which is no known publisher's: whoever owns it owns the cluster", image.owner),
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
