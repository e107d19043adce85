//! The digests that kops carries in its own binary, by URL: witnesses that ask nobody.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use url::Url;

use super::CatalogueError;
use super::template::{Template, machine};
use crate::asset::{Arch, Voucher};
use crate::digest::Digest;

/// Digests of published files.
#[derive(Debug)]
pub(super) struct Known {
    by_url: HashMap<String, (Digest, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    published: Vec<Published>,
}

/// Files of one name in many versions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    url: String,
    source: String,
    #[serde(default)]
    amd64: BTreeMap<String, Digest>,
    #[serde(default)]
    arm64: BTreeMap<String, Digest>,
}

impl Known {
    /// Reads a table in the form of `config/digests.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, CatalogueError> {
        let written: Written = toml::from_str(text).map_err(|source| CatalogueError::Syntax {
            what: "the table of digests",
            source: Box::new(source),
        })?;
        let mut by_url = HashMap::new();
        for published in written.published {
            let source = format!("{}'s table", published.source);
            for (arch, digests) in [
                (Arch::Amd64, &published.amd64),
                (Arch::Arm64, &published.arm64),
            ] {
                for (version, digest) in digests {
                    let template = Template::new()
                        .with("version", version)
                        .with("arch", arch.name())
                        .with("machine", machine(arch));
                    let url = template.fill(&published.url)?;
                    by_url
                        .entry(url)
                        .or_insert_with(|| (*digest, source.clone()));
                }
            }
        }
        Ok(Self { by_url })
    }

    /// The voucher for a file that is known by one of these URLs.
    pub(super) fn voucher<'a>(&self, mut urls: impl Iterator<Item = &'a Url>) -> Option<Voucher> {
        let (digest, source) = urls.find_map(|url| self.by_url.get(url.as_str()))?;
        Some(Voucher::Carried {
            digest: *digest,
            source: source.clone(),
        })
    }
}
