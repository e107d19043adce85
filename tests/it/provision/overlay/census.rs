//! All that an account has in a region, by kind, as the emulator lists it: what a test may not leave behind.

use std::collections::{BTreeMap, BTreeSet};

use super::Overlay;

/// What the emulator has: the ids of each kind.
pub(in crate::provision) type Census = BTreeMap<&'static str, BTreeSet<String>>;

/// A list that the emulator can be asked for.
struct List {
    service: &'static str,
    version: &'static str,
    /// With what keeps out what is gone and still listed.
    fields: &'static str,
    /// Where an id stands in the answer.
    id: &'static str,
}

const EC2: &str = "2016-11-15";

/// Everything that kops and this program make.
const LISTS: [List; 21] = [
    ec2(
        "DescribeInstances&Filter.1.Name=instance-state-name&Filter.1.Value.1=running&Filter.1.Value.2=pending&Filter.1.Value.3=stopped",
        "instanceId",
    ),
    ec2("DescribeImages&Owner.1=self", "imageId"),
    ec2("DescribeSnapshots&Owner.1=self", "snapshotId"),
    // moto keeps the disks of hosts that are gone, which have no tags.
    ec2(
        "DescribeVolumes&Filter.1.Name=tag-key&Filter.1.Value.1=KubernetesCluster",
        "volumeId",
    ),
    ec2("DescribeKeyPairs", "keyPairId"),
    ec2("DescribeLaunchTemplates", "launchTemplateId"),
    ec2("DescribeSecurityGroups", "groupId"),
    ec2(
        "DescribeNatGateways&Filter.1.Name=state&Filter.1.Value.1=available&Filter.1.Value.2=pending",
        "natGatewayId",
    ),
    ec2("DescribeAddresses", "allocationId"),
    ec2("DescribeInternetGateways", "internetGatewayId"),
    ec2(
        "DescribeEgressOnlyInternetGateways",
        "egressOnlyInternetGatewayId",
    ),
    ec2("DescribeRouteTables", "routeTableId"),
    ec2("DescribeDhcpOptions", "dhcpOptionsId"),
    ec2("DescribeSubnets", "subnetId"),
    ec2("DescribeVpcs", "vpcId"),
    of(
        "autoscaling",
        "2011-01-01",
        "DescribeAutoScalingGroups",
        "AutoScalingGroupName",
    ),
    of(
        "autoscaling",
        "2011-01-01",
        "DescribeLaunchConfigurations",
        "LaunchConfigurationName",
    ),
    of(
        "elasticloadbalancing",
        "2012-06-01",
        "DescribeLoadBalancers",
        "LoadBalancerName",
    ),
    of(
        "elasticloadbalancing",
        "2015-12-01",
        "DescribeLoadBalancers",
        "LoadBalancerArn",
    ),
    of(
        "elasticloadbalancing",
        "2015-12-01",
        "DescribeTargetGroups",
        "TargetGroupArn",
    ),
    of("iam", "2010-05-08", "ListRoles", "RoleName"),
];

const fn ec2(fields: &'static str, id: &'static str) -> List {
    of("ec2", EC2, fields, id)
}

const fn of(
    service: &'static str,
    version: &'static str,
    fields: &'static str,
    id: &'static str,
) -> List {
    List {
        service,
        version,
        fields,
        id,
    }
}

impl Overlay {
    pub(in crate::provision) async fn census(&self, region: &str) -> Census {
        let mut census = Census::new();
        for list in &LISTS {
            let form = format!("Version={}&Action={}", list.version, list.fields);
            let fields = url::form_urlencoded::parse(form.as_bytes()).into_owned();
            let fields: Vec<_> = fields.collect();
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let text = self.query(region, list.service, &fields).await;
            let kind = list.fields.split('&').next().unwrap_or_default();
            census.entry(kind).or_default().extend(ids(&text, list.id));
        }
        let buckets = self.inner.s3(region).list_buckets().send().await.unwrap();
        let names = buckets.buckets().iter().filter_map(|bucket| bucket.name());
        census.insert("ListBuckets", names.map(str::to_owned).collect());
        census
    }
}

fn ids(text: &str, element: &str) -> BTreeSet<String> {
    let tag = format!("<{element}>");
    let parts = text.split(&tag).skip(1);
    let ids = parts.filter_map(|part| part.split_once('<').map(|(id, _)| id.to_owned()));
    ids.collect()
}
