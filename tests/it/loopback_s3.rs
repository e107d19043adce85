//! Holds the loopback S3 server to what AWS does, with the AWS SDK and with raw sockets.

mod buckets;
mod chunked;
mod conditions;
mod copies;
mod digests;
mod faults;
mod listing;
mod objects;
mod public;
mod sockets;
mod uploads;

use std::fmt::Debug;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_runtime_api::http::Response;
use kops_mirror::loopback::s3::{LoopbackS3, Options};
use md5::{Digest as _, Md5};

const BUCKET: &str = "mirror";

/// A server and a client for it.
struct Rig {
    server: LoopbackS3,
    s3: Client,
}

impl Rig {
    fn new(options: Options) -> Self {
        let server = LoopbackS3::start(options).unwrap();
        let _ = server.bucket(BUCKET);
        let s3 = client(&server, server.region());
        Self { server, s3 }
    }

    fn bucket(&self) -> kops_mirror::loopback::s3::Bucket {
        self.server.bucket(BUCKET)
    }

    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.bucket().object(key)?.bytes.unwrap().to_vec())
    }

    async fn presigned_put(&self, key: &str) -> String {
        let expiry = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let put = self.s3.put_object().bucket(BUCKET).key(key);
        put.presigned(expiry).await.unwrap().uri().to_owned()
    }

    /// The URL of an object for requests without a signature.
    fn url(&self, key: &str) -> String {
        self.server
            .endpoint()
            .join(&format!("{BUCKET}/{key}"))
            .unwrap()
            .to_string()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

fn settings(server: &LoopbackS3, region: &str) -> aws_sdk_s3::config::Builder {
    let keys = server.credentials();
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(server.endpoint().as_str())
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new(
            keys.access_key.clone(),
            keys.secret_key.clone(),
            None,
            None,
            "loopback",
        ))
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .upload_enabled(false)
                .build(),
        )
}

fn client(server: &LoopbackS3, region: &str) -> Client {
    Client::from_conf(settings(server, region).build())
}

fn md5_hex(content: impl AsRef<[u8]>) -> String {
    hex::encode(Md5::digest(content.as_ref()))
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// The status and code of a refusal.
fn refusal<T: Debug, E: ProvideErrorMetadata + Debug>(
    result: Result<T, SdkError<E, Response>>,
) -> (u16, String) {
    let error = result.expect_err("the server should have refused");
    let status = error.raw_response().map_or(0, |r| r.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    (status, code)
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
