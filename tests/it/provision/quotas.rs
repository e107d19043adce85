//! What the account has of each thing is counted against its quota, without what is the cluster's own.

use serde_json::Value;

use super::desk::Desk;
use super::world::CHINA;

const GATEWAYS: &str = "L-FE5A380F";
const LOAD_BALANCERS: &str = "L-69A177A2";
const ADDRESSES: &str = "L-0263D0A3";
const VPCS: &str = "L-F678F1CE";
const VCPUS: &str = "L-1216C47A";

/// Plenty of everything.
fn allow_all(site: &Desk) {
    for code in [GATEWAYS, LOAD_BALANCERS, ADDRESSES, VPCS, VCPUS] {
        allow(site, code, 100.0);
    }
}

fn allow(site: &Desk, code: &str, limit: f64) {
    let mut orders = site.world.overlay.orders();
    orders.quotas.insert(code.to_owned(), limit);
}

/// What P13 says: weights and words.
async fn found(site: &Desk) -> Vec<(String, String)> {
    let (_, told) = site.json("preflight --only P13").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = told.as_array().unwrap().iter();
    findings
        .map(|finding| (text(&finding["weight"]), text(&finding["what"])))
        .collect()
}

/// With a limit there is just enough, and with one less there is a warning with these words.
async fn is_just_enough(site: &Desk, code: &str, limit: f64, words: &str) {
    allow_all(site);
    allow(site, code, limit);
    let told = found(site).await;
    assert!(
        matches!(told.as_slice(), [(weight, _)] if weight == "fine"),
        "{code}: {told:?}"
    );
    allow(site, code, limit - 1.0);
    let told = found(site).await;
    let [(weight, said)] = told.as_slice() else {
        panic!("{code}: {told:?}");
    };
    assert_eq!(weight, "warning", "{said}");
    assert!(said.contains(words), "{code}: {said}");
}

/// Lets moto's load balancing do something.
async fn load_balancing(site: &Desk, fields: &[(&str, &str)]) -> String {
    let asked = [&[("Version", "2015-12-01")], fields].concat();
    let overlay = &site.world.overlay;
    overlay.query(CHINA, "elasticloadbalancing", &asked).await
}

/// A load balancer of a kind, in a subnet, perhaps the cluster's.
async fn load_balancer(site: &Desk, name: &str, kind: &str, subnet: &str, cluster: Option<&str>) {
    let mut fields = vec![
        ("Action", "CreateLoadBalancer"),
        ("Name", name),
        ("Type", kind),
        ("Scheme", "internal"),
        ("Subnets.member.1", subnet),
    ];
    if let Some(cluster) = cluster {
        fields.extend([
            ("Tags.member.1.Key", "KubernetesCluster"),
            ("Tags.member.1.Value", cluster),
        ]);
    }
    load_balancing(site, &fields).await;
}

/// The default subnet of a zone.
async fn subnet(site: &Desk, zone: &str) -> String {
    let fields = [
        ("Action", "DescribeSubnets"),
        ("Filter.1.Name", "availability-zone"),
        ("Filter.1.Value.1", zone),
    ];
    site.world.overlay.ec2(&fields, "subnetId").await
}

async fn gateway(site: &Desk, subnet: &str) -> String {
    let fields = [
        ("Action", "CreateNatGateway"),
        ("SubnetId", subnet),
        ("ConnectivityType", "private"),
    ];
    site.world.overlay.ec2(&fields, "natGatewayId").await
}

async fn own(site: &Desk, resource: &str) {
    let fields = [
        ("Action", "CreateTags"),
        ("ResourceId.1", resource),
        ("Tag.1.Key", "KubernetesCluster"),
        ("Tag.1.Value", "prod.k8s.local"),
    ];
    site.world.overlay.ec2(&fields, "requestId").await;
}

#[tokio::test]
async fn nat_gateways_are_counted_in_the_zones_that_get_one() {
    let Some(site) = Desk::start().await else {
        return;
    };
    is_just_enough(&site, GATEWAYS, 1.0, "others use 0").await;
    let (here, elsewhere) = (
        subnet(&site, "cn-north-1a").await,
        subnet(&site, "cn-north-1b").await,
    );
    for _ in 0..2 {
        gateway(&site, &here).await;
    }
    for _ in 0..3 {
        gateway(&site, &elsewhere).await;
    }
    is_just_enough(
        &site,
        GATEWAYS,
        3.0,
        "NAT gateways in a zone (cn-north-1a) are needed",
    )
    .await;
    // What is the cluster's own is what it needs, and one that is gone is none.
    let ours = gateway(&site, &here).await;
    own(&site, &ours).await;
    let gone = gateway(&site, &here).await;
    let fields = [
        ("Action", "DeleteNatGateway"),
        ("NatGatewayId", gone.as_str()),
    ];
    site.world.overlay.ec2(&fields, "natGatewayId").await;
    is_just_enough(&site, GATEWAYS, 3.0, "of which others use 2").await;
}

