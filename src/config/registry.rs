//! Reads where images go and how they are named there: `[registry]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::units::parsed;
use crate::image::{Naming, Platform, Reference};
use crate::images::source::BlobRegion;

/// Where images go, and which besides those of the releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    pub to: Vec<RegistryTarget>,
    /// A folder in the OCI image layout, to be carried by hand.
    pub to_layout: Option<PathBuf>,
    /// Such a folder that images come from in place of their registries.
    pub from_layout: Option<PathBuf>,
    /// Images besides those of the releases.
    #[serde(deserialize_with = "references")]
    pub also: Vec<Reference>,
    /// Empty: all, byte for byte.
    pub platforms: Vec<Platform>,
    pub naming: NamingKind,
    /// Which beginning of a name becomes which, for `naming = "rules"`; the first that fits.
    pub rules: Vec<NamingRule>,
    /// Signatures and what else belongs to an image come along.
    pub signatures: bool,
    /// None: docker's own config.json.
    pub auth_file: Option<PathBuf>,
    /// Regions of registry.k8s.io's own buckets that blobs may come from besides.
    pub blob_regions: Vec<BlobRegion>,
}

/// The ways to name images at a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamingKind {
    #[default]
    ContainerRegistry,
    ContainerProxy,
    Rules,
}

/// One rule of `naming = "rules"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamingRule {
    pub from: String,
    pub to: String,
}

impl RegistrySettings {
    pub fn naming(&self) -> Naming {
        let rule = |rule: &NamingRule| (rule.from.clone(), rule.to.clone());
        match self.naming {
            NamingKind::ContainerRegistry => Naming::ContainerRegistry,
            NamingKind::ContainerProxy => Naming::ContainerProxy,
            NamingKind::Rules => Naming::Rules(self.rules.iter().map(rule).collect()),
        }
    }

    /// Whether there is somewhere for images to go.
    pub fn has_place(&self) -> bool {
        !self.to.is_empty() || self.to_layout.is_some()
    }
}

/// A registry, and the path below which images are put: `registry.example.cn/k8s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryTarget {
    /// Only where it is written: everything else is asked over TLS.
    pub is_plain: bool,
    /// With its port, where it has one.
    pub host: String,
    /// Without slashes at its ends; may be empty.
    pub path: String,
}

/// A text that is no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no registry: give HOST or HOST/PATH in small letters, or http://HOST/PATH for one without TLS", .0.escape_debug())]
pub struct BadRegistry(String);

impl RegistryTarget {
    /// What kops takes as `spec.assets.containerRegistry`.
    pub fn name(&self) -> String {
        match self.path.as_str() {
            "" => self.host.clone(),
            path => format!("{}/{path}", self.host),
        }
    }
}

impl FromStr for RegistryTarget {
    type Err = BadRegistry;

    fn from_str(text: &str) -> Result<Self, BadRegistry> {
        let bad = || BadRegistry(text.to_owned());
        let (is_plain, rest) = match text.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => return Err(bad()),
            None => (false, text),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let is_host =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let is_path = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '/')
        };
        if host.is_empty() || !host.chars().all(is_host) || !path.chars().all(is_path) {
            return Err(bad());
        }
        Ok(Self {
            is_plain,
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for RegistryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_plain { "http://" } else { "" };
        write!(f, "{scheme}{}", self.name())
    }
}

impl<'de> Deserialize<'de> for RegistryTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

fn references<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Reference>, D::Error> {
    Vec::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_a_host_and_may_have_a_path() {
        for (text, name, is_plain) in [
            ("registry.example.cn", "registry.example.cn", false),
            (
                "https://registry.example.cn/k8s/",
                "registry.example.cn/k8s",
                false,
            ),
            ("http://127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", true),
        ] {
            let target: RegistryTarget = text.parse().unwrap();
            assert_eq!(
                (target.name(), target.is_plain),
                (name.to_owned(), is_plain)
            );
        }
        for bad in [
            "",
            "/k8s",
            "s3://mirror/a",
            "host/Path",
            "a b",
            "user:secret@host/a",
        ] {
            assert!(bad.parse::<RegistryTarget>().is_err(), "{bad}");
        }
    }
}
