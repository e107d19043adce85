//! The release that is carried: files as a mirror of one Kubernetes and one kops version has them, made from seeds.

use kops_mirror::digest::Digest;
use kops_mirror::loopback::origin::{File, Origin};
use serde_json::json;

/// The host that the files' canonical URLs are of.
pub(crate) const HOST: &str = "dl.k8s.io";

/// The files of a release of both architectures, in kB: 215 MB in all.
const FILES: [(&str, u64); 24] = [
    ("bin/linux/amd64/kubelet", 30_000),
    ("bin/linux/arm64/kubelet", 26_000),
    ("bin/linux/amd64/kubectl", 20_000),
    ("bin/linux/arm64/kubectl", 16_000),
    ("bin/linux/amd64/nodeup", 48_000),
    ("bin/linux/arm64/nodeup", 14_000),
    ("bin/linux/amd64/containerd.tar.gz", 12_000),
    ("bin/linux/arm64/containerd.tar.gz", 10_000),
    ("bin/linux/amd64/cni-plugins.tgz", 8_000),
    ("bin/linux/arm64/cni-plugins.tgz", 6_000),
    ("bin/linux/amd64/runc", 5_000),
    ("bin/linux/arm64/runc", 4_000),
    ("bin/linux/amd64/crictl.tar.gz", 3_500),
    ("bin/linux/arm64/crictl.tar.gz", 3_000),
    ("bin/linux/amd64/ecr-credential-provider", 2_500),
    ("bin/linux/arm64/ecr-credential-provider", 2_000),
    ("bin/linux/amd64/protokube", 1_500),
    ("bin/linux/arm64/protokube", 1_000),
    ("bin/linux/amd64/channels", 800),
    ("bin/linux/arm64/channels", 600),
    ("bin/linux/amd64/mounter", 400),
    ("bin/linux/arm64/mounter", 300),
    ("bin/linux/amd64/utils.tar.gz", 200),
    ("bin/linux/arm64/utils.tar.gz", 200),
];

const ONE_LARGE_FILE: [(&str, u64); 1] = [("bin/linux/amd64/kubernetes.tar.gz", 200_000)];

/// Few and small, for a look whether it works.
const A_FEW: [(&str, u64); 4] = [
    ("bin/linux/amd64/kubelet", 600),
    ("bin/linux/arm64/kubelet", 300),
    ("bin/linux/amd64/kubectl", 100),
    ("bin/linux/arm64/kubectl", 50),
];

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    Release,
    OneLargeFile,
    AFew,
}

/// A file of the release.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) path: String,
    file: File,
    sha256: Digest,
    pub(crate) md5: Digest,
}

/// Files and their sidecars.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) files: Vec<Released>,
    /// Without the sidecars.
    pub(crate) bytes: u64,
}

impl Release {
    pub(crate) fn new(files: Files) -> Self {
        let list: &[(&str, u64)] = match files {
            Files::Release => &FILES,
            Files::OneLargeFile => &ONE_LARGE_FILE,
            Files::AFew => &A_FEW,
        };
        let make = |(seed, &(path, kilobytes)): (u64, &(&str, u64))| {
            let file = File::generated(seed, kilobytes * 1000);
            let digests = file.content.digests(&[]);
            Released {
                path: format!("release/v1.34.8/{path}"),
                file,
                sha256: digests.sha256,
                md5: digests.md5,
            }
        };
        Self {
            files: (1..).zip(list).map(make).collect(),
            bytes: list.iter().map(|(_, kilobytes)| kilobytes * 1000).sum(),
        }
    }

    pub(crate) fn publish(&self, origin: &Origin) {
        for released in &self.files {
            origin.publish(format!("/{}", released.path), released.file.clone());
            let sidecar = File::text(released.sha256.hex());
            origin.publish(format!("/{}.sha256", released.path), sidecar);
        }
    }

    /// One path a line.
    pub(crate) fn paths(&self) -> String {
        let lines = self.files.iter().map(|file| format!("{}\n", file.path));
        lines.collect()
    }

    /// The list of the files as `kops get assets -o json` prints it.
    pub(crate) fn list(&self) -> String {
        let files = self.files.iter().map(|file| {
            let url = format!("https://{HOST}/{}", file.path);
            json!({ "canonical": url, "download": url, "sha": file.sha256.hex() })
        });
        json!({ "files": files.collect::<Vec<_>>() }).to_string()
    }
}
