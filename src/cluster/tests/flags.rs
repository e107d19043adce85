//! Each flag of `kops create cluster` has its place: a field, or a path under overrides. README has the table.

use serde_yaml_ng::Value;

use super::goldens::{RECIPE, recipe, rendered};
use super::*;

/// The flags of kops 1.8.1 (cmd/kops/create_cluster.go), those of other clouds left out, and two that came with 1.9.
const FLAGS: [&str; 42] = [
    "admin-access",
    "api-loadbalancer-type",
    "associate-public-ip",
    "authorization",
    "bastion",
    "channel",
    "cloud",
    "cloud-labels",
    "config-base",
    "dns",
    "dns-zone",
    "dry-run",
    "encrypt-etcd-storage",
    "image",
    "kubernetes-version",
    "master-count",
    "master-public-name",
    "master-security-groups",
    "master-size",
    "master-tenancy",
    "master-volume-size",
    "master-zones",
    "model",
    "name",
    "network-cidr",
    "networking",
    "node-count",
    "node-security-groups",
    "node-size",
    "node-tenancy",
    "node-volume-size",
    "out",
    "output",
    "override",
    "ssh-access",
    "ssh-public-key",
    "subnets",
    "target",
    "topology",
    "utility-subnets",
    "vpc",
    "zones",
];

#[test]
fn readme_has_a_row_for_each() {
    for name in ["README.md", "README.zh-CN.md"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("| `--"))
            .collect();
        for flag in FLAGS {
            let flag = format!("`--{flag}");
            let has = |row: &&&str| {
                row.contains(&format!("{flag}`")) || row.contains(&format!("{flag} "))
            };
            assert!(
                rows.iter().find(has).is_some(),
                "{name} has no row for {flag}`"
            );
        }
    }
}

/// The documents of a manifest by their names; the cluster's is `cluster`.
fn documents(text: &str) -> BTreeMap<String, Value> {
    use serde::Deserialize;
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let documents = documents.map(|document| Value::deserialize(document).unwrap());
    documents
        .map(|document| {
            let name = match document["kind"].as_str() {
                Some("Cluster") => "cluster",
                _ => document["metadata"]["name"].as_str().unwrap(),
            };
            (name.to_owned(), document["spec"].clone())
        })
        .collect()
}

/// What stands at a path such as `subnets/0/zone`.
fn at<'a>(mut value: &'a Value, path: &str) -> &'a Value {
    for part in path.split('/') {
        value = match part.parse::<usize>() {
            Ok(number) => &value[number],
            Err(_) => &value[part],
        };
    }
    value
}

/// The recipe with another text in it has this at a path of a document.
#[track_caller]
fn gives(changes: &[(&str, &str)], document: &str, path: &str, wanted: &str) {
    let documents = documents(&rendered(&recipe(changes)));
    let Some(spec) = documents.get(document) else {
        panic!("there is no {document}");
    };
    let wanted: Value = serde_yaml_ng::from_str(wanted).unwrap();
    assert_eq!(at(spec, path), &wanted, "{document} {path}");
}

/// With overrides of these, which the recipe has none of.
#[track_caller]
fn overridden(over: &str, document: &str, path: &str, wanted: &str) {
    let over = format!("networking: weave\noverrides: {{{over}}}");
    gives(&[("networking: weave", &over)], document, path, wanted);
}

#[test]
fn fields_say_what_flags_said() {
    let master = "master-cn-north-1a";
    gives(
        &[("count: 1", "count: 3")],
        "master-cn-north-1a-3",
        "minSize",
        "1",
    );
    gives(
        &[("m3.medium", "m4.large")],
        master,
        "machineType",
        "m4.large",
    );
    gives(
        &[("m3.medium", "m3.medium, rootVolumeSize: 40")],
        master,
        "rootVolumeSize",
        "40",
    );
    gives(&[("min: 2", "min: 5")], "nodes", "maxSize", "5");
    gives(
        &[("t2.medium", "c4.large")],
        "nodes",
        "machineType",
        "c4.large",
    );
    gives(
        &[("min: 2", "min: 2, rootVolumeSize: 99")],
        "nodes",
        "rootVolumeSize",
        "99",
    );
    gives(&[], "cluster", "networkID", "vpc-0123456789abcdef0");
    gives(&[], "cluster", "networkCIDR", "10.0.0.0/16");
    gives(&[], "cluster", "subnets/0/id", "subnet-0000000000000000a");
    gives(&[], "cluster", "subnets/1/type", "Utility");
    gives(&[], "cluster", "topology/nodes", "private");
    gives(&[], "cluster", "sshAccess", "[10.0.0.0/8]");
    gives(
        &[("networking: weave", "networking: calico")],
        "cluster",
        "networking",
        "{calico: {}}",
    );
    let with = |text: &str| format!("networking: weave\n{text}");
    let more = [
        ("api: {type: public}", "api/loadBalancer/type", "Public"),
        (
            "api: {access: [10.1.0.0/16]}",
            "kubernetesApiAccess",
            "[10.1.0.0/16]",
        ),
        ("tags: {Owner: John}", "cloudLabels", "{Owner: John}"),
    ];
    for (text, path, wanted) in more {
        gives(
            &[("networking: weave", &with(text))],
            "cluster",
            path,
            wanted,
        );
    }
    let encrypted = [("m3.medium", "m3.medium, encryptEtcd: true")];
    for cluster in ["0", "1"] {
        let path = format!("etcdClusters/{cluster}/etcdMembers/0/encryptedVolume");
        gives(&encrypted, "cluster", &path, "true");
        gives(&[], "cluster", &path, "null");
    }
}

