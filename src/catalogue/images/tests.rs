use super::super::{Form, Selection, version};
use super::*;
use crate::digest::{Algorithm, Digest};

fn images(
    kops: &str,
    kubernetes: &str,
    networking: &str,
    options: &[ClusterOption],
) -> Vec<String> {
    let mut selection = selection(kops, kubernetes, networking);
    selection.options = options.to_vec();
    Catalogue::builtin().images(&selection).unwrap()
}

fn warnings(selection: &Selection) -> Vec<String> {
    let warnings = Catalogue::builtin().image_warnings(selection).unwrap();
    warnings.iter().map(ToString::to_string).collect()
}

fn selection(kops: &str, kubernetes: &str, networking: &str) -> Selection {
    let kops = version::kops(kops).unwrap();
    let mut selection = Selection::new(kops, vec![version::kubernetes(kubernetes).unwrap()]);
    selection.networking = Some(networking.to_owned());
    selection
}

/// What `kops get assets` of 1.36.2 listed when it was run, with DNS off.
const KOPS_1_36_2: [&str; 23] = [
    "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.5",
    "quay.io/cilium/cilium:v1.18.6",
    "quay.io/cilium/operator:v1.18.6",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "registry.k8s.io/cpa/cluster-proportional-autoscaler:v1.9.0",
    "registry.k8s.io/etcd-manager/etcd-manager-slim:v3.0.20260707",
    "registry.k8s.io/etcd:v3.5.31",
    "registry.k8s.io/etcd:v3.6.12",
    "registry.k8s.io/kops/channels:1.36.2",
    "registry.k8s.io/kops/kops-controller:1.36.2",
    "registry.k8s.io/kops/kube-apiserver-healthcheck:1.36.2",
    "registry.k8s.io/kube-apiserver:v1.34.8",
    "registry.k8s.io/kube-controller-manager:v1.34.8",
    "registry.k8s.io/kube-proxy:v1.34.8",
    "registry.k8s.io/kube-scheduler:v1.34.8",
    "registry.k8s.io/pause:3.10.1",
    "registry.k8s.io/provider-aws/aws-ebs-csi-driver:v1.58.0",
    "registry.k8s.io/provider-aws/cloud-controller-manager:v1.36.1",
    "registry.k8s.io/sig-storage/csi-attacher:v4.11.0",
    "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.16.0",
    "registry.k8s.io/sig-storage/csi-provisioner:v6.2.0",
    "registry.k8s.io/sig-storage/csi-resizer:v2.1.0",
    "registry.k8s.io/sig-storage/livenessprobe:v2.18.0",
];

/// kops' own test of `get assets`: tests/integration/update_cluster/containerd/assets.yaml at v1.32.4.
const KOPS_1_32_4: [&str; 23] = [
    "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.22.0",
    "public.ecr.aws/ebs-csi-driver/aws-ebs-csi-driver:v1.38.1",
    "public.ecr.aws/ebs-csi-driver/volume-modifier-for-k8s:v0.5.0",
    "public.ecr.aws/eks-distro/kubernetes-csi/external-attacher:v4.7.0-eks-1-32-1",
    "public.ecr.aws/eks-distro/kubernetes-csi/external-provisioner:v5.1.0-eks-1-32-1",
    "public.ecr.aws/eks-distro/kubernetes-csi/external-resizer:v1.12.0-eks-1-32-1",
    "public.ecr.aws/eks-distro/kubernetes-csi/livenessprobe:v2.14.0-eks-1-32-1",
    "public.ecr.aws/eks-distro/kubernetes-csi/node-driver-registrar:v2.12.0-eks-1-32-1",
    "registry.k8s.io/coredns/coredns:v1.11.3",
    "registry.k8s.io/cpa/cluster-proportional-autoscaler:v1.8.9",
    "registry.k8s.io/etcd-manager/etcd-manager-slim:v3.0.20241012",
    "registry.k8s.io/etcd:3.4.13-0",
    "registry.k8s.io/etcd:3.5.21-0",
    "registry.k8s.io/kops/dns-controller:1.32.4",
    "registry.k8s.io/kops/kops-controller:1.32.4",
    "registry.k8s.io/kops/kops-utils-cp:1.32.4",
    "registry.k8s.io/kops/kube-apiserver-healthcheck:1.32.4",
    "registry.k8s.io/kube-apiserver:v1.32.0",
    "registry.k8s.io/kube-controller-manager:v1.32.0",
    "registry.k8s.io/kube-proxy:v1.32.0",
    "registry.k8s.io/kube-scheduler:v1.32.0",
    "registry.k8s.io/pause:3.9",
    "registry.k8s.io/provider-aws/cloud-controller-manager:v1.31.0",
];

