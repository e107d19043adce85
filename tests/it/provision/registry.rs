//! P14: the registry has each image of the cluster under the digest that the mirror's index tells, asked of a registry that answers.

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::{Naming, Reference, media};
use kops_mirror::index::{FORMAT, ImageEntry, Index, Release};
use kops_mirror::loopback::registry::{Auth, LoopbackRegistry, Options};
use kops_mirror::loopback::s3::Credentials;
use serde_json::json;

use super::desk::Desk;
use super::world::CHINA;

/// What stands before the names of repositories.
const PATH: &str = "k8s";

/// A cluster with a mirror that names its images, and a registry that has them.
struct Shop {
    desk: Desk,
    registry: LoopbackRegistry,
    images: Vec<ImageEntry>,
}

impl Shop {
    async fn open(options: Options) -> Option<Self> {
        let mut desk = Desk::start().await?;
        let registry = LoopbackRegistry::start(options).unwrap();
        let address = registry.address();
        desk.change(
            "network: {}",
            &format!("network: {{}}\nregistry: {{containerRegistry: '{address}/{PATH}'}}"),
        );
        let images = desk.file().images().unwrap();
        assert!(images.len() > 5, "{images:?}");
        let images = images
            .iter()
            .map(|name| push(&registry, &name.parse().unwrap(), 0))
            .collect();
        let shop = Self {
            desk,
            registry,
            images,
        };
        let bucket = shop.desk.mirror_bucket();
        shop.desk.world.overlay.make_bucket(&bucket, CHINA).await;
        shop.index("release", "2026-01-01T00:00:00Z", &shop.images)
            .await;
        Some(shop)
    }

    /// Marks a release that has these images.
    async fn index(&self, name: &str, completed_at: &str, images: &[ImageEntry]) {
        let index = Index {
            format: FORMAT,
            release: Release {
                name: name.to_owned(),
                images: images.to_vec(),
                ..Release::default()
            },
            written_by: "tests".to_owned(),
            completed_at: completed_at.to_owned(),
            files: Vec::new(),
            pointers: Vec::new(),
        };
        let text = serde_json::to_string(&index).unwrap();
        let key = format!("k8s/{}", index.release.key());
        let bucket = self.desk.mirror_bucket();
        self.desk.world.overlay.put(&bucket, &key, &text).await;
    }

    /// The one finding: its weight, and what it says.
    async fn found(&self, flags: &str) -> (String, String) {
        let (_, told) = self
            .desk
            .json(&format!("preflight --only P14 {flags}"))
            .await;
        let [finding] = told.as_array().unwrap().as_slice() else {
            panic!("{told:#}");
        };
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        (
            text("weight"),
            format!("{}: {}", text("what"), text("remedy")),
        )
    }

    async fn is_fine(&self, flags: &str) {
        let (weight, said) = self.found(flags).await;
        assert_eq!(weight, "fine", "{said}");
        let all = format!("has all {} images under their digests", self.images.len());
        assert!(said.contains(&all), "{said}");
    }

    async fn is_wrong(&self, parts: &[&str]) {
        let (weight, said) = self.found("").await;
        assert_eq!(weight, "error", "{said}");
        for part in parts {
            assert!(said.contains(part), "'{part}' is not in {said}");
        }
    }
}

/// Where kops looks for an image.
fn repository(image: &Reference) -> String {
    let name = Naming::ContainerRegistry.repository(image).unwrap();
    format!("{PATH}/{name}")
}

/// Puts an image of one platform where kops looks for it; `seed` makes it another one.
fn push(registry: &LoopbackRegistry, image: &Reference, seed: u64) -> ImageEntry {
    let repository = repository(image);
    let described = |content: &str, media_type: &str| {
        let digest = registry.add_blob(&repository, content.to_owned());
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()})
    };
    let config =
        json!({"architecture": "amd64", "os": "linux", "image": image.to_string(), "seed": seed});
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST,
        "config": described(&config.to_string(), "application/vnd.oci.image.config.v1+json"),
        "layers": [described(&format!("layer {seed} of {image}"), "application/vnd.oci.image.layer.v1.tar")]});
    let manifest = manifest.to_string();
    let digest = registry.add_manifest(&repository, image.tag(), media::MANIFEST, manifest);
    ImageEntry {
        image: image.clone(),
        digest,
        at: vec![format!("{}/{repository}", registry.address())],
    }
}

#[tokio::test]
async fn images_that_are_there_missing_and_others_are_told_apart() {
    let Some(shop) = Shop::open(Options::default()).await else {
        return;
    };
    shop.is_fine("").await;
    let count = shop.images.len();
    // Another is under its name.
    let first = shop.images[0].image.clone();
    let other = push(&shop.registry, &first, 1);
    let parts = [
        format!("1 of {count} images are not as they should be"),
        format!(
            "{first}: its name leads to {} where {} was put",
            other.digest, shop.images[0].digest
        ),
    ];
    shop.is_wrong(&parts.each_ref().map(String::as_str)).await;
    // Its index says so: then that is right, whatever an older one says.
    shop.index("newer", "2026-02-01T00:00:00Z", &[other]).await;
    shop.is_fine("").await;
    // Nothing is under the name.
    let second = &shop.images[1].image;
    shop.registry
        .untag(&repository(second), second.tag().unwrap());
    let missing = format!("{second}: its name leads to nothing");
    shop.is_wrong(&[
        &format!("1 of {count} images"),
        &missing,
        "kops-mirror repair",
    ])
    .await;
    // The manifest is there, and a blob that it names is not.
    push(&shop.registry, second, 0);
    let third = &shop.images[2].image;
    let layer = Digest::of(Algorithm::Sha256, format!("layer 0 of {third}").as_bytes());
    shop.registry.lose(&repository(third), &layer);
    shop.is_wrong(&[&format!("{third}: its blob {layer}")])
        .await;
}

