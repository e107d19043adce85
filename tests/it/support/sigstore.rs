//! A sigstore of one's own: an authority that gives out certificates for minutes, a log that says which it gave, and a log of what was
//! signed with them. All keys are made when a test runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kops_mirror::digest::{Algorithm, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SigningKey,
};
use serde_json::{Value, json};

/// When certificates begin, 2025-06-01 12:00 UTC, in seconds since 1970, and how long they are good.
pub(crate) const BEGIN: i64 = 1_748_779_200;
pub(crate) const GOOD_FOR: i64 = 600;

/// When signatures reach the log, unless a test wants another time.
pub(crate) const LOGGED: i64 = BEGIN + 60;

pub(crate) const CLAIM: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(crate) const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT: &str = "application/vnd.in-toto+json";
const LOG: &str = "rekor.example";
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
const TIMESTAMPS: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

pub(crate) struct Sigstore {
    authority: CertifiedIssuer<'static, KeyPair>,
    /// Of the log of certificates.
    certificates: KeyPair,
    /// Of the log of signatures.
    rekor: KeyPair,
}

/// A key, and the certificate that says whose it is.
pub(crate) struct Certified {
    pub(crate) key: KeyPair,
    der: Vec<u8>,
    pem: String,
}

/// A signature in cosign's first form: a layer of a manifest.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) payload: String,
    pub(crate) annotations: Value,
}

impl Claim {
    /// What a key signs by itself.
    pub(crate) fn by_key(image: Digest, key: &KeyPair) -> Self {
        let payload = payload(image);
        let signature = BASE64.encode(key.sign(payload.as_bytes()).unwrap());
        Self {
            annotations: json!({"dev.cosignproject.cosign/signature": signature}),
            payload,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(Algorithm::Sha256, self.payload.as_bytes())
    }

    pub(crate) fn layer(&self) -> Value {
        json!({"mediaType": CLAIM, "digest": self.digest().to_string(), "size": self.payload.len(),
            "annotations": self.annotations})
    }

    /// The log's entry, as cosign keeps it.
    pub(crate) fn entry(&self) -> Value {
        serde_json::from_str(self.annotations[ENTRY].as_str().unwrap()).unwrap()
    }

    #[must_use]
    pub(crate) fn with_entry(mut self, entry: &Value) -> Self {
        self.annotations[ENTRY] = entry.to_string().into();
        self
    }
}

pub(crate) const ENTRY: &str = "dev.sigstore.cosign/bundle";

pub(crate) fn payload(image: Digest) -> String {
    json!({"critical": {"identity": {"docker-reference": "any"}, "image": {"docker-manifest-digest": image.to_string()},
        "type": "cosign container image signature"}, "optional": null})
    .to_string()
}

/// A statement that something (`predicate`) is so of an image.
pub(crate) fn statement(image: Digest, predicate: &str) -> String {
    json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
        "subject": [{"name": "", "digest": {"sha256": image.hex()}}]})
    .to_string()
}

/// The bundle of a statement, by a key alone.
pub(crate) fn bundle_by_key(statement: &str, key: &KeyPair) -> Value {
    json!({"mediaType": BUNDLE, "dsseEnvelope": envelope(statement, key),
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []}})
}

fn envelope(statement: &str, key: &KeyPair) -> Value {
    let encoded = format!(
        "DSSEv1 {} {STATEMENT} {} {statement}",
        STATEMENT.len(),
        statement.len()
    );
    let signature = key.sign(encoded.as_bytes()).unwrap();
    json!({"payload": BASE64.encode(statement), "payloadType": STATEMENT,
        "signatures": [{"sig": BASE64.encode(signature), "keyid": ""}]})
}

