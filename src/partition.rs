//! Tells an AWS partition from a region alone: its DNS suffix, its ARN prefix, its endpoints.
//!
//! Accounts, credentials and buckets of one partition do not exist in another, so nearly every mistake around AWS China is
//! a mistake about the partition. Source: the regular expressions in the AWS SDKs' `partitions.json`.

use std::fmt;

/// A separate AWS: its own accounts, names and domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    id: &'static str,
    dns_suffix: &'static str,
    region_prefix: &'static str,
}

/// Every partition but the global one, whose regions have no prefix in common. A longer prefix stands before a shorter.
const APART: [Partition; 7] = [
    Partition::apart("aws-cn", "amazonaws.com.cn", "cn-"),
    Partition::apart("aws-us-gov", "amazonaws.com", "us-gov-"),
    Partition::apart("aws-iso-b", "sc2s.sgov.gov", "us-isob-"),
    Partition::apart("aws-iso-f", "csp.hci.ic.gov", "us-isof-"),
    Partition::apart("aws-iso-e", "cloud.adc-e.uk", "eu-isoe-"),
    Partition::apart("aws-iso", "c2s.ic.gov", "us-iso-"),
    Partition::apart("aws-eusc", "amazonaws.eu", "eusc-"),
];

impl Partition {
    /// The global partition.
    pub const AWS: Self = Self::apart("aws", "amazonaws.com", "");

    const fn apart(
        id: &'static str,
        dns_suffix: &'static str,
        region_prefix: &'static str,
    ) -> Self {
        Self {
            id,
            dns_suffix,
            region_prefix,
        }
    }

    /// The partition that a region is in.
    pub fn of_region(region: &str) -> Self {
        APART
            .into_iter()
            .find(|partition| region.starts_with(partition.region_prefix))
            .unwrap_or(Self::AWS)
    }

    /// The partition of this name, as it stands in an ARN: `aws-cn`.
    pub fn named(id: &str) -> Option<Self> {
        APART
            .into_iter()
            .chain([Self::AWS])
            .find(|partition| partition.id == id)
    }

    /// The name in ARNs: `aws-cn`.
    pub fn id(&self) -> &'static str {
        self.id
    }

    pub fn dns_suffix(&self) -> &'static str {
        self.dns_suffix
    }

    pub fn is_china(&self) -> bool {
        self.id == "aws-cn"
    }

    /// The host that answers for S3 in a region of this partition.
    pub fn s3_host(&self, region: &str) -> String {
        format!("s3.{region}.{}", self.dns_suffix)
    }

    /// The host that answers for one bucket; its name must have no dots for the certificate to match.
    pub fn bucket_host(&self, bucket: &str, region: &str) -> String {
        format!("{bucket}.{}", self.s3_host(region))
    }

    /// The ARN of a bucket.
    pub fn bucket_arn(&self, bucket: &str) -> String {
        format!("arn:{}:s3:::{bucket}", self.id)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_alone_names_the_partition() {
        for (region, id, host) in [
            ("cn-north-1", "aws-cn", "s3.cn-north-1.amazonaws.com.cn"),
            (
                "cn-northwest-1",
                "aws-cn",
                "s3.cn-northwest-1.amazonaws.com.cn",
            ),
            ("us-east-1", "aws", "s3.us-east-1.amazonaws.com"),
            ("ca-central-1", "aws", "s3.ca-central-1.amazonaws.com"),
            (
                "us-gov-west-1",
                "aws-us-gov",
                "s3.us-gov-west-1.amazonaws.com",
            ),
            ("us-iso-east-1", "aws-iso", "s3.us-iso-east-1.c2s.ic.gov"),
            (
                "us-isob-east-1",
                "aws-iso-b",
                "s3.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                "eusc-de-east-1",
                "aws-eusc",
                "s3.eusc-de-east-1.amazonaws.eu",
            ),
        ] {
            let partition = Partition::of_region(region);
            assert_eq!(partition.id(), id, "{region}");
            assert_eq!(partition.s3_host(region), host);
            assert_eq!(Partition::named(id), Some(partition));
        }
    }

    #[test]
    fn arns_and_bucket_hosts_are_of_the_partition() {
        let china = Partition::of_region("cn-north-1");
        assert_eq!(china.bucket_arn("mirror"), "arn:aws-cn:s3:::mirror");
        assert_eq!(
            china.bucket_host("mirror", "cn-north-1"),
            "mirror.s3.cn-north-1.amazonaws.com.cn"
        );
        assert!(china.is_china() && !Partition::AWS.is_china());
        assert_eq!(Partition::named("aws-mars"), None);
    }
}
