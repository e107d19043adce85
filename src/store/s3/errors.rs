//! Turns what the SDK and the server say into one sentence: what failed, where, why, and what to do.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::partition::Partition;
use crate::store::{StoreError, StoreErrorKind};

/// Where requests go; what advice depends on.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) region: String,
    /// A server of somebody's own; None for AWS.
    pub(super) endpoint: Option<String>,
}

/// What a server answered instead of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The S3 error code; empty where the answer had no body (HEAD) or no S3 body.
    pub(super) code: String,
    message: String,
    request_id: Option<String>,
    /// The region that the server says the bucket is in.
    pub(super) region: Option<String>,
}

/// A good answer that the SDK could not read, as its text: other servers than AWS call its outermost element otherwise
/// (moto 5.2.1: `GetBucketVersioningResponse` for `VersioningConfiguration`).
pub(super) fn misnamed<E>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    let answer = error.raw_response()?;
    let text = std::str::from_utf8(answer.body().bytes()?).ok()?;
    // S3 may also begin to answer well and then tell of a failure.
    let is_good =
        answer.status().is_success() && text.contains("xmlns=") && !text.contains("<Error>");
    is_good.then_some(text)
}

impl Refusal {
    /// None when the request never got an answer.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Self> {
        let answer = error.raw_response()?;
        let told = error.as_service_error().map(ProvideErrorMetadata::meta);
        let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
        Some(Self {
            status: answer.status().as_u16(),
            code: text(told.and_then(|told| told.code())),
            message: text(told.and_then(|told| told.message())),
            request_id: error.request_id().map(ToOwned::to_owned),
            region: answer
                .headers()
                .get("x-amz-bucket-region")
                .map(ToOwned::to_owned)
                .or_else(|| region_in(answer.body().bytes()?)),
        })
    }

    pub(super) fn kind(&self) -> StoreErrorKind {
        kind_of(self.status, &self.code)
    }

    /// Whether the server may only have meant a header that it does not know.
    pub(super) fn is_of_a_header(&self) -> bool {
        self.status == 501
            || matches!(
                self.code.as_str(),
                "NotImplemented" | "InvalidArgument" | "InvalidRequest"
            )
    }

    /// `SlowDown: Please reduce your request rate (503, request 4442587FB7D0A2F9)`
    fn sentence(&self) -> String {
        let mut sentence = [self.code.as_str(), self.message.trim_end_matches('.')]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": ");
        if sentence.is_empty() {
            sentence.push_str("the server refused");
        }
        match &self.request_id {
            Some(id) => format!("{sentence} ({}, request {id})", self.status),
            None => format!("{sentence} ({})", self.status),
        }
    }
}

/// The `<Region>` of an error's XML: where a bucket that was asked for in the wrong place is.
fn region_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Region>")?;
    let (region, _) = rest.split_once("</Region>")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!region.is_empty() && region.chars().all(plain)).then(|| region.to_owned())
}

