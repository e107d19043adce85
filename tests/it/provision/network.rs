//! The addresses of a VPC that is there.

use super::desk::Desk;

/// A VPC with a subnet in the first zone: their ids.
pub(super) async fn vpc(site: &Desk) -> (String, String) {
    let overlay = &site.world.overlay;
    let vpc = overlay
        .ec2(
            &[("Action", "CreateVpc"), ("CidrBlock", "10.7.0.0/16")],
            "vpcId",
        )
        .await;
    let subnet = [
        ("Action", "CreateSubnet"),
        ("VpcId", &vpc),
        ("CidrBlock", "10.7.1.0/24"),
        ("AvailabilityZone", "cn-north-1a"),
    ];
    let subnet = overlay.ec2(&subnet, "subnetId").await;
    (vpc, subnet)
}

#[tokio::test]
async fn they_are_looked_up_for_the_manifest() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (vpc, subnet) = vpc(&site).await;
    site.change(
        "network: {}",
        &format!("network: {{vpc: {vpc}, subnets: [{{zone: cn-north-1a, id: {subnet}}}]}}"),
    );
    let (code, said) = site.said("render").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("networkCIDR: 10.7.0.0/16") && said.contains("cidr: 10.7.1.0/24"),
        "{said}"
    );
    // Who asks nobody has to say it.
    let asked = site.world.overlay.count("DescribeSubnets");
    let (code, said) = site.said("render --offline").await;
    assert_ne!(code, Some(0));
    assert!(
        said.contains(&format!(
            "the addresses of the subnet {subnet} are not known"
        )),
        "{said}"
    );
    assert_eq!(site.world.overlay.count("DescribeSubnets"), asked);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let Some(mut site) = Desk::start().await else {
        return;
    };
    let (vpc, subnet) = vpc(&site).await;
    site.change(
        "network: {}",
        &format!("network: {{vpc: vpc-00000000, subnets: [{{zone: cn-north-1a, id: {subnet}}}]}}"),
    );
    let (_, said) = site.said("render").await;
    assert!(said.contains("vpc-00000000"), "{said}");
    site.change("vpc-00000000", &vpc);
    site.change(&subnet, "subnet-00000000");
    let (_, said) = site.said("render").await;
    assert!(said.contains("subnet-00000000"), "{said}");
}
