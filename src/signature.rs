//! Whether a signature of an image is one that a policy asks for: bytes in, a verdict out. Nobody is asked, and no file is read.
//!
//! ```text
//! a manifest of signatures ─▶ offer: what it names ─▶ (its blob is read) ─▶ policy: by whom? ─▶ accepted, or a refusal
//! ```
//!
//! There are two forms. cosign's first: a small payload that names the image's digest, the signature over it in the annotations of the
//! manifest that carries it (`claim`; github.com/sigstore/cosign `specs/SIGNATURE_SPEC.md`). Its second: a bundle, in it an in-toto
//! statement with the image as its subject (`statement`; `specs/BUNDLE_SPEC.md`). Whoever signed is a key that is known, or somebody to
//! whom a certificate was given for some minutes (`signer`); that he signed within them, a log says. All cryptography is
//! sigstore's own library.

mod claim;
mod offer;
mod policy;
mod signer;
mod statement;

pub use self::offer::{Offer, belongs_to, offers, subject_tag};
pub use self::policy::{Policies, Policy};
pub use self::signer::{BadSigner, Identity, Key, Signer};

/// Why a signature is not what a policy asks for. Each fits after "the signature at X: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it can't be read: {0}")]
    Rubbish(String),
    #[error("it is of another image, {0}")]
    AnotherImage(String),
    #[error("it attests something ({0}) and is no signature")]
    Attestation(String),
    #[error("it was not made with the key of the policy")]
    AnotherKey,
    #[error("it has no certificate: a key made it, and the policy asks for an identity")]
    NoCertificate,
    #[error("it is by {by} ({issuer} says), and the policy asks for another")]
    AnotherIdentity { by: String, issuer: String },
    #[error(
        "its certificate was good from {from} to {until}, and the log had the signature at {logged}"
    )]
    Expired {
        from: String,
        until: String,
        logged: String,
    },
    #[error("its certificate is not of the trust root: {0}")]
    Certificate(String),
    #[error("no log that the trust root knows has it: {0}")]
    Log(String),
    #[error("nobody says when it was made: {0}")]
    Time(String),
    #[error("it is not of what it came with: {0}")]
    Signature(String),
}
