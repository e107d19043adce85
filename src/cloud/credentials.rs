//! Finds credentials as every AWS tool finds them.

use std::fmt;
use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::SdkConfig;

/// S3 closes idle connections after about 5 s, and a streamed body cannot be sent again on another one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A fixed pair of keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(
            &self.access_key,
            &self.secret_key,
            None,
            None,
            "kops-mirror",
        )
    }
}

/// The client by which credentials are asked for.
pub(crate) fn client(proxies: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, _| {
        let connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(proxies.clone())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT);
        match settings {
            Some(settings) => connector.connector_settings(settings.clone()).build(),
            None => connector.build(),
        }
    })
}

/// What AWS's variables, files and instance say, with keys in place of theirs where they are given.
pub(crate) async fn find(region: &str, profile: Option<&str>, keys: Option<&Keys>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(client(ProxyConfig::from_env()))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .region(Region::new(region.to_owned()));
    if let Some(keys) = keys {
        loader = loader.credentials_provider(keys.credentials());
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
        if keys.is_none() {
            let client = client(ProxyConfig::from_env());
            loader = loader.credentials_provider(of_profile(region, profile, client));
        }
    }
    loader.load().await
}

/// What a profile that was named says, or else the container or the instance: never keys in the environment, which may be those of the other
/// partition, for all else of a run. So do AWS's own tools with `--profile`.
pub(crate) fn of_profile(
    region: &str,
    profile: &str,
    client: SharedHttpClient,
) -> SharedCredentialsProvider {
    let reading = ProviderConfig::without_region()
        .with_behavior_version(Some(BehaviorVersion::latest()))
        .with_http_client(client)
        .with_region(Some(Region::new(region.to_owned())));
    let profile = ProfileFileCredentialsProvider::builder()
        .configure(&reading)
        .profile_name(profile);
    let container = EcsCredentialsProvider::builder().configure(&reading);
    let instance = ImdsCredentialsProvider::builder().configure(&reading);
    SharedCredentialsProvider::new(
        CredentialsProviderChain::first_try("Profile", profile.build())
            .or_else("EcsContainer", container.build())
            .or_else("Ec2InstanceMetadata", instance.build()),
    )
}

/// Whoever has the credentials; where nobody was found, one whose keys nobody takes.
pub(crate) fn provider(found: &SdkConfig) -> SharedCredentialsProvider {
    let none = || Credentials::new("", "", None, None, "none");
    found
        .credentials_provider()
        .unwrap_or_else(|| SharedCredentialsProvider::new(none()))
}