#[test]
fn kops_1_36_2_with_cilium_pulls_what_it_listed() {
    assert_eq!(images("1.36.2", "1.34.8", "cilium", &[]), KOPS_1_36_2);
}

#[test]
fn kops_1_36_2_takes_cilium_unless_told() {
    let mut selection = selection("1.36.2", "1.34.8", "cilium");
    selection.networking = None;
    let images = Catalogue::builtin().images(&selection).unwrap();
    assert_eq!(images, KOPS_1_36_2);
    assert_eq!(warnings(&selection), [""; 0]);
}

#[test]
fn kops_1_32_4_pulls_what_its_own_test_lists() {
    let with_dns = [ClusterOption::DnsController];
    assert_eq!(images("1.32.4", "1.32.0", "cni", &with_dns), KOPS_1_32_4);
}

#[test]
fn clusters_of_kops_own_tests_pull_what_it_wrote_for_them() {
    let mut clusters = 0;
    let blocks = include_str!("observed.txt").split("\n\n").skip(1);
    for block in blocks {
        let (head, observed) = block.split_once('\n').unwrap();
        let words: Vec<_> = head.split(' ').collect();
        let [
            "kops",
            kops,
            "kubernetes",
            kubernetes,
            "networking",
            networking,
            "options",
            options,
            "test",
            _,
        ] = words[..]
        else {
            panic!("{head}");
        };
        let options: Vec<_> = options.split(',').map(|it| it.parse().unwrap()).collect();
        let observed: Vec<_> = observed.lines().collect();
        assert_eq!(
            images(kops, kubernetes, networking, &options),
            observed,
            "{head}"
        );
        clusters += 1;
    }
    assert_eq!(clusters, 12);
}

#[test]
fn every_release_lists_what_kops_wrote_for_its_own_tests() {
    let mut lists = 0;
    for block in include_str!("observed-digests.txt").split("\n\n").skip(1) {
        let (head, observed) = block.split_once('\n').unwrap();
        let words: Vec<_> = head.split(' ').collect();
        let [
            "kubernetes",
            kubernetes,
            "networking",
            networking,
            "options",
            options,
        ] = words[..]
        else {
            panic!("{head}");
        };
        let options: Vec<_> = options.split(',').map(|it| it.parse().unwrap()).collect();
        for pair in observed.split_whitespace() {
            let (kops, digest) = pair.split_once('=').unwrap();
            let listed = images(kops, kubernetes, networking, &options);
            let found = Digest::of(Algorithm::Sha256, listed.join("\n").as_bytes()).hex();
            assert_eq!(&found[..8], digest, "kops {kops} {head}: {listed:#?}");
            lists += 1;
        }
    }
    assert!(lists > 800, "{lists}");
}

/// Kubernetes 1.8 on kops 1.8.1 with Weave: the cluster of docs/aws-china.md of its time.
#[test]
fn the_seeds_cluster_pulls_from_the_registries_of_its_time() {
    assert_eq!(
        images("1.8.1", "1.8.4", "weave", &[]),
        [
            "gcr.io/google_containers/cluster-proportional-autoscaler-amd64:1.1.2-r2",
            "gcr.io/google_containers/etcd:2.2.1",
            "gcr.io/google_containers/k8s-dns-dnsmasq-nanny-amd64:1.14.5",
            "gcr.io/google_containers/k8s-dns-kube-dns-amd64:1.14.5",
            "gcr.io/google_containers/k8s-dns-sidecar-amd64:1.14.5",
            "gcr.io/google_containers/kube-apiserver:v1.8.4",
            "gcr.io/google_containers/kube-controller-manager:v1.8.4",
            "gcr.io/google_containers/kube-proxy:v1.8.4",
            "gcr.io/google_containers/kube-scheduler:v1.8.4",
            "gcr.io/google_containers/pause-amd64:3.0",
            "kope/dns-controller:1.8.0",
            "weaveworks/weave-kube:2.2.0",
            "weaveworks/weave-npc:2.2.0",
        ]
    );
}

