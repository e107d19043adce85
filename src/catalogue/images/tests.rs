use super::super::{Selection, version};
use super::*;

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
fn kops_1_32_4_pulls_what_its_own_test_lists() {
    let with_dns = [ClusterOption::DnsController];
    assert_eq!(images("1.32.4", "1.32.0", "cni", &with_dns), KOPS_1_32_4);
}

#[test]
fn the_seeds_cluster_pulls_from_the_registries_of_its_time() {
    let images = images("1.8.1", "1.8.4", "weave", &[]);
    assert!(images.contains(&"gcr.io/google_containers/kube-apiserver:v1.8.4".to_owned()));
    assert!(images.contains(&"weaveworks/weave-kube:2.2.0".to_owned()));
    assert!(
        !images
            .iter()
            .any(|image| image.starts_with("registry.k8s.io"))
    );
}

#[test]
fn networking_decides_which_images_are_added() {
    for (networking, image) in [
        ("calico", "docker.io/calico/node:v3.31.3"),
        ("flannel-vxlan", "ghcr.io/flannel-io/flannel:v0.27.4"),
        ("kindnet", "registry.k8s.io/networking/kindnet:v1.0.0"),
        (
            "amazonvpc",
            "602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni:v1.21.2",
        ),
    ] {
        let images = images("1.36.2", "1.34.8", networking, &[]);
        assert!(images.contains(&image.to_owned()), "{networking}");
        assert!(!images.iter().any(|image| image.contains("cilium")));
    }
}

#[test]
fn images_of_an_unknown_release_are_an_error_not_half_a_list() {
    for (kops, kubernetes, networking) in [
        ("1.36.1", "1.34.8", "cilium"),
        ("1.36.2", "1.30.0", "cilium"),
        ("1.36.2", "1.34.8", "kube-router"),
        ("1.20.0", "1.20.0", "calico"),
    ] {
        let refusal = Catalogue::builtin()
            .images(&selection(kops, kubernetes, networking))
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("does not know the images of kops"),
            "{refusal}"
        );
        assert!(refusal.contains("=1.36.2"), "{refusal}");
    }
}
