//! Signs requests, by version 4 of AWS's signatures.

use std::error::Error;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use url::Url;

/// A request before it is signed.
#[derive(Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a Url,
    /// What is signed besides `host`: what AWS reads.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// Whom it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a str,
    /// The service's name in signatures: `ec2`.
    pub(crate) service: &'a str,
    pub(crate) at: SystemTime,
}

impl Unsigned<'_> {
    /// The headers to be sent besides those given here.
    pub(crate) fn signed(
        &self,
        credentials: Credentials,
        scope: Scope<'_>,
    ) -> Result<Vec<(String, String)>, Box<dyn Error + Send + Sync>> {
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(scope.region)
            .name(scope.service)
            .time(scope.at)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let host = authority(self.url);
        let headers = [("host", host.as_str())]
            .into_iter()
            .chain(self.headers.iter().copied());
        let body = SignableBody::Bytes(self.body);
        let signable = SignableRequest::new(self.method, self.url.as_str(), headers, body)?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        let headers = instructions.headers();
        Ok(headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// As the Host header will have it.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// "Signature Version 4 test suite", get-vanilla: 2015-08-30T12:36:00Z, us-east-1, `service`.
    #[test]
    fn a_request_is_signed_as_aws_documents_it() {
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let unsigned = Unsigned {
            method: "GET",
            url: &url,
            headers: &[],
            body: b"",
        };
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "test",
        );
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let scope = Scope {
            region: "us-east-1",
            service: "service",
            at,
        };
        let headers = unsigned.signed(credentials, scope).unwrap();
        let find = |wanted: &str| {
            let found = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(find("x-amz-date"), Some("20150830T123600Z"));
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                        SignedHeaders=host;x-amz-date, \
                        Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(find("authorization"), Some(expected));
    }

    #[test]
    fn a_session_s_token_is_sent_and_signed() {
        let url = Url::parse("http://127.0.0.1:5000/a?b=c").unwrap();
        let unsigned = Unsigned {
            method: "POST",
            url: &url,
            headers: &[("x-amz-target", "a.B")],
            body: b"{}",
        };
        let credentials = Credentials::new("a", "b", Some("token".into()), None, "test");
        let scope = Scope {
            region: "cn-north-1",
            service: "ssm",
            at: SystemTime::UNIX_EPOCH,
        };
        let headers = unsigned.signed(credentials, scope).unwrap();
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "x-amz-security-token" && value == "token")
        );
        let signed = "SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target,";
        assert!(
            headers.iter().any(|(_, value)| value.contains(signed)),
            "{headers:?}"
        );
        assert_eq!(authority(&url), "127.0.0.1:5000");
    }
}
