//! Writes the bucket policies that let nodes read a mirror where ACLs are refused or anonymous access is not wanted.
//!
//! Buckets made since April 2023 take no ACLs, and in China anonymous access needs an ICP filing besides. Nodes in a VPC need
//! neither: a policy that names their VPC endpoint lets them read without credentials.

mod existing;

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

pub use self::existing::{Audience, audience, with_tls_only};
use super::SERVICE_FOLDER;
use crate::partition::Partition;

/// Who may read the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Whoever comes through these gateway endpoints: `vpce-0a1b2c3d`.
    VpcEndpoints(Vec<String>),
    /// Whoever comes through any endpoint of these VPCs: `vpc-0a1b2c3d`.
    Vpcs(Vec<String>),
    /// Whoever comes from these public addresses: `203.0.113.0/24`.
    SourceIps(Vec<String>),
    /// Everybody.
    Public,
}

/// Why no policy can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("'{name}' is not a bucket's name")]
    BucketName { name: String },
    #[error(
        "the prefix '{prefix}' has a '*', a '?' or a '$', which mean something else in a policy"
    )]
    Prefix { prefix: String },
    #[error("the policy that the bucket has is no JSON that could be read")]
    Unreadable,
    #[error("say who may read: VPC endpoints, VPCs, source addresses, or the public")]
    Nobody,
    #[error("'{text}' is not {wanted}")]
    Malformed { text: String, wanted: &'static str },
    #[error(
        "{range} is a private range, which S3 never sees: from inside a VPC, name its endpoint (vpce-…) or the VPC instead"
    )]
    PrivateRange { range: String },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    principal: &'static str,
    action: &'static str,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

/// One operator with one key.
#[derive(Debug)]
struct Condition {
    operator: &'static str,
    key: &'static str,
    values: Vec<String>,
}

impl Serialize for Condition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let test = std::collections::BTreeMap::from([(self.key, &self.values)]);
        serializer.collect_map([(self.operator, test)])
    }
}

/// The policy, as indented JSON, that lets `readers` get what is below `prefix` (empty for all of it), over TLS only.
///
/// It gives nothing but reading objects: no listing, no writing. It is a whole policy; a bucket that has one already needs the
/// statements of both.
pub fn bucket_policy(
    partition: Partition,
    bucket: &str,
    prefix: &str,
    readers: &[Readers],
) -> Result<String, PolicyError> {
    let root = root(partition, bucket, prefix)?;
    let resource = format!("{root}/*");
    if readers.is_empty() {
        return Err(PolicyError::Nobody);
    }
    let mut statement = readers
        .iter()
        .map(|readers| allow(readers, &resource))
        .collect::<Result<Vec<_>, _>>()?;
    statement.push(deny_without_tls(resource));
    statement.push(deny_the_service_s_own(format!("{root}/{SERVICE_FOLDER}*")));
    let policy = Policy {
        version: "2012-10-17",
        statement,
    };
    Ok(serde_json::to_string_pretty(&policy).expect("strings and lists make JSON"))
}

/// What the mirror's objects are below.
fn root(partition: Partition, bucket: &str, prefix: &str) -> Result<String, PolicyError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(good) {
        return Err(PolicyError::BucketName {
            name: bucket.to_owned(),
        });
    }
    if prefix.contains(['*', '?', '$']) {
        return Err(PolicyError::Prefix {
            prefix: prefix.to_owned(),
        });
    }
    let bucket = partition.bucket_arn(bucket);
    Ok(match prefix.trim_matches('/') {
        "" => bucket,
        prefix => format!("{bucket}/{prefix}"),
    })
}

fn allow(readers: &Readers, resource: &str) -> Result<Statement, PolicyError> {
    let (sid, condition) = match readers {
        Readers::VpcEndpoints(ids) => (
            "ReadThroughVpcEndpoint",
            Some(test("StringEquals", "aws:SourceVpce", ids, vpc_endpoint)?),
        ),
        Readers::Vpcs(ids) => (
            "ReadFromVpc",
            Some(test("StringEquals", "aws:SourceVpc", ids, vpc)?),
        ),
        Readers::SourceIps(ranges) => (
            "ReadFromAddresses",
            Some(test("IpAddress", "aws:SourceIp", ranges, public_range)?),
        ),
        Readers::Public => ("ReadByEverybody", None),
    };
    Ok(Statement {
        sid,
        effect: "Allow",
        principal: "*",
        action: "s3:GetObject",
        resource: resource.to_owned(),
        condition,
    })
}