#[test]
fn overrides_say_what_other_flags_said() {
    for group in ["master-cn-north-1a", "nodes"] {
        overridden(
            "instanceGroups: {'*': {associatePublicIp: false}}",
            group,
            "associatePublicIp",
            "false",
        );
        overridden(
            &format!("instanceGroups: {{{group}: {{tenancy: dedicated}}}}"),
            group,
            "tenancy",
            "dedicated",
        );
        overridden(
            &format!("instanceGroups: {{{group}: {{additionalSecurityGroups: [sg-1, sg-2]}}}}"),
            group,
            "additionalSecurityGroups",
            "[sg-1, sg-2]",
        );
    }
    let cluster = [
        (
            "authorization: {rbac: null, alwaysAllow: {}}",
            "authorization",
            "{alwaysAllow: {}}",
        ),
        (
            "masterPublicName: api.example.cn",
            "masterPublicName",
            "api.example.cn",
        ),
        (
            "topology: {dns: {type: Private}}",
            "topology/dns/type",
            "Private",
        ),
        ("dnsZone: example.cn", "dnsZone", "example.cn"),
    ];
    for (over, path, wanted) in cluster {
        overridden(&format!("cluster: {{{over}}}"), "cluster", path, wanted);
    }
    // The rest of a map stays.
    overridden(
        "cluster: {topology: {dns: {type: Private}}}",
        "cluster",
        "topology/masters",
        "private",
    );
}

#[test]
fn a_bastion_stands_where_its_release_has_it() {
    let bastion = "networking: weave\nbastion: {machineType: t2.micro}";
    let recipe_with = recipe(&[("networking: weave", bastion)]);
    insta::assert_snapshot!(
        serde_yaml_ng::to_string(&documents(&rendered(&recipe_with))["bastions"]).unwrap()
    );
    // The zone has no utility subnet of its own: one is made for the load balancer.
    let utility = "    - {zone: cn-north-1a, role: utility, id: subnet-0000000000000001a, cidr: 10.0.1.0/24}\n";
    let without = [(utility, ""), ("networking: weave", bastion)];
    gives(&without, "cluster", "subnets/1/name", "utility-cn-north-1a");
    gives(&[(utility, "")], "cluster", "subnets/1", "null");
    // Since 1.18 behind the utility subnets.
    let now = [
        ("1.8.1", "1.36.2"),
        ("1.8.7", "1.35.5"),
        (
            "networking: weave",
            "networking: calico\nbastion: {count: 2}",
        ),
        (
            "registry: {mirrors: {docker.io: [\"https://mirror.example.cn\"]}}",
            "",
        ),
    ];
    gives(&now, "bastions", "subnets", "[cn-north-1a]");
    gives(&now, "bastions", "maxSize", "2");
    gives(&now, "bastions", "machineType", "t3.micro");
}

#[test]
fn a_bastion_that_nobody_could_use_is_refused() {
    let text = recipe(&[("networking: weave", "networking: weave\nbastion: {}")]);
    assert!(ClusterFile::parse(&text).is_ok());
    let subnets = RECIPE
        .split_once("  subnets:")
        .unwrap()
        .1
        .split_once("image:")
        .unwrap()
        .0;
    let changes = [
        ("access: [10.0.0.0/8], ", "", "ssh.access"),
        (
            "networking: weave",
            "networking: weave\ntopology: public",
            "in private topology only",
        ),
        (
            "{name: nodes,",
            "{name: bastions,",
            "two groups called 'bastions'",
        ),
        (", publicKey: id_rsa.pub", "", "ssh.publicKey"),
    ];
    for (from, to, part) in changes {
        assert!(text.contains(from), "{from}");
        let mut wrong = text.replace(from, to);
        if part.contains("topology") {
            wrong = wrong.replace(&format!("  subnets:{subnets}"), "");
        }
        let Err(error) = ClusterFile::parse(&wrong) else {
            panic!("'{to}' was taken");
        };
        assert!(error.to_string().contains(part), "{error}");
    }
}
