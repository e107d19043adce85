//! Where a file that has public alternates is asked for, once its host was given other sources.

use kops_mirror::asset::{Asset, Role};
use kops_mirror::origin::{HostSettings, OriginSettings, Origins};

const CANONICAL: &str = "https://dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet";
const ALTERNATE: &str = "https://cdn.dl.k8s.io/release/v1.34.8/bin/linux/amd64/kubelet";

fn asked(moved: &[&str]) -> Vec<String> {
    let elsewhere = |host: &&str| {
        let settings = HostSettings {
            sources: vec![format!("http://127.0.0.1/{host}").parse().unwrap()],
            ..HostSettings::default()
        };
        ((*host).to_owned(), settings)
    };
    let origins = Origins::new(OriginSettings {
        hosts: moved.iter().map(elsewhere).collect(),
        ..OriginSettings::default()
    });
    let asset = Asset {
        key: "release/v1.34.8/bin/linux/amd64/kubelet".parse().unwrap(),
        canonical: CANONICAL.parse().unwrap(),
        alternates: vec![ALTERNATE.parse().unwrap()],
        witnesses: Vec::new(),
        unvouched: None,
        sidecars: Vec::new(),
        role: Role::File,
        arch: None,
        listed_by_kops: true,
    };
    let sources = origins.unwrap().sources_of(&asset);
    sources.iter().map(ToString::to_string).collect()
}

#[test]
fn alternates_of_a_host_that_was_redirected_are_not_asked_unless_they_were_too() {
    let path = "release/v1.34.8/bin/linux/amd64/kubelet";
    let (one, other) = (
        format!("http://127.0.0.1/dl.k8s.io/{path}"),
        format!("http://127.0.0.1/cdn.dl.k8s.io/{path}"),
    );
    assert_eq!(asked(&[]), [CANONICAL, ALTERNATE]);
    assert_eq!(asked(&["dl.k8s.io"]), [one.clone()]);
    assert_eq!(asked(&["dl.k8s.io", "cdn.dl.k8s.io"]), [one, other]);
}
