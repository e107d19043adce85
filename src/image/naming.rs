//! What an image is called at another registry.

use serde::{Deserialize, Serialize};

use super::Reference;

/// How repositories at a target are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// As kops computes them for `spec.assets.containerRegistry`: without `registry.k8s.io/`, each `/` a `-`
    /// (`NormalizeImage` in upup/pkg/fi/assets/builder.go): `pause`, `quay.io-cilium-cilium`.
    #[default]
    ContainerRegistry,
    /// As kops computes them for `spec.assets.containerProxy`: the path as it is, without the host.
    ContainerProxy,
    /// Each with its own beginning, the first that fits: `registry.k8s.io/` to `k8s/`.
    Rules(Vec<(String, String)>),
}

/// No name comes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{image} fits none of the rules for names: give one that begins as it does")]
pub struct BadNaming {
    pub image: String,
}

/// The hosts that kops leaves out, the older of legacy releases too.
const LEFT_OUT: [&str; 3] = [
    "registry.k8s.io/",
    "k8s.gcr.io/",
    "gcr.io/google_containers/",
];

impl Naming {
    /// The repository at the target, below its path: `quay.io-cilium-cilium`.
    pub fn repository(&self, image: &Reference) -> Result<String, BadNaming> {
        let name = image.name();
        match self {
            Self::ContainerRegistry => {
                let left_out = LEFT_OUT.iter().find_map(|host| name.strip_prefix(host));
                Ok(left_out.unwrap_or(&name).replace('/', "-"))
            }
            Self::ContainerProxy => Ok(image.repository().to_owned()),
            Self::Rules(rules) => rules
                .iter()
                .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
                .ok_or(BadNaming { image: name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(naming: &Naming, image: &str) -> String {
        naming.repository(&image.parse().unwrap()).unwrap()
    }

    #[test]
    fn names_are_those_that_kops_computes() {
        for (image, name) in [
            ("registry.k8s.io/pause:3.10.1", "pause"),
            ("registry.k8s.io/coredns/coredns:v1", "coredns-coredns"),
            ("quay.io/cilium/cilium:v1", "quay.io-cilium-cilium"),
            ("docker.io/calico/node:v3", "docker.io-calico-node"),
            ("gcr.io/google_containers/pause-amd64:3.0", "pause-amd64"),
            (
                "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1",
                "public.ecr.aws-aws-ec2-aws-node-termination-handler",
            ),
        ] {
            assert_eq!(named(&Naming::ContainerRegistry, image), name);
        }
        assert_eq!(
            named(&Naming::ContainerProxy, "quay.io/cilium/cilium:v1"),
            "cilium/cilium"
        );
        let rules = Naming::Rules(vec![("quay.io/".to_owned(), "quay/".to_owned())]);
        assert_eq!(
            named(&rules, "quay.io/cilium/cilium:v1"),
            "quay/cilium/cilium"
        );
        assert!(
            rules
                .repository(&"registry.k8s.io/pause:3".parse().unwrap())
                .is_err()
        );
    }
}