impl Sigstore {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        Self {
            authority: CertifiedIssuer::self_signed(params, key()).unwrap(),
            certificates: key(),
            rekor: key(),
        }
    }

    /// `trusted_root.json`.
    pub(crate) fn trust_root(&self) -> String {
        let since = json!({"start": "2025-01-01T00:00:00Z"});
        let log = |key: &KeyPair| {
            let der = key.subject_public_key_info();
            json!({"baseUrl": format!("https://{LOG}"), "hashAlgorithm": "SHA2_256", "logId": {"keyId": BASE64.encode(sha256(&der))},
                "publicKey": {"rawBytes": BASE64.encode(&der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}})
        };
        let authority = BASE64.encode(self.authority.der());
        json!({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.rekor)], "ctlogs": [log(&self.certificates)],
            "certificateAuthorities": [{"subject": {}, "uri": "https://fulcio.example", "validFor": since,
                "certChain": {"certificates": [{"rawBytes": authority}]}}]})
        .to_string()
    }

    /// A certificate for an address or a URL that the issuer knows.
    pub(crate) fn certify(&self, identity: &str, issuer: &str) -> Certified {
        self.certified(identity, issuer, true)
    }

    /// The same without the log's word that it has it.
    pub(crate) fn certify_unlogged(&self, identity: &str, issuer: &str) -> Certified {
        self.certified(identity, issuer, false)
    }

    fn certified(&self, identity: &str, issuer: &str, is_logged: bool) -> Certified {
        let key = key();
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(7_u64));
        params.distinguished_name = DistinguishedName::new();
        let noon = rcgen::date_time_ymd(2025, 6, 1) + std::time::Duration::from_hours(12);
        params.not_before = noon;
        params.not_after = noon + std::time::Duration::from_secs(GOOD_FOR as u64);
        let name = identity.try_into().unwrap();
        params.subject_alt_names = vec![match identity.contains("://") {
            true => SanType::URI(name),
            false => SanType::Rfc822Name(name),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = vec![CustomExtension::from_oid_content(
            &ISSUER,
            der(0x0c, issuer.as_bytes()),
        )];
        let before = params.signed_by(&key, &self.authority).unwrap();
        if is_logged {
            let stamp = self.timestamp(first_in(before.der()));
            let list = CustomExtension::from_oid_content(&TIMESTAMPS, der(0x04, &stamp));
            params.custom_extensions.push(list);
        }
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        Certified {
            key,
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
        }
    }

    /// The log's word that it has a certificate (RFC 6962): a list of one.
    fn timestamp(&self, unfinished: &[u8]) -> Vec<u8> {
        let time = (BEGIN as u64 * 1000).to_be_bytes();
        let issuer = sha256(&self.authority.key().subject_public_key_info());
        let length = &(unfinished.len() as u32).to_be_bytes()[1..];
        // Version 1, of a certificate; its time; what follows is a certificate before the log's word was in it; no extensions.
        let signed = [
            &[0, 0][..],
            &time,
            &[0, 1],
            &issuer,
            length,
            unfinished,
            &[0, 0],
        ]
        .concat();
        let signature = self.certificates.sign(&signed).unwrap();
        let log = sha256(&self.certificates.subject_public_key_info());
        // SHA-256 and ECDSA.
        let one = [&[0][..], &log, &time, &[0, 0], &[4, 3], &sized(&signature)].concat();
        sized(&sized(&one))
    }

    /// A signature in cosign's first form, which reaches the log at this time.
    pub(crate) fn claim_at(&self, image: Digest, by: &Certified, time: i64) -> Claim {
        let Claim {
            payload,
            mut annotations,
        } = Claim::by_key(image, &by.key);
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(sha256(payload.as_bytes()))}},
            "signature": {"content": annotations["dev.cosignproject.cosign/signature"],
                "publicKey": {"content": BASE64.encode(&by.pem)}}}});
        let body = BASE64.encode(body.to_string());
        let entry = json!({"SignedEntryTimestamp": self.promise(&body, time),
            "Payload": {"body": body, "integratedTime": time, "logIndex": 0, "logID": hex::encode(self.log_id())}});
        annotations[ENTRY] = entry.to_string().into();
        annotations["dev.sigstore.cosign/certificate"] = by.pem.clone().into();
        annotations["dev.sigstore.cosign/chain"] = self.authority.pem().into();
        Claim {
            payload,
            annotations,
        }
    }

    pub(crate) fn claim(&self, image: Digest, by: &Certified) -> Claim {
        self.claim_at(image, by, LOGGED)
    }

    /// A signature in cosign's second form.
    pub(crate) fn bundle(&self, statement: &str, by: &Certified) -> Value {
        let envelope = envelope(statement, &by.key);
        let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(sha256(envelope.to_string().as_bytes()))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(statement.as_bytes()))},
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": BASE64.encode(&by.pem)}]}});
        let body = body.to_string();
        let encoded = BASE64.encode(&body);
        let root = sha256(&[&[0], body.as_bytes()].concat());
        let entry = json!({"logIndex": "0", "logId": {"keyId": BASE64.encode(self.log_id())},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"}, "integratedTime": LOGGED.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": self.promise(&encoded, LOGGED)},
            "inclusionProof": {"logIndex": "0", "rootHash": BASE64.encode(&root), "treeSize": "1", "hashes": [],
                "checkpoint": {"envelope": self.checkpoint(&root)}},
            "canonicalizedBody": encoded});
        json!({"mediaType": BUNDLE, "dsseEnvelope": envelope,
            "verificationMaterial": {"certificate": {"rawBytes": BASE64.encode(&by.der)}, "tlogEntries": [entry]}})
    }

    /// The log's word that it has an entry.
    fn promise(&self, body: &str, time: i64) -> String {
        let id = hex::encode(self.log_id());
        let signed =
            format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":0}}"#);
        BASE64.encode(self.rekor.sign(signed.as_bytes()).unwrap())
    }

    /// The log's word on its tree, of one leaf.
    fn checkpoint(&self, root: &[u8]) -> String {
        let note = format!("{LOG}\n1\n{}\n", BASE64.encode(root));
        let signature = self.rekor.sign(note.as_bytes()).unwrap();
        let signed = [&self.log_id()[..4], &signature].concat();
        format!("{note}\n\u{2014} {LOG} {}\n", BASE64.encode(signed))
    }

    fn log_id(&self) -> Vec<u8> {
        sha256(&self.rekor.subject_public_key_info())
    }
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Digest::of(Algorithm::Sha256, bytes).bytes().to_vec()
}

/// With its length before it, as TLS has it.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// With its tag and its length before it.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..128 => vec![short as u8],
        long => vec![0x81, u8::try_from(long).expect("test data are short")],
    };
    [&[tag][..], &length, content].concat()
}

/// The first element within the outermost one: what of a certificate is signed.
fn first_in(outer: &[u8]) -> &[u8] {
    let inner = &outer[header(outer).0..];
    let (start, length) = header(inner);
    &inner[..start + length]
}

/// Where the content of an element starts, and its length.
fn header(element: &[u8]) -> (usize, usize) {
    match element[1] {
        short @ 0..128 => (2, short.into()),
        long => {
            let bytes = usize::from(long & 0x7f);
            let length = &element[2..2 + bytes];
            let length = length
                .iter()
                .fold(0, |all, byte| all << 8 | usize::from(*byte));
            (2 + bytes, length)
        }
    }
}