#[test]
fn kops_1_10_changes_registries_with_the_kubernetes_version() {
    let newer = images("1.10.1", "1.10.12", "calico", &[]);
    let older = images("1.10.1", "1.9.11", "calico", &[]);
    assert!(newer.contains(&"k8s.gcr.io/pause-amd64:3.0".to_owned()));
    assert!(older.contains(&"gcr.io/google_containers/pause-amd64:3.0".to_owned()));
    assert!(
        !older
            .iter()
            .any(|image| image.starts_with("k8s.gcr.io") || image.starts_with("registry.k8s.io"))
    );
    let renamed = older.iter().map(|image| {
        image
            .replace("gcr.io/google_containers", "k8s.gcr.io")
            .replace(":v1.9.11", ":v1.10.12")
    });
    let mut renamed: Vec<_> = renamed.collect();
    renamed.sort();
    assert_eq!(renamed, newer);
}

/// No registry has protokube's image, and where the version is a URL, none is asked for the control plane's.
#[test]
fn images_of_archives_are_among_the_files() {
    for (kops, kubernetes) in [
        ("1.7.1", "1.7.10"),
        ("1.8.1", "1.8.4"),
        ("1.10.1", "1.10.3"),
    ] {
        let images = images(kops, kubernetes, "weave", &[]);
        assert!(!images.iter().any(|image| image.contains("protokube")));
        let mut selection = selection(kops, kubernetes, "weave");
        selection.forms = vec![Form::KubernetesUrl];
        let files = Catalogue::builtin().assets(&selection).unwrap().assets;
        let has = |end: &str| {
            files
                .iter()
                .any(|file| file.canonical.path().ends_with(end))
        };
        assert!(has("/images/protokube.tar.gz"), "{kops}");
        for image in images.iter().filter(|image| image.contains("/kube-")) {
            let (name, tag) = image.rsplit_once(':').unwrap();
            let (_, name) = name.rsplit_once('/').unwrap();
            for end in [".tar", ".docker_tag"] {
                let file = format!("/{tag}/bin/linux/amd64/{name}{end}");
                assert!(has(&file), "{kops}: {file}");
            }
        }
    }
}

#[test]
fn every_release_that_is_known_resolves_with_every_networking() {
    let catalogue = Catalogue::builtin();
    let mut lists = 0;
    for known in &BUILTIN.known {
        let newest = &known.newest.0;
        let mut releases: Vec<_> = (0..newest.patch)
            .map(|patch| Version::new(newest.major, newest.minor, patch))
            .collect();
        releases.push(newest.clone());
        let minors: Vec<_> = (0..60)
            .map(|minor| Version::new(1, minor, 0))
            .filter(|kubernetes| known.kubernetes.contains(kubernetes))
            .collect();
        assert!(!minors.is_empty(), "{}", known.kubernetes);
        for kops in &releases {
            for kubernetes in &minors {
                for networking in &known.networking {
                    let mut selection = Selection::new(kops.clone(), vec![kubernetes.clone()]);
                    selection.networking = Some(networking.clone());
                    check_list(&selection, &catalogue.images(&selection).unwrap());
                    assert_eq!(warnings(&selection), [""; 0]);
                    lists += 1;
                }
            }
        }
    }
    assert!(lists > 2_000, "{lists}");
}

/// What a cluster of any age can't do without, each once.
fn check_list(selection: &Selection, images: &[String]) {
    let cluster = format!(
        "{} {} {:?}",
        selection.kops, selection.kubernetes[0], selection.networking
    );
    let short = |image: &String| {
        let (name, tag) = image.rsplit_once(':').unwrap();
        assert!(!tag.is_empty() && !tag.contains('/'), "{image}");
        name.rsplit('/').next().unwrap().to_owned()
    };
    let names: Vec<_> = images.iter().map(short).collect();
    let mut needed = vec![
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
    ];
    if selection.kops.minor < 28 {
        needed.extend(["etcd", "pause-amd64", "k8s-dns-kube-dns-amd64"]);
        needed.extend(["dns-controller", "cluster-proportional-autoscaler-amd64"]);
    } else {
        needed.extend(["etcd-manager-slim", "pause", "coredns", "kops-controller"]);
        needed.extend(["aws-node-termination-handler", "aws-ebs-csi-driver"]);
        if selection.kubernetes[0].minor >= 24 {
            needed.push("cloud-controller-manager");
        }
    }
    needed.extend(match selection.networking.as_deref().unwrap() {
        "calico" | "canal" => &["node", "cni"][..],
        "cilium" => &["cilium"],
        "flannel" => &["flannel"],
        "kopeio" => &["networking-agent"],
        "kube-router" => &["kube-router"],
        "amazonvpc" => &["amazon-k8s-cni"],
        "weave" => &["weave-kube", "weave-npc"],
        "romana" => &["agent", "vpcrouter-romana-plugin"],
        _ => &[],
    });
    for needed in needed {
        let mut found = names.iter().map(|name| match name.as_str() {
            "mirrored-flannelcni-flannel" => "flannel",
            name => name,
        });
        let count = found.by_ref().filter(|name| *name == needed).count();
        assert_eq!(count, 1, "{cluster}: {needed} in {images:?}");
    }
    let etcds = names.iter().filter(|name| *name == "etcd").count();
    assert!((1..=3).contains(&etcds), "{cluster}: {images:?}");
}

