//! Builds the SDK's clients with the settings that slow links and servers other than AWS need.

use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::config::{StalledStreamProtectionConfig, retry::RetryConfig};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::ServiceConfigKey;
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use super::S3Options;
use super::connector::Connecting;
use super::errors::Site;
use super::lines::Lines;
use crate::cloud::credentials;
use crate::store::{StoreError, StoreErrorKind};

/// A handshake over a border that loses packets takes several times its round trips; the SDK's 3.1 s do not suffice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// S3 closes idle connections after about 5 s, and a streamed body cannot be sent again on another one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// For the requests without a body to carry: enough for a slow page of a listing.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// The region of servers that have none.
const ANY_REGION: &str = "us-east-1";

/// The two ways to send requests, and where they go.
pub(super) struct Clients {
    /// For small requests: repeated by the SDK, in bounded time.
    pub(super) requests: Client,
    /// For whole objects: never repeated by the SDK, in as much time as they make progress.
    pub(super) transfers: Client,
    pub(super) site: Site,
    /// Whether loss does not slow connections down.
    pub(super) rides_out_loss: bool,
    /// Which congestion control connections are given; None leaves them the system's.
    pub(super) congestion: Option<String>,
    /// The connections that are ours; none where a proxy makes them.
    pub(super) lines: Arc<Lines>,
}

pub(super) async fn connect(options: &S3Options) -> Result<Clients, StoreError> {
    let congestion = options.congestion.choose()?;
    let found = environment(options).await;
    let endpoint = endpoint(options, &found);
    let region = found
        .region()
        .cloned()
        .or_else(|| {
            endpoint
                .is_some()
                .then_some(Region::from_static(ANY_REGION))
        })
        .ok_or_else(|| no_region(options))?;
    let mut common = aws_sdk_s3::config::Builder::from(&found)
        .region(region.clone())
        // A plain body with Content-Length and UNSIGNED-PAYLOAD is the one form that every server takes.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style.unwrap_or(endpoint.is_some()))
        .interceptor(RequestLog);
    let site = Site {
        region: region.to_string(),
        endpoint,
    };
    let is_ours = !is_proxied(&site.server());
    let rides_out_loss = is_ours && congestion.rides_out_loss();
    let name = congestion.name().filter(|_| is_ours).map(str::to_owned);
    let lines = Lines::new(congestion);
    if is_ours {
        common = common.http_client(connections(&lines)?);
    } else {
        tracing::info!("through a proxy connections have the system's congestion control");
    }
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ANSWER_TIMEOUT)
        .build();
    let requests = common
        .clone()
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts);
    let transfers = common.retry_config(RetryConfig::disabled());
    Ok(Clients {
        requests: Client::from_conf(requests.build()),
        transfers: Client::from_conf(transfers.build()),
        site,
        rides_out_loss,
        congestion: name,
        lines,
    })
}

/// The proxies of the environment, as every tool takes them; a server on this machine is never behind one.
fn proxies(options: &S3Options) -> ProxyConfig {
    if options.endpoint.as_ref().is_some_and(is_local) {
        ProxyConfig::disabled()
    } else {
        ProxyConfig::from_env()
    }
}

fn is_local(url: &Url) -> bool {
    url.host().is_some_and(|host| match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    })
}

/// Writes every attempt at a request into the log, with nothing of its query or headers: they may be secret.
#[derive(Debug)]
struct RequestLog;

impl Intercept for RequestLog {
    fn name(&self) -> &'static str {
        "RequestLog"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let method = request.method();
        let url = request.uri().split(['?']).next().unwrap_or_default();
        tracing::debug!("{method} {url}");
        Ok(())
    }
}

/// Connections of our own, where no proxy makes them.
fn connections(lines: &Arc<Lines>) -> Result<SharedHttpClient, StoreError> {
    let how = Connecting {
        lines: Arc::clone(lines),
        timeout: CONNECT_TIMEOUT,
        pool_idle_timeout: POOL_IDLE_TIMEOUT,
    };
    how.client().map_err(|error| {
        let what = "can't read the certificates of this system (SSL_CERT_FILE names others)";
        StoreError::new(StoreErrorKind::Permanent, what).caused_by(error)
    })
}

/// Whether the proxies of the environment stand between here and a server: a URL, or a host that is reached over TLS.
fn is_proxied(server: &str) -> bool {
    let url = if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    };
    let (Ok(url), Ok(uri)) = (Url::parse(&url), url.parse()) else {
        return false;
    };
    !is_local(&url) && Matcher::from_env().intercept(&uri).is_some()
}

/// Credentials, region and endpoint as every AWS tool finds them.
async fn environment(options: &S3Options) -> SdkConfig {
    let http = credentials::client(proxies(options));
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .region(region(options));
    if let Some(keys) = &options.keys {
        loader = loader.credentials_provider(keys.credentials());
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
        if options.keys.is_none() {
            let region = options.region.as_deref().unwrap_or(ANY_REGION);
            loader = loader.credentials_provider(credentials::of_profile(region, profile, http));
        }
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint.as_str());
    }
    loader.load().await
}

/// With an endpoint of one's own there is no instance to ask for the region: that would only wait for a time-out.
fn region(options: &S3Options) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    let mut chain = DefaultRegionChain::builder();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
        chain = chain.profile_name(name);
    }
    let named = RegionProviderChain::first_try(options.region.clone().map(Region::new));
    match options.endpoint {
        Some(_) => named
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(profile.build())
            .or_else(Region::from_static(ANY_REGION)),
        None => named.or_else(chain.build()),
    }
}

/// The endpoint that was asked for: by option, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile.
fn endpoint(options: &S3Options, found: &SdkConfig) -> Option<String> {
    let of_s3 = || {
        let key = ServiceConfigKey::builder()
            .service_id("S3")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .expect("all three names are given");
        found.service_config()?.load_config(key)
    };
    let asked = options.endpoint.as_ref().map(ToString::to_string);
    asked
        .or_else(of_s3)
        .or_else(|| found.endpoint_url().map(ToOwned::to_owned))
        .map(|url| url.trim_end_matches('/').to_owned())
}

fn no_region(options: &S3Options) -> StoreError {
    StoreError::new(
        StoreErrorKind::Permanent,
        format!(
            "can't tell which region the bucket {} is in: name it with --region or AWS_REGION (China has cn-north-1 and \
             cn-northwest-1)",
            options.bucket
        ),
    )
}