#[tokio::test]
async fn network_load_balancers_are_counted_and_no_others() {
    let Some(site) = Desk::start().await else {
        return;
    };
    is_just_enough(&site, LOAD_BALANCERS, 1.0, "others use 0").await;
    let (one, other) = (
        subnet(&site, "cn-north-1a").await,
        subnet(&site, "cn-north-1b").await,
    );
    load_balancer(&site, "theirs", "network", &one, Some("other.k8s.local")).await;
    load_balancer(&site, "nobodys", "network", &one, None).await;
    load_balancer(&site, "web", "application", &other, None).await;
    load_balancer(&site, "api-prod", "network", &one, Some("prod.k8s.local")).await;
    is_just_enough(&site, LOAD_BALANCERS, 3.0, "1 more network load balancers are needed, and the account may have 2, of which others use 2").await;
}

#[tokio::test]
async fn addresses_and_vpcs_are_counted() {
    let Some(site) = Desk::start().await else {
        return;
    };
    // The default one is there from the beginning.
    is_just_enough(&site, VPCS, 2.0, "others use 1").await;
    let vpc = site
        .world
        .overlay
        .ec2(
            &[("Action", "CreateVpc"), ("CidrBlock", "10.9.0.0/16")],
            "vpcId",
        )
        .await;
    is_just_enough(&site, VPCS, 3.0, "others use 2").await;
    own(&site, &vpc).await;
    is_just_enough(&site, VPCS, 2.0, "others use 1").await;
    let address = [("Action", "AllocateAddress"), ("Domain", "vpc")];
    let mut last = String::new();
    for _ in 0..3 {
        last = site.world.overlay.ec2(&address, "allocationId").await;
    }
    is_just_enough(&site, ADDRESSES, 4.0, "others use 3").await;
    own(&site, &last).await;
    is_just_enough(&site, ADDRESSES, 3.0, "others use 2").await;
}

#[tokio::test]
async fn hosts_that_run_are_counted_unless_they_are_the_cluster_s() {
    let Some(site) = Desk::start().await else {
        return;
    };
    // Three hosts of two.
    is_just_enough(&site, VCPUS, 6.0, "6 more vCPUs").await;
    let subnet = subnet(&site, "cn-north-1a").await;
    let start = async |kind: &str| {
        let fields = [
            ("Action", "RunInstances"),
            ("ImageId", super::world::UBUNTU_CHINA),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", subnet.as_str()),
            ("InstanceType", kind),
        ];
        site.world.overlay.ec2(&fields, "instanceId").await
    };
    start("m5.xlarge").await;
    // Of another quota.
    start("g4dn.xlarge").await;
    is_just_enough(&site, VCPUS, 10.0, "others use 4").await;
    let ours = start("m5.large").await;
    own(&site, &ours).await;
    is_just_enough(&site, VCPUS, 10.0, "others use 4").await;
}

/// Nothing of these is asked for, so that nobody needs the rights.
#[tokio::test]
async fn who_has_a_network_is_not_asked_what_else_there_is() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (vpc, subnet) = super::network::vpc(&site).await;
    site.change(
        "network: {}",
        &format!("network: {{vpc: {vpc}, subnets: [{{zone: cn-north-1a, id: {subnet}}}]}}"),
    );
    for operation in ["DescribeNatGateways", "DescribeAddresses", "DescribeVpcs"] {
        let overlay = &site.world.overlay;
        overlay.refuse(operation, 403, "UnauthorizedOperation");
    }
    allow(&site, VCPUS, 100.0);
    allow(&site, LOAD_BALANCERS, 1.0);
    let told = found(&site).await;
    assert!(
        matches!(told.as_slice(), [(weight, _)] if weight == "fine"),
        "{told:?}"
    );
    let overlay = &site.world.overlay;
    overlay.refuse("DescribeLoadBalancers", 403, "AccessDenied");
    let told = found(&site).await;
    let [(weight, said)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(weight, "unknown", "{said}");
    assert!(
        said.contains("allow elasticloadbalancing:DescribeLoadBalancers"),
        "{said}"
    );
}