#[tokio::test]
async fn an_image_that_no_release_names_is_not_taken_for_one_that_is_there() {
    let Some(shop) = Shop::open(Options::default()).await else {
        return;
    };
    let (lacking, rest) = shop.images.split_first().unwrap();
    shop.index("release", "2026-01-01T00:00:00Z", rest).await;
    let count = shop.images.len();
    shop.is_wrong(&[
        &format!("1 of {count} images that the cluster asks for are in no release of the mirror"),
        &lacking.image.to_string(),
    ])
    .await;
    shop.index("release", "2026-01-01T00:00:00Z", &[]).await;
    shop.is_wrong(&["no release of the mirror says what images it has"])
        .await;
}

/// What was mirrored is elsewhere, so the proxy is one that fetches by itself: it has none of the images yet, and need not.
#[tokio::test]
async fn a_proxy_that_no_release_names_is_left_to_fetch_what_it_lacks() {
    let Some(mut shop) = Shop::open(Options::default()).await else {
        return;
    };
    let address = shop.registry.address();
    let of_names = format!("containerRegistry: '{address}/{PATH}'");
    let proxy = format!("containerProxy: '{address}'");
    shop.desk.change(&of_names, &proxy);
    let (weight, said) = shop.found("").await;
    assert_eq!(weight, "fine", "{said}");
    // Once a release says that one is there, all have to be.
    let mut image = shop.images[0].clone();
    let repository = Naming::ContainerProxy.repository(&image.image).unwrap();
    image.at = vec![format!("{address}/{repository}:there")];
    shop.index("to-the-proxy", "2026-01-02T00:00:00Z", &[image])
        .await;
    shop.is_wrong(&["are not as they should be"]).await;
}

/// Whoever may not look does not know, which stops nothing; and it is said who was refused.
#[tokio::test]
async fn a_registry_that_refuses_the_login_is_told_as_such() {
    let options = Options {
        auth: Auth::Basic,
        ..Options::default()
    };
    let Some(shop) = Shop::open(options).await else {
        return;
    };
    let host = shop.registry.address().to_string();
    let (weight, said) = shop.found("").await;
    assert_eq!(weight, "unknown", "{said}");
    assert!(said.contains(&host) && said.contains("login"), "{said}");
    let login = |user: &str, password: &str| {
        use base64::Engine;
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
        let path = shop.desk.world.dir.path().join("logins.json");
        std::fs::write(&path, json!({"auths": {&host: {"auth": auth}}}).to_string()).unwrap();
        let config = shop.desk.world.dir.path().join("mirror.toml");
        std::fs::write(
            &config,
            format!("[registry]\nauth_file = '{}'\n", path.display()),
        )
        .unwrap();
        format!("--config {}", config.display())
    };
    let options = shop.registry.options();
    let wrong = login(&options.user, "a-wrong-password");
    let (weight, said) = shop.found(&wrong).await;
    assert_eq!(weight, "unknown", "{said}");
    assert!(!said.contains("a-wrong-password"), "{said}");
    let right = login(&options.user, &options.password);
    shop.is_fine(&right).await;
}

/// ECR's own way: a password of its API, for who signs with the account's keys.
#[tokio::test]
async fn ecr_is_asked_with_the_account_s_own_credentials() {
    let Some(mut shop) = Shop::open(Options::ecr()).await else {
        return;
    };
    let keys = &shop.desk.world.keys;
    let known = Credentials {
        access_key: keys.access_key.clone(),
        secret_key: keys.secret_key.clone(),
    };
    let strange = at_ecr(&shop).await;
    assert_eq!(strange.0, "unknown", "{}", strange.1);
    assert!(!strange.1.contains(&keys.secret_key), "{}", strange.1);
    let registry = LoopbackRegistry::start(Options {
        credentials: known,
        region: CHINA.to_owned(),
        ..Options::ecr()
    })
    .unwrap();
    let before = shop.registry.address().to_string();
    shop.desk.change(&before, &registry.address().to_string());
    for entry in &shop.images {
        push(&registry, &entry.image, 0);
    }
    shop.registry = registry;
    let (weight, said) = at_ecr(&shop).await;
    assert_eq!(weight, "fine", "{said}");
    let first = &shop.images[0].image;
    shop.registry
        .untag(&repository(first), first.tag().unwrap());
    let (weight, said) = at_ecr(&shop).await;
    assert_eq!(weight, "error", "{said}");
    assert!(
        said.contains(&format!("{first}: its name leads to nothing")),
        "{said}"
    );
}

/// What is found where this registry is ECR.
async fn at_ecr(shop: &Shop) -> (String, String) {
    let config = shop.desk.world.dir.path().join("ecr.toml");
    let address = shop.registry.address();
    let text = format!("[registry.ecr]\nendpoint = 'http://{address}'\nregion = '{CHINA}'\n");
    std::fs::write(&config, text).unwrap();
    shop.found(&format!("--config {}", config.display())).await
}
