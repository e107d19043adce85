//! What may stand in a catalogue file, and which of its entries fit a selection.

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;

use super::version::Range;
use super::{ClusterOption, Form, Runtime};
use crate::asset::Arch;
use crate::digest::Digest;

/// A catalogue file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    pub(super) span: Span,
    pub(super) supports: Vec<Supports>,
    pub(super) networking_default: Vec<NetworkingDefault>,
    pub(super) runtime_default: Vec<RuntimeDefault>,
    pub(super) networking: BTreeMap<String, Networking>,
    pub(super) component: BTreeMap<String, Vec<ComponentVersion>>,
    pub(super) file: Vec<File>,
    #[serde(default)]
    pub(super) note: Vec<Note>,
}

/// The versions that the catalogue speaks of, and the era in which kops does this or that.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Span {
    pub(super) kops: Range,
    pub(super) kubernetes: Range,
    pub(super) checked: Version3,
    pub(super) sorted: Range,
    pub(super) file_repository: Range,
    pub(super) sha1_sidecars: Range,
}

/// A whole version in a catalogue file.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Version3(pub(super) Version);

impl TryFrom<String> for Version3 {
    type Error = semver::Error;

    fn try_from(text: String) -> Result<Self, semver::Error> {
        Version::parse(&text).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Supports {
    pub(super) kops: Range,
    pub(super) kubernetes: Range,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkingDefault {
    #[serde(default)]
    pub(super) kops: Range,
    pub(super) networking: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuntimeDefault {
    #[serde(default)]
    pub(super) kops: Range,
    #[serde(default)]
    pub(super) kubernetes: Range,
    pub(super) runtime: Runtime,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Networking {
    pub(super) kops: Range,
    #[serde(default)]
    pub(super) also: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComponentVersion {
    #[serde(default)]
    pub(super) kops: Range,
    #[serde(default)]
    pub(super) kubernetes: Range,
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    #[serde(default)]
    pub(super) kops: Range,
    #[serde(default)]
    pub(super) kubernetes: Range,
    pub(super) runtime: Option<Runtime>,
    pub(super) text: String,
}

/// A file that clusters of some versions download.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    #[serde(default)]
    pub(super) kops: Range,
    #[serde(default)]
    pub(super) kubernetes: Range,
    #[serde(default)]
    pub(super) archs: Archs,
    pub(super) component: Option<String>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) alternates: Vec<String>,
    #[serde(default)]
    pub(super) witnesses: Vec<Vec<String>>,
    pub(super) list: Option<String>,
    #[serde(default)]
    pub(super) known: BTreeMap<String, Digest>,
    pub(super) unvouched: Option<String>,
    #[serde(default)]
    pub(super) when: When,
    #[serde(default = "yes")]
    pub(super) listed: bool,
    #[serde(default)]
    pub(super) part: Part,
    pub(super) pass: u8,
}

fn yes() -> bool {
    true
}

/// The architectures that a file exists for: `["amd64"]`, or `["any"]` for one file that serves all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) enum Archs {
    Any,
    Of(Vec<Arch>),
}

impl Default for Archs {
    fn default() -> Self {
        Self::Of(vec![Arch::Amd64, Arch::Arm64])
    }
}

impl TryFrom<Vec<String>> for Archs {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        if names == ["any"] {
            return Ok(Self::Any);
        }
        let archs: Result<_, _> = names.iter().map(|name| name.parse()).collect();
        archs.map(Self::Of)
    }
}

/// What a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// What kops and the nodes ask for.
    #[default]
    Release,
    /// Programs for the operator's own machine.
    Clients,
    /// Texts that say which release to take.
    Pointers,
}

/// Conditions, all of which must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct When {
    #[serde(default)]
    pub(super) networking: Vec<String>,
    #[serde(default)]
    pub(super) not_networking: Vec<String>,
    pub(super) runtime: Option<Runtime>,
    pub(super) option: Option<ClusterOption>,
    pub(super) not_option: Option<ClusterOption>,
    pub(super) form: Option<Form>,
}

/// One cluster for one architecture: what an entry must fit.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) kops: &'a Version,
    pub(super) kubernetes: &'a Version,
    pub(super) networking: &'a str,
    pub(super) runtime: Runtime,
    pub(super) options: &'a [ClusterOption],
    pub(super) forms: &'a [Form],
    pub(super) parts: &'a [Part],
}

impl File {
    /// Whether this entry is a file of the cluster, for an architecture or, without one, for all.
    pub(super) fn fits(&self, cluster: &Cluster<'_>, arch: Option<Arch>) -> bool {
        let archs_fit = match (&self.archs, arch) {
            (Archs::Any, None) => true,
            (Archs::Of(archs), Some(arch)) => archs.contains(&arch),
            _ => false,
        };
        archs_fit
            && self.kops.contains(cluster.kops)
            && self.kubernetes.contains(cluster.kubernetes)
            && cluster.parts.contains(&self.part)
            && self.when.holds(cluster)
    }
}

impl When {
    fn holds(&self, cluster: &Cluster<'_>) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == cluster.networking);
        (self.networking.is_empty() || named(&self.networking))
            && !named(&self.not_networking)
            && self.runtime.is_none_or(|it| it == cluster.runtime)
            && self.option.is_none_or(|it| cluster.options.contains(&it))
            && self
                .not_option
                .is_none_or(|it| !cluster.options.contains(&it))
            && self.form.is_none_or(|it| cluster.forms.contains(&it))
    }
}

impl Table {
    /// The version of a component in a cluster: that of the first entry that fits.
    pub(super) fn component(&self, name: &str, cluster: &Cluster<'_>) -> Option<&str> {
        let fitting = self.component.get(name)?.iter().find(|entry| {
            entry.kops.contains(cluster.kops) && entry.kubernetes.contains(cluster.kubernetes)
        })?;
        Some(&fitting.version)
    }

    /// The name that the catalogue uses for a networking choice, and its entry.
    pub(super) fn networking(&self, name: &str) -> Option<(&str, &Networking)> {
        let (known, entry) = self.networking.iter().find(|(known, entry)| {
            known.as_str() == name || entry.also.iter().any(|other| other == name)
        })?;
        Some((known, entry))
    }

    pub(super) fn default_networking(&self, kops: &Version) -> Option<&str> {
        let fitting = self
            .networking_default
            .iter()
            .find(|entry| entry.kops.contains(kops))?;
        Some(&fitting.networking)
    }

    pub(super) fn default_runtime(&self, kops: &Version, kubernetes: &Version) -> Option<Runtime> {
        let fitting = self
            .runtime_default
            .iter()
            .find(|entry| entry.kops.contains(kops) && entry.kubernetes.contains(kubernetes))?;
        Some(fitting.runtime)
    }

    /// The Kubernetes versions that a kops release takes without being overruled.
    pub(super) fn supported(&self, kops: &Version) -> Option<&Range> {
        let fitting = self
            .supports
            .iter()
            .find(|entry| entry.kops.contains(kops))?;
        Some(&fitting.kubernetes)
    }
}
