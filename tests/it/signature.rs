//! Signatures of images, made by real cryptography, before policies that want them or others.

use globset::Glob;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::signature::{BadSigner, Identity, Key, Offer, Policy, Refusal, Signer, offers};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use crate::support::sigstore::{
    BEGIN, BUNDLE, Certified, Claim, GOOD_FOR, LOGGED, SIGNED, Sigstore, bundle_by_key, key,
    statement,
};

const ROBOT: &str = "robot@releng.example";
const ISSUER: &str = "https://accounts.example";
const WORKFLOW: &str = "https://github.com/team/app/.github/workflows/release.yaml@refs/tags/v1.2";

fn image(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

fn policy(signer: Signer) -> Policy {
    Policy::new(&[Glob::new("**").unwrap()], &[], signer).unwrap()
}

fn by_key(key: &KeyPair) -> Policy {
    let key = Key::from_pem(&key.public_key_pem());
    policy(Signer::Key(key.unwrap()))
}

fn by_identity(sigstore: &Sigstore, name: &str, issuer: &str) -> Policy {
    let identity = Identity::new(name, issuer, Some(&sigstore.trust_root()));
    policy(Signer::Identity(Box::new(identity.unwrap())))
}

fn offered(layer: &Value) -> Offer {
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    offers(manifest.as_bytes()).remove(0)
}

fn check_claim(policy: &Policy, claim: &Claim) -> Result<(), Refusal> {
    let offer = offered(&claim.layer());
    policy.check(image("app"), &offer, claim.payload.as_bytes())
}

fn check_bundle(policy: &Policy, bundle: &Value) -> Result<(), Refusal> {
    let text = bundle.to_string();
    let layer =
        json!({"mediaType": BUNDLE, "digest": image(&text).to_string(), "size": text.len()});
    policy.check(image("app"), &offered(&layer), text.as_bytes())
}

/// A sigstore, somebody whom it knows, and the policy that wants his signature.
fn known() -> (Sigstore, Certified, Policy) {
    let sigstore = Sigstore::new();
    let robot = sigstore.certify(ROBOT, ISSUER);
    let policy = by_identity(&sigstore, ROBOT, ISSUER);
    (sigstore, robot, policy)
}

#[test]
fn a_key_is_known_by_what_it_signed() {
    for key in [
        key(),
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&PKCS_ED25519).unwrap(),
    ] {
        let policy = by_key(&key);
        let claim = Claim::by_key(image("app"), &key);
        assert_eq!(check_claim(&policy, &claim), Ok(()));
        let bundle = bundle_by_key(&statement(image("app"), SIGNED), &key);
        assert_eq!(check_bundle(&policy, &bundle), Ok(()));
        let other = by_key(&self::key());
        assert_eq!(check_claim(&other, &claim), Err(Refusal::AnotherKey));
        assert_eq!(check_bundle(&other, &bundle), Err(Refusal::AnotherKey));
    }
}

#[test]
fn what_was_signed_for_another_image_is_of_no_use() {
    let key = key();
    let (sigstore, robot, by_robot) = known();
    let other = image("another");
    let wanted = Err(Refusal::AnotherImage(other.to_string()));
    let claim = Claim::by_key(other, &key);
    assert_eq!(check_claim(&by_key(&key), &claim), wanted);
    assert_eq!(
        check_claim(&by_robot, &sigstore.claim(other, &robot)),
        wanted
    );
    let statement = statement(other, SIGNED);
    let bundle = bundle_by_key(&statement, &key);
    let told = check_bundle(&by_key(&key), &bundle).unwrap_err();
    assert!(told.to_string().contains(&other.hex()), "{told}");
    let bundle = sigstore.bundle(&statement, &robot);
    let told = check_bundle(&by_robot, &bundle).unwrap_err();
    assert!(matches!(told, Refusal::AnotherImage(_)), "{told}");
}

/// The payload is swapped for one that names the image: the signature is not of it.
#[test]
fn a_signature_is_of_its_payload_alone() {
    let (sigstore, robot, policy) = known();
    let swapped = |claim: Claim| Claim {
        payload: Claim::by_key(image("app"), &robot.key).payload,
        ..claim
    };
    let claim = swapped(sigstore.claim(image("another"), &robot));
    let told = check_claim(&policy, &claim).unwrap_err();
    assert!(matches!(told, Refusal::Signature(_)), "{told}");
    let key = key();
    let claim = swapped(Claim::by_key(image("another"), &key));
    let told = check_claim(&by_key(&key), &claim);
    assert_eq!(told, Err(Refusal::AnotherKey));
    let mut bundle = sigstore.bundle(&statement(image("another"), SIGNED), &robot);
    let good = sigstore.bundle(&statement(image("app"), SIGNED), &robot);
    bundle["dsseEnvelope"]["payload"] = good["dsseEnvelope"]["payload"].clone();
    let told = check_bundle(&policy, &bundle).unwrap_err();
    assert!(matches!(told, Refusal::Signature(_)), "{told}");
}

