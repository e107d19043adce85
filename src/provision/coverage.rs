//! Whether the mirror has what the cluster will ask for, verified: nodes that miss one file loop for hours.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::remedy::Remedy;
use crate::asset::{Asset, Key};
use crate::audit::Audit;
use crate::catalogue::CatalogueError;
use crate::catalogue::listing::{Listing, ListingError};
use crate::cluster::ClusterFile;
use crate::image::{BadReference, Naming, Reference};
use crate::index::{ImageEntry, Index};
use crate::layout::Layout;

/// Why something can't be had that was not mirrored.
const NOWHERE: &str = "no complete release has it";

/// What a cluster will ask for, and what of it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub files: usize,
    pub images: usize,
    /// Whether images are for a proxy to fetch, which is not looked at.
    #[serde(default)]
    pub is_left_to_proxy: bool,
    pub uncovered: Vec<Uncovered>,
    /// What brings them; a plan of an older kops-mirror has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

/// Something that a node or kops will ask for in vain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uncovered {
    /// The key, or the image's name.
    pub what: String,
    pub why: String,
}

impl Coverage {
    pub fn is_whole(&self) -> bool {
        self.uncovered.is_empty()
    }

    /// Takes in what another list says that can't be had.
    pub fn add_uncovered(&mut self, more: Vec<Uncovered>) {
        self.uncovered.extend(more);
        self.uncovered.sort();
        self.uncovered.dedup();
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, images) = (self.files, self.images);
        if self.is_whole() {
            write!(
                f,
                "{files} files and {images} images, all there and verified"
            )?;
        } else {
            write!(
                f,
                "{} of {files} files and {images} images can't be had:",
                self.uncovered.len()
            )?;
        }
        for one in &self.uncovered {
            write!(f, "\n  {}: {}", one.what, one.why)?;
        }
        if self.is_left_to_proxy {
            f.write_str(
                "\n  no release says that images were mirrored to registry.containerProxy: it has to fetch them itself",
            )?;
        }
        match &self.remedy {
            Some(remedy) if !self.is_whole() => {
                write!(f, "\n  To bring what this cluster asks for:\n    {remedy}")
            }
            _ => Ok(()),
        }
    }
}

/// The files that a cluster will ask for, held against an audit of the mirror.
pub fn of_files(wanted: &[Asset], audit: &Audit) -> Coverage {
    let keys: Vec<_> = wanted.iter().map(|asset| &asset.key).collect();
    Coverage {
        files: wanted.len(),
        uncovered: uncovered(&keys, audit),
        ..Coverage::default()
    }
}

fn uncovered(keys: &[&Key], audit: &Audit) -> Vec<Uncovered> {
    let indexed: BTreeSet<&Key> = audit
        .indexes()
        .iter()
        .flat_map(|index| index.files.iter().chain(&index.pointers))
        .map(|entry| &entry.key)
        .collect();
    let mut uncovered = Vec::new();
    for key in keys {
        let why = match (indexed.contains(key), audit.findings.get(*key)) {
            (_, Some(finding)) => finding.to_string(),
            (true, None) => continue,
            (false, None) => NOWHERE.to_owned(),
        };
        let what = key.to_string();
        uncovered.push(Uncovered { what, why });
    }
    uncovered
}

/// What kops itself lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub uncovered: Vec<Uncovered>,
    /// The hosts other than the mirror's that files come from all the same.
    pub elsewhere: BTreeSet<String>,
}

/// What `kops get assets` prints, held against an audit of the mirror, which nodes read at `base`. With KOPS_BASE_URL kops takes addresses in
/// the mirror for the files' own.
pub fn of_listing(
    text: &str,
    layout: Layout,
    base: &Url,
    audit: &Audit,
) -> Result<Listed, ListingError> {
    let (keys, elsewhere) = keys_of(&Listing::parse(text)?, layout, base)?;
    let keys: Vec<_> = keys.iter().collect();
    Ok(Listed {
        uncovered: uncovered(&keys, audit),
        elsewhere,
    })
}

