use super::*;
use crate::asset::{Role, Voucher};

fn selection(kops: &str, kubernetes: &str) -> Selection {
    let kops = version::kops(kops).unwrap();
    let mut selection = Selection::new(kops, vec![version::kubernetes(kubernetes).unwrap()]);
    selection.clients = false;
    selection.pointers = false;
    selection
}

fn with_networking(kops: &str, kubernetes: &str, networking: &str) -> Selection {
    let mut selection = selection(kops, kubernetes);
    selection.networking = Some(networking.to_owned());
    selection
}

fn assets(selection: &Selection) -> Vec<Asset> {
    Catalogue::builtin().assets(selection).unwrap().assets
}

fn urls(selection: &Selection) -> Vec<String> {
    let assets = assets(selection);
    assets.iter().map(|a| a.canonical.to_string()).collect()
}

fn keys(selection: &Selection) -> Vec<String> {
    let assets = assets(selection);
    assets.iter().map(|a| a.key.to_string()).collect()
}

fn known(asset: &Asset) -> Option<String> {
    asset
        .witnesses
        .iter()
        .flatten()
        .find_map(|voucher| match voucher {
            Voucher::Carried { digest, .. } => Some(digest.to_string()),
            _ => None,
        })
}

/// For each architecture, the lines with it in the place of `{}`.
fn for_both(lines: &[&str]) -> Vec<String> {
    let archs = ["amd64", "arm64"];
    let mut expected: Vec<_> = archs
        .iter()
        .flat_map(|arch| lines.iter().map(|line| line.replace("{}", arch)))
        .collect();
    expected.sort();
    expected
}

fn sorted(mut urls: Vec<String>) -> Vec<String> {
    urls.sort();
    urls
}

#[test]
fn kops_1_36_2_lists_the_14_files_that_it_listed_when_run_in_its_order() {
    let expected = for_both(&[
        "https://artifacts.k8s.io/binaries/cloud-provider-aws/v1.31.7/linux/{}/ecr-credential-provider-linux-{}",
        "https://artifacts.k8s.io/binaries/kops/1.36.2/linux/{}/nodeup",
        "https://artifacts.k8s.io/binaries/kops/1.36.2/linux/{}/protokube",
        "https://dl.k8s.io/release/v1.34.8/bin/linux/{}/kubectl",
        "https://dl.k8s.io/release/v1.34.8/bin/linux/{}/kubelet",
        "https://github.com/containerd/containerd/releases/download/v2.2.4/containerd-2.2.4-linux-{}.tar.gz",
        "https://github.com/opencontainers/runc/releases/download/v1.3.5/runc.{}",
    ]);
    assert_eq!(urls(&selection("1.36.2", "v1.34.8")), expected);
    assert_eq!(expected.len(), 14);
}

#[test]
fn kops_1_36_2_adds_cni_plugins_nerdctl_and_crictl_as_the_cluster_asks() {
    let mut asked = with_networking("1.36.2", "1.31.0", "flannel");
    asked.options = vec![ClusterOption::InstallNerdctl, ClusterOption::InstallCrictl];
    let listed = urls(&asked);
    for added in [
        "https://github.com/containernetworking/plugins/releases/download/v1.5.1/cni-plugins-linux-amd64-v1.5.1.tgz",
        "https://github.com/containerd/nerdctl/releases/download/v1.7.4/nerdctl-1.7.4-linux-arm64.tar.gz",
        "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.29.0/crictl-v1.29.0-linux-amd64.tar.gz",
        "https://github.com/containerd/containerd/releases/download/v1.7.32/containerd-1.7.32-linux-amd64.tar.gz",
    ] {
        assert!(listed.contains(&added.to_owned()), "{added}");
    }
    assert_eq!(listed.len(), 20);
    asked.options = vec![ClusterOption::SkipRuntime];
    assert_eq!(urls(&asked).len(), 12);
}

#[test]
fn cni_plugins_are_left_out_for_those_who_bring_their_own_since_1_32_only() {
    let has_cni = |kops: &str, kubernetes: &str, networking: &str| {
        let listed = urls(&with_networking(kops, kubernetes, networking));
        listed.iter().any(|url| url.contains("cni-plugins"))
    };
    for networking in ["amazonvpc", "calico", "cilium"] {
        assert!(!has_cni("1.36.2", "1.34.8", networking));
        assert!(!has_cni("1.32.0", "1.32.0", networking));
        assert!(has_cni("1.31.0", "1.31.0", networking));
        assert!(has_cni("1.28.7", "1.28.7", networking));
    }
    for networking in ["flannel", "kindnet", "kubenet", "cni", "kube-router"] {
        assert!(has_cni("1.36.2", "1.34.8", networking));
    }
    assert!(!has_cni("1.10.1", "1.10.12", "classic"));
}

