//! Reads a keep rule as people write it, and asks it of a release.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::Held;

const HOURS_OF_A_DAY: u32 = 24;
const HOURS_OF_A_WEEK: u32 = 7 * HOURS_OF_A_DAY;

/// One rule: the conditions of [`super`] that a release has to meet, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep(Vec<Condition>);

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' says nothing of what to keep: {why}; rules are 'followed', 'latest 5 minors', 'latest 2 patches', 'kops latest 2 minors', 'for 90d', 'v1.32.4', 'v1.32', 'kops 1.34.1' and 'release NAME', with commas between those that must hold together",
    text.escape_debug()
)]
pub struct BadKeep {
    text: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Followed,
    Latest {
        product: Product,
        count: NonZeroUsize,
        of: Series,
    },
    For {
        hours: u32,
    },
    Version(Product, Which),
    Release(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    Kubernetes,
    Kops,
}

/// What is counted from the newest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    Minors,
    /// Of each minor version.
    Patches,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    One(Version),
    Minor(u64, u64),
}

impl Keep {
    /// Whether a release, one of those that are `held`, is kept by this rule. What is followed meets every rule before this is asked.
    pub(super) fn keeps(&self, release: &Held, held: &[Held], now: Timestamp) -> bool {
        self.0
            .iter()
            .all(|condition| condition.is_met(release, held, now))
    }
}

impl Condition {
    fn is_met(&self, release: &Held, held: &[Held], now: Timestamp) -> bool {
        match self {
            Self::Followed => false,
            Self::Latest { product, count, of } => {
                let versions = held.iter().filter_map(|held| product.version(held));
                product
                    .version(release)
                    .is_some_and(|version| of.newer(version, versions) < count.get())
            }
            Self::For { hours } => {
                let span = SignedDuration::from_hours(i64::from(*hours));
                release
                    .completed
                    .is_none_or(|completed| now.duration_since(completed) < span)
            }
            Self::Version(product, which) => product
                .version(release)
                .is_some_and(|version| which.takes(version)),
            Self::Release(name) => release.name == *name,
        }
    }
}

impl Product {
    fn version(self, held: &Held) -> Option<&Version> {
        match self {
            Self::Kubernetes => held.kubernetes.as_ref(),
            Self::Kops => held.kops.as_ref(),
        }
    }
}

impl Series {
    /// How many are newer than this version's. Pre-releases don't count: they must not push a release out.
    fn newer<'a>(self, version: &Version, all: impl Iterator<Item = &'a Version>) -> usize {
        let minor = |version: &Version| (version.major, version.minor);
        let released = all.filter(|other| other.pre.is_empty());
        match self {
            Self::Minors => {
                let minors: BTreeSet<_> = released.map(minor).collect();
                minors
                    .range(minor(version)..)
                    .skip_while(|other| **other == minor(version))
                    .count()
            }
            Self::Patches => {
                let patches: BTreeSet<_> = released
                    .filter(|other| minor(other) == minor(version) && *other > version)
                    .map(|other| other.patch)
                    .collect();
                patches.len()
            }
        }
    }
}

impl Which {
    fn takes(&self, version: &Version) -> bool {
        match self {
            Self::One(one) => version == one,
            Self::Minor(major, minor) => (version.major, version.minor) == (*major, *minor),
        }
    }

    /// `1.32.4`, `1.32`
    fn parse(text: &str) -> Option<Self> {
        if let Ok(version) = Version::parse(text) {
            return Some(Self::One(version));
        }
        let (major, minor) = text.split_once('.')?;
        Some(Self::Minor(number(major)?, number(minor)?))
    }
}

/// A number of digits alone: others take signs.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn condition(text: &str) -> Result<Condition, &'static str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["followed"] => Ok(Condition::Followed),
        ["for", span] => Ok(Condition::For {
            hours: hours(span)?,
        }),
        ["release", name] => Ok(Condition::Release(name.to_owned())),
        ["latest", count, of] | ["kubernetes", "latest", count, of] => {
            latest(Product::Kubernetes, count, of)
        }
        ["kops", "latest", count, of] => latest(Product::Kops, count, of),
        ["kubernetes", version] => named(Product::Kubernetes, version),
        ["kops", version] => named(Product::Kops, version),
        [version] if version.starts_with('v') => named(Product::Kubernetes, version),
        [version] if version.starts_with(|c: char| c.is_ascii_digit()) => {
            Err("it does not tell whose version that is")
        }
        [] => Err("a condition is empty"),
        _ => Err("it is none of the forms"),
    }
}

fn latest(product: Product, count: &str, of: &str) -> Result<Condition, &'static str> {
    let count = number(count).ok_or("how many must be a number from 1 on")?;
    let of = match of {
        "minor" | "minors" => Series::Minors,
        "patch" | "patches" => Series::Patches,
        _ => return Err("what is counted are minors or patches"),
    };
    Ok(Condition::Latest { product, count, of })
}