/// Where a list's files are in the mirror, and the other hosts that they come from.
fn keys_of(
    listing: &Listing,
    layout: Layout,
    base: &Url,
) -> Result<(Vec<Key>, BTreeSet<String>), ListingError> {
    let base = format!("{}/", base.as_str().trim_end_matches('/'));
    let in_mirror = |url: &str| url.strip_prefix(&base).and_then(|key| key.parse().ok());
    let (mut keys, mut elsewhere) = (Vec::<Key>::new(), BTreeSet::new());
    let mut canonical = Listing::default();
    for file in &listing.files {
        if !file.download.starts_with(&base) {
            let host = Url::parse(&file.download).ok();
            elsewhere.extend(host.and_then(|url| url.host_str().map(str::to_owned)));
        }
        match in_mirror(&file.canonical) {
            Some(key) => keys.push(key),
            None => canonical.files.push(file.clone()),
        }
    }
    if keys.is_empty() || !canonical.files.is_empty() {
        let assets = canonical.assets(layout)?;
        keys.extend(assets.into_iter().map(|asset| asset.key));
    }
    Ok((keys, elsewhere))
}

/// What is missing where kops' channel is to be in the mirror, at this key, and is not.
pub fn of_channel(channel: &Key, audit: &Audit) -> Option<Uncovered> {
    let is_missing = !audit.holds(channel);
    is_missing.then(|| Uncovered {
        what: channel.to_string(),
        why: "kops reads its channel there, unless mirror.channel names another".to_owned(),
    })
}

/// The images that a cluster will ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// How many have to have been mirrored.
    pub mirrored: usize,
    /// Whether they are left to a proxy to fetch.
    pub is_left_to_proxy: bool,
    /// Those that have to have been mirrored, and that no index of the mirror has.
    pub uncovered: Vec<Uncovered>,
}

/// The images that it will ask for, held against the mirror's indexes. `containerRegistry` has what was mirrored there and nothing else;
/// `containerProxy` may be a registry that fetches by itself, and is taken for one unless an index says that images were mirrored to it.
pub fn of_images(file: &ClusterFile, indexes: &[Index]) -> Result<Images, ImagesError> {
    let entries = || indexes.iter().flat_map(|index| &index.release.images);
    let proxy = file.registry.container_proxy.as_ref();
    if proxy.is_some_and(|proxy| !entries().any(|entry| is_at(entry, proxy))) {
        return Ok(Images {
            is_left_to_proxy: true,
            ..Images::default()
        });
    }
    let known: BTreeSet<&Reference> = entries().map(|entry| &entry.image).collect();
    let names = file.images()?;
    let mut images = Images {
        mirrored: names.len(),
        ..Images::default()
    };
    for name in names {
        if !known.contains(&name.parse::<Reference>()?) {
            images.uncovered.push(Uncovered {
                what: name,
                why: NOWHERE.to_owned(),
            });
        }
    }
    Ok(images)
}

