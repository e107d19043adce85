//! A bucket on the loopback S3 server, as a target.

use std::sync::Arc;

use kops_mirror::loopback::s3::{Bucket, LoopbackS3, Options};
use kops_mirror::store::Store;
use kops_mirror::store::s3::{Keys, S3Options, S3Store};

/// What all its keys start with.
pub(crate) const PREFIX: &str = "k8s";
const NAME: &str = "mirror";
const REGION: &str = "cn-north-1";

/// A server with one bucket.
#[derive(Debug)]
pub(crate) struct BucketServer(pub(crate) LoopbackS3);

impl BucketServer {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let server = LoopbackS3::start(Options {
            region: REGION.to_owned(),
            ..options
        })
        .unwrap();
        server.bucket(NAME);
        Self(server)
    }

    pub(crate) fn bucket(&self) -> Bucket {
        self.0.bucket(NAME)
    }

    pub(crate) fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.0.endpoint()),
            region: Some(REGION.to_owned()),
            keys: Some(Keys {
                access_key: self.0.credentials().access_key.clone(),
                secret_key: self.0.credentials().secret_key.clone(),
            }),
            ..S3Options::new(NAME, PREFIX)
        }
    }

    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        Arc::new(S3Store::connect(self.options()).await.unwrap())
    }

    /// All keys but the service's own.
    pub(crate) fn visible(&self) -> Vec<String> {
        let keys = self.bucket().keys().into_iter();
        keys.filter(|key| !key.contains("/.service/")).collect()
    }

    /// How often an object became visible at this key.
    pub(crate) fn commits_of(&self, key: &str) -> usize {
        let key = format!("{PREFIX}/{key}");
        let commits = self.bucket().commits();
        commits.iter().filter(|commit| **commit == key).count()
    }
}
