//! VPCs and what is in them.

use serde::Deserialize;

use super::{Filter, Tag};
use crate::cloud::query::{Fields, items, text};
use crate::cloud::{Cloud, CloudError};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vpc {
    pub vpc_id: String,
    /// `pending` or `available`
    pub state: String,
    pub cidr_block: String,
    /// All its ranges.
    #[serde(
        default,
        rename = "cidrBlockAssociationSet",
        deserialize_with = "items"
    )]
    pub cidrs: Vec<CidrOfVpc>,
    #[serde(default)]
    pub is_default: bool,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

/// A range of a VPC's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CidrOfVpc {
    pub cidr_block: String,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub subnet_id: String,
    pub vpc_id: String,
    pub cidr_block: String,
    pub availability_zone: String,
    #[serde(default)]
    pub available_ip_address_count: u64,
    #[serde(default)]
    pub map_public_ip_on_launch: bool,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

/// A table of routes, with the subnets that follow it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    pub route_table_id: String,
    pub vpc_id: String,
    #[serde(default, rename = "routeSet", deserialize_with = "items")]
    pub routes: Vec<Route>,
    #[serde(default, rename = "associationSet", deserialize_with = "items")]
    pub associations: Vec<Association>,
}

/// Whom a table is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Association {
    #[serde(default, deserialize_with = "text")]
    pub subnet_id: Option<String>,
    /// For every subnet that has no table of its own.
    #[serde(default)]
    pub main: bool,
}

/// Where traffic to some addresses goes. One of the targets is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    #[serde(deserialize_with = "text")]
    pub destination_cidr_block: Option<String>,
    #[serde(deserialize_with = "text")]
    pub destination_prefix_list_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub gateway_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub nat_gateway_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub network_interface_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub instance_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub transit_gateway_id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub vpc_peering_connection_id: Option<String>,
    /// `active`, or `blackhole` where the target is gone.
    pub state: String,
}

impl Route {
    /// Whom the traffic goes to.
    pub fn target(&self) -> Option<&str> {
        let targets = [
            &self.nat_gateway_id,
            &self.transit_gateway_id,
            &self.gateway_id,
            &self.instance_id,
            &self.network_interface_id,
            &self.vpc_peering_connection_id,
        ];
        targets.into_iter().find_map(|target| target.as_deref())
    }
}

/// A way from a VPC to a service of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcEndpoint {
    pub vpc_endpoint_id: String,
    /// `Gateway` or `Interface`
    #[serde(default)]
    pub vpc_endpoint_type: String,
    pub vpc_id: String,
    /// `com.amazonaws.cn-north-1.s3`, `cn.com.amazonaws.cn-north-1.ec2`: read, never composed.
    pub service_name: String,
    #[serde(default)]
    pub state: String,
    #[serde(default, rename = "routeTableIdSet", deserialize_with = "items")]
    pub route_tables: Vec<String>,
    #[serde(default, rename = "subnetIdSet", deserialize_with = "items")]
    pub subnets: Vec<String>,
}

/// What lets hosts without a public address out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatGateway {
    pub nat_gateway_id: String,
    pub subnet_id: String,
    /// `pending`, `available`, `deleting`, `deleted`, `failed`
    pub state: String,
    #[serde(default, rename = "tagSet", deserialize_with = "items")]
    pub tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute {
    enable_dns_support: Option<Truth>,
    enable_dns_hostnames: Option<Truth>,
}

#[derive(Deserialize)]
struct Truth {
    value: bool,
}

impl Cloud {
    pub async fn vpcs(&self, filters: &[Filter]) -> Result<Vec<Vpc>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeVpcs", "list VPCs", fields).await
    }

    /// Whether names are resolved in a VPC (`enableDnsSupport`), and given to its hosts (`enableDnsHostnames`).
    pub async fn vpc_dns(&self, vpc: &str) -> Result<(bool, bool), CloudError> {
        let purpose = format!("look at the names of {vpc}");
        let mut is_on = [false; 2];
        for (is_on, name) in is_on
            .iter_mut()
            .zip(["enableDnsSupport", "enableDnsHostnames"])
        {
            let fields = Fields::default().with("VpcId", vpc).with("Attribute", name);
            let told: Attribute = self
                .repeatable("DescribeVpcAttribute", &purpose, &fields)
                .await?;
            let told = told.enable_dns_support.or(told.enable_dns_hostnames);
            *is_on = told.is_some_and(|truth| truth.value);
        }
        Ok(is_on.into())
    }

    pub async fn subnets(&self, filters: &[Filter]) -> Result<Vec<Subnet>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeSubnets", "list subnets", fields)
            .await
    }

    pub async fn route_tables(&self, filters: &[Filter]) -> Result<Vec<RouteTable>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeRouteTables", "list the tables of routes", fields)
            .await
    }

    pub async fn nat_gateways(&self, filters: &[Filter]) -> Result<Vec<NatGateway>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeNatGateways", "list NAT gateways", fields)
            .await
    }

    pub async fn vpc_endpoints(&self, filters: &[Filter]) -> Result<Vec<VpcEndpoint>, CloudError> {
        let fields = Fields::default().filters(filters);
        self.described("DescribeVpcEndpoints", "list VPC endpoints", fields)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::asking::read;
    use super::*;

    #[test]
    fn routes_tell_whom_traffic_goes_to() {
        let xml = r#"<DescribeRouteTablesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId><routeTableSet><item><routeTableId>rtb-1</routeTableId><vpcId>vpc-1</vpcId><routeSet><item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item><item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><natGatewayId>nat-1</natGatewayId><state>blackhole</state></item></routeSet><associationSet><item><routeTableAssociationId>a</routeTableAssociationId><subnetId>subnet-1</subnetId><main>false</main><associationState><state>associated</state></associationState></item></associationSet><propagatingVgwSet/><tagSet/></item></routeTableSet></DescribeRouteTablesResponse>"#;
        let (tables, next) = read::<RouteTable>(xml);
        assert_eq!(next, None);
        assert_eq!(tables[0].routes[1].target(), Some("nat-1"));
        assert_eq!(tables[0].routes[1].state, "blackhole");
        assert_eq!(
            tables[0].associations[0].subnet_id.as_deref(),
            Some("subnet-1")
        );
    }

    #[test]
    fn a_nat_gateway_is_read_with_its_tags() {
        let xml = r"<DescribeNatGatewaysResponse><requestId>1</requestId><natGatewaySet><item><subnetId>subnet-1</subnetId><natGatewayAddressSet><item><publicIp>1.2.3.4</publicIp></item></natGatewayAddressSet><vpcId>vpc-1</vpcId><state>available</state><natGatewayId>nat-1</natGatewayId><connectivityType>public</connectivityType><tagSet><item><key>KubernetesCluster</key><value>prod</value></item></tagSet></item></natGatewaySet></DescribeNatGatewaysResponse>";
        let (gateways, _) = read::<NatGateway>(xml);
        assert_eq!(gateways[0].state, "available");
        assert_eq!(gateways[0].tags, [Tag::new("KubernetesCluster", "prod")]);
    }

    #[test]
    fn attributes_come_one_by_one() {
        let xml = r"<DescribeVpcAttributeResponse><requestId>1</requestId><vpcId>vpc-1</vpcId><enableDnsHostnames><value>true</value></enableDnsHostnames></DescribeVpcAttributeResponse>";
        let told: Attribute = quick_xml::de::from_str(xml).unwrap();
        assert!(told.enable_dns_support.is_none() && told.enable_dns_hostnames.unwrap().value);
    }
}
