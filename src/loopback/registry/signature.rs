//! Checks signatures of requests to the ECR API: Signature Version 4, computed here anew (IAM user guide, "Create a signed
//! AWS API request").

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::loopback::s3::Credentials;

/// What must be signed, or anybody could change it on the way.
const SIGNED: [&str; 3] = ["host", "x-amz-date", "x-amz-target"];

/// Why a request is not who it says that it is.
pub(super) fn check(
    head: &Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
) -> Result<(), &'static str> {
    let value = header(head, AUTHORIZATION.as_str());
    let fields = value
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("MissingAuthenticationTokenException")?;
    let field = |name: &str| {
        let mut fields = fields.split(',').map(str::trim);
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let scope = field("Credential").ok_or("IncompleteSignatureException")?;
    let signed = field("SignedHeaders").ok_or("IncompleteSignatureException")?;
    let signature = field("Signature").ok_or("IncompleteSignatureException")?;
    let date = header(head, "x-amz-date");
    let day = date.get(..8).ok_or("IncompleteSignatureException")?;
    let (access_key, scope) = scope
        .split_once('/')
        .ok_or("IncompleteSignatureException")?;
    if access_key != credentials.access_key {
        return Err("UnrecognizedClientException");
    }
    if scope != format!("{day}/{region}/ecr/aws4_request") {
        return Err("InvalidSignatureException");
    }
    if !SIGNED
        .iter()
        .all(|name| signed.split(';').any(|s| s == *name))
    {
        return Err("InvalidSignatureException");
    }
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hashed(canonical(head, signed, body).as_bytes())
    );
    let mut key = format!("AWS4{}", credentials.secret_key).into_bytes();
    for part in scope.split('/') {
        key = keyed(&key, part);
    }
    match hex::encode(keyed(&key, &text)) == signature {
        true => Ok(()),
        false => Err("InvalidSignatureException"),
    }
}

fn canonical(head: &Parts, signed: &str, body: &[u8]) -> String {
    let mut canonical = format!("{}\n{}\n\n", head.method, head.uri.path());
    for name in signed.split(';') {
        // Writing into a string can't fail.
        let _ = writeln!(canonical, "{name}:{}", header(head, name).trim());
    }
    let _ = write!(canonical, "\n{signed}\n{}", hashed(body));
    canonical
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    let value = head.headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn hashed(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys have any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
