//! Says from where a cluster's images come: `spec.assets` where kops computes the names, containerd's mirrors where it can't.

use super::{ConsumerInput, Settings, before};
use crate::image::Naming;
use crate::layout::Layout;

/// Where the images of the mirrored release are.
#[derive(Debug, Clone)]
pub struct MirroredImages {
    /// As kops has it: `registry.example.cn/k8s`, without a scheme.
    pub registry: String,
    /// Whether it is asked without TLS.
    pub is_plain: bool,
    pub naming: Naming,
}

pub(super) fn for_images(input: &ConsumerInput, settings: &mut Settings) {
    let Some(images) = &input.images else { return };
    let registry = &images.registry;
    if input.layout == Layout::Offline {
        settings.notes.push(format!(
            "the images at {registry} are not used in this layout: the nodes load archives from the mirror, and with a URL as \
             Kubernetes' version kops passes containerRegistry by"
        ));
        return;
    }
    match &images.naming {
        Naming::ContainerRegistry => {
            settings.assets_flag(
                input,
                "containerRegistry",
                registry,
                "every image comes from there: kops leaves registry.k8s.io/ out and puts the rest behind this, each / as a -",
            );
            settings.container_registry = Some(registry.clone());
        }
        Naming::ContainerProxy => {
            settings.assets_flag(
                input,
                "containerProxy",
                registry,
                "every image comes from there: kops puts this in place of the host of its name",
            );
            settings.container_proxy = Some(registry.clone());
        }
        Naming::Rules(rules) => return for_mirrors(input, images, rules, settings),
    }
    settings.notes.push(format!(
        "the kops command asks {registry} for each image's digest, by the logins of docker on its machine: log in there before, or \
         put -ImageDigest into KOPS_FEATURE_FLAGS"
    ));
}

/// kops computes names by its own two ways alone; others are for containerd, which goes to a mirror per host of a name.
fn for_mirrors(
    input: &ConsumerInput,
    images: &MirroredImages,
    rules: &[(String, String)],
    settings: &mut Settings,
) {
    let registry = &images.registry;
    if before(input, 19) {
        settings.notes.push(format!(
            "this kops can't use the names that your rules make at {registry}: bring the images with naming = \"container-registry\""
        ));
        return;
    }
    for (from, to) in rules {
        match of_host(from, to) {
            Some(host) => {
                let mirror = endpoint(images, to);
                settings
                    .registry_mirrors
                    .entry(host.to_owned())
                    .or_insert_with(|| vec![mirror]);
            }
            None => settings.notes.push(format!(
                "kops can't use the rule from {from} to {to}: containerd's mirrors are for whole hosts; bring the images with \
                 naming = \"container-registry\""
            )),
        }
    }
    if settings.registry_mirrors.is_empty() {
        return;
    }
    settings.notes.push(
        "containerd goes to the mirrors of spec.containerd.registryMirrors for the names as they are, the sandbox's too; there is no flag \
         for it, so put the spec's fragment (--as spec prints it) into the cluster with `kops edit cluster` before the first `kops update \
         cluster`"
            .to_owned(),
    );
    settings.notes.push(
        "the kops command asks the images' own registries for their digests: put -ImageDigest into KOPS_FEATURE_FLAGS where it can't reach them"
            .to_owned(),
    );
    if registry.contains(".dkr.ecr.") {
        settings.notes.push(
            "ECR lets nodes pull with their role only where kubelet is told to: spec.containerd.useECRCredentialsForMirrors, which older kops lack; \
             naming = \"container-registry\" needs nothing of it"
                .to_owned(),
        );
    }
}

/// The host whose names a rule is for, if it is for all of them: `registry.k8s.io/` to `k8s/`.
fn of_host<'a>(from: &'a str, to: &str) -> Option<&'a str> {
    let host = from.strip_suffix('/')?;
    let is_host = !host.is_empty() && !host.contains('/');
    (is_host && (to.is_empty() || to.ends_with('/'))).then_some(host)
}

/// A mirror as containerd has it: a path is taken as it is, `/v2` included.
fn endpoint(images: &MirroredImages, to: &str) -> String {
    let scheme = if images.is_plain { "http" } else { "https" };
    let (host, path) = match images.registry.split_once('/') {
        Some((host, path)) => (host, format!("{path}/{to}")),
        None => (images.registry.as_str(), to.to_owned()),
    };
    let url = format!("{scheme}://{host}/v2/{path}");
    url.trim_end_matches('/').to_owned()
}
