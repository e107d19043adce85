//! Reads the version names that people type, and tells which releases a range holds.

use std::fmt;

use semver::{Version, VersionReq};
use serde::Deserialize;

/// A text that names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is not a {product} version: give all three numbers, as in 1.34.2 or v1.34.2, and pre-releases as 1.34.0-beta.1",
    text.escape_debug()
)]
pub struct BadVersion {
    product: &'static str,
    text: String,
}

/// Reads a Kubernetes version, with or without its `v`.
pub fn kubernetes(text: &str) -> Result<Version, BadVersion> {
    parse("Kubernetes", text)
}

/// Reads a kops version, with or without the `v` that its tags got in 1.15.2.
pub fn kops(text: &str) -> Result<Version, BadVersion> {
    parse("kops", text)
}

fn parse(product: &'static str, text: &str) -> Result<Version, BadVersion> {
    let numbers = text.strip_prefix('v').unwrap_or(text);
    Version::parse(numbers).map_err(|_| BadVersion {
        product,
        text: text.chars().take(80).collect(),
    })
}

/// A range of releases: `>=1.19, <1.29`.
///
/// A pre-release counts as the release that it leads to: kops compares so, and a range that ends before 1.37 must not take in
/// 1.37.0-alpha.1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Range(VersionReq);

impl Range {
    pub fn contains(&self, version: &Version) -> bool {
        self.0
            .matches(&Version::new(version.major, version.minor, version.patch))
    }
}

impl Default for Range {
    fn default() -> Self {
        Self(VersionReq::STAR)
    }
}

impl TryFrom<String> for Range {
    type Error = semver::Error;

    fn try_from(text: String) -> Result<Self, semver::Error> {
        VersionReq::parse(&text).map(Self)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_and_without_its_v() {
        assert_eq!(kubernetes("v1.34.8").unwrap(), Version::new(1, 34, 8));
        assert_eq!(kubernetes("1.34.8").unwrap(), Version::new(1, 34, 8));
        assert_eq!(
            kops("1.37.0-alpha.1").unwrap().to_string(),
            "1.37.0-alpha.1"
        );
    }

    #[test]
    fn a_wrong_form_is_refused_with_the_right_one_named() {
        for text in [
            "", "v", "1.34", "34", "1.34.8.1", "latest", "V1.34.8", "vv1.34.8", "1.034.8",
            "1.34.8\n",
        ] {
            let refusal = kubernetes(text).unwrap_err().to_string();
            assert!(refusal.contains("v1.34.2"), "{refusal}");
        }
    }

    #[test]
    fn a_pre_release_counts_as_the_release_it_leads_to() {
        let range = Range::try_from(">=1.37".to_owned()).unwrap();
        assert!(range.contains(&kops("1.37.0-alpha.1").unwrap()));
        let before = Range::try_from("<1.37".to_owned()).unwrap();
        assert!(!before.contains(&kops("1.37.0-alpha.1").unwrap()));
    }
}
