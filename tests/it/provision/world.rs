//! An account of its own for each test, with an end in either partition.

use std::time::Duration;

use kops_mirror::ami::{Buckets, CopyOrder, Pace};
use kops_mirror::cloud::{Cloud, CloudSettings, Keys};
use kops_mirror::cluster::CopyEngine;
use kops_mirror::retry::Policy;
use kops_mirror::store::s3::{Depot, S3Options};
use tempfile::TempDir;
use url::Url;

use super::overlay::{FORM, Overlay, signature};
use super::real_kops;

pub(super) const CHINA: &str = "cn-north-1";
pub(super) const GLOBAL: &str = "us-east-1";

/// Canonical's newest in every region of moto (tests/servers/moto-amis.json).
pub(super) const UBUNTU: &str = "ami-0a240000000000002";
pub(super) const UBUNTU_CHINA: &str = "ami-0c240000000000002";

/// Quick enough for tests, and long enough for a slow machine.
pub(super) const PACE: Pace = Pace {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    deadline: Duration::from_secs(20),
};

pub(super) struct World {
    pub(super) overlay: Overlay,
    pub(super) keys: Keys,
    pub(super) dir: TempDir,
}

impl World {
    /// None where no moto is named: the test is skipped, and says so.
    pub(super) async fn start() -> Option<Self> {
        let Some(moto) = real_kops::moto() else {
            eprintln!("skipped: KOPS_MIRROR_TEST_MOTO names no server");
            return None;
        };
        let keys = account(&moto).await;
        let overlay = Overlay::start(moto, keys.clone()).await;
        Some(Self {
            overlay,
            keys,
            dir: TempDir::new().unwrap(),
        })
    }

    pub(super) fn settings(&self, region: &str) -> CloudSettings {
        CloudSettings {
            keys: Some(self.keys.clone()),
            endpoint: Some(self.overlay.url().clone()),
            retry: Policy {
                attempts: 4,
                pause_min: Duration::from_millis(2),
                pause_max: Duration::from_millis(10),
            },
            ..CloudSettings::new(region)
        }
    }

    pub(super) async fn cloud(&self, region: &str) -> Cloud {
        Cloud::connect(self.settings(region)).await.unwrap()
    }

    pub(super) async fn depot(&self, bucket: &str, region: &str) -> Depot {
        let options = S3Options {
            region: Some(region.to_owned()),
            endpoint: Some(self.overlay.url().clone()),
            keys: Some(self.keys.clone()),
            ..S3Options::new(bucket, "")
        };
        Depot::connect(&options).await.unwrap()
    }

    /// A private bucket at each end.
    pub(super) async fn buckets(&self) -> Buckets {
        let name = |end: &str| format!("{end}-{}", self.overlay.account_key().to_lowercase());
        let (from, to) = (name("from"), name("to"));
        self.overlay.make_bucket(&from, GLOBAL).await;
        self.overlay.make_bucket(&to, CHINA).await;
        Buckets {
            from: self.depot(&from, GLOBAL).await,
            to: self.depot(&to, CHINA).await,
        }
    }

    pub(super) fn order(&self, engine: CopyEngine) -> CopyOrder {
        CopyOrder {
            source: UBUNTU.to_owned(),
            name: Some("noble".to_owned()),
            engine,
            cluster: Some("prod.k8s.local".to_owned()),
            journal: self.dir.path().join("ami"),
            pace: PACE,
            rollback: false,
        }
    }
}

/// Keys of an account that nobody else uses: moto keeps the accounts of roles apart.
async fn account(moto: &Url) -> Keys {
    let account = fastrand_account();
    let body = format!(
        "Action=AssumeRole&Version=2011-06-15&RoleSessionName=tests&RoleArn=arn%3Aaws%3Aiam%3A%3A{account}%3Arole%2Ftests"
    );
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let signature = signature("AKIATEST", GLOBAL, "sts");
    let answer = client
        .post(moto.clone())
        .header("authorization", signature)
        .header("content-type", FORM)
        .body(body)
        .send()
        .await
        .unwrap();
    let text = answer.text().await.unwrap();
    let field = |name: &str| {
        let (_, rest) = text
            .split_once(&format!("<{name}>"))
            .unwrap_or_else(|| panic!("{text}"));
        rest.split_once('<').unwrap().0.to_owned()
    };
    Keys {
        access_key: field("AccessKeyId"),
        secret_key: field("SecretAccessKey"),
    }
}

fn fastrand_account() -> String {
    format!("{:012}", fastrand::u64(100_000_000_000..999_999_999_999))
}
