//! What kops and the nodes ask the mirror for, as recorded, without credentials: anything but 200 ends the update.

use serde_yaml_ng::Value;

use super::Call;
use super::documents::Documents;

/// What kops says when a digest can't be had.
const NOT_STAGED: &str =
    "you might have not staged your files correctly, please execute 'kops get assets --copy'";

impl Call {
    /// Asks for all of it.
    pub(crate) async fn ask(&self, documents: &Documents) -> Result<(), String> {
        let spec = &documents.cluster["spec"];
        let channel = spec["channel"].as_str().unwrap_or("stable");
        if !channel.contains("://") {
            return Err(format!(
                "error reading channel \"{channel}\": it is not in the mirror"
            ));
        }
        let mut wanted = vec![channel.to_owned()];
        match spec["assets"]["fileRepository"].as_str() {
            Some(repository) => wanted.extend(self.of_file_repository(spec, repository)),
            None => wanted.extend(self.of_base_url(spec)?),
        }
        for url in wanted {
            let answer = self
                .http
                .get(&url)
                .send()
                .await
                .map_err(|error| format!("{url}: {error}"))?;
            if !answer.status().is_success() {
                return Err(format!(
                    "unexpected response code \"{}\" for \"{url}\": {NOT_STAGED}",
                    answer.status()
                ));
            }
        }
        Ok(())
    }

    /// Mode A: digests of kops' own files, then what nodes of both architectures fetch below the repository.
    fn of_file_repository(&self, spec: &Value, repository: &str) -> Vec<String> {
        let repository = repository.trim_end_matches('/');
        let kubernetes = spec["kubernetesVersion"].as_str().unwrap_or_default();
        let kubernetes = kubernetes.trim_start_matches('v');
        let kops = &self.version;
        let mut wanted = Vec::new();
        for arch in ["amd64", "arm64"] {
            for file in ["nodeup", "protokube"] {
                let own = format!("{repository}/binaries/kops/{kops}/linux/{arch}/{file}");
                wanted.extend([format!("{own}.sha256"), own]);
            }
            for file in ["kubelet", "kubectl"] {
                wanted.push(format!(
                    "{repository}/release/v{kubernetes}/bin/linux/{arch}/{file}"
                ));
            }
        }
        wanted
    }

    /// Mode B: below KOPS_BASE_URL, and below Kubernetes' version where that is a URL.
    fn of_base_url(&self, spec: &Value) -> Result<Vec<String>, String> {
        let base = std::env::var("KOPS_BASE_URL").map_err(|_| {
            format!("cannot determine hash for https://kubeupv2.s3.amazonaws.com/kops/{}: KOPS_BASE_URL is not set", self.version)
        })?;
        let base = base.trim_end_matches('/');
        let kubernetes = spec["kubernetesVersion"].as_str().unwrap_or_default();
        let hash = if self.minor < 17 { "sha1" } else { "sha256" };
        let mut wanted = vec![
            format!("{base}/linux/amd64/nodeup.{hash}"),
            format!("{base}/linux/amd64/nodeup"),
        ];
        if self.minor < 9 {
            wanted.push(format!("{base}/linux/amd64/utils.tar.gz.{hash}"));
            wanted.push(format!("{base}/linux/amd64/utils.tar.gz"));
            wanted.push(format!("{base}/images/protokube.tar.gz.{hash}"));
        }
        if kubernetes.contains("://") {
            let release = format!("{kubernetes}/bin/linux/amd64");
            for file in ["kubelet", "kubectl"] {
                wanted.extend([
                    format!("{release}/{file}.{hash}"),
                    format!("{release}/{file}"),
                ]);
            }
            for image in [
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
            ] {
                wanted.push(format!("{release}/{image}.docker_tag"));
            }
            wanted.push(format!("{release}/kube-proxy.tar"));
        }
        if let Ok(cni) = std::env::var("CNI_VERSION_URL") {
            wanted.push(cni);
        }
        Ok(wanted)
    }
}
