//! Lists what Kubernetes, kops and the makers of its components publish today: two architectures, SHA-256, many hosts.

use semver::Version;

use super::{Releases, sidecar};
use crate::digest::{Algorithm, Digest};

const MEGA: u64 = 1_000_000;
const ARCHES: [&str; 2] = ["amd64", "arm64"];

/// Paths in some lists of checksums begin where their files lay on the machine that built them.
const BAD_PREFIX: &str = "/workspace/src/k8s.io/kubernetes/_output/release-stage/client/";

/// The versions of what kops has nodes install besides Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Components {
    pub containerd: String,
    pub runc: String,
    pub cni_plugins: String,
    pub ecr_credential_provider: String,
    pub nerdctl: String,
    pub crictl: String,
}

impl Components {
    /// What kops 1.36.2 asks for with a version of Kubernetes.
    pub fn asked_for_with(kubernetes: &Version) -> Self {
        let is_recent = *kubernetes >= Version::new(1, 32, 0);
        let (containerd, cni_plugins) = if is_recent {
            ("2.2.4", "1.6.2")
        } else {
            ("1.7.32", "1.5.1")
        };
        Self {
            containerd: containerd.to_owned(),
            runc: "1.3.5".to_owned(),
            cni_plugins: cni_plugins.to_owned(),
            ecr_credential_provider: "1.31.7".to_owned(),
            nerdctl: "1.7.4".to_owned(),
            crictl: "1.29.0".to_owned(),
        }
    }
}

pub(super) fn add(
    releases: &mut Releases,
    kubernetes: &Version,
    kops: &Version,
    components: &Components,
) {
    kubernetes_files(releases, kubernetes);
    kops_files(releases, kops);
    ecr_credential_provider(releases, &components.ecr_credential_provider);
    containerd(releases, &components.containerd);
    runc(releases, &components.runc);
    cni_plugins(releases, &components.cni_plugins);
    nerdctl(releases, &components.nerdctl);
    crictl(releases, &components.crictl);
}

/// Per-file sidecars without a newline, and one list, some of whose lines have the bad prefix.
fn kubernetes_files(releases: &mut Releases, version: &Version) {
    let base = format!("https://dl.k8s.io/release/v{version}");
    let mut list = String::new();
    for arch in ARCHES {
        for (path, length) in [
            (format!("bin/linux/{arch}/kubelet"), 59 * MEGA),
            (format!("bin/linux/{arch}/kubectl"), 60 * MEGA),
            (format!("bin/darwin/{arch}/kubectl"), 61 * MEGA),
            (format!("bin/linux/{arch}/kube-apiserver.tar"), 90 * MEGA),
            (
                format!("bin/linux/{arch}/kube-controller-manager.tar"),
                76 * MEGA,
            ),
            (format!("bin/linux/{arch}/kube-scheduler.tar"), 54 * MEGA),
            (format!("bin/linux/{arch}/kube-proxy.tar"), 80 * MEGA),
        ] {
            let url = format!("{base}/{path}");
            let digests = releases.asset(&url, length);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = digests.get(algorithm).expect("all digests are computed");
                let text = sidecar::bare_without_newline(digest);
                releases.sidecar(&format!("{url}.{algorithm}"), text);
            }
            let prefix = if arch == "arm64" { BAD_PREFIX } else { "" };
            list += &sidecar::named(digests.sha256, &format!("{prefix}{path}"));
            if let Some(image) = path.strip_suffix(".tar") {
                releases.pointer(
                    &format!("{base}/{image}.docker_tag"),
                    format!("v{version}\n"),
                );
            }
        }
    }
    releases.sidecar(&format!("{base}/SHA256SUMS"), list);
}

/// Every file is on two hosts, with a sidecar on each.
fn kops_files(releases: &mut Releases, version: &Version) {
    let base = format!("https://artifacts.k8s.io/binaries/kops/{version}");
    let github = format!("https://github.com/kubernetes/kops/releases/download/v{version}");
    for (path, length) in kops_paths(version) {
        let url = format!("{base}/{path}");
        let digests = releases.asset(&url, length);
        let content = releases.file(&url).expect("added above").content.clone();
        let copy = format!("{github}/{}", github_name(&path));
        releases.copy(&copy, &content);
        for url in [url, copy] {
            releases.sidecar(&format!("{url}.sha256"), sidecar::bare(digests.sha256));
        }
    }
}

