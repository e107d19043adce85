//! Publishes generated Kubernetes and kops releases at their canonical URLs, with sidecars in every form that upstreams use.
//!
//! Only the content is made up: paths, sidecar forms, missing sidecars, signed redirects and hash headers are those of the world,
//! so that a demonstration or a test exercises what a real run meets. Because content is generated, the digests that kops
//! carries inside don't fit it: a caller takes those of [`Releases::digests`] for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use semver::Version;
use url::Url;

use super::origin::{Content, Expiry, Fault, File, Origin, When};
use crate::digest::{Algorithm, Digest, Digests};

mod legacy;
mod modern;
mod pointers;
mod sidecar;

pub use modern::Components;

/// GitHub's signed URLs are good for five minutes.
const GITHUB_EXPIRY: Duration = Duration::from_mins(5);

/// What a published file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a mirror is for: a binary, an archive, an image.
    Asset,
    /// Says what others hash to.
    Sidecar,
    /// Says which version to take, or describes one: `stable.txt`, `channels/stable`, `kubelet.docker_tag`.
    Pointer,
}

/// A published file.
#[derive(Debug, Clone)]
pub struct Published {
    pub kind: Kind,
    pub file: File,
}

/// A set of releases. Their files are a fraction of the real ones' size.
#[derive(Debug, Clone)]
pub struct Releases {
    divisor: u64,
    files: BTreeMap<Url, Published>,
    kubernetes: BTreeSet<Version>,
    kops: BTreeSet<Version>,
}

impl Default for Releases {
    /// Kilobytes to a few megabytes each.
    fn default() -> Self {
        Self::scaled_down(64)
    }
}

impl Releases {
    /// No releases yet; files that are added have the real ones' size divided by this.
    pub fn scaled_down(divisor: u64) -> Self {
        Self {
            divisor: divisor.max(1),
            files: BTreeMap::new(),
            kubernetes: BTreeSet::new(),
            kops: BTreeSet::new(),
        }
    }

    /// One release of the 2017 and 2018 era, kops up to 1.14.
    pub fn legacy(kubernetes: &Version, kops: &Version) -> Self {
        Self::default().with_legacy(kubernetes, kops)
    }

    /// One release of today's era, kops from 1.32, with the components that it asks for.
    pub fn modern(kubernetes: &Version, kops: &Version) -> Self {
        Self::default().with_modern(kubernetes, kops)
    }

    #[must_use]
    pub fn with_legacy(mut self, kubernetes: &Version, kops: &Version) -> Self {
        legacy::add(&mut self, kubernetes, kops);
        self.released(kubernetes, kops);
        self
    }

    #[must_use]
    pub fn with_modern(self, kubernetes: &Version, kops: &Version) -> Self {
        let components = Components::asked_for_with(kubernetes);
        self.with_modern_and(kubernetes, kops, &components)
    }

    /// As [`Releases::with_modern`], with other versions of the components.
    #[must_use]
    pub fn with_modern_and(
        mut self,
        kubernetes: &Version,
        kops: &Version,
        components: &Components,
    ) -> Self {
        modern::add(&mut self, kubernetes, kops, components);
        self.released(kubernetes, kops);
        self
    }

    /// Every file by its canonical URL, in the order of the URLs.
    pub fn files(&self) -> impl Iterator<Item = (&Url, &Published)> {
        self.files.iter()
    }

    pub fn file(&self, url: &str) -> Option<&File> {
        let published = self.files.get(&Url::parse(url).ok()?)?;
        Some(&published.file)
    }

    /// What a file hashes to, by all functions: for a catalogue that carries digests, as kops does.
    pub fn digests(&self, url: &str) -> Option<Digests> {
        let file = self.file(url)?;
        Some(file.content.digests(&Algorithm::ALL))
    }

