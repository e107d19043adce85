//! The tags of what is made here.

use crate::cloud::{Filter, Tag};

/// Who made it.
pub(super) const MADE_BY: &str = "kops-mirror/made-by";
const MAKER: &str = "kops-mirror";

/// For which cluster.
pub(super) const CLUSTER: &str = "kops-mirror/cluster";

/// What for: [`Role`].
pub(super) const ROLE: &str = "kops-mirror/role";

/// What it is a copy of: `us-east-1/ami-…`, `us-east-1/snap-…`.
pub(super) const SOURCE: &str = "kops-mirror/source";

/// What an image is built by: the digest of everything that goes into it.
pub(super) const RECIPE: &str = "kops-mirror/recipe";

/// How far a builder is.
pub(super) const PHASE: &str = "kops-mirror/phase";

/// By this one the external program finds the instance that it is to work on.
pub(super) const IMAGEBUILDER: &str = "k8s.io/role/imagebuilder";

/// What something is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is what was asked for.
    Image,
    /// It is only under way, and goes at the end.
    Way,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Way => "way",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            "image" => Self::Image,
            _ => Self::Way,
        }
    }
}

/// What is written on what is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub cluster: Option<String>,
    pub role: Role,
    pub source: Option<String>,
}

impl Mark {
    pub fn tags(&self) -> Vec<Tag> {
        let tag = |key: &str, value: &str| Tag::new(key, value);
        let some =
            |key: &str, value: &Option<String>| value.as_deref().map(|value| tag(key, value));
        [
            Some(tag(MADE_BY, MAKER)),
            Some(tag(ROLE, self.role.name())),
            some(CLUSTER, &self.cluster),
            some(SOURCE, &self.source),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What was made here, of a cluster's or all of it.
pub(super) fn made(cluster: Option<&str>) -> Vec<Filter> {
    let of_cluster = cluster.map(|cluster| Filter::tag(CLUSTER, cluster));
    [Filter::tag(MADE_BY, MAKER)]
        .into_iter()
        .chain(of_cluster)
        .collect()
}

/// What was made here as a copy of something.
pub(super) fn made_of(source: &str, role: Role) -> Vec<Filter> {
    vec![
        Filter::tag(MADE_BY, MAKER),
        Filter::tag(SOURCE, source),
        Filter::tag(ROLE, role.name()),
    ]
}

/// Whether tags say that it was made here.
pub(super) fn is_ours<'a>(mut tags: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    tags.any(|tag| tag == (MADE_BY, MAKER))
}
