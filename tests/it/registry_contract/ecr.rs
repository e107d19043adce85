//! ECR's own: passwords from its API, repositories that are made first.

use std::sync::Arc;
use std::time::Duration;

use kops_mirror::challenge::Logins;
use kops_mirror::events::told;
use kops_mirror::loopback::registry::{Fault, LoopbackRegistry, Operation, Options, Trouble};
use kops_mirror::store::registry::ecr::{EcrLogins, EcrOptions, EcrSettings, Encryption};
use kops_mirror::store::registry::{RegistryOptions, RegistryStore};
use kops_mirror::store::s3::Keys;
use kops_mirror::store::{Store, StoreErrorKind};
use kops_mirror::verify::Verified;
use serde_json::{Value, json};

use super::{Bench, Image, at, options};
use crate::store_contract::bytes;

fn ecr() -> Bench {
    at(LoopbackRegistry::start(Options::ecr()).unwrap())
}

fn with(server: LoopbackRegistry, ecr: impl FnOnce(&mut EcrOptions)) -> Bench {
    let mut options = options(&server);
    ecr(&mut options.ecr);
    Bench {
        store: RegistryStore::connect(options).unwrap(),
        server: Some(server),
    }
}

/// How often an operation of the API was asked for.
fn calls(server: &LoopbackRegistry, operation: &str) -> usize {
    let all = server.log().of(Operation::Ecr);
    all.iter()
        .filter(|call| call.reference == operation)
        .count()
}

#[tokio::test]
async fn one_password_opens_every_repository() {
    let bench = ecr();
    bench.make(&["a", "b"]).await;
    bench.store.prepare(true).await.unwrap();
    bench.give(&bytes(1000, 1), &["a", "b"]).await;
    assert_eq!(calls(bench.server(), "GetAuthorizationToken"), 1);
    let refused = bench.server().log().all();
    assert!(
        refused
            .iter()
            .all(|exchanged| exchanged.status != Some(401))
    );
}

#[tokio::test]
async fn a_password_that_ends_is_renewed_whatever_is_asked_then() {
    let bench = ecr();
    let image = Image::new(2);
    bench.make(&["a", "b"]).await;
    image.put_blobs(&bench, "a").await;
    let manifest = &image.manifest;
    bench.server().revoke_tokens();
    // A HEAD, whose refusal says nothing.
    let there = bench.store.manifest_at("a", "v1").await.unwrap();
    assert_eq!(there, None);
    bench.server().revoke_tokens();
    bench.store.put_manifest("a", "v1", manifest).await.unwrap();
    bench.server().revoke_tokens();
    bench.give(&bytes(1000, 3), &["b"]).await;
    assert_eq!(calls(bench.server(), "GetAuthorizationToken"), 4);
}