fn named(product: Product, version: &str) -> Result<Condition, &'static str> {
    let which = Which::parse(version.strip_prefix('v').unwrap_or(version));
    let which = which.ok_or("a version is 1.34.2, or 1.34 for all its patches")?;
    Ok(Condition::Version(product, which))
}

fn hours(span: &str) -> Result<u32, &'static str> {
    const WRONG: &str = "a time is a number with h, d or w, as in 90d";
    let unit = match span.chars().last() {
        Some('h') => 1,
        Some('d') => HOURS_OF_A_DAY,
        Some('w') => HOURS_OF_A_WEEK,
        _ => return Err(WRONG),
    };
    let count: u32 = number(&span[..span.len() - 1]).ok_or(WRONG)?;
    count
        .checked_mul(unit)
        .ok_or("that is longer than anything is kept")
}

impl FromStr for Keep {
    type Err = BadKeep;

    fn from_str(text: &str) -> Result<Self, BadKeep> {
        let conditions: Result<_, _> = text.split(',').map(condition).collect();
        conditions.map(Self).map_err(|why| BadKeep {
            text: text.chars().take(80).collect(),
            why,
        })
    }
}

impl TryFrom<String> for Keep {
    type Error = BadKeep;

    fn try_from(text: String) -> Result<Self, BadKeep> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{condition}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Followed => f.write_str("followed"),
            Self::Latest { product, count, of } => {
                let product = match product {
                    Product::Kubernetes => "",
                    Product::Kops => "kops ",
                };
                let of = match (of, count.get()) {
                    (Series::Minors, 1) => "minor",
                    (Series::Minors, _) => "minors",
                    (Series::Patches, 1) => "patch",
                    (Series::Patches, _) => "patches",
                };
                write!(f, "{product}latest {count} {of}")
            }
            Self::For { hours } if hours.is_multiple_of(HOURS_OF_A_DAY) => {
                write!(f, "for {}d", hours / HOURS_OF_A_DAY)
            }
            Self::For { hours } => write!(f, "for {hours}h"),
            Self::Version(Product::Kubernetes, which) => write!(f, "v{which}"),
            Self::Version(Product::Kops, which) => write!(f, "kops {which}"),
            Self::Release(name) => write!(f, "release {name}"),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(version) => write!(f, "{version}"),
            Self::Minor(major, minor) => write!(f, "{major}.{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_printed_as_it_can_be_written() {
        for (written, printed) in [
            ("followed", "followed"),
            ("latest 5 minors", "latest 5 minors"),
            (" latest  1 minors ", "latest 1 minor"),
            ("kubernetes latest 2 patch", "latest 2 patches"),
            ("kops latest 1 patch", "kops latest 1 patch"),
            ("for 90d", "for 90d"),
            ("for 2w", "for 14d"),
            ("for 36h", "for 36h"),
            ("v1.32.4", "v1.32.4"),
            ("kubernetes 1.32.4", "v1.32.4"),
            ("kubernetes v1.32", "v1.32"),
            ("kops 1.34.0-beta.1", "kops 1.34.0-beta.1"),
            (
                "kops latest 2 minors,latest 3 patches",
                "kops latest 2 minors, latest 3 patches",
            ),
            (
                "release kops-1.36.2_kubernetes-1.34.8",
                "release kops-1.36.2_kubernetes-1.34.8",
            ),
        ] {
            let rule: Keep = written.parse().unwrap();
            assert_eq!(rule.to_string(), printed);
            assert_eq!(printed.parse(), Ok(rule));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_forms() {
        for text in [
            "",
            ",",
            "followed,",
            "latest",
            "latest minors",
            "latest 0 minors",
            "latest -1 minors",
            "latest +1 minors",
            "latest 2 majors",
            "latest 2 minors 1",
            "for",
            "for 90",
            "for d",
            "for 1m",
            "for 1é",
            "for 99999999w",
            "1.32.4",
            "v1",
            "v1.x",
            "kops latest",
            "kops 1.34.1.2",
            "release",
            "keep all",
        ] {
            let refusal = text.parse::<Keep>().unwrap_err().to_string();
            assert!(refusal.contains("'latest 5 minors'"), "{refusal}");
        }
    }

    #[test]
    fn rules_are_texts_in_settings() {
        let rules: Vec<Keep> = serde_json::from_str(r#"["latest 5 minors", "for 2w"]"#).unwrap();
        assert_eq!(
            serde_json::to_string(&rules).unwrap(),
            r#"["latest 5 minors","for 14d"]"#
        );
        assert!(serde_json::from_str::<Vec<Keep>>(r#"["everything"]"#).is_err());
    }
}
