//! Manifests as files: the recipe of 2018 and today's, whole.

use super::*;

/// The recipe: kops 1.8.1, an existing VPC, private topology, weave, one zone.
pub(super) const RECIPE: &str = "
apiVersion: kops-mirror/v1
name: cluster.k8s.local
region: cn-north-1
kopsVersion: 1.8.1
kubernetesVersion: 1.8.7
mirror: {at: s3://my-mirror/assets}
stateStore: {bucket: my-kops-state}
network:
  vpc: vpc-0123456789abcdef0
  cidr: 10.0.0.0/16
  subnets:
    - {zone: cn-north-1a, id: subnet-0000000000000000a, cidr: 10.0.0.0/24}
    - {zone: cn-north-1a, role: utility, id: subnet-0000000000000001a, cidr: 10.0.1.0/24}
image: {use: ami-0123456789abcdef0}
controlPlane: {count: 1, zones: [cn-north-1a], machineType: m3.medium}
nodes:
  - {name: nodes, machineType: t2.medium, min: 2}
networking: weave
ssh: {access: [10.0.0.0/8], publicKey: id_rsa.pub}
registry: {mirrors: {docker.io: [\"https://mirror.example.cn\"]}}
";

/// Today's: kops 1.36.2 without DNS, cilium, three zones, arm64 nodes.
const TODAY: &str = "
apiVersion: kops-mirror/v1
name: prod.k8s.local
region: cn-northwest-1
kopsVersion: 1.36.2
kubernetesVersion: 1.35.5
mirror: {at: s3://my-mirror/assets}
stateStore: {bucket: my-kops-state}
network: {}
image: {resolve: {distribution: ubuntu-24.04}}
controlPlane:
  zones: [cn-northwest-1a, cn-northwest-1b, cn-northwest-1c]
  machineType: m6i.large
nodes:
  - {name: nodes, machineType: m6g.large, min: 3, max: 6}
networking: cilium
registry: {containerRegistry: 123456789012.dkr.ecr.cn-northwest-1.amazonaws.com.cn/k8s}
tags: {owner: platform}
";

pub(super) fn rendered(text: &str) -> String {
    let file = ClusterFile::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let base = format!(
        "https://my-mirror.s3.{}.amazonaws.com.cn/assets",
        file.region
    );
    let settings = file.settings(base.parse().unwrap(), None).unwrap();
    let images = [
        (
            crate::asset::Arch::Amd64,
            "837727238323/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260218",
        ),
        (
            crate::asset::Arch::Arm64,
            "837727238323/ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-20260218",
        ),
    ];
    let used = file.image.used.clone();
    let image = |(arch, name): (_, &str)| (arch, used.clone().unwrap_or_else(|| name.to_owned()));
    let found = Found {
        images: images.into_iter().map(image).collect(),
        ..Found::default()
    };
    manifest(&file, &settings, &found).unwrap().to_string()
}

/// The recipe with other words in it.
pub(super) fn recipe(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(RECIPE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

#[test]
fn the_recipe() {
    insta::assert_snapshot!(rendered(RECIPE));
}

#[test]
fn the_recipe_with_three_masters() {
    let text = recipe(&[("count: 1", "count: 3")]);
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn the_recipe_in_two_zones() {
    let second = "
    - {zone: cn-north-1b, id: subnet-0000000000000000b, cidr: 10.0.2.0/24}
    - {zone: cn-north-1b, role: utility, id: subnet-0000000000000001b, cidr: 10.0.3.0/24}
image:";
    let text = recipe(&[
        (
            "count: 1, zones: [cn-north-1a]",
            "count: 3, zones: [cn-north-1a, cn-north-1b]",
        ),
        ("\nimage:", second),
    ]);
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn today() {
    insta::assert_snapshot!(rendered(TODAY));
}

/// A manifest of every minor, made of what differs.
#[test]
fn every_minor_renders() {
    for minor in 8..=37 {
        let kubernetes = match minor {
            37 => "1.36.0".to_owned(),
            8 => "1.8.7".to_owned(),
            minor => format!("1.{}.2", minor - 1),
        };
        let text = recipe(&[
            ("kopsVersion: 1.8.1", &format!("kopsVersion: 1.{minor}.0")),
            (
                "kubernetesVersion: 1.8.7",
                &format!("kubernetesVersion: {kubernetes}"),
            ),
            ("networking: weave", "networking: calico"),
        ]);
        let manifest: Vec<serde_yaml_ng::Value> = rendered(&text)
            .split("---\n")
            .map(|document| serde_yaml_ng::from_str(document).unwrap())
            .collect();
        let spec = &manifest[0]["spec"];
        let dns = spec["topology"]["dns"]["type"].as_str().unwrap();
        assert_eq!(dns, if minor < 26 { "Public" } else { "None" }, "1.{minor}");
        let mirrors = |runtime: &str| spec[runtime]["registryMirrors"].is_null();
        assert_eq!(mirrors("docker"), minor >= 21, "1.{minor}");
        assert_eq!(mirrors("containerd"), minor < 21, "1.{minor}");
        assert_eq!(
            spec["assets"]["fileRepository"].is_null(),
            minor < 22,
            "1.{minor}"
        );
        let etcd = &spec["etcdClusters"][0]["etcdMembers"][0]["instanceGroup"];
        let group = manifest[1]["metadata"]["name"].as_str();
        assert_eq!(etcd.as_str(), group, "1.{minor}");
    }
}

#[test]
fn the_example_is_a_cluster() {
    let example = include_str!("../../../config/cluster.example.yaml");
    let file = ClusterFile::parse(example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.zones().len(), 3);
}

/// What the first command of the README does with it.
#[test]
fn the_example_renders_with_nothing_looked_up() {
    let example = include_str!("../../../config/cluster.example.yaml");
    let file = ClusterFile::parse(example).unwrap_or_else(|error| panic!("{error}"));
    let base = "https://s3.cn-north-1.amazonaws.com.cn/my-mirror/prod";
    let settings = file.settings(base.parse().unwrap(), None).unwrap();
    let used = file.image.used.clone().expect("an image that is known");
    let archs = file.archs().into_iter();
    let found = Found {
        images: archs.map(|arch| (arch, used.clone())).collect(),
        ..Found::default()
    };
    let manifest = manifest(&file, &settings, &found).unwrap_or_else(|error| panic!("{error}"));
    let subnets = manifest.cluster["spec"]["subnets"].as_sequence().unwrap();
    assert_eq!(subnets.len(), 3);
    assert_eq!(manifest.groups.len(), 4);
}

/// Every field, those in comments too: each list of fields that the reader knows is told by its refusal of another.
#[test]
fn the_example_shows_every_field() {
    let example = include_str!("../../../config/cluster.example.yaml");
    let mut lists = 0;
    for place in [
        "x: 1",
        "mirror: {x: 1}",
        "stateStore: {x: 1}",
        "network: {x: 1}",
        "network: {subnets: [{x: 1}]}",
        "image: {x: 1}",
        "image: {resolve: {x: 1}}",
        "image: {copy: {x: 1}}",
        "image: {build: {x: 1}}",
        "controlPlane: {x: 1}",
        "nodes: [{x: 1}]",
        "api: {x: 1}",
        "ssh: {x: 1}",
        "registry: {x: 1}",
        "target: {x: 1}",
        "timeouts: {x: 1}",
        "overrides: {x: 1}",
    ] {
        let refusal = serde_yaml_ng::from_str::<ClusterFile>(place).unwrap_err();
        let refusal = refusal.to_string();
        let (_, fields) = refusal.split_once("expected one of ").unwrap_or_else(|| {
            refusal
                .split_once("expected ")
                .expect("it names what it knows")
        });
        for field in fields.split('`').skip(1).step_by(2) {
            assert!(example.contains(&format!("{field}:")), "{place}: {field}");
        }
        lists += 1;
    }
    assert_eq!(lists, 17);
}

#[test]
fn cilium_that_keeps_its_state_in_etcd_has_a_cluster_of_its_own_there() {
    let text = rendered(&TODAY.replace("networking: cilium", "networking: cilium-etcd"));
    let document = text.split("---\n").next().unwrap();
    let cluster: serde_yaml_ng::Value = serde_yaml_ng::from_str(document).unwrap();
    let clusters = cluster["spec"]["etcdClusters"].as_sequence().unwrap();
    let names: Vec<_> = clusters
        .iter()
        .map(|etcd| etcd["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["main", "events", "cilium"]);
    assert_eq!(clusters[2]["etcdMembers"].as_sequence().unwrap().len(), 3);
}

/// kops refuses one that is secure without cert-manager, and takes it for secure unless told otherwise.
#[test]
fn metrics_server_says_that_it_is_insecure_where_nobody_makes_it_a_certificate() {
    let metrics_server = |text: &str, more: &str| {
        let text = rendered(&format!("{text}{more}"));
        let cluster = text.split("---\n").next().unwrap();
        let cluster: serde_yaml_ng::Value = serde_yaml_ng::from_str(cluster).unwrap();
        let fields = serde_yaml_ng::to_string(&cluster["spec"]["metricsServer"]).unwrap();
        fields.trim().replace('\n', ", ")
    };
    let alone = metrics_server(TODAY, "options: [metrics-server]\n");
    assert_eq!(alone, "enabled: true, insecure: true");
    let beside = metrics_server(TODAY, "options: [metrics-server, cert-manager]\n");
    assert_eq!(beside, "enabled: true");
    let own = "overrides: {cluster: {certManager: {enabled: true, managed: false}}}\n";
    let own = metrics_server(TODAY, &format!("options: [metrics-server]\n{own}"));
    assert_eq!(own, "enabled: true");
    // The field came with the rule.
    let before = recipe(&[
        ("kopsVersion: 1.8.1", "kopsVersion: 1.19.3"),
        ("kubernetesVersion: 1.8.7", "kubernetesVersion: 1.19.2"),
    ]);
    let before = metrics_server(&before, "options: [metrics-server]\n");
    assert_eq!(before, "enabled: true");
}
