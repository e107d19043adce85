//! Lists what Kubernetes and kops published in 2017 and 2018: amd64, SHA-1, files in S3 and in Google's storage.

use semver::Version;

use super::{Releases, sidecar};

const MEGA: u64 = 1_000_000;

/// kops carries the SHA-1 of these; nobody publishes a sidecar.
const CNI: [&str; 3] = [
    "cni-07a8a28637e97b22eb8dfe710eeae1344f69d16e.tar.gz",
    "cni-0799f5732f2a11b329d9e3d51b9c8f2e3759f2ff.tar.gz",
    "cni-plugins-amd64-v0.6.0.tgz",
];

pub(super) fn add(releases: &mut Releases, kubernetes: &Version, kops: &Version) {
    kubernetes_files(releases, kubernetes);
    for name in CNI {
        let base = "https://storage.googleapis.com/kubernetes-release/network-plugins";
        releases.asset(&format!("{base}/{name}"), 16 * MEGA);
    }
    kops_files(releases, kops);
}

fn kubernetes_files(releases: &mut Releases, version: &Version) {
    let base = format!("https://storage.googleapis.com/kubernetes-release/release/v{version}");
    for (path, length) in [
        ("bin/linux/amd64/kubelet", 138 * MEGA),
        ("bin/linux/amd64/kubectl", 52 * MEGA),
        ("bin/darwin/amd64/kubectl", 51 * MEGA),
        ("bin/linux/amd64/kube-apiserver.tar", 194 * MEGA),
        ("bin/linux/amd64/kube-controller-manager.tar", 130 * MEGA),
        ("bin/linux/amd64/kube-scheduler.tar", 55 * MEGA),
        ("bin/linux/amd64/kube-proxy.tar", 95 * MEGA),
        ("kubernetes-manifests.tar.gz", MEGA),
    ] {
        with_sha1(releases, &format!("{base}/{path}"), length);
        if let Some(image) = path.strip_suffix(".tar") {
            releases.pointer(
                &format!("{base}/{image}.docker_tag"),
                format!("v{version}\n"),
            );
        }
    }
}

fn kops_files(releases: &mut Releases, version: &Version) {
    let base = format!("https://kubeupv2.s3.amazonaws.com/kops/{version}");
    for (path, length) in [
        ("linux/amd64/utils.tar.gz", 2 * MEGA),
        ("linux/amd64/nodeup", 42 * MEGA),
        ("linux/amd64/kops", 74 * MEGA),
        ("darwin/amd64/kops", 74 * MEGA),
        ("images/protokube.tar.gz", 90 * MEGA),
    ] {
        with_sha1(releases, &format!("{base}/{path}"), length);
    }
    // Tags had no "v" then.
    let github = format!("https://github.com/kubernetes/kops/releases/download/{version}");
    for os in ["linux", "darwin"] {
        let original = format!("{base}/{os}/amd64/kops");
        let original = releases
            .file(&original)
            .expect("added above")
            .content
            .clone();
        releases.copy(&format!("{github}/kops-{os}-amd64"), &original);
    }
}

fn with_sha1(releases: &mut Releases, url: &str, length: u64) {
    let digests = releases.asset(url, length);
    let sha1 = digests.sha1.expect("all digests are computed");
    releases.sidecar(&format!("{url}.sha1"), sidecar::bare(sha1));
}