fn deny_without_tls(resource: String) -> Statement {
    Statement {
        sid: "RefuseWithoutTls",
        effect: "Deny",
        principal: "*",
        action: "s3:*",
        resource,
        condition: Some(Condition {
            operator: "Bool",
            key: "aws:SecureTransport",
            values: vec!["false".to_owned()],
        }),
    }
}

/// Who runs at the mirror, and on which host, is for those who sign their requests: what is anonymous has no principal
/// (IAM user guide, "AWS global condition context keys", aws:PrincipalArn).
fn deny_the_service_s_own(resource: String) -> Statement {
    Statement {
        sid: "HideWhoRuns",
        effect: "Deny",
        principal: "*",
        action: "s3:GetObject",
        resource,
        condition: Some(Condition {
            operator: "Null",
            key: "aws:PrincipalArn",
            values: vec!["true".to_owned()],
        }),
    }
}

fn test(
    operator: &'static str,
    key: &'static str,
    values: &[String],
    check: fn(&str) -> Result<(), PolicyError>,
) -> Result<Condition, PolicyError> {
    if values.is_empty() {
        return Err(PolicyError::Nobody);
    }
    values.iter().try_for_each(|value| check(value))?;
    Ok(Condition {
        operator,
        key,
        values: values.to_vec(),
    })
}

fn vpc_endpoint(text: &str) -> Result<(), PolicyError> {
    identifier(
        text,
        "vpce-",
        "a VPC endpoint, as vpce-0a1b2c3d4e5f67890 is",
    )
}

fn vpc(text: &str) -> Result<(), PolicyError> {
    identifier(text, "vpc-", "a VPC, as vpc-0a1b2c3d4e5f67890 is")
}

