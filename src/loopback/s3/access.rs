//! Decides who may do what where: keys, regions, anonymous readers, and the refusals that were ordered.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::exchange::Exchange;
use super::faults::Trouble;
use super::{Account, Bucket, Credentials};

/// Knows the secret of the one account.
pub(super) struct Keys(pub(super) Credentials);

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key {
            return Ok(SecretKey::from(self.0.secret_key.as_str()));
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Finds the bucket in `BUCKET.localhost` and in the host names of AWS, for those who point these here.
pub(super) struct Hosts {
    pub(super) region: String,
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let domains = [
            format!("s3.{}.amazonaws.com.cn", self.region),
            format!("s3.{}.amazonaws.com", self.region),
            "s3.localhost".to_owned(),
            "localhost".to_owned(),
        ];
        let bucket = domains
            .iter()
            .find_map(|domain| name.strip_suffix(domain.as_str()))
            .and_then(|rest| rest.strip_suffix('.'));
        let found = VirtualHost::new(host);
        Ok(match bucket {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

/// Stands at the door, after the signature and before the body.
pub(super) struct Door(pub(super) Arc<Account>);

#[async_trait]
impl S3Access for Door {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name().to_owned();
        let bucket = cx
            .s3_path()
            .get_bucket_name()
            .unwrap_or_default()
            .to_owned();
        let key = cx.s3_path().get_object_key().unwrap_or_default().to_owned();
        let trouble = self.0.faults.next(&operation, &key);
        if let Some(exchange) = cx.extensions_mut().get::<Arc<Exchange>>() {
            exchange.asks(&operation, &bucket, &key, trouble.clone());
        }
        if let Some(Trouble::Refused { status, code }) = trouble {
            return Err(refusal(status, code));
        }
        let bucket = self.0.bucket(&bucket);
        self.check_region(cx, &operation, bucket.as_ref())?;
        if cx.credentials().is_some() {
            return Ok(());
        }
        check_anonymous(&operation, bucket, &key)
    }
}

impl Door {
    /// A request signed for another region, or sent to another region's endpoint, is turned away with the right one's name.
    fn check_region(
        &self,
        cx: &S3AccessContext<'_>,
        operation: &str,
        bucket: Option<&Bucket>,
    ) -> S3Result<()> {
        let ours = self.0.options.region.as_str();
        let home = bucket.map_or(ours, Bucket::region);
        if let Some(signed) = signed_region(cx.headers(), cx.uri()).filter(|signed| signed != ours)
        {
            return Err(pointing_to(
                home,
                s3_error!(
                    AuthorizationHeaderMalformed,
                    "The authorization header is malformed; the region '{signed}' is wrong; expecting '{home}'"
                ),
            ));
        }
        // Made to be asked from anywhere, or about a bucket that is to be.
        if home == ours || matches!(operation, "GetBucketLocation" | "CreateBucket") {
            return Ok(());
        }
        Err(pointing_to(
            home,
            s3_error!(
                PermanentRedirect,
                "The bucket you are attempting to access must be addressed using the specified endpoint. \
                 Please send all future requests to this endpoint."
            ),
        ))
    }
}

fn check_anonymous(operation: &str, bucket: Option<Bucket>, key: &str) -> S3Result<()> {
    let Some(bucket) = bucket else {
        return Err(s3_error!(
            NoSuchBucket,
            "The specified bucket does not exist"
        ));
    };
    // Who may not list may not learn that a key is missing either: 403, not 404.
    if matches!(operation, "GetObject" | "HeadObject") && bucket.readable_by_all(key) {
        return Ok(());
    }
    Err(s3_error!(AccessDenied, "Access Denied"))
}

fn refusal(status: u16, code: &str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, "refused as ordered");
    error
        .set_status_code(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    error
}

fn pointing_to(region: &str, mut error: S3Error) -> S3Error {
    if let Ok(region) = HeaderValue::from_str(region) {
        error.set_headers(HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-bucket-region"),
            region,
        )]));
    }
    error
}

/// The region in the credential scope, `ACCESSKEY/DATE/REGION/s3/aws4_request`.
fn signed_region(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let scope = match headers.get(http::header::AUTHORIZATION) {
        Some(value) => value.to_str().ok()?.split_once("Credential=")?.1.to_owned(),
        None => url::form_urlencoded::parse(uri.query()?.as_bytes())
            .find(|(name, _)| name == "X-Amz-Credential")?
            .1
            .into_owned(),
    };
    scope.split('/').nth(2).map(str::to_owned)
}
