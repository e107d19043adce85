//! cosign's first form: a payload that names an image, and around it, in annotations, what makes it believable.

use std::collections::BTreeMap;

use serde::Deserialize;
use sigstore_verify::types::bundle::Rfc3161Timestamp;
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, DerCertificate, InclusionPromise, KindVersion, LogId, LogIndex,
    LogKeyId, MediaType, MessageSignature, SignatureBytes, SignatureContent, SignedTimestamp,
    TimestampToken, TimestampVerificationData, TransparencyLogEntry, VerificationMaterial,
    VerificationMaterialContent, X509Certificate,
};

use super::Refusal;
use crate::digest::Digest;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOGGED: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What cosign writes as the type of its payloads; the newer one is the type of its statements as well.
const TYPES: [&str; 2] = [
    "cosign container image signature",
    "https://sigstore.dev/cosign/sign/v1",
];

type Annotations = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Debug, Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The log's entry as cosign keeps it, with the log's signature.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Logged {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    /// Seconds since 1970.
    integrated_time: i64,
    log_index: i64,
    /// Hex.
    #[serde(rename = "logID")]
    log_id: String,
}

/// What an entry says of its own form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Timestamped {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: String,
}

/// Whether the payload is about this image.
pub(super) fn check(payload: &[u8], image: Digest) -> Result<(), Refusal> {
    let payload: Payload = serde_json::from_slice(payload).map_err(|error| rubbish(&error))?;
    let Critical { image: of, r#type } = payload.critical;
    if !TYPES.contains(&r#type.as_str()) {
        return Err(Refusal::Attestation(r#type));
    }
    if of.digest != image.to_string() {
        return Err(Refusal::AnotherImage(of.digest));
    }
    Ok(())
}

/// The bytes of the signature over the payload.
pub(super) fn signature(annotations: &Annotations) -> Result<SignatureBytes, Refusal> {
    let text = annotations
        .get(SIGNATURE)
        .ok_or_else(|| rubbish(&format!("the annotation {SIGNATURE} is missing")))?;
    SignatureBytes::from_base64(text).map_err(|error| rubbish(&error))
}

/// All of it as a bundle, so that there is one way to check both forms.
pub(super) fn bundle_of(annotations: &Annotations) -> Result<Bundle, Refusal> {
    let entry = annotations.get(LOGGED).map(|text| logged(text));
    let times = annotations.get(TIMESTAMP).map(|text| timestamped(text));
    let material = VerificationMaterial::new(certificates(annotations)?)
        .with_tlog_entries(entry.transpose()?.into_iter().collect())
        .with_timestamp_verification_data(times.transpose()?.unwrap_or_default());
    let content = MessageSignature::new(signature(annotations)?);
    // The first version is the one with the log's promise, and with a chain beside the certificate.
    Ok(Bundle::new(
        MediaType::Bundle0_1,
        material,
        SignatureContent::MessageSignature(content),
    ))
}

fn certificates(annotations: &Annotations) -> Result<VerificationMaterialContent, Refusal> {
    /// How a certificate ends in PEM.
    const END: &str = "-----END CERTIFICATE-----";
    let certificate = annotations.get(CERTIFICATE).filter(|text| !text.is_empty());
    let certificate = certificate.ok_or(Refusal::NoCertificate)?;
    let chain = annotations.get(CHAIN).map_or("", String::as_str);
    let all = certificate
        .split_inclusive(END)
        .take(1)
        .chain(chain.split_inclusive(END));
    let all = all.filter(|text| !text.trim().is_empty());
    let read = all.map(|text| DerCertificate::from_pem(text).map(X509Certificate::new));
    let certificates = read.collect::<Result<_, _>>().map_err(|e| rubbish(&e))?;
    Ok(VerificationMaterialContent::X509CertificateChain { certificates })
}

fn logged(text: &str) -> Result<TransparencyLogEntry, Refusal> {
    let logged: Logged = serde_json::from_str(text).map_err(|error| rubbish(&error))?;
    let Entry {
        body,
        integrated_time,
        log_index,
        log_id,
    } = logged.payload;
    let body = CanonicalizedBody::from_base64(&body).map_err(|error| rubbish(&error))?;
    let told: Body = serde_json::from_slice(body.as_bytes()).map_err(|error| rubbish(&error))?;
    let kind = serde_json::json!({"kind": told.kind, "version": told.api_version});
    let kind: KindVersion = serde_json::from_value(kind).map_err(|error| rubbish(&error))?;
    let log_id = hex::decode(log_id).map_err(|error| rubbish(&error))?;
    let time = jiff::Timestamp::from_second(integrated_time).map_err(|error| rubbish(&error))?;
    let promise = SignedTimestamp::from_base64(&logged.signed_entry_timestamp);
    let promise = InclusionPromise::new(promise.map_err(|error| rubbish(&error))?);
    let index = LogIndex::try_from(log_index).map_err(|error| rubbish(&error))?;
    let entry = TransparencyLogEntry::new(index, LogId::new(LogKeyId::new(log_id)), kind, body);
    Ok(entry
        .with_integrated_time(time)
        .with_inclusion_promise(promise))
}

fn timestamped(text: &str) -> Result<TimestampVerificationData, Refusal> {
    let stamp: Timestamped = serde_json::from_str(text).map_err(|error| rubbish(&error))?;
    let token = TimestampToken::from_base64(&stamp.signed).map_err(|error| rubbish(&error))?;
    Ok(TimestampVerificationData::new(vec![Rfc3161Timestamp::new(
        token,
    )]))
}

fn rubbish(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::Rubbish(error.to_string())
}