fn kops_paths(version: &Version) -> Vec<(String, u64)> {
    let mut paths = Vec::new();
    let minor = version.minor;
    for arch in ARCHES {
        let mut add = |path: String, length| paths.push((path, length));
        add(format!("linux/{arch}/nodeup"), 74 * MEGA);
        add(format!("linux/{arch}/kops"), 220 * MEGA);
        add(format!("darwin/{arch}/kops"), 224 * MEGA);
        if minor <= 35 {
            add(format!("linux/{arch}/channels"), 76 * MEGA);
        }
        if minor <= 36 {
            add(format!("linux/{arch}/protokube"), 72 * MEGA);
            add(format!("images/kops-utils-cp-{arch}.tar.gz"), 3 * MEGA);
        } else {
            add(format!("linux/{arch}/nodeup.xz"), 17 * MEGA);
        }
        if minor >= 36 {
            add(format!("images/kops-channels-{arch}.tar.gz"), 26 * MEGA);
        }
        for image in [
            "kops-controller",
            "dns-controller",
            "kube-apiserver-healthcheck",
        ] {
            add(format!("images/{image}-{arch}.tar.gz"), 28 * MEGA);
        }
    }
    paths
}

/// `linux/amd64/nodeup` is `nodeup-linux-amd64` there, and `images/x.tar.gz` is `images-x.tar.gz`.
fn github_name(path: &str) -> String {
    match path.split('/').collect::<Vec<_>>()[..] {
        [os, arch, file] => match file.split_once('.') {
            Some((name, extension)) => format!("{name}-{os}-{arch}.{extension}"),
            None => format!("{file}-{os}-{arch}"),
        },
        _ => path.replace('/', "-"),
    }
}

fn ecr_credential_provider(releases: &mut Releases, version: &str) {
    for arch in ARCHES {
        let url = format!(
            "https://artifacts.k8s.io/binaries/cloud-provider-aws/v{version}/linux/{arch}/ecr-credential-provider-linux-{arch}"
        );
        let digests = releases.asset(&url, 21 * MEGA);
        releases.sidecar(&format!("{url}.sha256"), sidecar::bare(digests.sha256));
    }
}

fn containerd(releases: &mut Releases, version: &str) {
    let base = format!("https://github.com/containerd/containerd/releases/download/v{version}");
    for arch in ARCHES {
        let name = format!("containerd-{version}-linux-{arch}.tar.gz");
        let url = format!("{base}/{name}");
        let digests = releases.asset(&url, 33 * MEGA);
        let text = sidecar::named(digests.sha256, &name);
        releases.sidecar(&format!("{url}.sha256sum"), text);
    }
}

/// One signed list for all architectures, also those that kops doesn't run on.
fn runc(releases: &mut Releases, version: &str) {
    let base = format!("https://github.com/opencontainers/runc/releases/download/v{version}");
    let other = |name: &str| Digest::of(Algorithm::Sha256, name.as_bytes());
    let mut entries = vec![(other("libseccomp"), "libseccomp-2.5.6.tar.gz".to_owned())];
    for arch in ARCHES {
        let name = format!("runc.{arch}");
        let digests = releases.asset(&format!("{base}/{name}"), 12 * MEGA);
        entries.push((digests.sha256, name));
    }
    entries.extend(["runc.armhf", "runc.tar.xz"].map(|name| (other(name), name.to_owned())));
    let list = sidecar::list(
        entries
            .iter()
            .map(|(digest, name)| (*digest, name.as_str())),
    );
    releases.sidecar(
        &format!("{base}/runc.sha256sum"),
        sidecar::clear_signed(&list),
    );
}

fn cni_plugins(releases: &mut Releases, version: &str) {
    let base =
        format!("https://github.com/containernetworking/plugins/releases/download/v{version}");
    for arch in ARCHES {
        let name = format!("cni-plugins-linux-{arch}-v{version}.tgz");
        let url = format!("{base}/{name}");
        let digests = releases.asset(&url, 52 * MEGA);
        releases.sidecar(
            &format!("{url}.sha256"),
            sidecar::named(digests.sha256, &name),
        );
    }
}

fn nerdctl(releases: &mut Releases, version: &str) {
    let base = format!("https://github.com/containerd/nerdctl/releases/download/v{version}");
    let mut list = String::new();
    for arch in ARCHES {
        let name = format!("nerdctl-{version}-linux-{arch}.tar.gz");
        let digests = releases.asset(&format!("{base}/{name}"), 10 * MEGA);
        list += &sidecar::named(digests.sha256, &name);
    }
    releases.sidecar(&format!("{base}/SHA256SUMS"), list);
}

fn crictl(releases: &mut Releases, version: &str) {
    let base = format!("https://github.com/kubernetes-sigs/cri-tools/releases/download/v{version}");
    for arch in ARCHES {
        let url = format!("{base}/crictl-v{version}-linux-{arch}.tar.gz");
        let digests = releases.asset(&url, 23 * MEGA);
        releases.sidecar(
            &format!("{url}.sha256"),
            sidecar::bare_without_newline(digests.sha256),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_github_put_the_platform_last() {
        for (path, expected) in [
            ("linux/arm64/nodeup", "nodeup-linux-arm64"),
            ("linux/arm64/nodeup.xz", "nodeup-linux-arm64.xz"),
            (
                "images/kops-controller-amd64.tar.gz",
                "images-kops-controller-amd64.tar.gz",
            ),
        ] {
            assert_eq!(github_name(path), expected);
        }
    }
}
