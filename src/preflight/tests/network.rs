//! A VPC, its subnets, and the ways out of them.

use super::*;
use crate::cloud::{RouteTable, Subnet, Vpc, VpcEndpoint};

const IN_VPC: &str = "network: {vpc: vpc-1, subnets: [{zone: cn-north-1a, id: subnet-a}, {zone: cn-north-1b, id: subnet-b}, {zone: cn-north-1c, id: subnet-c}]}";

fn in_vpc() -> ClusterFile {
    file_with(&[("network: {}", IN_VPC)])
}

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn subnet(letter: &str, number: u8, free: u64) -> Subnet {
    Subnet {
        subnet_id: format!("subnet-{letter}"),
        vpc_id: "vpc-1".to_owned(),
        cidr_block: format!("10.0.{number}.0/24"),
        availability_zone: format!("cn-north-1{letter}"),
        available_ip_address_count: free,
        map_public_ip_on_launch: false,
        tags: Vec::new(),
    }
}

/// The main table, with a way out or none.
fn table(way_out: Option<&str>) -> RouteTable {
    let mut table = RouteTable {
        route_table_id: "rtb-1".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        routes: Vec::new(),
        associations: vec![crate::cloud::Association {
            subnet_id: None,
            main: true,
        }],
    };
    table
        .routes
        .extend(way_out.map(|target| crate::cloud::Route {
            destination_cidr_block: Some("0.0.0.0/0".to_owned()),
            nat_gateway_id: Some(target.to_owned()).filter(|target| target.starts_with("nat-")),
            gateway_id: Some(target.to_owned()).filter(|target| target.starts_with("igw-")),
            state: "active".to_owned(),
            ..Default::default()
        }));
    table
}

fn endpoint(service: &str) -> VpcEndpoint {
    VpcEndpoint {
        vpc_endpoint_id: format!("vpce-{service}"),
        vpc_endpoint_type: if service == "s3" {
            "Gateway"
        } else {
            "Interface"
        }
        .to_owned(),
        vpc_id: "vpc-1".to_owned(),
        service_name: match service {
            "s3" => "com.amazonaws.cn-north-1.s3".to_owned(),
            other => format!("cn.com.amazonaws.cn-north-1.{other}"),
        },
        state: "available".to_owned(),
        route_tables: vec!["rtb-1".to_owned()],
        subnets: Vec::new(),
    }
}

fn network(table: RouteTable, endpoints: &[&str]) -> Facts {
    let vpc: Vpc = read(
        serde_json::json!({"vpcId": "vpc-1", "state": "available", "cidrBlock": "10.0.0.0/16"}),
    );
    Facts {
        network: Ok(Some(Network {
            vpc: Some(vpc),
            dns: (true, true),
            subnets: vec![
                subnet("a", 0, 200),
                subnet("b", 1, 200),
                subnet("c", 2, 200),
            ],
            route_tables: vec![table],
            endpoints: endpoints.iter().map(|service| endpoint(service)).collect(),
        })),
        ..Facts::unasked()
    }
}

fn changed(change: impl FnOnce(&mut Network)) -> Facts {
    let mut facts = network(table(Some("nat-1")), &["s3"]);
    if let Ok(Some(network)) = &mut facts.network {
        change(network);
    }
    facts
}

#[test]
fn a_vpc_that_fits_is_fine_and_one_of_kops_own_is_not_asked_for() {
    let facts = changed(|_| {});
    assert_eq!(one(9, &in_vpc(), &facts).0, Weight::Fine);
    assert_eq!(one(10, &in_vpc(), &facts).0, Weight::Fine);
    let own = Facts {
        network: Ok(None),
        ..Facts::unasked()
    };
    assert_eq!(one(9, &file(), &own).0, Weight::Fine);
    assert_eq!(one(10, &file(), &own).0, Weight::Fine);
}

