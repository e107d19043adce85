//! The container images that a cluster pulls, by the same version ranges as its files.
//!
//! What there is stands in `config/images.toml`, as data. A kops minor, Kubernetes version or networking that is not known there
//! is an error: half a list of images would make a cluster that starts and then waits for ever. A release that came out after
//! the list was made gets the newest list of its minor, and a warning.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use semver::Version;
use serde::Deserialize;

use super::selection::{ClusterOption, Selection};
use super::table::{Cluster, Version3};
use super::template::Template;
use super::version::Range;
use super::{Catalogue, CatalogueError, Warning};

static BUILTIN: LazyLock<Written> = LazyLock::new(|| {
    toml::from_str(include_str!("../../config/images.toml"))
        .expect("the tests read the list of images that is compiled in")
});

/// A file of images as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    known: Vec<KnownMinor>,
    image: Vec<Image>,
}

/// A minor of kops whose releases were read up to `newest`, for these networking choices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownMinor {
    newest: Version3,
    kubernetes: Range,
    networking: Vec<String>,
}

/// Images of one condition that have the same tag.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    names: Vec<String>,
    #[serde(default)]
    kubernetes: Range,
    /// Empty is any.
    #[serde(default)]
    networking: Vec<String>,
    option: Option<ClusterOption>,
    #[serde(default)]
    not_options: Vec<ClusterOption>,
    tags: Vec<Tagged>,
}

/// A tag and the versions that have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagged {
    #[serde(default)]
    kops: Range,
    #[serde(default)]
    kubernetes: Range,
    tag: String,
}

impl Catalogue {
    /// The images that clusters of the selection pull, sorted as kops sorts them.
    ///
    /// Images that nodes load from an archive among the files are not in it: protokube's, up to kops 1.20.
    pub fn images(&self, selection: &Selection) -> Result<Vec<String>, CatalogueError> {
        let mut images = Vec::new();
        for cluster in self.clusters(selection)? {
            BUILTIN.known(&cluster)?;
            images.extend(BUILTIN.of(&cluster)?);
        }
        images.sort();
        images.dedup();
        Ok(images)
    }

    /// What a user of that list should know.
    pub fn image_warnings(&self, selection: &Selection) -> Result<Vec<Warning>, CatalogueError> {
        let mut warnings = Vec::new();
        for cluster in self.clusters(selection)? {
            let listed = BUILTIN.known(&cluster)?.listed(cluster.kops);
            if listed != *cluster.kops {
                warnings.push(Warning::ImagesOf {
                    kops: cluster.kops.clone(),
                    listed,
                });
            }
            let without_images = BUILTIN.options_without_images(&cluster);
            warnings.extend(without_images.map(|option| Warning::NoImagesOf {
                kops: cluster.kops.clone(),
                networking: cluster.networking.to_owned(),
                option,
            }));
        }
        warnings.dedup();
        Ok(warnings)
    }

    fn clusters<'a>(
        &'a self,
        selection: &'a Selection,
    ) -> Result<impl Iterator<Item = Cluster<'a>>, CatalogueError> {
        self.check_span(selection)?;
        let networking = self.networking(selection)?;
        Ok(selection.kubernetes.iter().map(move |kubernetes| Cluster {
            kops: &selection.kops,
            kubernetes,
            networking,
            runtime: self.runtime(selection, kubernetes),
            options: &selection.options,
            forms: &[],
            parts: &[],
        }))
    }
}

impl Written {
    fn known(&self, cluster: &Cluster<'_>) -> Result<&KnownMinor, CatalogueError> {
        self.known
            .iter()
            .find(|known| known.fits(cluster))
            .ok_or_else(|| CatalogueError::NoImages {
                what: format!(
                    "kops {} with Kubernetes {} and {}",
                    cluster.kops, cluster.kubernetes, cluster.networking
                ),
                known: self.known_besides(cluster.kops),
            })
    }

    /// What is known of a kops minor or, where that is nothing, which minors are known.
    fn known_besides(&self, kops: &Version) -> String {
        let of_minor: Vec<_> = self
            .known
            .iter()
            .filter(|known| known.is_of_minor(kops))
            .map(|known| {
                format!(
                    "Kubernetes {} and {}",
                    known.kubernetes,
                    known.networking.join(", ")
                )
            })
            .collect();
        if !of_minor.is_empty() {
            return format!(
                "of kops {}.{} those with {}",
                kops.major,
                kops.minor,
                of_minor.join("; with ")
            );
        }
        let minors: BTreeSet<_> = self.known.iter().map(KnownMinor::minor).collect();
        let minors: Vec<_> = minors
            .iter()
            .map(|(major, minor)| format!("{major}.{minor}"))
            .collect();
        format!("those of kops {}", minors.join(", "))
    }

    fn of(&self, cluster: &Cluster<'_>) -> Result<Vec<String>, CatalogueError> {
        let template = Template::new()
            .with("kops", cluster.kops.to_string())
            .with("kubernetes", cluster.kubernetes.to_string());
        let mut images = Vec::new();
        for image in &self.image {
            let Some(tag) = image.tag(cluster) else {
                continue;
            };
            let tag = template.fill(tag)?;
            images.extend(image.names.iter().map(|name| format!("{name}:{tag}")));
        }
        Ok(images)
    }

    fn options_without_images(&self, cluster: &Cluster<'_>) -> impl Iterator<Item = ClusterOption> {
        cluster.options.iter().copied().filter(move |option| {
            // Before 1.29 its image is there without being asked for.
            let mut images = self
                .image
                .iter()
                .filter(|image| {
                    image.option == Some(*option) && *option != ClusterOption::DnsController
                })
                .peekable();
            images.peek().is_some() && images.all(|image| image.tag(cluster).is_none())
        })
    }
}

impl KnownMinor {
    fn minor(&self) -> (u64, u64) {
        (self.newest.0.major, self.newest.0.minor)
    }

    fn is_of_minor(&self, kops: &Version) -> bool {
        self.minor() == (kops.major, kops.minor)
    }

    fn fits(&self, cluster: &Cluster<'_>) -> bool {
        self.is_of_minor(cluster.kops)
            && self.kubernetes.contains(cluster.kubernetes)
            && self.networking.iter().any(|it| it == cluster.networking)
    }

    /// The release whose images stand for those of a kops of this minor.
    fn listed(&self, kops: &Version) -> Version {
        let newest = &self.newest.0;
        if kops == newest {
            return newest.clone();
        }
        Version::new(kops.major, kops.minor, kops.patch).min(newest.clone())
    }
}

impl Image {
    /// The tag that a cluster pulls; None if it doesn't pull the image.
    fn tag(&self, cluster: &Cluster<'_>) -> Option<&str> {
        let has = |option: &ClusterOption| cluster.options.contains(option);
        let networking = &self.networking;
        let is_pulled = self.kubernetes.contains(cluster.kubernetes)
            && (networking.is_empty() || networking.iter().any(|it| it == cluster.networking))
            && self.option.as_ref().is_none_or(has)
            && !self.not_options.iter().any(has);
        let fits = |row: &&Tagged| {
            row.kops.contains(cluster.kops) && row.kubernetes.contains(cluster.kubernetes)
        };
        let row = self.tags.iter().find(fits).filter(|_| is_pulled)?;
        Some(&row.tag)
    }
}

#[cfg(test)]
mod tests;
