//! cosign's second form: a bundle with an in-toto statement that an image is signed.

use serde::Deserialize;
use serde_json::Value;
use sigstore_verify::types::{Bundle, DsseEnvelope, SignatureContent};

use super::Refusal;
use crate::digest::Digest;

/// Of a statement that an image is signed, and no more: others tell of its build, or of what is wrong with it.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

const PAYLOAD: &str = "application/vnd.in-toto+json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    #[serde(default)]
    digest: serde_json::Map<String, Value>,
}

/// The bundle that these bytes are, if it says that this image is signed.
pub(super) fn bundle_of(content: &[u8], image: Digest) -> Result<Bundle, Refusal> {
    let rubbish = |error: &dyn std::fmt::Display| Refusal::Rubbish(error.to_string());
    let bundle: Bundle = serde_json::from_slice(content).map_err(|error| rubbish(&error))?;
    match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => check(envelope, image)?,
        // It is over the image's manifest itself, which the signature alone can tell.
        SignatureContent::MessageSignature(_) => {}
        _ => return Err(rubbish(&"it has neither a statement nor a signature")),
    }
    Ok(bundle)
}

fn check(envelope: &DsseEnvelope, image: Digest) -> Result<(), Refusal> {
    if envelope.payload_type != PAYLOAD {
        return Err(Refusal::Attestation(envelope.payload_type.clone()));
    }
    let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|error| Refusal::Rubbish(error.to_string()))?;
    if statement.predicate_type != SIGNED {
        return Err(Refusal::Attestation(statement.predicate_type));
    }
    let (algorithm, hex) = (image.algorithm().name(), image.hex());
    let is_meant = |subject: &Subject| subject.digest.get(algorithm) == Some(&Value::from(&*hex));
    if statement.subject.iter().any(is_meant) {
        return Ok(());
    }
    let digests = statement.subject.iter().flat_map(|one| &one.digest);
    let told: Vec<String> = digests.map(|(name, hex)| format!("{name}:{hex}")).collect();
    Err(Refusal::AnotherImage(told.join(", ")))
}