#[test]
fn whom_the_authority_knows_is_let_in() {
    let (sigstore, robot, policy) = known();
    let claim = sigstore.claim(image("app"), &robot);
    assert_eq!(check_claim(&policy, &claim), Ok(()));
    let bundle = sigstore.bundle(&statement(image("app"), SIGNED), &robot);
    assert_eq!(check_bundle(&policy, &bundle), Ok(()));
}

#[test]
fn a_pattern_stays_within_a_segment() {
    let sigstore = Sigstore::new();
    let workflow = sigstore.certify(WORKFLOW, ISSUER);
    let claim = sigstore.claim(image("app"), &workflow);
    for (pattern, is_meant) in [
        (WORKFLOW, true),
        (
            "https://github.com/team/app/.github/workflows/*@refs/tags/*",
            true,
        ),
        ("https://github.com/team/**", true),
        ("https://github.com/team/*", false),
        ("https://github.com/*/app", false),
        ("robot@*", false),
    ] {
        let told = check_claim(&by_identity(&sigstore, pattern, ISSUER), &claim);
        assert_eq!(told.is_ok(), is_meant, "{pattern}: {told:?}");
    }
}

#[test]
fn another_identity_or_another_issuer_is_told_by_name() {
    let (sigstore, robot, _) = known();
    let claim = sigstore.claim(image("app"), &robot);
    let bundle = sigstore.bundle(&statement(image("app"), SIGNED), &robot);
    for (name, issuer) in [
        ("someone@releng.example", ISSUER),
        (ROBOT, "https://accounts.elsewhere.example"),
        // An exact name is no beginning of another.
        ("robot@releng.exampl", ISSUER),
    ] {
        let policy = by_identity(&sigstore, name, issuer);
        let wanted = Refusal::AnotherIdentity {
            by: ROBOT.to_owned(),
            issuer: ISSUER.to_owned(),
        };
        assert_eq!(check_claim(&policy, &claim), Err(wanted.clone()));
        assert_eq!(check_bundle(&policy, &bundle), Err(wanted));
    }
}

#[test]
fn a_certificate_counts_only_while_it_was_good() {
    let (sigstore, robot, policy) = known();
    for (time, is_good) in [
        (BEGIN - 1, false),
        (BEGIN, true),
        (BEGIN + GOOD_FOR, true),
        (BEGIN + GOOD_FOR + 1, false),
    ] {
        let told = check_claim(&policy, &sigstore.claim_at(image("app"), &robot, time));
        match told {
            Ok(()) => assert!(is_good, "{time}"),
            Err(Refusal::Expired { .. }) => assert!(!is_good, "{time}"),
            Err(other) => panic!("{time}: {other}"),
        }
    }
}

#[test]
fn another_authority_is_not_believed() {
    let (sigstore, _, policy) = known();
    let robot = Sigstore::new().certify(ROBOT, ISSUER);
    let told = check_claim(&policy, &sigstore.claim(image("app"), &robot)).unwrap_err();
    assert!(matches!(told, Refusal::Certificate(_)), "{told}");
    let bundle = sigstore.bundle(&statement(image("app"), SIGNED), &robot);
    let told = check_bundle(&policy, &bundle).unwrap_err();
    assert!(matches!(told, Refusal::Certificate(_)), "{told}");
    // The one that is compiled in knows nothing of these.
    let (sigstore, robot, _) = known();
    let public = Identity::new(ROBOT, ISSUER, None).unwrap();
    let public = policy_of(public);
    assert!(check_claim(&public, &sigstore.claim(image("app"), &robot)).is_err());
}

fn policy_of(identity: Identity) -> Policy {
    policy(Signer::Identity(Box::new(identity)))
}

#[test]
fn a_certificate_that_no_log_has_is_refused() {
    let (sigstore, _, policy) = known();
    let secret = sigstore.certify_unlogged(ROBOT, ISSUER);
    let told = check_claim(&policy, &sigstore.claim(image("app"), &secret)).unwrap_err();
    assert!(matches!(told, Refusal::Certificate(_)), "{told}");
    assert!(told.to_string().contains("timestamp"), "{told}");
}

