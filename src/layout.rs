//! Says where in the mirror a file stands, for the two ways in which kops can be told to use one.
//!
//! `spec.assets.fileRepository` makes kops keep the path of each canonical URL and put the repository before it, so that layout
//! is the path. The recipe of 2018, for releases that have no working fileRepository, has a shape of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::asset::{BadKey, Key};

/// How the keys of a mirror follow from canonical URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The path of the canonical URL, for `spec.assets.fileRepository` (kops 1.9 and newer).
    FileRepository,
    /// `kubernetes/…` and `kops/VERSION/…`, for `KOPS_BASE_URL`, `CNI_VERSION_URL` and `--kubernetes-version URL`.
    Offline,
}

/// A URL that has no place in a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("the path of {url} is not text: its percent-encoding does not decode to UTF-8")]
    NotText { url: Url },
    #[error("{url} has no place in a mirror")]
    BadKey {
        url: Url,
        #[source]
        source: BadKey,
    },
}

impl Layout {
    pub const ALL: [Self; 2] = [Self::FileRepository, Self::Offline];

    pub fn name(self) -> &'static str {
        match self {
            Self::FileRepository => "file-repository",
            Self::Offline => "offline",
        }
    }

    /// The key of the file that the world knows by this URL.
    pub fn key(self, canonical: &Url) -> Result<Key, NoPlace> {
        let path = percent_decoded(canonical)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let key = match self {
            Self::FileRepository => path.to_owned(),
            Self::Offline => offline(canonical.host_str().unwrap_or_default(), path),
        };
        key.parse().map_err(|source| NoPlace::BadKey {
            url: redacted(canonical),
            source,
        })
    }
}

/// The recipe's place for a path; one that the recipe does not know keeps its path.
fn offline(host: &str, path: &str) -> String {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let is_cni = path.starts_with("k8s-artifacts-cni/release/")
        || path.starts_with("containernetworking/plugins/releases/download/");
    if is_cni {
        return format!("kubernetes/network-plugins/{file_name}");
    }
    if let Some(rest) = path.strip_prefix("kubernetes-release/") {
        return format!("kubernetes/{rest}");
    }
    if let Some(rest) = path.strip_prefix("binaries/kops/") {
        return format!("kops/{rest}");
    }
    if let Some(rest) = path.strip_prefix("kubernetes/kops/master/channels/") {
        return format!("kops/channels/{rest}");
    }
    if host == "dl.k8s.io" && path.starts_with("release/") {
        return format!("kubernetes/{path}");
    }
    path.to_owned()
}

fn percent_decoded(url: &Url) -> Result<String, NoPlace> {
    let mut bytes = Vec::with_capacity(url.path().len());
    let mut rest = url.path().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let encoded = (byte == b'%')
            .then(|| after.get(..2).and_then(|digits| hex::decode(digits).ok()))
            .flatten();
        if let Some(decoded) = encoded {
            bytes.extend(decoded);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| NoPlace::NotText { url: redacted(url) })
}

/// Signed URLs carry secrets in the query, some others in the user part.
fn redacted(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // A URL that can't have a user part has none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|layout| layout.name() == text)
            .ok_or_else(|| {
                format!("'{text}' is not a layout of a mirror: file-repository or offline")
            })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(layout: Layout, url: &str) -> String {
        layout.key(&url.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn file_repository_is_the_canonical_path_without_its_host() {
        for (url, expected) in [
            (
                "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet",
                "release/v1.34.8/bin/linux/amd64/kubelet",
            ),
            (
                "https://github.com/containerd/containerd/releases/download/v2.2.4/X",
                "containerd/containerd/releases/download/v2.2.4/X",
            ),
            ("https://host/a%2Bb/c%20d", "a+b/c d"),
            ("https://host/signed?X-Amz-Signature=s", "signed"),
            ("https://host/100%25", "100%"),
        ] {
            assert_eq!(key(Layout::FileRepository, url), expected);
        }
    }

    #[test]
    fn offline_is_the_recipes_shape_for_every_host_the_files_had() {
        for (url, expected) in [
            (
                "https://storage.googleapis.com/kubernetes-release/release/v1.8.4/bin/linux/amd64/kube-proxy.tar",
                "kubernetes/release/v1.8.4/bin/linux/amd64/kube-proxy.tar",
            ),
            (
                "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet",
                "kubernetes/release/v1.34.8/bin/linux/amd64/kubelet",
            ),
            (
                "https://storage.googleapis.com/kubernetes-release/network-plugins/cni-0799.tar.gz",
                "kubernetes/network-plugins/cni-0799.tar.gz",
            ),
            (
                "https://github.com/containernetworking/plugins/releases/download/v1.6.2/cni-plugins-linux-amd64-v1.6.2.tgz",
                "kubernetes/network-plugins/cni-plugins-linux-amd64-v1.6.2.tgz",
            ),
            (
                "https://kubeupv2.s3.amazonaws.com/kops/1.8.1/images/protokube.tar.gz",
                "kops/1.8.1/images/protokube.tar.gz",
            ),
            (
                "https://artifacts.k8s.io/binaries/kops/1.36.2/linux/arm64/nodeup",
                "kops/1.36.2/linux/arm64/nodeup",
            ),
            (
                "https://raw.githubusercontent.com/kubernetes/kops/master/channels/stable",
                "kops/channels/stable",
            ),
            (
                "https://dl.k8s.io/release/stable.txt",
                "kubernetes/release/stable.txt",
            ),
        ] {
            assert_eq!(key(Layout::Offline, url), expected);
        }
    }

    #[test]
    fn a_path_that_decodes_out_of_the_mirror_has_no_place() {
        for url in [
            "https://host/a%2F..%2Fb",
            "https://host/a%00b",
            "https://host/a%5Cb",
            "https://host/",
            "https://host/%FF",
            "https://host/a//b",
        ] {
            let url: Url = url.parse().unwrap();
            assert!(Layout::FileRepository.key(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_refusal_does_not_show_a_signed_urls_secrets() {
        let url: Url = "https://user:pass@host/a//b?X-Amz-Signature=secret"
            .parse()
            .unwrap();
        let refusal = Layout::FileRepository.key(&url).unwrap_err().to_string();
        assert!(
            !refusal.contains("secret") && !refusal.contains("pass"),
            "{refusal}"
        );
    }
}
