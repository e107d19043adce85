//! Load balancers of the newer kinds: application, network, gateway.

use serde::Deserialize;

use super::ec2::Tag;
use super::query::{Fields, Query, text};
use super::{Cloud, CloudError, service};

const VERSION: &str = "2015-12-01";

/// A list that never ends is none of AWS's.
const PAGES_MAX: usize = 100;

/// How many load balancers one call tells the tags of.
const TAGS_AT_ONCE: usize = 20;

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LoadBalancer {
    #[serde(rename = "LoadBalancerArn")]
    pub arn: String,
    #[serde(rename = "LoadBalancerName")]
    pub name: String,
    /// `application`, `network` or `gateway`
    #[serde(rename = "Type")]
    pub kind: String,
}

/// A list of this service.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Members<T> {
    #[serde(default = "Vec::new")]
    member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { member: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "DescribeLoadBalancersResult")]
    result: Page,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "LoadBalancers", default)]
    load_balancers: Members<LoadBalancer>,
    #[serde(rename = "NextMarker", default, deserialize_with = "text")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct TagsListed {
    #[serde(rename = "DescribeTagsResult")]
    result: Descriptions,
}

#[derive(Deserialize)]
struct Descriptions {
    #[serde(rename = "TagDescriptions", default)]
    descriptions: Members<Description>,
}

#[derive(Deserialize)]
struct Description {
    #[serde(rename = "ResourceArn")]
    arn: String,
    #[serde(rename = "Tags", default)]
    tags: Members<KeyAndValue>,
}

#[derive(Deserialize)]
struct KeyAndValue {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value", default)]
    value: String,
}

impl Cloud {
    /// The region's load balancers, but classic ones.
    pub async fn load_balancers(&self) -> Result<Vec<LoadBalancer>, CloudError> {
        let (operation, purpose) = ("DescribeLoadBalancers", "list load balancers");
        let mut fields = Fields::default();
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let listed: Listed = self.query(query(operation, purpose), &fields).await?;
            found.extend(listed.result.load_balancers.member);
            match listed.result.next {
                Some(next) => fields.set("Marker", &next),
                None => return Ok(found),
            }
        }
        let why = format!("it has more than {PAGES_MAX} pages");
        Err(self.nonsense(&service::LOAD_BALANCING, operation, purpose, why))
    }

    /// The tags of load balancers, by their ARNs.
    pub async fn load_balancer_tags(
        &self,
        arns: &[&str],
    ) -> Result<Vec<(String, Vec<Tag>)>, CloudError> {
        let mut found = Vec::new();
        for arns in arns.chunks(TAGS_AT_ONCE) {
            let fields = Fields::default().list("ResourceArns.member", arns);
            let query = query("DescribeTags", "read the tags of load balancers");
            let listed: TagsListed = self.query(query, &fields).await?;
            for described in listed.result.descriptions.member {
                let tags = described.tags.member.into_iter();
                let tags = tags.map(|tag| Tag::new(tag.key, tag.value)).collect();
                found.push((described.arn, tags));
            }
        }
        Ok(found)
    }
}

fn query<'a>(operation: &'a str, purpose: &'a str) -> Query<'a> {
    Query {
        service: &service::LOAD_BALANCING,
        version: VERSION,
        operation,
        purpose,
        is_repeatable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_tags_are_read() {
        let xml = r#"<DescribeLoadBalancersResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeLoadBalancersResult><LoadBalancers><member><LoadBalancerArn>arn:1</LoadBalancerArn><Scheme>internal</Scheme><LoadBalancerName>api-prod</LoadBalancerName><Type>network</Type><State><Code>active</Code></State><AvailabilityZones><member><ZoneName>cn-north-1a</ZoneName></member></AvailabilityZones></member></LoadBalancers><NextMarker>more</NextMarker></DescribeLoadBalancersResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></DescribeLoadBalancersResponse>"#;
        let listed: Listed = quick_xml::de::from_str(xml).unwrap();
        let [one] = listed.result.load_balancers.member.as_slice() else {
            panic!("one was told");
        };
        assert_eq!(
            (one.name.as_str(), one.kind.as_str()),
            ("api-prod", "network")
        );
        assert_eq!(listed.result.next.as_deref(), Some("more"));
        let none = "<DescribeLoadBalancersResponse><DescribeLoadBalancersResult><LoadBalancers/></DescribeLoadBalancersResult></DescribeLoadBalancersResponse>";
        let none: Listed = quick_xml::de::from_str(none).unwrap();
        assert!(none.result.load_balancers.member.is_empty() && none.result.next.is_none());
        let xml = "<DescribeTagsResponse><DescribeTagsResult><TagDescriptions><member><ResourceArn>arn:1</ResourceArn><Tags><member><Key>KubernetesCluster</Key><Value>prod.k8s.local</Value></member><member><Key>empty</Key><Value/></member></Tags></member></TagDescriptions></DescribeTagsResult></DescribeTagsResponse>";
        let told: TagsListed = quick_xml::de::from_str(xml).unwrap();
        let described = &told.result.descriptions.member[0];
        assert_eq!(described.arn, "arn:1");
        assert_eq!(described.tags.member[0].value, "prod.k8s.local");
    }
}
