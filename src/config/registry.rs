//! Reads where images go and how they are named there: `[registry]`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::endpoint;
use super::policies::PolicySettings;
use super::units::parsed;
use crate::image::{Naming, Platform, Reference};
use crate::images::source::BlobRegion;
use crate::store::registry::Address;
use crate::store::registry::ecr::Encryption;

/// Where images go, and which besides those of the releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    #[serde(deserialize_with = "addresses")]
    pub to: Vec<Address>,
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
    /// By whom images must be signed before they come; one that several fit must satisfy them all.
    pub policies: Vec<PolicySettings>,
    /// None: docker's own config.json.
    pub auth_file: Option<PathBuf>,
    /// Regions of registry.k8s.io's own buckets that blobs may come from besides.
    pub blob_regions: Vec<BlobRegion>,
    pub ecr: EcrConfig,
    pub ecr_source: EcrSourceConfig,
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

/// What repositories in ECR are like that are made here, and how its API is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EcrConfig {
    /// None: as AWS's tools find it.
    pub profile: Option<String>,
    /// Another server that speaks ECR's API.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<Url>,
    /// With an endpoint; else the registry's host tells.
    pub region: Option<String>,
    #[serde(deserialize_with = "parsed")]
    pub encryption: EcrEncryption,
    pub scan_on_push: bool,
    pub immutable_tags: bool,
    /// A file with the JSON document that says which images expire.
    pub lifecycle_policy_file: Option<PathBuf>,
    /// A file with the JSON document that says who may pull.
    pub repository_policy_file: Option<PathBuf>,
}

/// Who reads images from ECR, where docker's files have no login for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EcrSourceConfig {
    /// None: as AWS's tools find it.
    pub profile: Option<String>,
    /// Another server that speaks ECR's API; registries at its host are ECR too.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<Url>,
    /// With an endpoint; else the registry's host tells.
    pub region: Option<String>,
}

/// `AES256`, `KMS`, or `KMS:` and a key's ARN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcrEncryption(pub Encryption);

impl FromStr for EcrEncryption {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "AES256" => Ok(Self(Encryption::Aes256)),
            None if text == "KMS" => Ok(Self(Encryption::Kms(None))),
            Some(("KMS", key)) if !key.is_empty() => {
                Ok(Self(Encryption::Kms(Some(key.to_owned()))))
            }
            _ => Err("give AES256, KMS, or KMS:ARN for a key of yours"),
        }
    }
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let addresses = texts.iter().map(|text| text.parse());
    addresses
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

fn references<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Reference>, D::Error> {
    Vec::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_may_name_a_key() {
        let arn = "arn:aws-cn:kms:cn-north-1:123456789012:key/1";
        let kms: EcrEncryption = format!("KMS:{arn}").parse().unwrap();
        assert_eq!(kms.0, Encryption::Kms(Some(arn.to_owned())));
        assert_eq!("AES256".parse(), Ok(EcrEncryption::default()));
        assert!("none".parse::<EcrEncryption>().is_err());
    }

    #[test]
    fn rules_are_heard_where_they_are_asked_for() {
        let text = "naming = \"rules\"\nrules = [{ from = \"quay.io/\", to = \"quay/\" }]";
        let settings: RegistrySettings = toml::from_str(text).unwrap();
        let rules = vec![("quay.io/".to_owned(), "quay/".to_owned())];
        assert_eq!(settings.naming(), Naming::Rules(rules));
        assert!(toml::from_str::<RegistrySettings>("to = [\"a b\"]").is_err());
    }
}
