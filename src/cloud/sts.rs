//! Whose credentials they are.

use serde::Deserialize;

use super::query::{Fields, Query};
use super::{Cloud, CloudError, service};
use crate::partition::Partition;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    pub arn: String,
    /// As the ARN has it; None where it is none that is known.
    pub partition: Option<Partition>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "GetCallerIdentityResult")]
    result: Told,
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "Account")]
    account: String,
    #[serde(rename = "Arn")]
    arn: String,
}

impl Cloud {
    /// Asks who the credentials belong to. Credentials of another partition get a refusal that names them as such.
    pub async fn identity(&self) -> Result<Identity, CloudError> {
        let query = Query {
            service: &service::STS,
            version: "2011-06-15",
            operation: "GetCallerIdentity",
            purpose: "find out whose credentials these are",
            is_repeatable: true,
        };
        let answer: Answer = self.query(query, &Fields::default()).await?;
        Ok(Identity::of(answer.result))
    }
}

impl Identity {
    fn of(told: Told) -> Self {
        let partition = told.arn.split(':').nth(1).and_then(Partition::named);
        Self {
            account: told.account,
            arn: told.arn,
            partition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_tells_the_partition() {
        let xml = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws-cn:iam::123456789012:user/Alice</Arn><UserId>AID</UserId><Account>123456789012</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;
        let answer: Answer = quick_xml::de::from_str(xml).unwrap();
        let identity = Identity::of(answer.result);
        assert_eq!(identity.account, "123456789012");
        assert!(identity.partition.unwrap().is_china());
    }
}
