//! What a real kops needs and moto answers otherwise than AWS: regions of China, machines that are sold, and the order in which
//! things may be deleted.

use std::time::Duration;

use super::{Answer, Asked, Inner, xml};

/// Asks for a group's end before its balancer's targets go, 0.2 s apart.
const ASKS: usize = 100;

impl Inner {
    /// moto lists the regions of the commercial partition everywhere.
    pub(super) async fn regions(&self, asked: &Asked) -> Answer {
        if !asked.region.starts_with("cn-") {
            return self.forward(asked).await;
        }
        let items = ["cn-north-1", "cn-northwest-1"].map(|region| {
            format!("<item><regionName>{region}</regionName><regionEndpoint>ec2.{region}.amazonaws.com.cn</regionEndpoint><optInStatus>opt-in-not-required</optInStatus></item>")
        });
        let items = items.concat();
        xml::answer(
            "DescribeRegions",
            &format!("<regionInfo>{items}</regionInfo>"),
        )
    }

    /// moto has a fixed list, whatever type is asked for; kops chooses machines by it.
    pub(super) async fn reserved_offerings(&self, asked: &Asked) -> Answer {
        let Some(kind) = asked.field("InstanceType") else {
            return self.forward(asked).await;
        };
        let region = &asked.region;
        let items = ["a", "b"].map(|zone| {
            format!("<item><reservedInstancesOfferingId>{zone}</reservedInstancesOfferingId><instanceType>{kind}</instanceType><availabilityZone>{region}{zone}</availabilityZone></item>")
        });
        let items = items.concat();
        let set = format!("<reservedInstancesOfferingsSet>{items}</reservedInstancesOfferingsSet>");
        xml::answer("DescribeReservedInstancesOfferings", &set)
    }

    /// moto fails at a protocol that has no ports, as calico's has none.
    pub(super) async fn with_ports(&self, asked: &Asked) -> Answer {
        let ports = |name: &str| {
            let permission = name.strip_suffix(".IpProtocol")?;
            let port = format!("{permission}.FromPort");
            let is_bare = asked.field(name) != Some("-1") && asked.field(&port).is_none();
            is_bare.then(|| format!("&{port}=-1&{permission}.ToPort=-1"))
        };
        let ports = asked.fields().filter_map(|(name, _)| ports(name));
        let mut body = asked.body.to_vec();
        body.extend(ports.collect::<String>().into_bytes());
        let asked = Asked {
            body: body.into(),
            ..asked.clone()
        };
        self.forward(&asked).await
    }

    /// And AWS tells of none for it.
    pub(super) async fn security_groups(&self, asked: &Asked) -> Answer {
        let (status, headers, body) = self.forward(asked).await;
        let mut text = String::from_utf8_lossy(&body).into_owned();
        for port in ["<fromPort>-1</fromPort>", "<toPort>-1</toPort>"] {
            text = text.replace(port, "");
        }
        (status, headers, text.into())
    }

    /// moto lets DHCP options go with their network, which AWS keeps.
    pub(super) async fn delete_dhcp_options(&self, asked: &Asked) -> Answer {
        let (status, headers, body) = self.forward(asked).await;
        match String::from_utf8_lossy(&body).contains("InvalidDhcpOptionID.NotFound") {
            true => xml::answer("DeleteDhcpOptions", "<return>true</return>"),
            false => (status, headers, body),
        }
    }

    /// moto knows key pairs by their names alone.
    pub(super) async fn delete_key_pair(&self, asked: &Asked) -> Answer {
        let Some(id) = asked.field("KeyPairId") else {
            return self.forward(asked).await;
        };
        let (_, _, pairs) = self.ask_ec2(asked, &[("Action", "DescribeKeyPairs")]).await;
        let pairs = String::from_utf8_lossy(&pairs).into_owned();
        let of_id = |text: &&str| xml::element(text, "keyPairId") == Some(id);
        let items = xml::items(&pairs, "keySet").into_iter();
        let pair = items.map(|range| &pairs[range]).find(of_id);
        let name = pair.and_then(|text| xml::element(text, "keyName"));
        let fields = [
            ("Action", "DeleteKeyPair"),
            ("KeyName", name.unwrap_or_default()),
        ];
        self.ask_ec2(asked, &fields).await
    }

    /// A subnet that goes leaves its route table, which moto keeps tied to it.
    pub(super) async fn delete_subnet(&self, asked: &Asked) -> Answer {
        let subnet = asked.field("SubnetId").unwrap_or_default();
        let fields = [
            ("Action", "DescribeRouteTables"),
            ("Filter.1.Name", "association.subnet-id"),
            ("Filter.1.Value.1", subnet),
        ];
        let (_, _, tables) = self.ask_ec2(asked, &fields).await;
        let tables = String::from_utf8_lossy(&tables).into_owned();
        let gone = self.forward(asked).await;
        if gone.0.is_success() {
            for tie in ties(&tables, subnet) {
                let fields = [("Action", "DisassociateRouteTable"), ("AssociationId", tie)];
                self.ask_ec2(asked, &fields).await;
            }
        }
        gone
    }

    /// kops deletes several things at once. AWS lets a balancer's targets go before the group that is attached to them, and moto then
    /// never lets the group go.
    pub(super) async fn delete_target_group(&self, asked: &Asked) -> Answer {
        let target = asked.field("TargetGroupArn").unwrap_or_default();
        for _ in 0..ASKS {
            let groups = self.groups(asked).await;
            if !groups.contains(target) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.forward(asked).await
    }

    async fn groups(&self, asked: &Asked) -> String {
        let asking = asked.of_service("autoscaling", "2011-01-01", "DescribeAutoScalingGroups");
        let (_, _, body) = self.forward(&asking).await;
        String::from_utf8_lossy(&body).into_owned()
    }
}

/// The ids of the associations of a subnet with its route tables.
fn ties<'a>(tables: &'a str, subnet: &str) -> Vec<&'a str> {
    let of_subnet = |text: &&str| xml::element(text, "subnetId") == Some(subnet);
    tables
        .split("<item>")
        .filter(of_subnet)
        .filter_map(|text| xml::element(text, "routeTableAssociationId"))
        .collect()
}

#[test]
fn ties_are_those_of_the_subnet() {
    let tables = "<associationSet><item><routeTableAssociationId>a</routeTableAssociationId><subnetId>s1</subnetId></item>\
        <item><routeTableAssociationId>b</routeTableAssociationId><subnetId>s2</subnetId></item></associationSet>";
    assert_eq!(ties(tables, "s2"), ["b"]);
}
