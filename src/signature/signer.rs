//! By whom an image must be signed: the holder of a key, or somebody to whom sigstore's authority gave a certificate.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use sigstore_verify::crypto::{
    KeyAlgorithm, SigningScheme, parse_certificate_info, verify_signature,
    verify_signature_prehashed,
};
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{
    Artifact, ArtifactDigest, Bundle, DerPublicKey, HashAlgorithm, SignatureBytes, SignatureContent,
};
use sigstore_verify::{
    CertificateError, Error, TransparencyLogError, VerificationPolicy, VerificationResult, Verifier,
};

use super::offer::{Form, Offer};
use super::{Refusal, claim, statement};
use crate::digest::{Algorithm, Digest};

/// Whose signatures count.
#[derive(Debug)]
pub enum Signer {
    Key(Key),
    Identity(Box<Identity>),
}

/// Why a signer can't be told from what the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSigner {
    #[error(
        "it is no public key that can be used: {0}; give one as cosign writes it, PEM with ECDSA (P-256, P-384), RSA or Ed25519"
    )]
    Key(String),
    #[error(
        "it is no trust root: {0}; give sigstore's trusted_root.json, as 'cosign trusted-root create' writes it"
    )]
    TrustRoot(String),
    #[error("'{}' is no identity: {why}", text.escape_debug())]
    Identity { text: String, why: String },
}

/// A public key. What its holder signs needs no entry in a log.
#[derive(Debug, Clone)]
pub struct Key {
    der: DerPublicKey,
    /// cosign signs with SHA-256 whatever the key, newer ones with what fits it.
    schemes: Vec<SigningScheme>,
}

impl Key {
    /// Reads a key as `cosign public-key` prints it: `-----BEGIN PUBLIC KEY-----`.
    pub fn from_pem(pem: &str) -> Result<Self, BadSigner> {
        let bad = |error: &dyn fmt::Display| BadSigner::Key(error.to_string());
        let der = DerPublicKey::from_pem(pem).map_err(|error| bad(&error))?;
        let algorithm = KeyAlgorithm::from_spki(&der).map_err(|error| bad(&error))?;
        let mut schemes = vec![algorithm.default_signing_scheme()];
        let with_sha256 = algorithm.resolve_signing_scheme(HashAlgorithm::Sha2256);
        schemes.extend(with_sha256.ok().filter(|scheme| *scheme != schemes[0]));
        Ok(Self { der, schemes })
    }

    fn check(&self, image: Digest, offer: &Offer, content: &[u8]) -> Result<(), Refusal> {
        match &offer.form {
            Form::Claim(annotations) => {
                claim::check(content, image)?;
                self.made(content, &claim::signature(annotations)?)
            }
            Form::Bundle => match statement::bundle_of(content, image)?.content {
                SignatureContent::DsseEnvelope(envelope) => {
                    self.made(&envelope.pae(), &envelope.signature.sig)
                }
                SignatureContent::MessageSignature(message) => {
                    self.made_of(image, &message.signature)
                }
                _ => Err(Refusal::AnotherKey),
            },
        }
    }

    /// Whether the key's holder signed these bytes.
    fn made(&self, bytes: &[u8], signature: &SignatureBytes) -> Result<(), Refusal> {
        self.made_if(|scheme| verify_signature(&self.der, bytes, signature, scheme).is_ok())
    }

    /// Whether the key's holder signed what hashes to this.
    fn made_of(&self, digest: Digest, signature: &SignatureBytes) -> Result<(), Refusal> {
        let (key, digest) = (&self.der, digest.bytes());
        self.made_if(|scheme| verify_signature_prehashed(key, digest, signature, scheme).is_ok())
    }

    fn made_if(&self, is_made: impl Fn(SigningScheme) -> bool) -> Result<(), Refusal> {
        let mut schemes = self.schemes.iter();
        match schemes.any(|scheme| is_made(*scheme)) {
            true => Ok(()),
            false => Err(Refusal::AnotherKey),
        }
    }
}

/// Somebody whom an issuer knows: a person by an address, a workflow by its URL.
pub struct Identity {
    name: GlobMatcher,
    issuer: String,
    verifier: Verifier,
}

