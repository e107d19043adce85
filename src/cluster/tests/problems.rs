//! What is said of files that can't be.

use super::*;

const GOOD: &str = "
apiVersion: kops-mirror/v1
name: prod.k8s.local
region: cn-north-1
kopsVersion: 1.36.2
kubernetesVersion: 1.35.5
mirror: {at: s3://my-mirror/assets}
stateStore: {bucket: my-kops-state}
network: {}
image: {use: ami-0123456789abcdef0}
controlPlane: {count: 3, zones: [cn-north-1a, cn-north-1b], machineType: m6i.large}
nodes: [{name: nodes, machineType: m6i.large, min: 2}]
";

fn told(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    match ClusterFile::parse(&GOOD.replace(from, to)) {
        Ok(_) => panic!("'{to}' was taken"),
        Err(ClusterError::Syntax(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn each_wrong_field_is_named_with_what_to_do() {
    assert!(ClusterFile::parse(GOOD).is_ok());
    let cases = [
        ("network: {}", "netwrok: {}", "netwrok"),
        (
            "name: prod.k8s.local",
            "name: Prod",
            "name: give a DNS name",
        ),
        ("region: cn-north-1", "region: china", "not an AWS region"),
        ("kops-mirror/v1", "kops-mirror/v2", "apiVersion"),
        (
            "kopsVersion: 1.36.2",
            "kopsVersion: 1.6.0",
            "kops 1.8 to 1.37",
        ),
        ("kopsVersion: 1.36.2", "kopsVersion: newest", "newest"),
        (
            "kubernetesVersion: 1.35.5",
            "kubernetesVersion: 1.12.0",
            "does not take Kubernetes 1.12.0",
        ),
        ("count: 3", "count: 2", "not an odd number"),
        ("count: 3", "count: 1", "can't stand in 2 zones"),
        ("cn-north-1b", "cn-northwest-1b", "no zone of cn-north-1"),
        ("cn-north-1b", "cn-north-1a", "named twice"),
        (
            "{use: ami-0123456789abcdef0}",
            "{}",
            "exactly one of use, resolve, copy and build",
        ),
        (
            "{use: ami-0123456789abcdef0}",
            "{use: ami-1, resolve: {distribution: ubuntu-24.04}}",
            "exactly one",
        ),
        (
            "{use: ami-0123456789abcdef0}",
            "{resolve: {owner: self}}",
            "an owner and a name",
        ),
        (
            "{use: ami-0123456789abcdef0}",
            "{copy: {fromRegion: us-west-2, source: ami-1}}",
            "fromBucket and toBucket",
        ),
        (
            "{use: ami-0123456789abcdef0}",
            "{build: {base: ami-1, name: x, subnet: subnet-1}}",
            "name the script",
        ),
        ("min: 2", "min: 2, max: 1", "maximum below its minimum"),
        (
            "[{name: nodes, machineType: m6i.large, min: 2}]",
            "[]",
            "at least one group",
        ),
        (
            "name: nodes",
            "name: control-plane-cn-north-1a-1",
            "two groups called",
        ),
        (
            "network: {}",
            "network: {cidr: 10.0.0.1/16}",
            "network.cidr",
        ),
        (
            "network: {}",
            "network: {subnets: [{zone: cn-north-1a, id: subnet-1}]}",
            "needs the VPC",
        ),
        (
            "network: {}",
            "network: {subnets: [{zone: cn-north-1c}]}",
            "no hosts are in 'cn-north-1c'",
        ),
        (
            "network: {}",
            "network: {cidr: 10.0.0.0/16, subnets: [{zone: cn-north-1a, cidr: 10.1.0.0/24}]}",
            "within the network's",
        ),
        (
            "network: {}",
            "network: {}\nnetworking: weave",
            "no networking of that name",
        ),
        (
            "network: {}",
            "network: {}\nregistry: {containerRegistry: a, containerProxy: b}",
            "not both",
        ),
        (
            "network: {}",
            "network: {}\nregistry: {mirrors: {docker.io: ['https://registry.docker-cn.com']}}",
            "dead since spring 2019",
        ),
        (
            "network: {}",
            "network: {}\ntopology: public",
            "api.type: an internal load balancer stands in private subnets",
        ),
        (
            "network: {}",
            "network: {}\ntarget: {type: terraform}",
            "need a folder",
        ),
        (
            "network: {}",
            "network: {}\nacknowledge: [P21]",
            "P01 to P20",
        ),
        (
            "network: {}",
            "network: {}\ntimeouts: {kops: soon}",
            "30m or 1h",
        ),
        ("my-kops-state", "s3://my-kops-state", "without s3://"),
    ];
    for (from, to, wanted) in cases {
        let told = told(from, to);
        assert!(told.contains(wanted), "{to}: {told}");
    }
}

#[test]
fn public_topology_has_a_public_api_or_says_itself_where_it_is() {
    for more in [
        "topology: public\napi: {type: public}",
        "topology: private\napi: {type: internal}",
        "topology: public\noverrides: {cluster: {api: {loadBalancer: {type: Public}}}}",
    ] {
        let text = GOOD.replace("network: {}", &format!("network: {{}}\n{more}"));
        assert!(ClusterFile::parse(&text).is_ok(), "{more}");
    }
}

/// Since when kops asks for it is in its validation.
#[test]
fn an_option_that_needs_cert_manager_is_refused_without() {
    let read = |kops: &str, more: &str| {
        let minor = kops.rsplit_once('.').unwrap().0;
        let more = format!("network: {{}}\nnetworking: cilium\nssh: {{publicKey: id.pub}}\n{more}");
        let text = GOOD.replace("1.36.2", kops).replace("network: {}", &more);
        let text = text.replace("1.35.5", &format!("{minor}.2"));
        ClusterFile::parse(&text).map_err(|error| format!("{more}: {error}"))
    };
    let own = "overrides: {cluster: {certManager: {enabled: true, managed: false}}}";
    for (option, since) in [
        ("aws-load-balancer-controller", "1.20.3"),
        ("hubble", "1.20.3"),
        ("snapshot-controller", "1.21.5"),
        ("pod-identity-webhook", "1.23.4"),
    ] {
        for kops in [since, "1.36.2"] {
            let alone = format!("options: [{option}]");
            let error = read(kops, &alone).unwrap_err();
            let wanted = format!("options: kops {kops} takes {option} beside cert-manager only");
            assert!(error.contains(&wanted), "{error}");
            read(kops, &format!("{alone}\n{own}")).unwrap();
            let beside = format!("options: [{option}, cert-manager]");
            read(kops, &beside).unwrap();
            for over in ["null", "{enabled: false}"] {
                let over = format!("overrides: {{cluster: {{certManager: {over}}}}}");
                read(kops, &format!("{beside}\n{over}")).unwrap_err();
            }
        }
    }
    read("1.19.3", "options: [hubble]").unwrap();
    read("1.36.2", "options: [metrics-server]").unwrap();
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = GOOD
        .replace("count: 3", "count: 4")
        .replace("name: prod.k8s.local", "name: x");
    let Err(ClusterError::Problems { problems }) = ClusterFile::parse(&text) else {
        panic!("it was taken");
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn old_releases_have_their_own_rules() {
    let old = |name: &str| {
        let text = GOOD
            .replace("1.36.2", "1.8.1")
            .replace("1.35.5", "1.8.7")
            .replace("prod.k8s.local", name);
        ClusterFile::parse(&text).unwrap_err().to_string()
    };
    assert!(old("prod.example.cn").contains("zone of Route 53"));
    assert!(!old("prod.k8s.local").contains("zone of Route 53"));
    assert!(old("prod.k8s.local").contains("ssh.publicKey"));
}

/// CopyImage needs no bucket, and neither does who carries blocks.
#[test]
fn only_an_object_between_partitions_needs_buckets() {
    let copy = |region: &str, more: &str| {
        let image = format!("{{copy: {{fromRegion: {region}, source: ami-1{more}}}}}");
        ClusterFile::parse(&GOOD.replace("{use: ami-0123456789abcdef0}", &image))
    };
    for (region, more) in [
        ("cn-northwest-1", ""),
        ("cn-north-1", ", engine: store-restore"),
        ("us-west-2", ", engine: ebs-direct"),
        ("us-west-2", ", fromBucket: one, toBucket: other"),
    ] {
        assert!(copy(region, more).is_ok(), "{region}{more}");
    }
    for (region, more) in [
        ("us-west-2", ""),
        ("us-gov-west-1", ", engine: store-restore"),
        ("us-west-2", ", fromBucket: one"),
        ("us-west-2", ", toBucket: other"),
    ] {
        let Err(error) = copy(region, more) else {
            panic!("{region}{more} was taken");
        };
        let said = error.to_string();
        assert!(said.contains("image.copy.fromBucket"), "{said}");
    }
}
