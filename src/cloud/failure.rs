//! What a call came to instead of its answer, in one sentence: what failed, where, why, and what to do.

use std::error::Error;
use std::fmt;

use serde::Deserialize;

use super::service::Service;
use crate::retry::Class;

/// A message's length, at most: refusals of rights carry an encoded essay.
const MESSAGE_MAX_CHARS: usize = 300;

/// A call that failed.
#[derive(Debug)]
pub struct CloudError {
    pub kind: CloudErrorKind,
    /// `EC2`; empty before any call.
    pub service: &'static str,
    /// `DescribeImages`
    pub operation: String,
    /// AWS's own word: `InvalidAMIID.NotFound`; empty where AWS said nothing.
    pub code: String,
    /// The whole sentence.
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a caller can do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloudErrorKind {
    /// It is not there, or not yet: EC2 is consistent only eventually.
    NotFound,
    /// Too many calls.
    Throttled,
    /// The credentials are good and lack a right.
    Denied,
    /// The credentials are no good here.
    Credentials,
    /// A limit of the account.
    Limit,
    /// Worth another attempt: connection, time-out, 5xx.
    Transient,
    /// What came is not what it should be.
    Corrupt,
    /// The same call will fail again.
    Permanent,
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for CloudError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

/// Which call it was, and whose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) service: &'a Service,
    pub(super) operation: &'a str,
    /// `look at the image ami-1`
    pub(super) purpose: &'a str,
    pub(super) region: &'a str,
    /// `the profile china`
    pub(super) who: &'a str,
}

/// What AWS answered instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl CloudError {
    pub(super) fn setup(what: impl Into<String>, source: Box<dyn Error + Send + Sync>) -> Self {
        Self {
            kind: CloudErrorKind::Permanent,
            service: "",
            operation: String::new(),
            code: String::new(),
            what: what.into(),
            source: Some(source),
        }
    }

    /// `can't look at the image ami-1 in cn-north-1: WHY`
    pub(super) fn at(site: Site<'_>, kind: CloudErrorKind, why: impl fmt::Display) -> Self {
        let Site {
            purpose,
            region,
            service,
            operation,
            ..
        } = site;
        Self {
            kind,
            service: service.name,
            operation: operation.to_owned(),
            code: String::new(),
            what: format!("can't {purpose} in {region}: {why}"),
            source: None,
        }
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn refused(site: Site<'_>, refusal: Refusal) -> Self {
        let kind = refusal.kind();
        let Site {
            service, operation, ..
        } = site;
        let why = format!(
            "{} {operation}: {}{}",
            service.name,
            refusal.sentence(),
            advice(site, kind)
        );
        let mut error = Self::at(site, kind, why);
        error.code = refusal.code;
        error
    }

    pub fn class(&self) -> Class {
        match self.kind {
            CloudErrorKind::Throttled | CloudErrorKind::Transient => Class::Transient,
            CloudErrorKind::Corrupt => Class::Corrupt,
            _ => Class::Permanent,
        }
    }

    /// Whether AWS does not know what was asked about, or not yet.
    pub fn is_not_found(&self) -> bool {
        self.kind == CloudErrorKind::NotFound
    }
}

fn advice(site: Site<'_>, kind: CloudErrorKind) -> String {
    let Site {
        service,
        operation,
        region,
        who,
        ..
    } = site;
    match kind {
        CloudErrorKind::Credentials => {
            let (ours, other) = match region.starts_with("cn-") {
                true => ("AWS China", "AWS"),
                false => ("AWS", "AWS China"),
            };
            format!(
                "; {who} is not known there: {region} takes accounts of {ours} and never those of {other}; check also whether \
                 the keys are still good, and the clock"
            )
        }
        CloudErrorKind::Denied => {
            let right = service.signing;
            format!("; {who} lacks a right: allow {right}:{operation}")
        }
        CloudErrorKind::Limit => {
            "; have the account's quota raised, or free what is not needed".to_owned()
        }
        _ => String::new(),
    }
}

impl Refusal {
    pub(super) fn kind(&self) -> CloudErrorKind {
        match (self.status, self.code.as_str()) {
            (
                _,
                "RequestLimitExceeded"
                | "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottledException"
                | "RequestThrottled"
                | "TooManyRequestsException"
                | "EC2ThrottledException"
                | "SlowDown"
                | "SnapshotCreationPerVolumeRateExceeded",
            )
            | (429, _) => CloudErrorKind::Throttled,
            (
                _,
                "AuthFailure"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "SignatureDoesNotMatch"
                | "InvalidSignatureException"
                | "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestExpired"
                | "MissingAuthenticationToken"
                | "MissingAuthenticationTokenException"
                | "IncompleteSignature"
                | "OptInRequired"
                | "Blocked",
            )
            | (401, _) => CloudErrorKind::Credentials,
            (_, "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException") => {
                CloudErrorKind::Denied
            }
            (_, code) if code.ends_with("NotFound") || code.ends_with("NotFoundException") => {
                CloudErrorKind::NotFound
            }
            (_, "NoSuchResourceException" | "ResourceNotFound") => CloudErrorKind::NotFound,
            (_, code)
                if code.ends_with("LimitExceeded") || code.ends_with("QuotaExceededException") =>
            {
                CloudErrorKind::Limit
            }
            (500.. | 408, _) => CloudErrorKind::Transient,
            (403, _) => CloudErrorKind::Denied,
            _ => CloudErrorKind::Permanent,
        }
    }