#[test]
fn the_seeds_recipe_for_1_8_1_stands_as_its_script_laid_it_out() {
    let expected = [
        "kubernetes/release/v1.8.4/bin/linux/amd64/kubelet",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kubectl",
        "kubernetes/network-plugins/cni-0799f5732f2a11b329d9e3d51b9c8f2e3759f2ff.tar.gz",
        "kops/1.8.1/linux/amd64/utils.tar.gz",
        "kops/1.8.1/linux/amd64/nodeup",
        "kops/1.8.1/images/protokube.tar.gz",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-apiserver.tar",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-controller-manager.tar",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-proxy.tar",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-scheduler.tar",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-apiserver.docker_tag",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-controller-manager.docker_tag",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-proxy.docker_tag",
        "kubernetes/release/v1.8.4/bin/linux/amd64/kube-scheduler.docker_tag",
    ];
    assert_eq!(keys(&with_networking("1.8.1", "1.8.4", "weave")), expected);
}

#[test]
fn the_seeds_cni_archive_has_the_sha1_that_kops_carries_and_no_other_witness() {
    let assets = assets(&with_networking("1.8.1", "1.8.4", "weave"));
    let cni = assets
        .iter()
        .find(|a| a.key.as_str().contains("cni-0799"))
        .unwrap();
    assert_eq!(cni.witnesses.len(), 1);
    assert_eq!(
        known(cni).unwrap(),
        "sha1:1d9788b0f5420e1a219aad2cb8681823fc515e7c"
    );
}

#[test]
fn kops_1_10_1_lists_six_files_for_amd64() {
    assert_eq!(
        urls(&with_networking("1.10.1", "1.10.12", "calico")),
        [
            "https://storage.googleapis.com/kubernetes-release/release/v1.10.12/bin/linux/amd64/kubelet",
            "https://storage.googleapis.com/kubernetes-release/release/v1.10.12/bin/linux/amd64/kubectl",
            "https://storage.googleapis.com/kubernetes-release/network-plugins/cni-plugins-amd64-v0.6.0.tgz",
            "https://kubeupv2.s3.amazonaws.com/kops/1.10.1/linux/amd64/utils.tar.gz",
            "https://kubeupv2.s3.amazonaws.com/kops/1.10.1/linux/amd64/nodeup",
            "https://kubeupv2.s3.amazonaws.com/kops/1.10.1/images/protokube.tar.gz",
        ]
    );
}

#[test]
fn kops_1_21_lists_binaries_and_dockers_archive_as_the_arm64_containerd() {
    let expected = [
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/amd64/channels",
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/amd64/nodeup",
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/amd64/protokube",
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/arm64/channels",
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/arm64/nodeup",
        "https://artifacts.k8s.io/binaries/kops/1.21.5/linux/arm64/protokube",
        "https://download.docker.com/linux/static/stable/aarch64/docker-20.10.11.tgz",
        "https://github.com/containerd/containerd/releases/download/v1.4.12/cri-containerd-cni-1.4.12-linux-amd64.tar.gz",
        "https://storage.googleapis.com/k8s-artifacts-cni/release/v0.8.7/cni-plugins-linux-amd64-v0.8.7.tgz",
        "https://storage.googleapis.com/k8s-artifacts-cni/release/v0.8.7/cni-plugins-linux-arm64-v0.8.7.tgz",
        "https://storage.googleapis.com/kubernetes-release/release/v1.21.14/bin/linux/amd64/kubectl",
        "https://storage.googleapis.com/kubernetes-release/release/v1.21.14/bin/linux/amd64/kubelet",
        "https://storage.googleapis.com/kubernetes-release/release/v1.21.14/bin/linux/arm64/kubectl",
        "https://storage.googleapis.com/kubernetes-release/release/v1.21.14/bin/linux/arm64/kubelet",
    ];
    assert_eq!(sorted(urls(&selection("1.21.5", "1.21.14"))), expected);
}