impl Identity {
    /// `name` is an address or a URL; in it `*` stands for anything but a slash, `**` between slashes for anything. `trust_root` is a
    /// `trusted_root.json`; None: the one of sigstore's public service that is compiled in.
    pub fn new(name: &str, issuer: &str, trust_root: Option<&str>) -> Result<Self, BadSigner> {
        let glob = GlobBuilder::new(name).literal_separator(true).build();
        let glob = glob.map_err(|error| BadSigner::Identity {
            text: name.to_owned(),
            why: error.kind().to_string(),
        })?;
        let bad = |error: &dyn fmt::Display| BadSigner::TrustRoot(error.to_string());
        let root = TrustedRoot::from_json(trust_root.unwrap_or(SIGSTORE_PRODUCTION_TRUSTED_ROOT))
            .map_err(|error| bad(&error))?;
        if root.certificate_authorities.is_empty() {
            return Err(bad(&"it has no certificate authority"));
        }
        Ok(Self {
            name: glob.compile_matcher(),
            issuer: issuer.to_owned(),
            verifier: Verifier::new(&root).map_err(|error| bad(&error))?,
        })
    }

    fn check(&self, image: Digest, offer: &Offer, content: &[u8]) -> Result<(), Refusal> {
        let (bundle, artifact) = match &offer.form {
            Form::Claim(annotations) => {
                claim::check(content, image)?;
                (claim::bundle_of(annotations)?, Artifact::from(content))
            }
            Form::Bundle => (statement::bundle_of(content, image)?, artifact(image)?),
        };
        if bundle.signing_certificate().is_none() {
            return Err(Refusal::NoCertificate);
        }
        // Who it must be is asked of what was verified, since the library knows no patterns.
        let whoever = VerificationPolicy::any_identity();
        let verified = self.verifier.verify(artifact, &bundle, &whoever);
        self.is_meant(&verified.map_err(|error| refusal(&error, &bundle))?)
    }

    fn is_meant(&self, signed: &VerificationResult) -> Result<(), Refusal> {
        let is_verified =
            signed.certificate_verified() && signed.sct_verified() && signed.tlog_verified();
        if !is_verified {
            let why = "certificate and log were not compared with the trust root";
            return Err(Refusal::Certificate(why.to_owned()));
        }
        let by = signed.identity().map_or("nobody", |by| by.as_str());
        let issuer = signed.issuer().unwrap_or("nobody");
        if signed.identity().is_some() && self.name.is_match(by) && issuer == self.issuer {
            return Ok(());
        }
        Err(Refusal::AnotherIdentity {
            by: by.to_owned(),
            issuer: issuer.to_owned(),
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name.glob().glob())
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Whether this signature of an image is the signer's. `content` is what the offer's blob holds.
    pub(super) fn check(
        &self,
        image: Digest,
        offer: &Offer,
        content: &[u8],
    ) -> Result<(), Refusal> {
        match self {
            Self::Key(key) => key.check(image, offer, content),
            Self::Identity(identity) => identity.check(image, offer, content),
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("by a key"),
            Self::Identity(it) => write!(f, "by {} of {}", it.name.glob(), it.issuer),
        }
    }
}

fn artifact(image: Digest) -> Result<Artifact<'static>, Refusal> {
    let algorithm = match image.algorithm() {
        Algorithm::Sha256 => HashAlgorithm::Sha2256,
        Algorithm::Sha512 => HashAlgorithm::Sha2512,
        other => return Err(Refusal::Rubbish(format!("{other} is no digest that holds"))),
    };
    let digest = ArtifactDigest::new(algorithm, image.bytes().to_vec());
    let digest = digest.map_err(|error| Refusal::Rubbish(error.to_string()))?;
    Ok(Artifact::Digest(digest))
}

/// The library's reasons in the words of this one.
fn refusal(error: &Error, bundle: &Bundle) -> Refusal {
    let why = error.to_string();
    match error {
        Error::Certificate(CertificateError::Malformed(_)) => Refusal::Rubbish(why),
        Error::Certificate(_) | Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) => {
            expired(bundle).unwrap_or(Refusal::Certificate(why))
        }
        // A bundle lacks what its format asks for: an entry of the log, mostly.
        Error::TransparencyLog(_) | Error::Bundle(_) => Refusal::Log(why),
        Error::Timestamp(_) => Refusal::Time(why),
        Error::SignatureInvalid(_) | Error::ArtifactMismatch(_) => Refusal::Signature(why),
        _ => Refusal::Rubbish(why),
    }
}

/// That the log had the signature when its certificate was not good, if so.
fn expired(bundle: &Bundle) -> Option<Refusal> {
    let certificate = parse_certificate_info(bundle.signing_certificate()?).ok()?;
    let entries = bundle.verification_material.tlog_entries.iter();
    let was_good =
        |time: &Timestamp| (certificate.not_before..=certificate.not_after).contains(time);
    let mut times = entries.filter_map(|entry| entry.integrated_time);
    let logged = times.find(|time| !was_good(time))?;
    Some(Refusal::Expired {
        from: certificate.not_before.to_string(),
        until: certificate.not_after.to_string(),
        logged: logged.to_string(),
    })
}
