//! The AWS account of one region with one set of credentials, as far as provisioning has to do with it.
//!
//! EC2 speaks XML to forms, the others JSON; a few dozen calls of them are made here, signed, in place of their SDKs: rustc takes
//! over 7 GiB of memory and minutes for EC2's alone. Endpoints and credentials are found as every AWS tool finds them.

mod clock;
pub(crate) mod credentials;
mod ebs;
mod ec2;
mod failure;
mod load_balancing;
mod query;
mod quotas;
mod request;
mod service;
pub(crate) mod signing;
mod ssm;
mod sts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use reqwest::Client;
use reqwest::redirect;
use url::{Host, Url};

pub use self::credentials::Keys;
pub use self::ebs::{BLOCK_BYTES, Block, BlockPage, Listed, NewSnapshot, StartedSnapshot};
pub use self::ec2::*;
pub use self::failure::{CloudError, CloudErrorKind};
pub use self::load_balancing::LoadBalancer;
pub use self::sts::Identity;
use crate::partition::Partition;
use crate::retry::Policy;

/// A handshake over a border that loses packets takes several times its round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Which account, and how it is reached.
#[derive(Clone)]
pub struct CloudSettings {
    pub region: String,
    /// A profile of AWS's own configuration.
    pub profile: Option<String>,
    /// Asked of the environment, the profile and the instance when None.
    pub keys: Option<Keys>,
    /// Answers for every service; None: what AWS's variables and the profile name, or AWS.
    pub endpoint: Option<Url>,
    /// How patiently a call is repeated.
    pub retry: Policy,
    /// How long one answer may take.
    pub answer_timeout: Duration,
}

impl CloudSettings {
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            profile: None,
            keys: None,
            endpoint: None,
            retry: Policy::default(),
            answer_timeout: Duration::from_mins(1),
        }
    }

    /// Whose credentials they are, in a reader's words.
    pub fn who(&self) -> String {
        match &self.profile {
            Some(profile) => format!("the profile {profile}"),
            None => "the credentials of the environment".to_owned(),
        }
    }
}

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudSettings")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// An account in one region. Cheap to clone.
#[derive(Clone)]
pub struct Cloud(Arc<Account>);

struct Account {
    settings: CloudSettings,
    found: SdkConfig,
    credentials: SharedCredentialsProvider,
    client: Client,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cloud").field(&self.0.settings).finish()
    }
}

impl Cloud {
    /// Finds credentials and endpoints; asks AWS nothing yet.
    pub async fn connect(settings: CloudSettings) -> Result<Self, CloudError> {
        let found = credentials::find(
            &settings.region,
            settings.profile.as_deref(),
            settings.keys.as_ref(),
        )
        .await;
        let credentials = credentials::provider(&found);
        let ec2 = service::endpoint(&settings, &found, &service::EC2)?;
        let client = client(&ec2).map_err(|error| {
            CloudError::setup(
                "can't set up connections to AWS",
                error.without_url().into(),
            )
        })?;
        Ok(Self(Arc::new(Account {
            settings,
            found,
            credentials,
            client,
        })))
    }

    pub fn region(&self) -> &str {
        &self.0.settings.region
    }

    /// The partition of the region; that of the credentials is [`Cloud::identity`]'s.
    pub fn partition(&self) -> Partition {
        Partition::of_region(self.region())
    }

    pub fn settings(&self) -> &CloudSettings {
        &self.0.settings
    }
}

/// It follows no redirect: a signed request is for one host.
fn client(endpoint: &Url) -> reqwest::Result<Client> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    match is_local(endpoint) {
        true => client.no_proxy().build(),
        false => client.build(),
    }
}

/// A server on this machine is never behind a proxy.
fn is_local(url: &Url) -> bool {
    url.host().is_some_and(|host| match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    })
}