    /// `InvalidAMIID.NotFound: The image id … does not exist (400)`
    fn sentence(&self) -> String {
        let parts = [self.code.as_str(), self.message.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => format!("answered {} without a reason", self.status),
            false => format!("{} ({})", parts.join(": "), self.status),
        }
    }

    /// Reads a refusal in XML or JSON; a page of HTML says nothing.
    pub(super) fn read(status: u16, error_type: Option<&str>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let (code, message) = of_xml(&text).or_else(|| of_json(&text)).unwrap_or_default();
        let code = match error_type {
            Some(kind) if code.is_empty() => kind.to_owned(),
            _ => code,
        };
        let code = code.rsplit('#').next().unwrap_or_default();
        let code = code.split(':').next().unwrap_or_default();
        Self {
            status,
            code: code.to_owned(),
            message: harmless(&message),
        }
    }
}

/// What may be shown: a refused signature's message goes on, line by line, with all that was signed, a session's token included.
fn harmless(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let shown = first.trim().trim_end_matches('.').chars();
    shown
        .filter(|c| !c.is_control())
        .take(MESSAGE_MAX_CHARS)
        .collect()
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "Code", default)]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(rename = "Error")]
    error: Told,
}

/// EC2 has `Response/Errors/Error`, the others of its kind `ErrorResponse/Error`.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Errors")]
    errors: Option<Errors>,
    #[serde(rename = "Error")]
    error: Option<Told>,
}

fn of_xml(text: &str) -> Option<(String, String)> {
    let document: Document = quick_xml::de::from_str(text).ok()?;
    let told = document
        .errors
        .map(|errors| errors.error)
        .or(document.error)?;
    Some((told.code, told.message))
}

fn of_json(text: &str) -> Option<(String, String)> {
    let told: serde_json::Value = serde_json::from_str(text).ok()?;
    let code = ["__type", "code", "Code"]
        .into_iter()
        .find_map(|name| told[name].as_str());
    let message = ["message", "Message"]
        .into_iter()
        .find_map(|name| told[name].as_str());
    Some((
        code.unwrap_or_default().to_owned(),
        message.unwrap_or_default().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::service::EC2;
    use super::*;

    const SITE: Site<'static> = Site {
        service: &EC2,
        operation: "DescribeImages",
        purpose: "look at the image ami-1",
        region: "cn-north-1",
        who: "the profile china",
    };

    fn told(status: u16, body: &str) -> CloudError {
        CloudError::refused(SITE, Refusal::read(status, None, body.as_bytes()))
    }

    #[test]
    fn refusals_are_read_in_every_form() {
        let ec2 = r#"<?xml version="1.0"?><Response><Errors><Error><Code>InvalidAMIID.NotFound</Code><Message>The image id '[ami-1]' does not exist</Message></Error></Errors><RequestID>1</RequestID></Response>"#;
        let error = told(400, ec2);
        assert!(error.is_not_found());
        assert_eq!(
            error.to_string(),
            "can't look at the image ami-1 in cn-north-1: EC2 DescribeImages: InvalidAMIID.NotFound: The image id '[ami-1]' does \
             not exist (400)"
        );
        let sts = r"<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>no</Message></Error></ErrorResponse>";
        assert_eq!(told(403, sts).kind, CloudErrorKind::Credentials);
        let json = r#"{"__type":"com.amazonaws.ssm#ParameterNotFound","message":"x"}"#;
        assert!(told(400, json).is_not_found());
        let read = Refusal::read(400, Some("ThrottlingException:http://a"), b"{}");
        assert_eq!(read.kind(), CloudErrorKind::Throttled);
    }

    #[test]
    fn credentials_of_the_wrong_partition_are_named_as_such() {
        let body = r"<Response><Errors><Error><Code>AuthFailure</Code><Message>AWS was not able to validate the provided access credentials</Message></Error></Errors></Response>";
        let told = told(401, body).to_string();
        assert!(
            told.contains("the profile china is not known there"),
            "{told}"
        );
        assert!(
            told.contains("takes accounts of AWS China and never those of AWS;"),
            "{told}"
        );
    }

    #[test]
    fn what_is_missing_to_a_role_is_named() {
        let body = r"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors></Response>";
        assert!(
            told(403, body)
                .to_string()
                .ends_with("allow ec2:DescribeImages")
        );
    }

    #[test]
    fn a_page_of_html_is_a_failure_to_try_again_and_says_nothing() {
        let error = told(
            500,
            "<!doctype html><html><title>500</title><h1>secret</h1></html>",
        );
        assert_eq!(error.class(), Class::Transient);
        assert!(
            error.to_string().ends_with("answered 500 without a reason"),
            "{error}"
        );
    }

    #[test]
    fn what_was_signed_is_not_shown() {
        let body = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>The request signature does not match.\n\nThe Canonical String for this request should have been\nx-amz-security-token:SECRET</Message></Error></ErrorResponse>";
        assert!(!told(403, body).to_string().contains("SECRET"));
    }
}
