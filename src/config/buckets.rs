//! Reads what is another way for one bucket than for the rest: mirrors in both regions of China are fed from one crossing.

use serde::Deserialize;
use url::Url;

use super::{S3Settings, endpoint};

/// What is another for one bucket than `[s3]` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    pub region: Option<String>,
    pub profile: Option<String>,
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<Url>,
    pub path_style: Option<bool>,
}

impl S3Settings {
    /// The settings that hold for a bucket: its own before those of all.
    #[must_use]
    pub fn of_bucket(&self, bucket: &str) -> Self {
        let mut settings = self.clone();
        let Some(own) = settings.buckets.remove(bucket) else {
            return settings;
        };
        settings.region = own.region.or(settings.region);
        settings.profile = own.profile.or(settings.profile);
        settings.endpoint = own.endpoint.or(settings.endpoint);
        settings.path_style = own.path_style.or(settings.path_style);
        settings
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const SETTINGS: &str = r#"
        [s3]
        region = "cn-north-1"
        profile = "china"
        [s3.buckets.mirror-zhy]
        region = "cn-northwest-1"
    "#;

    #[test]
    fn a_bucket_has_its_own_before_what_holds_for_all() {
        let config: Config = toml::from_str(SETTINGS).unwrap();
        let of = |bucket: &str| {
            let settings = config.s3.of_bucket(bucket);
            (settings.region.unwrap(), settings.profile.unwrap())
        };
        let china = || "china".to_owned();
        assert_eq!(of("mirror-zhy"), ("cn-northwest-1".to_owned(), china()));
        assert_eq!(of("mirror-bjs"), ("cn-north-1".to_owned(), china()));
    }

    #[test]
    fn what_no_bucket_can_have_of_its_own_is_refused() {
        let acl = SETTINGS.replace("region = \"cn-northwest-1\"", "acl = \"private\"");
        assert!(toml::from_str::<Config>(&acl).is_err());
    }
}
