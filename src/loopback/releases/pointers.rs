//! Writes what says which versions there are: `stable.txt`, the kops channel, the list of GitHub releases.

use std::collections::BTreeSet;

use semver::{Prerelease, Version};
use serde_json::{Value, json};

use super::Releases;

/// Where Kubernetes is published since 1.27 of kops, and before.
const KUBERNETES: [&str; 2] = [
    "https://dl.k8s.io/release",
    "https://storage.googleapis.com/kubernetes-release/release",
];

pub(super) fn add(releases: &mut Releases) {
    stable(releases);
    channel(releases);
    github_releases(releases);
}

/// The newest version of all and of each minor, without a newline.
fn stable(releases: &mut Releases) {
    let versions = releases.kubernetes.clone();
    for base in KUBERNETES {
        // In rising order, so that the newest stays.
        for version in &versions {
            let (major, minor) = (version.major, version.minor);
            for name in ["stable".to_owned(), format!("stable-{major}.{minor}")] {
                releases.pointer(&format!("{base}/{name}.txt"), format!("v{version}"));
            }
        }
    }
}

/// The channel that kops reads on nearly every command.
fn channel(releases: &mut Releases) {
    let recommend = |version: &&Version| {
        json!({
            "range": format!(">={}.{}.0-alpha.1", version.major, version.minor),
            "recommendedVersion": version.to_string(),
        })
    };
    let versions = |newest_first: Vec<&Version>| -> Vec<Value> {
        newest_first.iter().map(recommend).collect()
    };
    let channel = json!({
        "spec": {
            "kubernetesVersions": versions(newest_first(&releases.kubernetes)),
            "kopsVersions": versions(newest_first(&releases.kops)),
        }
    });
    let text = serde_yaml_ng::to_string(&channel).expect("JSON can be written as YAML");
    let base = "https://raw.githubusercontent.com/kubernetes/kops/master/channels";
    releases.pointer(&format!("{base}/stable"), text);
}

/// Newest first; before all others a pre-release, which is not the latest release.
fn github_releases(releases: &mut Releases) {
    let stable = newest_first(&releases.kops);
    let Some(newest) = stable.first() else {
        return;
    };
    let mut coming = Version::new(newest.major, newest.minor + 1, 0);
    coming.pre = Prerelease::new("alpha.1").expect("it is well-formed");
    let latest = describe(newest);
    let all: Vec<Value> = [&coming].into_iter().chain(stable).map(describe).collect();
    let api = "https://api.github.com/repos/kubernetes/kops/releases";
    let documents = [
        (api.to_owned(), json!(all)),
        (format!("{api}/latest"), latest),
    ];
    for (url, document) in documents {
        releases.pointer(&url, document.to_string());
    }
}

fn newest_first(versions: &BTreeSet<Version>) -> Vec<&Version> {
    versions.iter().rev().collect()
}

fn describe(version: &Version) -> Value {
    // Tags have a "v" since 1.15.1.
    let v = if *version < Version::new(1, 15, 1) {
        ""
    } else {
        "v"
    };
    let tag = format!("{v}{version}");
    json!({
        "tag_name": tag,
        "name": tag,
        "draft": false,
        "prerelease": !version.pre.is_empty(),
        "html_url": format!("https://github.com/kubernetes/kops/releases/tag/{tag}"),
        "assets": [],
    })
}