    /// The hosts that the files are on.
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.files.keys().filter_map(Url::host_str).collect()
    }

    /// Publishes everything on an origin at `/HOST/path`, and has GitHub's downloads redirected to URLs that expire.
    pub fn publish_on(&self, origin: &Origin) {
        for (url, published) in &self.files {
            let host = url.host_str().unwrap_or_default();
            origin.publish(format!("/{host}{}", url.path()), published.file.clone());
        }
        let expiry = Expiry {
            after: Some(GITHUB_EXPIRY),
            uses: None,
        };
        origin.order(
            "/github.com/*/releases/download/*",
            When::Always,
            Fault::RedirectSigned(expiry),
        );
    }

    /// Adds an asset with content of its own, and tells its digests.
    fn asset(&mut self, url: &str, real_length: u64) -> Digests {
        let name = Digest::of(Algorithm::Sha256, url.as_bytes());
        let seed = name
            .bytes()
            .iter()
            .take(8)
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        // Not a round length, so that the last piece of a transfer is a short one.
        let length = (real_length / self.divisor).max(1024) + seed % 1009;
        let content = Content::generated(seed, length);
        self.copy(url, &content);
        content.digests(&Algorithm::ALL)
    }

    /// Adds an asset with the content of another one.
    fn copy(&mut self, url: &str, content: &Content) {
        self.add(url, Kind::Asset, File::new(content.clone()));
    }

    fn sidecar(&mut self, url: &str, text: String) {
        self.add(url, Kind::Sidecar, File::text(text));
    }

    fn pointer(&mut self, url: &str, text: impl Into<String>) {
        self.add(url, Kind::Pointer, File::text(text));
    }

    fn add(&mut self, url: &str, kind: Kind, file: File) {
        let url = Url::parse(url).expect("canonical URLs are composed here");
        // What stores keep single-part tells its MD5, and Google's storage both of its hashes.
        let file = match url.host_str() {
            Some("kubeupv2.s3.amazonaws.com") => file.with_md5_etag(),
            Some("storage.googleapis.com" | "dl.k8s.io" | "artifacts.k8s.io") => {
                file.with_md5_etag().with_goog_hash()
            }
            Some("api.github.com") => file.with_content_type("application/json; charset=utf-8"),
            _ => file,
        };
        self.files.insert(url, Published { kind, file });
    }

    /// Notes two versions as released, and brings what points at versions up to date.
    fn released(&mut self, kubernetes: &Version, kops: &Version) {
        self.kubernetes.insert(kubernetes.clone());
        self.kops.insert(kops.clone());
        pointers::add(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Releases {
        Releases::default()
            .with_legacy(&Version::new(1, 8, 10), &Version::new(1, 8, 1))
            .with_modern(&Version::new(1, 34, 8), &Version::new(1, 36, 2))
    }

    fn text(releases: &Releases, url: &str) -> String {
        let file = releases.file(url).unwrap_or_else(|| panic!("{url}"));
        let bytes = file.content.read(0..file.content.length());
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_host_has_files_and_every_file_a_size_for_tests() {
        let releases = both();
        let hosts: Vec<&str> = releases.hosts().into_iter().collect();
        assert_eq!(
            hosts,
            [
                "api.github.com",
                "artifacts.k8s.io",
                "dl.k8s.io",
                "github.com",
                "kubeupv2.s3.amazonaws.com",
                "raw.githubusercontent.com",
                "storage.googleapis.com",
            ]
        );
        for (url, published) in releases.files() {
            let length = published.file.content.length();
            assert!((1..8 << 20).contains(&length), "{url} has {length} bytes");
        }
    }

    #[test]
    fn sidecars_have_the_form_that_their_publisher_uses() {
        let releases = both();
        let hex = |url: &str, algorithm| {
            let digests = releases.digests(url).unwrap_or_else(|| panic!("{url}"));
            digests.get(algorithm).unwrap().hex()
        };
        let nodeup = "https://artifacts.k8s.io/binaries/kops/1.36.2/linux/arm64/nodeup";
        let sha256 = hex(nodeup, Algorithm::Sha256);
        assert_eq!(
            text(&releases, &format!("{nodeup}.sha256")),
            format!("{sha256}\n")
        );

        let old = "https://kubeupv2.s3.amazonaws.com/kops/1.8.1/linux/amd64/nodeup";
        let sha1 = hex(old, Algorithm::Sha1);
        assert_eq!(text(&releases, &format!("{old}.sha1")), format!("{sha1}\n"));

        let containerd = "https://github.com/containerd/containerd/releases/download/v2.2.4/containerd-2.2.4-linux-amd64.tar.gz";
        let sha256 = hex(containerd, Algorithm::Sha256);
        assert_eq!(
            text(&releases, &format!("{containerd}.sha256sum")),
            format!("{sha256}  containerd-2.2.4-linux-amd64.tar.gz\n")
        );

        let runc = "https://github.com/opencontainers/runc/releases/download/v1.3.5";
        let list = text(&releases, &format!("{runc}/runc.sha256sum"));
        let sha256 = hex(&format!("{runc}/runc.arm64"), Algorithm::Sha256);
        assert!(
            list.starts_with("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"),
            "{list}"
        );
        assert!(
            list.contains(&format!("\n{sha256}  runc.arm64\n")),
            "{list}"
        );
        assert!(list.contains("\n-----BEGIN PGP SIGNATURE-----\n"), "{list}");

        let release = "https://dl.k8s.io/release/v1.34.8";
        let list = text(&releases, &format!("{release}/SHA256SUMS"));
        let sha256 = hex(
            &format!("{release}/bin/linux/amd64/kubelet"),
            Algorithm::Sha256,
        );
        assert!(
            list.contains(&format!("{sha256}  bin/linux/amd64/kubelet\n")),
            "{list}"
        );
        let sha256 = hex(
            &format!("{release}/bin/linux/arm64/kubelet"),
            Algorithm::Sha256,
        );
        let prefixed = format!("{sha256}  /workspace/src/k8s.io/kubernetes/_output/");
        assert!(list.contains(&prefixed), "{list}");
    }

    #[test]
    fn the_legacy_cni_archive_has_no_sidecar() {
        let releases = both();
        let cni: Vec<&str> = releases
            .files()
            .map(|(url, _)| url.path())
            .filter(|path| path.contains("network-plugins"))
            .collect();
        assert!(cni.len() >= 2);
        assert!(!cni.iter().any(|path| path.contains(".sha")), "{cni:?}");
    }

    #[test]
    fn copies_on_github_have_the_same_bytes() {
        let releases = both();
        assert_eq!(
            releases.digests("https://artifacts.k8s.io/binaries/kops/1.36.2/linux/amd64/nodeup"),
            releases.digests(
                "https://github.com/kubernetes/kops/releases/download/v1.36.2/nodeup-linux-amd64"
            ),
        );
    }

    #[test]
    fn pointers_lead_to_the_newest_stable_version() {
        let releases = both().with_modern(&Version::new(1, 34, 6), &Version::new(1, 36, 1));
        let base = "https://dl.k8s.io/release";
        assert_eq!(text(&releases, &format!("{base}/stable.txt")), "v1.34.8");
        assert_eq!(
            text(&releases, &format!("{base}/stable-1.34.txt")),
            "v1.34.8"
        );
        let api = "https://api.github.com/repos/kubernetes/kops/releases";
        let latest: serde_json::Value =
            serde_json::from_str(&text(&releases, &format!("{api}/latest"))).unwrap();
        assert_eq!(latest["tag_name"], "v1.36.2");
        let all: serde_json::Value = serde_json::from_str(&text(&releases, api)).unwrap();
        assert_eq!(all[0]["prerelease"], true);
        let tags: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["tag_name"])
            .collect();
        assert_eq!(tags, ["v1.37.0-alpha.1", "v1.36.2", "v1.36.1", "1.8.1"]);
    }
}