#[test]
fn kops_1_28_7_lists_the_channels_binary_and_cni_from_the_old_bucket() {
    let expected = for_both(&[
        "https://artifacts.k8s.io/binaries/cloud-provider-aws/v1.27.1/linux/{}/ecr-credential-provider-linux-{}",
        "https://artifacts.k8s.io/binaries/kops/1.28.7/linux/{}/channels",
        "https://artifacts.k8s.io/binaries/kops/1.28.7/linux/{}/nodeup",
        "https://artifacts.k8s.io/binaries/kops/1.28.7/linux/{}/protokube",
        "https://dl.k8s.io/release/v1.28.7/bin/linux/{}/kubectl",
        "https://dl.k8s.io/release/v1.28.7/bin/linux/{}/kubelet",
        "https://github.com/containerd/containerd/releases/download/v1.7.16/containerd-1.7.16-linux-{}.tar.gz",
        "https://github.com/opencontainers/runc/releases/download/v1.1.12/runc.{}",
        "https://storage.googleapis.com/k8s-artifacts-cni/release/v1.2.0/cni-plugins-linux-{}-v1.2.0.tgz",
    ]);
    assert_eq!(sorted(urls(&selection("1.28.7", "1.28.7"))), expected);
}

#[test]
fn kops_1_37_has_no_protokube_but_a_compressed_nodeup_in_a_file_repository() {
    let expected = for_both(&[
        "https://artifacts.k8s.io/binaries/cloud-provider-aws/v1.31.7/linux/{}/ecr-credential-provider-linux-{}",
        "https://artifacts.k8s.io/binaries/kops/1.37.0-alpha.1/linux/{}/nodeup",
        "https://artifacts.k8s.io/binaries/kops/1.37.0-alpha.1/linux/{}/nodeup.xz",
        "https://dl.k8s.io/release/v1.36.0/bin/linux/{}/kubectl",
        "https://dl.k8s.io/release/v1.36.0/bin/linux/{}/kubelet",
        "https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-2.3.4-linux-{}.tar.gz",
        "https://github.com/opencontainers/runc/releases/download/v1.4.3/runc.{}",
    ]);
    let mut asked = selection("1.37.0-alpha.1", "1.36.0");
    assert_eq!(urls(&asked), expected);
    asked.options = vec![ClusterOption::CiliumPortmap];
    assert_eq!(urls(&asked).len(), 16);
    asked.options.clear();
    asked.layout = Some(Layout::Offline);
    assert!(!urls(&asked).iter().any(|url| url.contains("nodeup.xz")));
}

