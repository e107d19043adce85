//! Where each service answers.

use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use url::Url;

use super::{CloudError, CloudSettings};
use crate::partition::Partition;

/// A service, by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    /// In errors, and as AWS_ENDPOINT_URL_… and profiles have it.
    pub(super) name: &'static str,
    /// In signatures.
    pub(super) signing: &'static str,
    /// What its hosts begin with.
    pub(super) host: &'static str,
}

impl Service {
    const fn of(name: &'static str, host: &'static str) -> Self {
        Self {
            name,
            signing: host,
            host,
        }
    }
}

pub(super) const EC2: Service = Service::of("EC2", "ec2");
pub(super) const STS: Service = Service::of("STS", "sts");
pub(super) const SSM: Service = Service::of("SSM", "ssm");
pub(super) const EBS: Service = Service::of("EBS", "ebs");
pub(super) const LOAD_BALANCING: Service =
    Service::of("Elastic Load Balancing v2", "elasticloadbalancing");
pub(super) const QUOTAS: Service = Service::of("Service Quotas", "servicequotas");

/// What was given, then AWS_ENDPOINT_URL_EC2 and its like, AWS_ENDPOINT_URL, the profile; else AWS.
pub(super) fn endpoint(
    settings: &CloudSettings,
    found: &SdkConfig,
    service: &Service,
) -> Result<Url, CloudError> {
    if let Some(endpoint) = &settings.endpoint {
        return Ok(endpoint.clone());
    }
    let key = ServiceConfigKey::builder()
        .service_id(service.name)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three names are given");
    let named = found
        .service_config()
        .and_then(|config| config.load_config(key))
        .or_else(|| found.endpoint_url().map(str::to_owned));
    let url = named.unwrap_or_else(|| of_aws(&settings.region, service));
    Url::parse(&url).map_err(|error| {
        let name = service.name;
        let what = format!("the endpoint of {name} is no URL: check AWS_ENDPOINT_URL and the profile's endpoint_url");
        CloudError::setup(what, error.into())
    })
}

fn of_aws(region: &str, service: &Service) -> String {
    let suffix = Partition::of_region(region).dns_suffix();
    format!("https://{}.{region}.{suffix}", service.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_of_the_region_s_partition() {
        assert_eq!(
            of_aws("cn-north-1", &EC2),
            "https://ec2.cn-north-1.amazonaws.com.cn"
        );
        assert_eq!(
            of_aws("us-east-1", &QUOTAS),
            "https://servicequotas.us-east-1.amazonaws.com"
        );
    }
}
