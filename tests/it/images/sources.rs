//! Private registries in ECR as sources: who logs in there, and with what.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kops_mirror::loopback::registry::{Auth, LoopbackRegistry, Operation, Options};
use kops_mirror::loopback::s3::Credentials;
use serde_json::json;

use crate::support::gallery::{Gallery, told};
use crate::support::program::finish;

const LENGTH: usize = 50_000;

/// A source with these options, whose API is asked for logins, and a target that asks nobody.
fn reading(source: Options, profile: Option<&str>, length: usize) -> Gallery {
    let gallery = Gallery::new(source, Options::default(), length);
    let settings = std::fs::read_to_string(gallery.path("settings.toml")).unwrap();
    let (at, region) = (gallery.source.address(), &gallery.source.options().region);
    let profile = profile.map(|profile| format!("profile = \"{profile}\"\n"));
    let profile = profile.unwrap_or_default();
    let settings = format!(
        "{settings}[registry]\nnaming = \"rules\"\nrules = [{{ from = \"{at}/\", to = \"k8s/\" }}]\n\
         [registry.ecr_source]\nendpoint = \"http://{at}\"\nregion = \"{region}\"\n{profile}"
    );
    gallery.write("settings.toml", &settings);
    gallery
}

/// ECR with keys of its own.
fn private() -> Options {
    let keys = Credentials {
        access_key: "AKIAGLOBALGLOBAL".to_owned(),
        secret_key: "secret-of-the-global-account".to_owned(),
    };
    Options {
        credentials: keys,
        region: "us-west-2".to_owned(),
        ..Options::ecr()
    }
}

fn know(gallery: &Gallery, secret_key: &str) {
    let access_key = &gallery.source.options().credentials.access_key;
    let profile = format!(
        "[global]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
    );
    std::fs::create_dir(gallery.path(".aws")).unwrap();
    gallery.write(".aws/credentials", &profile);
}

/// The environment has the keys of the target's account.
fn bring(gallery: &Gallery) -> Command {
    gallery.bring(&[&image(gallery)])
}

fn image(gallery: &Gallery) -> String {
    format!("{}/team/app:v1", gallery.source.address())
}

fn asked_for_passwords(registry: &LoopbackRegistry) -> usize {
    let asked = registry.log().of(Operation::Ecr).into_iter();
    asked
        .filter(|asked| asked.reference == "GetAuthorizationToken")
        .count()
}

fn assert_brought(gallery: &Gallery) {
    let here = gallery.source.find("team/app").unwrap();
    let names = gallery.target.repositories();
    assert_eq!(names.len(), 1, "{names:?}");
    let there = gallery.target.find(names.first().unwrap()).unwrap();
    assert_eq!(there.manifests, here.manifests);
    assert!(there.blobs == here.blobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_come_from_a_private_registry_by_the_profile_that_is_named() {
    let gallery = reading(private(), Some("global"), LENGTH);
    know(&gallery, &gallery.source.options().credentials.secret_key);
    let output = finish(bring(&gallery)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_brought(&gallery);
    assert_eq!(asked_for_passwords(&gallery.source), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_ends_meanwhile_is_asked_for_anew() {
    let source = Options {
        token_life: Duration::from_secs(3),
        ..private()
    };
    let gallery = reading(source, Some("global"), 400_000);
    know(&gallery, &gallery.source.options().credentials.secret_key);
    let mut command = bring(&gallery);
    command.args(["--limit", "500KiB/s", "--connections", "1"]);
    let output = finish(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_brought(&gallery);
    assert!(asked_for_passwords(&gallery.source) > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_another_partition_are_told_and_no_secret() {
    let gallery = reading(private(), Some("global"), LENGTH);
    know(&gallery, "secret-of-nobody");
    let output = finish(bring(&gallery)).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "the profile 'global'",
        "registry.ecr_source.profile",
        "those of AWS and of AWS China are no good for each other",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("secret-of"), "{said}");
    // Asked once for the whole image.
    assert_eq!(asked_for_passwords(&gallery.source), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_docker_knows_of_the_registry_goes_before() {
    let source = Options {
        auth: Auth::Basic,
        ..Options::ecr()
    };
    let gallery = reading(source, None, LENGTH);
    let at = gallery.source.address().to_string();
    let options = gallery.source.options();
    let login = BASE64.encode(format!("{}:{}", options.user, options.password));
    let logins = json!({"auths": {at: {"auth": login}}}).to_string();
    gallery.write(".docker/config.json", &logins);
    let output = finish(bring(&gallery)).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_brought(&gallery);
    assert_eq!(asked_for_passwords(&gallery.source), 0);
}
