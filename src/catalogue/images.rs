//! The container images that a cluster pulls, by the same version ranges as its files.
//!
//! Only releases whose lists were observed or read are known. For any other the answer is an error: half a list of images would
//! make a cluster that starts and then waits for ever.

use serde::Deserialize;

use super::selection::{ClusterOption, Selection};
use super::table::Cluster;
use super::template::Template;
use super::version::Range;
use super::{Catalogue, CatalogueError};

const BUILTIN: &str = include_str!("../../config/images.toml");

/// A file of images as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    known: Vec<KnownRelease>,
    image: Vec<Image>,
}

/// A range of releases whose images are all in the file, for these networking choices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownRelease {
    kops: Range,
    kubernetes: Range,
    networking: Vec<String>,
}

/// Images of one condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(default)]
    kops: Range,
    #[serde(default)]
    kubernetes: Range,
    networking: Option<String>,
    option: Option<ClusterOption>,
    names: Vec<String>,
}

impl Image {
    fn fits(&self, cluster: &Cluster<'_>) -> bool {
        let networking = self.networking.as_deref();
        self.kops.contains(cluster.kops)
            && self.kubernetes.contains(cluster.kubernetes)
            && networking.is_none_or(|name| name == cluster.networking)
            && self.option.is_none_or(|it| cluster.options.contains(&it))
    }
}

impl Catalogue {
    /// The images that clusters of the selection pull, sorted as kops sorts them.
    pub fn images(&self, selection: &Selection) -> Result<Vec<String>, CatalogueError> {
        self.check_span(selection)?;
        let networking = self.networking(selection)?;
        let written: Written =
            toml::from_str(BUILTIN).map_err(|source| CatalogueError::Syntax {
                what: "the list of images",
                source: Box::new(source),
            })?;
        let mut images = Vec::new();
        for kubernetes in &selection.kubernetes {
            let cluster = Cluster {
                kops: &selection.kops,
                kubernetes,
                networking,
                runtime: self.runtime(selection, kubernetes),
                options: &selection.options,
                forms: &[],
                parts: &[],
            };
            written.check(&cluster)?;
            images.extend(written.of(&cluster)?);
        }
        images.sort();
        images.dedup();
        Ok(images)
    }
}

impl Written {
    /// Half a list is no list.
    fn check(&self, cluster: &Cluster<'_>) -> Result<(), CatalogueError> {
        let is_known = |release: &KnownRelease| {
            release.kops.contains(cluster.kops)
                && release.kubernetes.contains(cluster.kubernetes)
                && release.networking.iter().any(|it| it == cluster.networking)
        };
        if self.known.iter().any(is_known) {
            return Ok(());
        }
        let known = self.known.iter().map(|release| {
            format!(
                "kops {} with Kubernetes {} and {}",
                release.kops,
                release.kubernetes,
                release.networking.join(", ")
            )
        });
        Err(CatalogueError::NoImages {
            what: format!(
                "kops {} with Kubernetes {} and {}",
                cluster.kops, cluster.kubernetes, cluster.networking
            ),
            known: known.collect::<Vec<_>>().join("; "),
        })
    }

    fn of(&self, cluster: &Cluster<'_>) -> Result<Vec<String>, CatalogueError> {
        let template = Template::new()
            .with("kops", cluster.kops.to_string())
            .with("kubernetes", cluster.kubernetes.to_string());
        self.image
            .iter()
            .filter(|image| image.fits(cluster))
            .flat_map(|image| &image.names)
            .map(|name| template.fill(name))
            .collect()
    }
}

#[cfg(test)]
mod tests;