fn kind_of(status: u16, code: &str) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match code {
        "NoSuchBucket" => Kind::NoSuchBucket,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Kind::ElsewhereRegion,
        "InvalidAccessKeyId"
        | "AuthFailure"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException" => Kind::Credentials,
        "AccessControlListNotSupported" => Kind::AclRefused,
        "EntityTooLarge" => Kind::TooLarge,
        "BadDigest" => Kind::EtagMismatch,
        "PreconditionFailed" => Kind::ConditionFailed,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => Kind::Full,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "ServiceUnavailable" => Kind::Busy,
        "RequestTimeout"
        | "IncompleteBody"
        | "ConditionalRequestConflict"
        | "OperationAborted"
        | "InternalError" => Kind::Transient,
        _ if code.starts_with("KMS.") => Kind::Encryption,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> StoreErrorKind {
    use StoreErrorKind as Kind;
    match status {
        301 | 307 => Kind::ElsewhereRegion,
        401 | 403 => Kind::Denied,
        412 => Kind::ConditionFailed,
        429 | 503 => Kind::Busy,
        507 => Kind::Full,
        501 => Kind::Permanent,
        408 | 409 | 499 | 500.. => Kind::Transient,
        _ => Kind::Permanent,
    }
}

impl Site {
    /// What a failed request means for `target`, an s3:// address: `can't put s3://bucket/key: …`.
    pub(super) fn explain<E>(
        &self,
        action: &str,
        target: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match Refusal::of(error) {
            Some(refusal) => self.explain_refusal(action, target, &refusal),
            None => self.explain_failure(action, target, error),
        }
    }

    pub(super) fn explain_refusal(
        &self,
        action: &str,
        target: &str,
        refusal: &Refusal,
    ) -> StoreError {
        let kind = refusal.kind();
        let mut what = format!("can't {action} {target}: {}", refusal.sentence());
        if let Some(advice) = self.advice(kind, refusal) {
            what = format!("{what}; {advice}");
        }
        StoreError::new(kind, what)
    }

    /// A request that got no answer: no credentials, no connection, a time-out.
    fn explain_failure(
        &self,
        action: &str,
        target: &str,
        error: &(dyn Error + 'static),
    ) -> StoreError {
        let (kind, why) = self.reason(error);
        StoreError::new(kind, format!("can't {action} {target}: {why}"))
    }

    fn reason(&self, error: &(dyn Error + 'static)) -> (StoreErrorKind, String) {
        let chain = chain(error);
        let root = chain.last().map(ToString::to_string).unwrap_or_default();
        let root = root.trim_end_matches('.');
        let credentials = chain
            .iter()
            .find_map(|error| error.downcast_ref::<CredentialsError>());
        let server = self.server();
        match credentials {
            Some(CredentialsError::CredentialsNotLoaded(_)) => (
                StoreErrorKind::Credentials,
                format!("there are no credentials: {WAYS_TO_CREDENTIALS}"),
            ),
            Some(_) => (
                StoreErrorKind::Credentials,
                format!("the credentials can't be had: {root}; other ways: {WAYS_TO_CREDENTIALS}"),
            ),
            None if root.contains("certificate") => (
                StoreErrorKind::Permanent,
                format!(
                    "the certificate of {server} is not one to trust: {root}; is something between here and there \
                     intercepting TLS?"
                ),
            ),
            None => (
                StoreErrorKind::Transient,
                format!("no answer from {server}: {root}"),
            ),
        }
    }

    /// The server in a user's words.
    pub(super) fn server(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Partition::of_region(&self.region).s3_host(&self.region),
        }
    }

    fn advice(&self, kind: StoreErrorKind, refusal: &Refusal) -> Option<String> {
        match kind {
            StoreErrorKind::NoSuchBucket => {
                Some("make it, or let this be done with --create-bucket".to_owned())
            }
            StoreErrorKind::ElsewhereRegion => Some(match &refusal.region {
                Some(region) if *region != self.region => format!(
                    "the bucket is in {region}, not in {}: use --region {region}",
                    self.region
                ),
                _ => format!(
                    "the bucket is not in {}: name its region with --region",
                    self.region
                ),
            }),
            StoreErrorKind::Credentials => Some(self.advice_on_credentials(&refusal.code)),
            StoreErrorKind::Denied => Some(
                "these credentials may not do it: look at their policy and the bucket's".to_owned(),
            ),
            StoreErrorKind::AclRefused => Some(ACL_REFUSED.to_owned()),
            StoreErrorKind::Encryption => Some(SET_SSE_S3.to_owned()),
            _ => None,
        }
    }

    fn advice_on_credentials(&self, code: &str) -> String {
        match code {
            "ExpiredToken" | "TokenRefreshRequired" => {
                "the session is over: get new credentials".to_owned()
            }
            "RequestTimeTooSkewed" | "RequestExpired" => {
                "the clock here is wrong: set it (S3 allows 15 minutes)".to_owned()
            }
            "SignatureDoesNotMatch" => {
                "the secret key does not belong to the access key, or something on the way changes requests"
                    .to_owned()
            }
            _ if self.endpoint.is_some() => format!("{} does not know this access key", self.server()),
            _ => self.advice_on_partition(),
        }
    }

    /// The keys of one partition are unknown in every other, which S3 tells only as an unknown key.
    fn advice_on_partition(&self) -> String {
        let partition = Partition::of_region(&self.region);
        if partition.is_china() {
            format!(
                "these credentials are no good in the partition aws-cn, where {} is: AWS China accounts are separate from \
                 those of the rest of AWS; use keys, a profile or a role of an AWS China account",
                self.region
            )
        } else {
            format!(
                "these credentials are no good in the partition {partition}, where {} is; keys of an AWS China account work in \
                 cn-north-1 and cn-northwest-1 only: is --region right?",
                self.region
            )
        }
    }
}

/// An error and what it comes from, the outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut chain = vec![error];
    let mut at = error;
    while let Some(source) = at.source() {
        chain.push(source);
        at = source;
    }
    chain
}

const WAYS_TO_CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile \
     (--profile, AWS_PROFILE) of ~/.aws/config, or run where there is a web identity (AWS_WEB_IDENTITY_TOKEN_FILE), a \
     container role or an instance role";

pub(super) const ACL_REFUSED: &str = "the bucket takes no ACLs (its object ownership is 'bucket owner enforced', the default since \
     2023): leave --acl out; 'kops-mirror bucket-policy' prints the policies that let readers in instead";

pub(super) const SET_SSE_S3: &str = "with KMS an ETag is not the MD5 of the content, which kops and this mirror rely on: set the \
     bucket's default encryption to SSE-S3 (AES256), or take another bucket";

#[cfg(test)]
mod tests {
    use super::*;
    use StoreErrorKind as Kind;

    fn site(region: &str, endpoint: Option<&str>) -> Site {
        Site {
            region: region.to_owned(),
            endpoint: endpoint.map(ToOwned::to_owned),
        }
    }

    fn refusal(status: u16, code: &str) -> Refusal {
        Refusal {
            status,
            code: code.to_owned(),
            message: "Said so.".to_owned(),
            request_id: Some("4442587FB7D0A2F9".to_owned()),
            region: None,
        }
    }

    fn explain(site: &Site, refusal: &Refusal) -> StoreError {
        site.explain_refusal("put", "s3://bucket/key", refusal)
    }

    #[test]
    fn codes_come_before_statuses() {
        for (status, code, kind) in [
            (404, "NoSuchBucket", Kind::NoSuchBucket),
            (301, "PermanentRedirect", Kind::ElsewhereRegion),
            (301, "", Kind::ElsewhereRegion),
            (403, "InvalidAccessKeyId", Kind::Credentials),
            (400, "ExpiredToken", Kind::Credentials),
            (403, "AccessDenied", Kind::Denied),
            (403, "", Kind::Denied),
            (400, "AccessControlListNotSupported", Kind::AclRefused),
            (503, "SlowDown", Kind::Busy),
            (429, "", Kind::Busy),
            (400, "RequestTimeout", Kind::Transient),
            (409, "ConditionalRequestConflict", Kind::Transient),
            (500, "InternalError", Kind::Transient),
            (502, "", Kind::Transient),
            (412, "PreconditionFailed", Kind::ConditionFailed),
            (412, "", Kind::ConditionFailed),
            (400, "BadDigest", Kind::EtagMismatch),
            (400, "EntityTooLarge", Kind::TooLarge),
            (400, "KMS.DisabledException", Kind::Encryption),
            (501, "NotImplemented", Kind::Permanent),
            (400, "InvalidArgument", Kind::Permanent),
        ] {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn says_what_failed_where_and_why() {
        assert_eq!(
            explain(&site("cn-north-1", None), &refusal(500, "InternalError")).to_string(),
            "can't put s3://bucket/key: InternalError: Said so (500, request 4442587FB7D0A2F9)"
        );
    }

    #[test]
    fn keys_of_the_wrong_partition_are_told_by_name_both_ways() {
        for code in ["InvalidAccessKeyId", "AuthFailure", "InvalidToken"] {
            let china = explain(&site("cn-north-1", None), &refusal(403, code));
            assert_eq!(china.kind, Kind::Credentials);
            assert!(
                china
                    .what
                    .contains("no good in the partition aws-cn, where cn-north-1 is"),
                "{china}"
            );
            let elsewhere = explain(&site("eu-west-1", None), &refusal(403, code));
            assert!(
                elsewhere.what.contains("partition aws, where eu-west-1 is"),
                "{elsewhere}"
            );
            assert!(elsewhere.what.contains("AWS China"));
        }
        let own = explain(
            &site("cn-north-1", Some("http://127.0.0.1:9000")),
            &refusal(403, "InvalidAccessKeyId"),
        );
        assert!(
            own.what
                .contains("http://127.0.0.1:9000 does not know this access key")
        );
    }

    #[test]
    fn says_which_ways_there_are_to_credentials() {
        for (found, told) in [
            (
                CredentialsError::not_loaded("none"),
                "there are no credentials: set AWS_ACCESS_KEY_ID",
            ),
            (
                CredentialsError::provider_error("IMDS said no"),
                "IMDS said no; other ways: set",
            ),
        ] {
            let error = SdkError::<aws_sdk_s3::Error, HttpResponse>::construction_failure(found);
            let error = site("cn-north-1", None).explain_failure("reach", "s3://bucket", &error);
            assert_eq!(error.kind, Kind::Credentials);
            assert!(error.what.contains(told), "{error}");
            assert!(error.what.contains("--profile"), "{error}");
        }
    }

    #[test]
    fn names_the_region_to_use() {
        let body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>cn-northwest-1</Region></Error>";
        let refusal = Refusal {
            region: region_in(body),
            ..refusal(400, "AuthorizationHeaderMalformed")
        };
        let error = explain(&site("cn-north-1", None), &refusal);
        assert!(
            error.what.ends_with(
                "the bucket is in cn-northwest-1, not in cn-north-1: use --region cn-northwest-1"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_refused_acl_names_what_serves_instead() {
        let error = explain(
            &site("cn-north-1", None),
            &refusal(400, "AccessControlListNotSupported"),
        );
        assert!(
            error.what.contains("'kops-mirror bucket-policy'"),
            "{error}"
        );
    }
}
