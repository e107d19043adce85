//! A whole place for a cluster: a mirror that has everything, a state store in moto, and a program that stands for kops.

use std::path::PathBuf;

use kops_mirror::cluster::ClusterFile;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::index::{Entry, ImageEntry, Index, Release};

use super::ami_build::Yard;
use super::ami_command::command;
use super::overlay::program;
use super::world::CHINA;
use crate::support::program::finish;

pub(super) const CLUSTER: &str = "prod.k8s.local";

/// What a command came to.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

pub(super) struct Ground {
    pub(super) yard: Yard,
    pub(super) bucket: String,
}

impl Ground {
    /// With this under `image:` in the cluster's file.
    pub(super) async fn open(image: &str) -> Option<Self> {
        let yard = Yard::open().await?;
        let bucket = format!("state-{}", yard.world.overlay.account_key().to_lowercase());
        yard.world.overlay.make_bucket(&bucket, CHINA).await;
        let place = Self { yard, bucket };
        place.write_kops();
        place.write_file(image, "1.34.8");
        place.write_mirror();
        Some(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.yard.path(name)
    }

    /// For [`Ground::open`]: the image of the yard, built by ssh.
    pub(super) fn build_of(yard: &Yard) -> String {
        format!(
            "build: {{base: {}, name: {}, subnet: {}, privateKey: {}, script: {}}}",
            super::world::UBUNTU_CHINA,
            super::ami_build::NAME,
            yard.subnet,
            yard.path("key.pem").display(),
            yard.path("harden.sh").display()
        )
    }

    pub(super) fn write_file(&self, image: &str, kubernetes: &str) {
        let text = format!(
            "apiVersion: kops-mirror/v1\nname: {CLUSTER}\nregion: {CHINA}\nprofile: china\nkopsVersion: 1.36.2\n\
             kubernetesVersion: v{kubernetes}\nmirror: {{at: {}, url: \"https://mirror.example.cn/k8s\"}}\n\
             stateStore: {{bucket: {}}}\nnetwork: {{}}\nimage: {{{image}}}\n\
             controlPlane: {{zones: [cn-north-1a], machineType: m5.large}}\n\
             nodes: [{{name: nodes, machineType: m5.large, min: 1}}]\nnetworking: cilium\nacknowledge: [P20]\n",
            self.path("mirror").display(),
            self.bucket
        );
        std::fs::write(self.path("cluster.yaml"), text).unwrap();
    }

    fn file(&self) -> ClusterFile {
        let text = std::fs::read_to_string(self.path("cluster.yaml")).unwrap();
        ClusterFile::parse(&text).unwrap()
    }

    /// Every file and image that the cluster will ask for, for each of two releases of Kubernetes; what they hold is nobody's business here.
    pub(super) fn write_mirror(&self) {
        let file = self.file();
        let content = b"content";
        let digest = |algorithm| Digest::of(algorithm, content);
        let mut entries = Vec::new();
        for asset in file.files().unwrap().assets {
            let path = self.path("mirror").join(asset.key.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
            entries.push(Entry {
                key: asset.key,
                length: content.len() as u64,
                md5: digest(Algorithm::Md5),
                sha256: digest(Algorithm::Sha256),
                sha1: None,
                sha512: None,
                canonical: "https://example.com/x".to_owned(),
                sources: Vec::new(),
                vouched_by: vec!["tests".to_owned()],
                sidecars: Vec::new(),
            });
        }
        let images = file.images().unwrap().into_iter();
        let images = images.map(|image| ImageEntry {
            image: image.parse().unwrap(),
            digest: digest(Algorithm::Sha256),
            at: Vec::new(),
        });
        let release = Release {
            name: format!("kubernetes-{}", file.kubernetes_version),
            images: images.collect(),
            ..Release::default()
        };
        let index = Index::of(release, entries, Vec::new(), None);
        let path = self.path("mirror").join(index.release.key().as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, serde_json::to_vec(&index).unwrap()).unwrap();
        let channel = self.path("mirror/kubernetes/kops/master/channels/stable");
        std::fs::create_dir_all(channel.parent().unwrap()).unwrap();
        std::fs::write(channel, "spec: {}").unwrap();
    }

    /// It keeps what it is given beside the real thing, and each kind of call fails when it is told so.
    fn write_kops(&self) {
        let dir = self.yard.world.dir.path().display();
        let text = format!(
            r#"#!/bin/sh
echo "$*" >>{dir}/kops.calls
case $KOPS_STATE_STORE in file://*) kept=$HOME/../cluster ;; *) kept={dir}/cluster ;; esac
case $1 in get) [ -e "$kept" ] || kept={dir}/cluster ;; esac
[ -e "{dir}/kops-$1-fails" ] && {{ case $KOPS_STATE_STORE in s3://*) echo "Error: $1 went wrong" >&2; exit 1 ;; esac; }}
case $1 in
version) echo 'Client version: 1.36.2 (git-v1.36.2)' ;;
get)
  [ -e "$kept" ] || {{ echo 'Error: cluster not found' >&2; exit 1; }}
  case $2 in
  cluster) awk '/^---$/ {{ exit }} {{ print }}' "$kept" ;;
  ig) awk 'seen {{ print }} /^---$/ {{ seen = 1 }}' "$kept" ;;
  *) echo 'Error: you might have not staged your files correctly' >&2; exit 1 ;;
  esac ;;
replace) cp "$4" "$kept" ;;
update)
  if [ "$4" = --yes ]; then touch {dir}/updated; fi
  if [ -e {dir}/updated ]; then echo 'No changes need to be applied'; else echo 'Will create resources'; fi ;;
reconcile) touch {dir}/updated ;;
export) echo "{{}}" >"$KUBECONFIG" ;;
delete)
  if [ "$4" = --yes ]; then rm -f "$kept" {dir}/updated; else echo 'TYPE NAME ID'; echo 'vpc prod vpc-1'; fi ;;
esac
"#
        );
        program(&self.path("bin/kops"), &text);
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.path("cluster").exists()
    }

    pub(super) fn kops_calls(&self) -> String {
        std::fs::read_to_string(self.path("kops.calls")).unwrap_or_default()
    }

    /// `provision VERB -f cluster.yaml …`
    pub(super) fn command(&self, words: &str) -> std::process::Command {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let path = |name: &str| self.path(name).display().to_string();
        let words = format!(
            "provision {verb} -f {} --folder {} --kops {} {rest}",
            path("cluster.yaml"),
            path("work"),
            path("bin/kops")
        );
        let mut command = command(&self.yard.world, &words);
        command.env("KOPS_MIRROR_SSH", self.path("bin/ssh"));
        command
    }

    pub(super) async fn run(&self, words: &str) -> Said {
        let output = finish(self.command(words)).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// As [`Ground::run`], where it must end well.
    pub(super) async fn done(&self, words: &str) -> Said {
        let said = self.run(words).await;
        assert_eq!(said.code, Some(0), "{words}: {}\n{}", said.out, said.err);
        said
    }

    pub(super) fn journal(&self) -> String {
        std::fs::read_to_string(self.path("work/state.json")).unwrap_or_default()
    }
}
