//! Turns the names that move (`stable`, `stable-1.34`, `latest`) into versions, by asking the upstreams what they are today.
//!
//! Once, for a command; or again and again for the service, which asks only whether anything has changed ([`Upstreams`]).

mod allowance;
mod conditional;
mod list;
mod watching;

use semver::Version;
use serde::Deserialize;
use url::Url;

use crate::catalogue::version::{self, BadVersion};
use crate::events::told;
use crate::origin::Shown;
use crate::vouch::Hearing;

pub use self::conditional::Wire;
pub use self::watching::{Look, Upstreams};

/// Where Kubernetes says which release is which (kubernetes.io/releases/download).
const KUBERNETES_CHANNELS: &str = "https://dl.k8s.io/release/";
/// The newest kops release that is no pre-release (GitHub REST API, "Get the latest release").
const KOPS_LATEST: &str = "https://api.github.com/repos/kubernetes/kops/releases/latest";

/// A channel file is a line; the description of a release with its files has some 100 KiB.
const ANSWER_MAX_BYTES: u64 = 4 << 20;

/// Why a name is no version.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Version(#[from] BadVersion),
    #[error(
        "can't find out which {product} version '{name}' is today: {why}; name the version itself"
    )]
    Unknown {
        product: &'static str,
        name: String,
        why: String,
    },
}

/// Whether a name means another version from time to time.
pub fn moves(name: &str) -> bool {
    ["stable", "latest"].iter().any(|channel| {
        name.strip_prefix(channel)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// A Kubernetes version, or the one that a channel names today: `stable`, `latest`, `stable-1.34`, `latest-1.34`.
pub async fn kubernetes(name: &str, hearing: &Hearing<'_>) -> Result<Version, UpstreamError> {
    if !moves(name) {
        return Ok(version::kubernetes(name)?);
    }
    let unknown = |why: String| UpstreamError::Unknown {
        product: "Kubernetes",
        name: name.to_owned(),
        why,
    };
    let url = channel_url(name).map_err(|error| unknown(told(&error)))?;
    let answer = read(&url, hearing).await.map_err(unknown)?;
    version::kubernetes(answer.trim())
        .map_err(|error| unknown(format!("{} says: {error}", Shown(&url))))
}

fn channel_url(name: &str) -> Result<Url, url::ParseError> {
    Url::parse(&format!("{KUBERNETES_CHANNELS}{name}.txt"))
}

/// A kops version, or the newest release: `latest`, `stable`.
pub async fn kops(name: &str, hearing: &Hearing<'_>) -> Result<Version, UpstreamError> {
    #[derive(Deserialize)]
    struct Release {
        tag_name: String,
    }
    if !matches!(name, "latest" | "stable") {
        return Ok(version::kops(name)?);
    }
    let unknown = |why: String| UpstreamError::Unknown {
        product: "kops",
        name: name.to_owned(),
        why,
    };
    let url = Url::parse(KOPS_LATEST).map_err(|error| unknown(told(&error)))?;
    let answer = read(&url, hearing).await.map_err(unknown)?;
    let release: Release = serde_json::from_str(&answer).map_err(|error| {
        unknown(format!(
            "{} says nothing of a release: {error}",
            Shown(&url)
        ))
    })?;
    version::kops(&release.tag_name)
        .map_err(|error| unknown(format!("{} says: {error}", Shown(&url))))
}

async fn read(url: &Url, hearing: &Hearing<'_>) -> Result<String, String> {
    let sources = hearing.sources_of_url(url);
    let (content, source) = hearing
        .read_patiently(&sources, ANSWER_MAX_BYTES)
        .await
        .map_err(|error| told(&error))?;
    String::from_utf8(content.into())
        .map_err(|_| format!("{source} answers with something that is no text"))
}