#[test]
fn the_list_names_networkings_that_the_catalogue_knows() {
    let catalogue = Catalogue::builtin();
    let of_images = BUILTIN.image.iter().flat_map(|image| &image.networking);
    let of_known = BUILTIN.known.iter().flat_map(|known| &known.networking);
    for networking in of_images.chain(of_known) {
        let found = catalogue.table.networking(networking);
        assert_eq!(found.map(|(name, _)| name), Some(networking.as_str()));
    }
}

#[test]
fn networking_decides_which_images_are_added() {
    for (networking, image) in [
        ("calico", "docker.io/calico/node:v3.31.3"),
        ("flannel-vxlan", "ghcr.io/flannel-io/flannel:v0.27.4"),
        ("kindnet", "registry.k8s.io/networking/kindnet:v1.0.0"),
        (
            "kube-router",
            "docker.io/cloudnativelabs/kube-router:v2.10.0",
        ),
        (
            "amazonvpc",
            "602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni:v1.21.2",
        ),
    ] {
        let images = images("1.36.2", "1.34.8", networking, &[]);
        assert!(images.contains(&image.to_owned()), "{networking}");
        assert!(!images.iter().any(|image| image.contains("cilium")));
    }
    let with_etcd = images("1.36.2", "1.34.8", "cilium-etcd", &[]);
    assert_eq!(with_etcd, KOPS_1_36_2);
}

#[test]
fn an_option_adds_the_images_of_its_add_on_and_nothing_else() {
    let base = images("1.36.2", "1.34.8", "cilium", &[]);
    for (option, added) in [
        (
            "aws-iam-authenticator",
            "public.ecr.aws/eks-distro/kubernetes-sigs/aws-iam-authenticator:v0.6.20-eks-1-30-7",
        ),
        (
            "aws-load-balancer-controller",
            "public.ecr.aws/eks/aws-load-balancer-controller:v3.3.0",
        ),
        (
            "cert-manager",
            "quay.io/jetstack/cert-manager-cainjector:v1.19.5 quay.io/jetstack/cert-manager-controller:v1.19.5 quay.io/jetstack/cert-manager-webhook:v1.19.5",
        ),
        (
            "cluster-autoscaler",
            "registry.k8s.io/autoscaling/cluster-autoscaler:v1.34.4",
        ),
        (
            "dns-controller",
            "registry.k8s.io/kops/dns-controller:1.36.2",
        ),
        ("dns-none", ""),
        (
            "external-dns",
            "registry.k8s.io/external-dns/external-dns:v0.14.1",
        ),
        ("hubble", "quay.io/cilium/hubble-relay:v1.18.6"),
        (
            "metrics-server",
            "registry.k8s.io/metrics-server/metrics-server:v0.8.0",
        ),
        (
            "node-local-dns",
            "registry.k8s.io/dns/k8s-dns-node-cache:1.26.0",
        ),
        (
            "node-problem-detector",
            "registry.k8s.io/node-problem-detector/node-problem-detector:v0.8.18",
        ),
        ("nvidia-gpu", "nvcr.io/nvidia/k8s-device-plugin:v0.17.3"),
        (
            "pod-identity-webhook",
            "amazon/amazon-eks-pod-identity-webhook:v0.5.7",
        ),
        (
            "snapshot-controller",
            "registry.k8s.io/sig-storage/csi-snapshotter:v8.5.0 registry.k8s.io/sig-storage/snapshot-controller:v6.0.1 registry.k8s.io/sig-storage/snapshot-validation-webhook:v6.0.1",
        ),
    ] {
        let mut expected = base.clone();
        expected.extend(added.split_whitespace().map(str::to_owned));
        expected.sort();
        let option = option.parse().unwrap();
        assert_eq!(images("1.36.2", "1.34.8", "cilium", &[option]), expected);
    }
}