fn identifier(text: &str, prefix: &str, wanted: &'static str) -> Result<(), PolicyError> {
    let hexadecimal = |digits: &str| {
        !digits.is_empty() && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    match text.strip_prefix(prefix) {
        Some(digits) if hexadecimal(digits) => Ok(()),
        _ => Err(malformed(text, wanted)),
    }
}

fn malformed(text: &str, wanted: &'static str) -> PolicyError {
    PolicyError::Malformed {
        text: text.to_owned(),
        wanted,
    }
}

fn public_range(text: &str) -> Result<(), PolicyError> {
    let refuse = || malformed(text, "an address or a range, as 203.0.113.0/24 is");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| refuse())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if let Some(bits) = bits {
        let bits: u8 = bits.parse().map_err(|_| refuse())?;
        if bits > most {
            return Err(refuse());
        }
    }
    if is_private(address) {
        return Err(PolicyError::PrivateRange {
            range: text.to_owned(),
        });
    }
    Ok(())
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // RFC 6598: between a carrier and its customers; AWS uses it for pods as well.
            let shared = address & Ipv4Addr::new(255, 192, 0, 0) == Ipv4Addr::new(100, 64, 0, 0);
            address.is_private() || address.is_loopback() || address.is_link_local() || shared
        }
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn china() -> Partition {
        Partition::of_region("cn-north-1")
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_vpc_endpoint_in_china_reads_below_the_prefix() {
        let readers = [Readers::VpcEndpoints(list(&["vpce-0a1b2c3d4e5f67890"]))];
        let policy = bucket_policy(china(), "kops-mirror", "/k8s/files/", &readers).unwrap();
        insta::assert_snapshot!(policy, @r#"
        {
          "Version": "2012-10-17",
          "Statement": [
            {
              "Sid": "ReadThroughVpcEndpoint",
              "Effect": "Allow",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws-cn:s3:::kops-mirror/k8s/files/*",
              "Condition": {
                "StringEquals": {
                  "aws:SourceVpce": [
                    "vpce-0a1b2c3d4e5f67890"
                  ]
                }
              }
            },
            {
              "Sid": "RefuseWithoutTls",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:*",
              "Resource": "arn:aws-cn:s3:::kops-mirror/k8s/files/*",
              "Condition": {
                "Bool": {
                  "aws:SecureTransport": [
                    "false"
                  ]
                }
              }
            },
            {
              "Sid": "HideWhoRuns",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws-cn:s3:::kops-mirror/k8s/files/.service/*",
              "Condition": {
                "Null": {
                  "aws:PrincipalArn": [
                    "true"
                  ]
                }
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn several_readers_are_several_statements() {
        let readers = [
            Readers::Vpcs(list(&["vpc-1", "vpc-2"])),
            Readers::SourceIps(list(&["203.0.113.0/24", "2001:db8::/32"])),
        ];
        let policy = bucket_policy(Partition::AWS, "mirror", "", &readers).unwrap();
        insta::assert_snapshot!(policy, @r#"
        {
          "Version": "2012-10-17",
          "Statement": [
            {
              "Sid": "ReadFromVpc",
              "Effect": "Allow",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws:s3:::mirror/*",
              "Condition": {
                "StringEquals": {
                  "aws:SourceVpc": [
                    "vpc-1",
                    "vpc-2"
                  ]
                }
              }
            },
            {
              "Sid": "ReadFromAddresses",
              "Effect": "Allow",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws:s3:::mirror/*",
              "Condition": {
                "IpAddress": {
                  "aws:SourceIp": [
                    "203.0.113.0/24",
                    "2001:db8::/32"
                  ]
                }
              }
            },
            {
              "Sid": "RefuseWithoutTls",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:*",
              "Resource": "arn:aws:s3:::mirror/*",
              "Condition": {
                "Bool": {
                  "aws:SecureTransport": [
                    "false"
                  ]
                }
              }
            },
            {
              "Sid": "HideWhoRuns",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws:s3:::mirror/.service/*",
              "Condition": {
                "Null": {
                  "aws:PrincipalArn": [
                    "true"
                  ]
                }
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn the_public_reads_without_a_condition() {
        let policy = bucket_policy(china(), "mirror", "", &[Readers::Public]).unwrap();
        insta::assert_snapshot!(policy, @r#"
        {
          "Version": "2012-10-17",
          "Statement": [
            {
              "Sid": "ReadByEverybody",
              "Effect": "Allow",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws-cn:s3:::mirror/*"
            },
            {
              "Sid": "RefuseWithoutTls",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:*",
              "Resource": "arn:aws-cn:s3:::mirror/*",
              "Condition": {
                "Bool": {
                  "aws:SecureTransport": [
                    "false"
                  ]
                }
              }
            },
            {
              "Sid": "HideWhoRuns",
              "Effect": "Deny",
              "Principal": "*",
              "Action": "s3:GetObject",
              "Resource": "arn:aws-cn:s3:::mirror/.service/*",
              "Condition": {
                "Null": {
                  "aws:PrincipalArn": [
                    "true"
                  ]
                }
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn what_would_open_more_or_nothing_is_refused() {
        let of = |readers: Readers| bucket_policy(china(), "mirror", "", &[readers]).unwrap_err();
        for id in ["vpce-", "vpc-12", "vpce-XY", "vpce-1*", ""] {
            let error = of(Readers::VpcEndpoints(list(&[id])));
            assert!(matches!(error, PolicyError::Malformed { .. }), "{id}");
        }
        for range in ["203.0.113.0/33", "203.0.113", "*", "2001:db8::/129"] {
            let error = of(Readers::SourceIps(list(&[range])));
            assert!(matches!(error, PolicyError::Malformed { .. }), "{range}");
        }
        for range in ["10.0.0.0/8", "192.168.1.1", "100.64.0.0/10", "fd00::/8"] {
            let error = of(Readers::SourceIps(list(&[range])));
            assert!(matches!(error, PolicyError::PrivateRange { .. }), "{range}");
        }
        assert_eq!(of(Readers::Vpcs(Vec::new())), PolicyError::Nobody);
        assert_eq!(
            bucket_policy(china(), "mirror", "", &[]).unwrap_err(),
            PolicyError::Nobody
        );
        assert!(bucket_policy(china(), "Mirror_1", "", &[Readers::Public]).is_err());
        assert!(bucket_policy(china(), "mirror", "a*", &[Readers::Public]).is_err());
    }
}