#[test]
fn kops_base_url_asks_for_the_image_archives_of_its_era() {
    let images = |kops: &str, kubernetes: &str| {
        let mut asked = selection(kops, kubernetes);
        asked.forms = vec![Form::BaseUrl];
        asked.archs = vec![Arch::Amd64];
        let keys = keys(&asked);
        let images = keys
            .iter()
            .filter(|k| k.contains("/images/") && !k.contains("protokube"));
        images
            .map(|k| k.rsplit('/').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(images("1.15.3", "1.15.0"), [""; 0]);
    assert_eq!(
        images("1.16.4", "1.16.0"),
        ["kops-controller.tar.gz", "dns-controller.tar.gz"]
    );
    assert_eq!(images("1.19.3", "1.19.0").len(), 3);
    assert_eq!(images("1.28.7", "1.28.7").len(), 4);
    assert_eq!(
        images("1.36.2", "1.34.8"),
        [
            "dns-controller-amd64.tar.gz",
            "kops-channels-amd64.tar.gz",
            "kops-controller-amd64.tar.gz",
            "kops-utils-cp-amd64.tar.gz",
            "kube-apiserver-healthcheck-amd64.tar.gz",
        ]
    );
    assert!(!images("1.37.0-alpha.1", "1.36.0").contains(&"kops-utils-cp-amd64.tar.gz".to_owned()));
}

#[test]
fn nodeup_has_two_publishers_and_the_components_a_digest_that_kops_carries() {
    let assets = assets(&selection("1.36.2", "1.34.8"));
    for asset in &assets {
        let name = asset.key.file_name();
        if matches!(name, "nodeup" | "protokube") {
            assert_eq!(known(asset), None);
            assert_eq!(asset.witnesses.len(), 2, "{name}");
            assert!(
                asset.alternates[0]
                    .as_str()
                    .starts_with("https://github.com/kubernetes/kops/")
            );
        } else {
            assert!(known(asset).unwrap().starts_with("sha256:"), "{name}");
            assert_eq!(asset.witnesses.len(), 2, "{name}");
        }
    }
    let runc = assets
        .iter()
        .find(|a| a.key.file_name() == "runc.arm64")
        .unwrap();
    let Voucher::List { url, name, .. } = &runc.witnesses[1][0] else {
        panic!("{:?}", runc.witnesses);
    };
    assert!(url.as_str().ends_with("/v1.3.5/runc.sha256sum"));
    assert_eq!(name, "runc.arm64");
}

#[test]
fn sidecars_are_those_that_kops_of_the_era_reads() {
    for asset in assets(&selection("1.14.1", "1.14.0")) {
        assert_eq!(asset.sidecars, [Algorithm::Sha256, Algorithm::Sha1]);
    }
    for asset in assets(&selection("1.15.0", "1.15.0")) {
        assert_eq!(asset.sidecars, [Algorithm::Sha256]);
    }
    let mut recipe = selection("1.8.1", "1.8.4");
    recipe.pointers = true;
    for asset in assets(&recipe) {
        let bare = asset.role == Role::Pointer || asset.key.as_str().ends_with(".docker_tag");
        assert_eq!(asset.sidecars.is_empty(), bare, "{}", asset.key);
        assert_eq!(asset.unvouched.is_some(), bare, "{}", asset.key);
    }
}

#[test]
fn clients_and_pointers_are_ours_and_left_out_on_request() {
    let mut asked = selection("1.36.2", "1.34.8");
    asked.clients = true;
    asked.pointers = true;
    let besides: Vec<_> = assets(&asked)
        .into_iter()
        .filter(|a| !a.listed_by_kops)
        .collect();
    let names = besides.iter().map(|a| a.key.to_string());
    assert_eq!(
        sorted(names.collect()),
        [
            "binaries/kops/1.36.2/darwin/amd64/kops",
            "binaries/kops/1.36.2/darwin/arm64/kops",
            "binaries/kops/1.36.2/linux/amd64/kops",
            "binaries/kops/1.36.2/linux/arm64/kops",
            "kubernetes/kops/master/channels/stable",
            "release/stable-1.34.txt",
            "release/stable.txt",
            "release/v1.34.8/bin/darwin/amd64/kubectl",
            "release/v1.34.8/bin/darwin/arm64/kubectl",
        ]
    );
    let pointers = besides.iter().filter(|a| a.role == Role::Pointer);
    assert_eq!(pointers.count(), 3);
}

#[test]
fn several_kubernetes_versions_share_what_is_the_same() {
    let mut asked = selection("1.36.2", "1.34.8");
    asked
        .kubernetes
        .push(version::kubernetes("1.33.0").unwrap());
    assert_eq!(assets(&asked).len(), 14 + 4);
}

#[test]
fn every_release_in_the_span_resolves_with_every_networking_and_runtime() {
    let catalogue = Catalogue::builtin();
    for minor in 7..=37 {
        let mut asked = selection(&format!("1.{minor}.0"), &format!("1.{minor}.0"));
        asked.forms = vec![Form::BaseUrl, Form::KubernetesUrl];
        let docker = (minor < 24).then_some(Runtime::Docker);
        for runtime in [docker, Some(Runtime::Containerd), None]
            .into_iter()
            .flatten()
        {
            asked.runtime = Some(runtime);
            for networking in catalogue.table.networking.keys() {
                asked.networking = Some(networking.clone());
                let wanted = catalogue.assets(&asked).unwrap();
                assert!(wanted.assets.len() >= 6, "{asked:?}");
                let has_runtime = wanted.assets.iter().any(|asset| {
                    let key = asset.key.as_str();
                    key.contains("containerd") || key.contains("/docker-")
                });
                assert_eq!(has_runtime, minor >= 19, "{asked:?}");
            }
        }
    }
}

#[test]
fn a_version_outside_the_span_is_refused_with_the_span_named() {
    for (kops, kubernetes, refusal) in [
        (
            "1.6.2",
            "1.6.0",
            "kops 1.6.2 is outside of what this catalogue knows (>=1.7, <1.38)",
        ),
        (
            "1.38.0",
            "1.34.0",
            "kops 1.38.0 is outside of what this catalogue knows",
        ),
        (
            "1.36.2",
            "1.99.0",
            "Kubernetes 1.99.0 is outside of what this catalogue knows (>=1.5, <1.38)",
        ),
        ("2.0.0", "1.34.0", "kops 2.0.0 is outside"),
    ] {
        let shown = Catalogue::builtin()
            .assets(&selection(kops, kubernetes))
            .unwrap_err();
        assert!(shown.to_string().starts_with(refusal), "{shown}");
    }
}

#[test]
fn what_cannot_be_selected_is_refused_with_what_can() {
    let refusal = |asked: &Selection| Catalogue::builtin().assets(asked).unwrap_err().to_string();
    assert_eq!(
        refusal(&with_networking("1.36.2", "1.34.8", "token-ring")),
        "'token-ring' is not a networking choice of kops: amazonvpc, calico, canal, cilium, classic, cni, external, flannel, gcp, kindnet, kopeio, kube-router, kubenet, lyftvpc, none, romana, weave"
    );
    let mut arm = selection("1.10.1", "1.10.12");
    arm.archs = vec![Arch::Arm64];
    assert_eq!(
        refusal(&arm),
        "kops 1.10.1 has no file for arm64: it runs on other architectures only"
    );
    arm.archs.clear();
    assert_eq!(
        refusal(&arm),
        "nothing is selected: name at least one architecture"
    );
}

#[test]
fn what_kops_would_refuse_is_a_warning() {
    let warnings = |asked: &Selection| -> Vec<String> {
        let wanted = Catalogue::builtin().assets(asked).unwrap();
        wanted.warnings.iter().map(Warning::to_string).collect()
    };
    assert_eq!(warnings(&selection("1.36.2", "1.34.8")), [""; 0]);
    assert_eq!(
        warnings(&selection("1.36.2", "1.30.0")),
        ["kops 1.36.2 refuses Kubernetes 1.30.0: it takes >=1.31, <1.37"]
    );
    assert_eq!(
        warnings(&with_networking("1.36.2", "1.34.8", "weave")),
        ["kops 1.36.2 creates no cluster with networking 'weave'"]
    );
    assert_eq!(
        warnings(&selection("1.36.9", "1.34.8")),
        [
            "kops 1.36.9 is newer than this catalogue, which was made from 1.36.2: compare with `kops get assets`"
        ]
    );
    assert!(warnings(&selection("1.10.1", "1.10.12"))[0].contains("no nodes on arm64"));
}

#[test]
fn the_layout_is_the_one_that_works_with_that_kops_unless_said_otherwise() {
    let catalogue = Catalogue::builtin();
    for (kops, layout) in [
        ("1.8.1", Layout::Offline),
        ("1.9.0", Layout::FileRepository),
        ("1.36.2", Layout::FileRepository),
    ] {
        assert_eq!(catalogue.layout(&version::kops(kops).unwrap()), layout);
    }
    let mut asked = selection("1.36.2", "1.34.8");
    asked.layout = Some(Layout::Offline);
    let keys = keys(&asked);
    assert!(keys.contains(&"kubernetes/release/v1.34.8/bin/linux/arm64/kubelet".to_owned()));
    assert!(keys.contains(&"kops/1.36.2/images/kops-utils-cp-arm64.tar.gz".to_owned()));
    assert!(keys.contains(&"kubernetes/release/v1.34.8/bin/linux/amd64/kube-proxy.tar".to_owned()));
}

#[test]
fn a_catalogue_with_an_unknown_key_or_a_bad_entry_is_refused_with_its_place() {
    let refusal = |from: &str, to: &str| {
        assert!(BUILTIN.contains(from), "{from}");
        let refused = Catalogue::parse(&BUILTIN.replacen(from, to, 1)).unwrap_err();
        let source = std::error::Error::source(&refused).map(ToString::to_string);
        format!("{refused}: {}", source.unwrap_or_default())
    };
    let unknown = refusal("name = \"kubelet\"", "nmae = \"kubelet\"");
    assert!(
        unknown.contains("unknown field `nmae`") && unknown.contains("line"),
        "{unknown}"
    );
    let range = refusal(">=1.27", "newer");
    assert!(range.contains("line"), "{range}");
    let placeholder = refusal("{arch}/kubelet\"", "{archh}/kubelet\"");
    assert!(placeholder.contains("{archh}"), "{placeholder}");
    let component = refusal("component = \"cni\"", "component = \"cnii\"");
    assert!(component.contains("'cnii'"), "{component}");
    let unvouched = refusal(
        "[[\"{url}.sha256\", \"{url}.sha512\"]]",
        "[[\"{url}.crc\"]]",
    );
    assert!(
        unvouched.contains("does not say its algorithm"),
        "{unvouched}"
    );
}

#[test]
fn a_file_that_nobody_vouches_for_is_refused() {
    // Docker publishes no digests: a version that kops' table lacks has no witness.
    let text = BUILTIN.replace("\"20.10.17\"", "\"20.10.99\"");
    let mut asked = selection("1.23.4", "1.23.0");
    asked.runtime = Some(Runtime::Docker);
    let refused = Catalogue::parse(&text).unwrap().assets(&asked).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("nobody vouches for https://download.docker.com/")
    );
}