#[tokio::test]
async fn a_password_is_renewed_before_it_ends() {
    let server = LoopbackRegistry::start(Options {
        token_life: Duration::from_secs(2),
        ..Options::ecr()
    });
    let bench = at(server.unwrap());
    bench.make(&["a"]).await;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        bench.store.prepare(true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let all = bench.server().log().of(Operation::Version);
    assert!(all.iter().all(|exchanged| exchanged.status == Some(200)));
    assert!(calls(bench.server(), "GetAuthorizationToken") > 1);
}

#[tokio::test]
async fn repositories_are_made_as_the_settings_say() {
    let lifecycle = json!({"rules": []}).to_string();
    let policy = json!({"Statement": []}).to_string();
    let server = LoopbackRegistry::start(Options::ecr()).unwrap();
    server.create("mirror/old");
    let bench = with(server, |ecr| {
        ecr.settings = EcrSettings {
            encryption: Encryption::Kms(Some("arn:aws-cn:kms:key".to_owned())),
            scan_on_push: true,
            immutable_tags: true,
            lifecycle_policy: Some(lifecycle.clone()),
            repository_policy: Some(policy.clone()),
        };
    });
    bench.make(&["new", "old"]).await;
    bench.make(&["new", "old"]).await;
    assert_eq!(calls(bench.server(), "CreateRepository"), 1);
    let told = |repository: &str, operation: &str, field: &str| -> Value {
        let found = bench.server().find(repository).unwrap();
        found
            .told
            .get(operation)
            .map_or(Value::Null, |told| told[field].clone())
    };
    let new = |field| told("mirror/new", "CreateRepository", field);
    assert_eq!(new("imageTagMutability"), "IMMUTABLE");
    assert_eq!(
        new("imageScanningConfiguration"),
        json!({"scanOnPush": true})
    );
    let encryption = json!({"encryptionType": "KMS", "kmsKey": "arn:aws-cn:kms:key"});
    assert_eq!(new("encryptionConfiguration"), encryption);
    for repository in ["mirror/new", "mirror/old"] {
        let kept = told(repository, "PutLifecyclePolicy", "lifecyclePolicyText");
        assert_eq!(kept, lifecycle.as_str());
        let kept = told(repository, "SetRepositoryPolicy", "policyText");
        assert_eq!(kept, policy.as_str());
    }
}

#[tokio::test]
async fn more_repositories_than_a_page_has_are_found() {
    let bench = ecr();
    for number in 0..1001 {
        bench.server().create(&format!("mirror/r{number:04}"));
    }
    bench.make(&["r0000", "r1000"]).await;
    assert_eq!(calls(bench.server(), "DescribeRepositories"), 2);
    assert_eq!(calls(bench.server(), "CreateRepository"), 0);
}

#[tokio::test]
async fn who_may_not_list_repositories_still_makes_them() {
    let bench = ecr();
    bench.server().create("mirror/old");
    let denied = Trouble::Refused {
        status: 400,
        code: "AccessDeniedException",
        retry_after: None,
    };
    bench
        .server()
        .faults()
        .order(Fault::new(denied).on(Operation::Ecr));
    bench.make(&["new", "old"]).await;
    assert!(bench.server().find("mirror/new").is_some());
    assert_eq!(calls(bench.server(), "CreateRepository"), 2);
}

#[tokio::test]
async fn an_api_that_is_asked_too_much_is_asked_again() {
    let bench = ecr();
    let faults = bench.server().faults();
    faults.order(Fault::too_many(None).on(Operation::Ecr).times(2));
    bench.make(&["a", "b", "c"]).await;
    assert_eq!(bench.server().repositories().len(), 3);
    assert_eq!(faults.outstanding(), 0);
}

#[tokio::test]
async fn a_push_to_a_repository_that_is_not_there_says_so() {
    let bench = ecr();
    let content = Verified::composed("content");
    bench.need(content.digests().sha256, &["none"]);
    let error = bench.put(&content).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket, "{error}");
    assert!(
        error
            .to_string()
            .contains("ECR has no repository mirror/none"),
        "{error}"
    );
    assert_eq!(bench.server().log().count(Operation::StartUpload), 1);
}

#[tokio::test]
async fn wrong_keys_are_told_without_their_secret() {
    let server = LoopbackRegistry::start(Options::ecr()).unwrap();
    let right = server.options().credentials.access_key.clone();
    let bench = with(server, |ecr| {
        ecr.keys = Some(Keys {
            access_key: right,
            secret_key: "very-secret".to_owned(),
        });
    });
    let error = bench.store.prepare(true).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Credentials, "{error}");
    let told = format!("{} {error:?} {:?}", told(&error), bench.store);
    assert!(
        told.contains("AWS China") && !told.contains("very-secret"),
        "{told}"
    );
    assert_eq!(bench.server().log().of(Operation::Ecr).len(), 1);
}

#[tokio::test]
async fn who_reads_from_ecr_gets_a_login_for_it_and_for_nobody_else() {
    let server = LoopbackRegistry::start(Options::ecr()).unwrap();
    let RegistryOptions { ecr, .. } = options(&server);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let logins = EcrLogins::new(ecr.clone(), client.clone());
    let logins: Arc<dyn Logins> = Arc::new(logins);
    let ours = server.address().to_string();
    for _again in 0..2 {
        let login = logins.login(&ours).await.unwrap().unwrap();
        assert_eq!(login.user, "AWS");
    }
    assert_eq!(calls(&server, "GetAuthorizationToken"), 1);
    let elsewhere = EcrLogins::new(
        EcrOptions {
            endpoint: None,
            ..ecr
        },
        client,
    );
    assert_eq!(elsewhere.login("quay.io").await.unwrap(), None);
}