#[test]
fn karpenter_does_without_the_node_termination_handler_from_1_34_on() {
    for (kops, handlers) in [("1.33.2", 1), ("1.34.0", 0), ("1.36.2", 0)] {
        let images = images(kops, "1.32.0", "cni", &[ClusterOption::Karpenter]);
        let count = |part: &str| images.iter().filter(|image| image.contains(part)).count();
        assert_eq!(count("karpenter/controller"), 1, "{kops}");
        assert_eq!(count("aws-node-termination-handler"), handlers, "{kops}");
    }
}

#[test]
fn dns_controller_was_there_by_default_up_to_1_28() {
    use ClusterOption::{DnsController, DnsNone, ExternalDns};
    let has = |kops, option: Option<ClusterOption>| {
        let options: Vec<_> = option.into_iter().collect();
        images(kops, "1.27.0", "cni", &options)
            .iter()
            .any(|image| image.contains("/dns-controller:"))
    };
    assert!(has("1.28.7", None) && !has("1.29.0", None));
    assert!(has("1.28.7", Some(DnsController)) && has("1.29.0", Some(DnsController)));
    assert!(!has("1.28.7", Some(DnsNone)) && !has("1.28.7", Some(ExternalDns)));
}

#[test]
fn an_option_that_brings_nothing_is_said() {
    for (kops, kubernetes, networking, option, is_said) in [
        ("1.36.2", "1.34.8", "calico", "hubble", true),
        ("1.36.2", "1.34.8", "calico", "calico-typha", false),
        ("1.8.1", "1.8.4", "weave", "metrics-server", true),
        ("1.8.1", "1.8.4", "weave", "dns-controller", false),
        ("1.28.7", "1.27.0", "cni", "dns-controller", false),
        ("1.36.2", "1.34.8", "cilium", "install-nerdctl", false),
        ("1.36.2", "1.34.8", "cilium", "dns-none", false),
    ] {
        let mut selection = selection(kops, kubernetes, networking);
        selection.options = vec![option.parse().unwrap()];
        let said = warnings(&selection);
        assert_eq!(!said.is_empty(), is_said, "{option}: {said:?}");
        assert!(said.iter().all(|warning| warning.contains(option)));
    }
}

#[test]
fn a_release_that_came_later_is_listed_as_the_newest_known_and_that_is_said() {
    for (kops, listed) in [
        ("1.36.9", "1.36.2"),
        ("1.28.8", "1.28.7"),
        ("1.35.0-beta.1", "1.35.0"),
        ("1.37.0-alpha.2", "1.37.0-alpha.1"),
        ("1.37.1", "1.37.0-alpha.1"),
    ] {
        let kubernetes = if kops == "1.28.8" { "1.28.0" } else { "1.34.8" };
        let unknown = selection(kops, kubernetes, "calico");
        let expected = images(listed, kubernetes, "calico", &[]);
        let expected: Vec<_> = expected
            .iter()
            .map(|image| image.replace(&format!(":{listed}"), &format!(":{kops}")))
            .collect();
        let found = Catalogue::builtin().images(&unknown).unwrap();
        assert_eq!(found, expected, "{kops}");
        let said = warnings(&unknown);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&format!("those of {listed}:")), "{said:?}");
    }
}

#[test]
fn images_of_an_unknown_release_are_an_error_not_half_a_list() {
    for (kops, kubernetes, networking, known) in [
        ("1.36.2", "1.30.0", "cilium", "Kubernetes >=1.31, <1.37"),
        ("1.36.2", "1.34.8", "canal", "kindnet"),
        ("1.33.2", "1.30.0", "canal", "Kubernetes >=1.27, <1.28"),
        ("1.20.0", "1.20.0", "calico", "1.10, 1.28, 1.29"),
        ("1.8.1", "1.5.8", "weave", "Kubernetes >=1.6, <1.9"),
    ] {
        let refusal = Catalogue::builtin()
            .images(&selection(kops, kubernetes, networking))
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("does not know the images of kops"),
            "{refusal}"
        );
        assert!(refusal.contains(known), "{refusal}");
    }
}
