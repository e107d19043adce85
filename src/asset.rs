//! Assets: the files that a mirror holds, where they come from, and what vouches for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::{Algorithm, Digest};

/// A file's place in the mirror, below the mirror's own prefix: `release/v1.34.8/bin/linux/amd64/kubelet`.
///
/// Never empty, absolute, or with an empty, `.` or `..` segment, a backslash or a control character, so that the same key
/// is good in a bucket, in a folder and in a URL; at most 900 bytes (S3 allows 1,024 with the prefix).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that cannot be a key everywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' can't be a key in a mirror: {why}", text.escape_debug())]
pub struct BadKey {
    text: String,
    why: &'static str,
}

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment: `kubelet`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The key of this file's sidecar: `…/kubelet.sha256`.
    #[must_use]
    pub fn sidecar(&self, algorithm: Algorithm) -> Self {
        Self(format!("{}.{algorithm}", self.0))
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let refuse = |why| {
            Err(BadKey {
                text: text.to_owned(),
                why,
            })
        };
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > 900 {
            return refuse("it is longer than 900 bytes");
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it has a control character or a backslash");
        }
        if text
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return refuse("it has an empty, '.' or '..' segment");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Key {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture, in Go's names as Kubernetes and kops use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            other => Err(format!(
                "'{other}' is not an architecture that kops runs on: amd64 or arm64"
            )),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Somebody who says what a file hashes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Voucher {
    /// A digest that the user's own list or the mirror's index gives; `source` says which. It always binds.
    Known { digest: Digest, source: String },
    /// A digest of the public release that the catalogue carries; `source` says whose it is. It binds as long as the file is
    /// fetched from its own host: whoever redirects a host may have builds of their own there.
    Carried { digest: Digest, source: String },
    /// A published file that speaks of this file alone: bare hexadecimal, or `hash  name`.
    Sidecar { url: Url, algorithm: Algorithm },
    /// A published list of many files; `name` is this file's name in it (a path's last segments may differ).
    List {
        url: Url,
        algorithm: Algorithm,
        name: String,
    },
}

impl Voucher {
    /// The digest, where it needs no request.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Known { digest, .. } | Self::Carried { digest, .. } => Some(*digest),
            Self::Sidecar { .. } | Self::List { .. } => None,
        }
    }
}

/// An independent witness: the first of its vouchers that exists speaks for it.
pub type Witness = Vec<Voucher>;

/// What a file is for, which decides when it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Content: published when it is verified.
    File,
    /// Tells readers which release to take (`stable.txt`, `channels/stable`): published after everything else.
    Pointer,
}

/// One file to mirror: plain data, made by the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asset {
    pub key: Key,
    /// The URL by which kops and the world know the file; its host can be redirected by the configuration.
    pub canonical: Url,
    /// Other published URLs of the same bytes, in order of preference.
    pub alternates: Vec<Url>,
    /// Independent witnesses; those that can be reached are compared. Empty only with `unvouched`.
    pub witnesses: Vec<Witness>,
    /// Why it is right to mirror this file though nobody vouches for it, by the catalogue's own word.
    pub unvouched: Option<String>,
    /// The sidecars to write beside it, in the order to write them.
    pub sidecars: Vec<Algorithm>,
    /// What it is to readers, which decides when it is published.
    pub role: Role,
    /// None where the file serves all architectures.
    pub arch: Option<Arch>,
    /// Whether `kops get assets` lists it; clients and pointers are ours besides.
    pub listed_by_kops: bool,
}