#[test]
fn what_does_not_fit_is_told_one_by_one() {
    type Change = fn(&mut Network);
    let cases: [(&str, Change); 6] = [
        ("enableDnsHostnames off", |network| network.dns.1 = false),
        ("enableDnsSupport off", |network| network.dns.0 = false),
        ("there is no vpc-1", |network| network.vpc = None),
        (
            "is in cn-north-1c, and the file says cn-north-1a",
            |network| network.subnets[0].availability_zone = "cn-north-1c".to_owned(),
        ),
        ("has 9 free addresses, and 3 hosts", |network| {
            network.subnets[1].available_ip_address_count = 9;
        }),
        ("has no subnet subnet-a", |network| {
            drop(network.subnets.remove(0));
        }),
    ];
    for (part, change) in cases {
        let (weight, said) = one(10, &in_vpc(), &changed(change));
        assert_eq!(weight, Weight::Error, "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn new_subnets_take_no_addresses_that_are_taken() {
    let some = "network: {vpc: vpc-1, subnets: [{zone: cn-north-1a, id: subnet-a}, {zone: cn-north-1b, id: subnet-b}, {zone: cn-north-1c, cidr: CIDR, egress: nat-1}]}";
    let with = |cidr: &str| file_with(&[("network: {}", &some.replace("CIDR", cidr))]);
    let facts = changed(|_| {});
    assert_eq!(one(10, &with("10.0.9.0/24"), &facts).0, Weight::Fine);
    let (_, said) = one(10, &with("10.0.1.128/25"), &facts);
    assert!(
        said.contains("is taken: subnet-b has 10.0.1.0/24"),
        "{said}"
    );
    let (_, said) = one(10, &with("10.1.0.0/24"), &facts);
    assert!(said.contains("is not within vpc-1"), "{said}");
}

#[test]
fn a_way_out_is_one_that_hosts_can_go() {
    let all = ["s3", "ec2", "sts", "elasticloadbalancing", "autoscaling"];
    let mut gone = table(Some("nat-1"));
    gone.routes[0].state = "blackhole".to_owned();
    for (facts, weight, part) in [
        (
            network(table(Some("nat-1")), &[]),
            Weight::Warning,
            "gateway endpoint for S3",
        ),
        (network(gone, &["s3"]), Weight::Error, "which is gone"),
        (
            network(table(Some("igw-1")), &["s3"]),
            Weight::Error,
            "no public addresses",
        ),
        (
            network(table(None), &all),
            Weight::Error,
            "public registries",
        ),
    ] {
        let found = found(9, &in_vpc(), &facts);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert_eq!(found[0].weight, weight, "{found:#?}");
        assert!(found[0].to_string().contains(part), "{found:#?}");
    }
}

/// A registry that hosts reach by endpoints.
const WITH_ECR: &str = "image: {use: ami-1}\nregistry: {containerRegistry: 123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn}";

/// All that hosts without a way out need, S3's first.
const ENDPOINTS: [&str; 7] = [
    "s3",
    "ec2",
    "sts",
    "elasticloadbalancing",
    "autoscaling",
    "ecr.api",
    "ecr.dkr",
];

/// A gateway endpoint leads to the buckets of its own region.
#[test]
fn a_mirror_in_another_region_is_no_endpoint_s_affair() {
    let elsewhere = |change: (&str, &str)| {
        let mirror = ("mirror: {at: ", "mirror: {region: cn-northwest-1, at: ");
        file_with(&[("network: {}", IN_VPC), mirror, change])
    };
    let open = elsewhere(("image: {use: ami-1}", "image: {use: ami-1}"));
    let with_nat = network(table(Some("nat-1")), &[]);
    assert_eq!(one(9, &open, &with_nat).0, Weight::Fine);
    let closed = elsewhere(("image: {use: ami-1}", WITH_ECR));
    let found = found(9, &closed, &network(table(None), &ENDPOINTS));
    assert!(
        found[0].to_string().contains("in another region"),
        "{found:#?}"
    );
}

#[test]
fn a_subnet_without_a_way_out_has_endpoints_for_all() {
    let file = file_with(&[("network: {}", IN_VPC), ("image: {use: ami-1}", WITH_ECR)]);
    assert_eq!(
        one(9, &file, &network(table(None), &ENDPOINTS)).0,
        Weight::Fine
    );
    let found = found(9, &file, &network(table(None), &ENDPOINTS[1..6]));
    assert!(
        found[0]
            .to_string()
            .contains("no endpoints for s3 (gateway), ecr.dkr"),
        "{found:#?}"
    );
}
