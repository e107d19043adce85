//! Reads a rule and picks what fits it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use semver::{Comparator, Op, Version, VersionReq};
use serde::{Deserialize, Deserializer};

/// One line of what to follow: `stable`, `stable-1.34`, `latest`, `v1.34.8`, `>=1.33, latest 3 patches`, `latest 2 minors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Channel(Channel),
    Exact(Version),
    Fitting(Fitting),
}

/// `stable`, or `stable-1.34`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channel(Option<Minor>);

/// Major and minor.
pub(super) type Minor = (u64, u64);

/// Comparisons, and how much is taken of what fits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fitting {
    range: VersionReq,
    minors: Option<NonZeroU32>,
    patches: Option<NonZeroU32>,
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is no rule for versions: {why}; for example 'stable', 'stable-1.34', 'v1.34.8', 'latest 2 minors' or \
     '>=1.33, latest 3 patches'",
    text.escape_debug()
)]
pub struct NotARule {
    text: String,
    why: String,
}

impl Rule {
    pub(super) fn form(&self) -> &Form {
        &self.0
    }
}

impl Channel {
    /// What it would mean where nobody keeps channels: the newest release of all, or of its minor.
    pub(super) fn as_fitting(self) -> Fitting {
        let one = NonZeroU32::MIN;
        let comparators = self.0.map(|(major, minor)| Comparator {
            op: Op::Tilde,
            major,
            minor: Some(minor),
            patch: None,
            pre: semver::Prerelease::EMPTY,
        });
        Fitting {
            range: VersionReq {
                comparators: comparators.into_iter().collect(),
            },
            minors: Some(one),
            patches: Some(one),
        }
    }
}

impl Fitting {
    /// `latest`: the newest release.
    fn newest() -> Self {
        Channel(None).as_fitting()
    }

    /// What it takes of releases. Of chosen minors the newest patch, unless it says how many; of comparisons alone, all that fit.
    pub(super) fn of(&self, releases: &BTreeSet<Version>) -> BTreeSet<Version> {
        let patches = match (self.patches, self.minors) {
            (Some(patches), _) => patches.get(),
            (None, Some(_)) => 1,
            (None, None) => u32::MAX,
        };
        let by_minor = self.by_minor(releases);
        let minors = by_minor.values().rev().take(at_most(self.minors));
        let newest = |minor: &Vec<&Version>| -> Vec<Version> {
            let newest = minor.iter().rev().take(patches as usize);
            newest.map(|version| (*version).clone()).collect()
        };
        minors.flat_map(newest).collect()
    }

    /// The fitting releases of each minor, oldest first.
    fn by_minor<'a>(&self, releases: &'a BTreeSet<Version>) -> BTreeMap<Minor, Vec<&'a Version>> {
        let mut by_minor: BTreeMap<Minor, Vec<&Version>> = BTreeMap::new();
        let is_release = |version: &&Version| version.pre.is_empty();
        for version in releases.iter().filter(is_release) {
            if self.range.matches(version) {
                by_minor.entry(minor_of(version)).or_default().push(version);
            }
        }
        by_minor
    }

    /// The oldest minor that it can take anything of, as far as these releases tell; None where it may be any.
    pub(super) fn oldest_minor(&self, releases: &BTreeSet<Version>) -> Option<Minor> {
        let by_range = self.range.comparators.iter().filter_map(lower_bound).max();
        let by_count = self.minors.and_then(|minors| {
            let by_minor = self.by_minor(releases);
            by_minor
                .keys()
                .rev()
                .nth(minors.get() as usize - 1)
                .copied()
        });
        by_range.max(by_count)
    }
}

fn at_most(count: Option<NonZeroU32>) -> usize {
    count.map_or(usize::MAX, |count| count.get() as usize)
}

pub(super) fn minor_of(version: &Version) -> Minor {
    (version.major, version.minor)
}

fn lower_bound(comparator: &Comparator) -> Option<Minor> {
    let is_upper = matches!(comparator.op, Op::Less | Op::LessEq);
    (!is_upper).then_some((comparator.major, comparator.minor.unwrap_or(0)))
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let form = form_of(text.trim()).map_err(|why| NotARule {
            text: text.chars().take(80).collect(),
            why,
        })?;
        Ok(Self(form))
    }
}

fn form_of(text: &str) -> Result<Form, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text == "latest" {
        return Ok(Form::Fitting(Fitting::newest()));
    }
    if let Some(channel) = text.strip_prefix("stable") {
        return channel_of(channel).map(Form::Channel);
    }
    if let Ok(version) = Version::parse(text.strip_prefix('v').unwrap_or(text)) {
        return Ok(Form::Exact(version));
    }
    fitting_of(text).map(Form::Fitting)
}

fn channel_of(rest: &str) -> Result<Channel, String> {
    if rest.is_empty() {
        return Ok(Channel(None));
    }
    let minor = rest.strip_prefix('-').and_then(|rest| {
        let (major, minor) = rest.split_once('.')?;
        Some((number(major)?, number(minor)?))
    });
    let minor = minor.ok_or("a channel is 'stable', or 'stable-' and a minor")?;
    Ok(Channel(Some(minor)))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn fitting_of(text: &str) -> Result<Fitting, String> {
    let mut fitting = Fitting {
        range: VersionReq::STAR,
        minors: None,
        patches: None,
    };
    for piece in text.split(',').map(str::trim) {
        match piece.strip_prefix("latest ") {
            Some(count) => take(&mut fitting, count.trim())?,
            None => fitting.range.comparators.push(comparison_of(piece)?),
        }
    }
    Ok(fitting)
}

/// `3 patches`, `2 minors`.
fn take(fitting: &mut Fitting, text: &str) -> Result<(), String> {
    let (count, of) = text.split_once(' ').unwrap_or((text, ""));
    let of = of.trim();
    let chosen = match of {
        "minor" | "minors" => &mut fitting.minors,
        "patch" | "patches" => &mut fitting.patches,
        _ => return Err("what is latest are 'minors' or 'patches', so many of them".to_owned()),
    };
    let count = count
        .parse()
        .map_err(|_| format!("'{}' is no count from 1 on", count.escape_debug()))?;
    if chosen.replace(count).is_some() {
        return Err(format!("it says twice how many {of}"));
    }
    Ok(())
}

fn comparison_of(piece: &str) -> Result<Comparator, String> {
    let shown = piece.escape_debug();
    if !piece.starts_with(['<', '>', '=', '~', '^']) {
        return Err(format!(
            "'{shown}' is no comparison such as '>=1.33' or '~1.34', and no full version"
        ));
    }
    let comparator =
        Comparator::parse(piece).map_err(|error| format!("'{shown}' is no comparison: {error}"))?;
    if !comparator.pre.is_empty() {
        return Err("pre-releases are followed by their exact name alone".to_owned());
    }
    Ok(comparator)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Channel(channel) => channel.fmt(f),
            Form::Exact(version) => version.fmt(f),
            Form::Fitting(fitting) => fitting.fmt(f),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("stable"),
            Some((major, minor)) => write!(f, "stable-{major}.{minor}"),
        }
    }
}

impl fmt::Display for Fitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::newest() {
            return f.write_str("latest");
        }
        let mut pieces: Vec<String> = self
            .range
            .comparators
            .iter()
            .map(ToString::to_string)
            .collect();
        pieces.extend(self.minors.map(|count| format!("latest {count} minors")));
        pieces.extend(self.patches.map(|count| format!("latest {count} patches")));
        f.write_str(&pieces.join(", "))
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