#[test]
fn the_logs_word_must_be_of_this_very_entry() {
    let (sigstore, robot, policy) = known();
    let claim = sigstore.claim(image("app"), &robot);
    let is_of_the_log = |told: &Refusal| matches!(told, Refusal::Log(_));
    // Another time than the log has signed.
    let mut entry = claim.entry();
    entry["Payload"]["integratedTime"] = (LOGGED + 1).into();
    let told = check_claim(&policy, &claim.clone().with_entry(&entry)).unwrap_err();
    assert!(is_of_the_log(&told), "{told}");
    // Another log's word.
    let other = Sigstore::new().claim(image("app"), &robot).entry();
    let told = check_claim(&policy, &claim.clone().with_entry(&other)).unwrap_err();
    assert!(is_of_the_log(&told), "{told}");
    // The log's word on another signature, at a good time.
    let other = sigstore.claim(image("another"), &robot).entry();
    let told = check_claim(&policy, &claim.clone().with_entry(&other)).unwrap_err();
    assert!(
        is_of_the_log(&told) || matches!(told, Refusal::Signature(_)),
        "{told}"
    );
    // No word at all.
    let mut silent = claim;
    let annotations = silent.annotations.as_object_mut().unwrap();
    annotations.remove("dev.sigstore.cosign/bundle");
    let told = check_claim(&policy, &silent).unwrap_err();
    assert!(is_of_the_log(&told), "{told}");
}

#[test]
fn a_bundle_without_proof_of_the_log_is_refused() {
    let (sigstore, robot, policy) = known();
    let bundle = sigstore.bundle(&statement(image("app"), SIGNED), &robot);
    let entry = "/verificationMaterial/tlogEntries/0";
    let mut unproved = bundle.clone();
    let of = unproved
        .pointer_mut(entry)
        .unwrap()
        .as_object_mut()
        .unwrap();
    of.remove("inclusionProof");
    let told = check_bundle(&policy, &unproved).unwrap_err();
    assert!(matches!(told, Refusal::Log(_)), "{told}");
    let mut other = bundle.clone();
    let proof = format!("{entry}/inclusionProof/checkpoint/envelope");
    let foreign = Sigstore::new().bundle(&statement(image("app"), SIGNED), &robot);
    *other.pointer_mut(&proof).unwrap() = foreign.pointer(&proof).unwrap().clone();
    assert!(check_bundle(&policy, &other).is_err());
    let mut bare = bundle;
    bare["verificationMaterial"]["tlogEntries"] = json!([]);
    let told = check_bundle(&policy, &bare).unwrap_err();
    assert!(matches!(told, Refusal::Log(_)), "{told}");
}

#[test]
fn what_only_attests_something_is_no_signature() {
    let (sigstore, robot, policy) = known();
    let provenance = "https://slsa.dev/provenance/v1";
    let bundle = sigstore.bundle(&statement(image("app"), provenance), &robot);
    let wanted = Err(Refusal::Attestation(provenance.to_owned()));
    assert_eq!(check_bundle(&policy, &bundle), wanted);
    let mut claim = sigstore.claim(image("app"), &robot);
    claim.payload = claim.payload.replace("container image", "blob");
    let wanted = Err(Refusal::Attestation("cosign blob signature".to_owned()));
    assert_eq!(check_claim(&policy, &claim), wanted);
}

#[test]
fn a_keys_signature_has_no_identity() {
    let (_, robot, policy) = known();
    let claim = Claim::by_key(image("app"), &robot.key);
    assert_eq!(check_claim(&policy, &claim), Err(Refusal::NoCertificate));
    let bundle = bundle_by_key(&statement(image("app"), SIGNED), &robot.key);
    assert_eq!(check_bundle(&policy, &bundle), Err(Refusal::NoCertificate));
}

#[test]
fn rubbish_is_told_as_rubbish() {
    let (sigstore, robot, policy) = known();
    let is_rubbish = |told: Result<(), Refusal>| matches!(told, Err(Refusal::Rubbish(_)));
    let mut claim = sigstore.claim(image("app"), &robot);
    assert!(is_rubbish(check_claim(
        &policy,
        &claim.clone().with_entry(&json!("x"))
    )));
    claim.annotations["dev.sigstore.cosign/certificate"] = "-----BEGIN".into();
    assert!(is_rubbish(check_claim(&policy, &claim)));
    claim.payload = "{}".to_owned();
    assert!(is_rubbish(check_claim(&policy, &claim)));
    assert!(is_rubbish(check_bundle(
        &policy,
        &json!({"mediaType": "x"})
    )));
}

#[test]
fn signers_that_nobody_could_be_are_refused() {
    let key = Key::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(matches!(key, Err(BadSigner::Key(_))));
    for root in ["", "{}", r#"{"mediaType": "x", "tlogs": 7}"#] {
        let identity = Identity::new(ROBOT, ISSUER, Some(root));
        assert!(matches!(identity, Err(BadSigner::TrustRoot(_))), "{root}");
    }
    let identity = Identity::new("[", ISSUER, None);
    assert!(matches!(identity, Err(BadSigner::Identity { .. })));
}
