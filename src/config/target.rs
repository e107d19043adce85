//! Reads what `--to` says: a bucket and a prefix, or a folder.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::units::parsed;

/// Where a mirror is to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `prefix` has no slash at either end and may be empty.
    Bucket {
        bucket: String,
        prefix: String,
    },
    Folder(PathBuf),
}

/// A text that is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no target: {why}", text.escape_debug())]
pub struct BadTarget {
    text: String,
    why: &'static str,
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let target = match text.split_once("://") {
            Some(("s3", rest)) => bucket(rest),
            Some(("file", rest)) => folder(rest),
            Some(_) => Err("give s3://BUCKET/PREFIX, file:///DIR or a folder"),
            None if text.is_empty() => Err("it is empty"),
            None => Ok(Self::Folder(PathBuf::from(text))),
        };
        target.map_err(|why| BadTarget {
            text: text.to_owned(),
            why,
        })
    }
}

fn bucket(rest: &str) -> Result<Target, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    // The rules for general purpose buckets (S3 user guide, "Bucket naming rules"), and capitals and underscores beside: old
    // buckets and other servers have them.
    let good_length = (3..=255).contains(&bucket.len());
    let good_letters = bucket
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !good_length || !good_letters {
        return Err("a bucket's name has 3 or more letters, digits, dots and hyphens");
    }
    if prefix.contains(',') {
        return Err("nodes split their download URLs at commas, so a prefix can't have one");
    }
    let bad_segment = |segment: &str| matches!(segment, "" | "." | "..");
    let bad_letter = |c: char| c.is_control() || matches!(c, '\\' | '?' | '#' | '%');
    if !prefix.is_empty() && (prefix.split('/').any(bad_segment) || prefix.contains(bad_letter)) {
        return Err("the prefix is not good in a URL");
    }
    Ok(Target::Bucket {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn folder(rest: &str) -> Result<Target, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file:// URL has an absolute path: file:///srv/mirror");
    }
    Ok(Target::Folder(PathBuf::from(path)))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_around_a_prefix_do_not_matter() {
        for text in ["s3://mirror/a/b", "s3://mirror/a/b/", "s3://mirror//a/b//"] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), "s3://mirror/a/b");
        }
        let whole: Target = "s3://mirror/".parse().unwrap();
        assert_eq!(whole.to_string(), "s3://mirror");
    }

    #[test]
    fn folders_come_as_paths_and_as_urls() {
        for text in ["/srv/m", "file:///srv/m", "file://localhost/srv/m"] {
            assert_eq!(text.parse(), Ok(Target::Folder("/srv/m".into())), "{text}");
        }
        assert_eq!("./mirror".parse(), Ok(Target::Folder("./mirror".into())));
    }

    #[test]
    fn what_cannot_be_a_target_is_refused() {
        for text in [
            "",
            "s3://",
            "s3://a",
            "s3://my bucket/x",
            "s3://mirror/a,b",
            "s3://mirror/a//b",
            "s3://mirror/../b",
            "s3://mirror/a?b",
            "gs://mirror/a",
            "https://s3.cn-north-1.amazonaws.com.cn/mirror",
            "file://srv/m",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