/// Whether an image was mirrored to this proxy, under the name that kops has for it there.
fn is_at(entry: &ImageEntry, proxy: &str) -> bool {
    let Ok(repository) = Naming::ContainerProxy.repository(&entry.image) else {
        return false;
    };
    let name = format!("{}/{repository}", proxy.trim_end_matches('/'));
    // With a tag or a digest behind it.
    let is_of = |at: &String| {
        let rest = at.strip_prefix(&name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
    };
    entry.at.iter().any(is_of)
}

/// Why it can't be said which images a cluster asks for.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Reference(#[from] BadReference),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::index::Release;

    #[test]
    fn what_kops_lists_is_found_by_its_address_in_the_mirror_or_by_its_own() {
        const KUBELET: &str = "https://dl.k8s.io/release/v1.35.5/bin/linux/amd64/kubelet";
        let file = |canonical: &str, download: &str| {
            format!("- {{canonical: \"{canonical}\", download: \"{download}\", sha: \"\"}}\n")
        };
        let keys_of = |files: &[String], layout| {
            let listing = Listing::parse(&format!("files:\n{}", files.concat())).unwrap();
            let base = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s".parse();
            let (keys, elsewhere) = keys_of(&listing, layout, &base.unwrap()).unwrap();
            let keys: Vec<_> = keys.iter().map(Key::to_string).collect();
            (keys, elsewhere.into_iter().collect::<Vec<_>>())
        };
        let mirrored = "https://s3.cn-north-1.amazonaws.com.cn/mirror/k8s/";
        // spec.assets.fileRepository: the files' own addresses, and where they are in the mirror.
        let download = format!("{mirrored}release/v1.35.5/bin/linux/amd64/kubelet");
        let found = keys_of(&[file(KUBELET, &download)], Layout::FileRepository);
        assert_eq!(
            found,
            (
                vec!["release/v1.35.5/bin/linux/amd64/kubelet".to_owned()],
                vec![]
            )
        );
        // KOPS_BASE_URL: addresses in the mirror, and others that it does not redirect.
        let nodeup = format!("{mirrored}kops/1.36.2/linux/amd64/nodeup");
        let runc = "https://github.com/opencontainers/runc/releases/download/v1.3.5/runc.amd64";
        let files = [file(&nodeup, &nodeup), file(runc, runc)];
        let (keys, elsewhere) = keys_of(&files, Layout::Offline);
        assert_eq!(keys.first().unwrap(), "kops/1.36.2/linux/amd64/nodeup");
        assert_eq!(keys.len(), 2);
        assert_eq!(elsewhere, ["github.com"]);
    }

    #[test]
    fn a_proxy_fetches_what_was_not_mirrored_to_it() {
        const FILE: &str = include_str!("../../config/cluster.example.yaml");
        const REGISTRY: &str =
            "containerRegistry: 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/k8s";
        let file = |registry: &str| {
            assert!(FILE.contains(REGISTRY));
            ClusterFile::parse(&FILE.replace(REGISTRY, registry)).unwrap()
        };
        let indexes = |at: &str| {
            let digest = Digest::of(Algorithm::Sha256, b"");
            let image = ImageEntry {
                image: "registry.k8s.io/pause:3.10.1".parse().unwrap(),
                digest,
                at: vec![at.to_owned()],
            };
            let release = Release::default();
            let mut index = Index::of(release, Vec::new(), Vec::new(), None);
            index.release.images.push(image);
            vec![index]
        };
        let of = |registry: &str, at: &str| of_images(&file(registry), &indexes(at)).unwrap();
        let elsewhere = "registry.example.cn/k8s/pause:3.10.1";
        let mirrored = of(REGISTRY, elsewhere);
        assert!(!mirrored.is_left_to_proxy);
        assert!(mirrored.mirrored > 5);
        assert!(mirrored.uncovered.iter().all(|one| one.why == NOWHERE));
        // All but the one that an index has.
        assert_eq!(mirrored.uncovered.len(), mirrored.mirrored - 1);
        // A proxy of which no index knows: the path that images were mirrored to is not that of its names.
        let proxy = "containerProxy: registry.example.cn";
        let left = of(proxy, elsewhere);
        assert_eq!((left.mirrored, left.uncovered.len()), (0, 0));
        assert!(left.is_left_to_proxy);
        let coverage = Coverage {
            is_left_to_proxy: left.is_left_to_proxy,
            ..Coverage::default()
        };
        assert!(coverage.is_whole());
        let told = coverage.to_string();
        assert!(
            told.contains("registry.containerProxy: it has to fetch them itself"),
            "{told}"
        );
        // One that is a registry like another.
        let proxied = of(proxy, "registry.example.cn/pause:3.10.1");
        assert_eq!(proxied, mirrored);
    }

    #[test]
    fn what_brings_it_is_said_once_and_only_where_something_is_missing() {
        let file = ClusterFile::parse(include_str!("../../config/cluster.example.yaml")).unwrap();
        let mut coverage = Coverage {
            files: 2,
            remedy: Some(Remedy::of(&file, true)),
            ..Coverage::default()
        };
        assert_eq!(
            coverage.to_string(),
            "2 files and 0 images, all there and verified"
        );
        let missing = |what: &str| Uncovered {
            what: what.to_owned(),
            why: NOWHERE.to_owned(),
        };
        coverage.add_uncovered(vec![missing("one"), missing("other")]);
        let told = coverage.to_string();
        assert_eq!(told.matches("kops-mirror sync").count(), 1, "{told}");
        assert!(told.lines().all(|line| line.len() <= 110), "{told}");
        let unlined = told.replace(" \\\n     ", "");
        assert!(
            unlined.contains(
                "kops-mirror sync --kops 1.36.2 --kubernetes v1.35.5 --networking cilium"
            ),
            "{unlined}"
        );
    }
}
