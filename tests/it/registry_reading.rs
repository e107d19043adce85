//! Reads images from a registry that asks who comes, is busy, redirects, and lies.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use kops_mirror::asset::{Asset, Role, Voucher};
use kops_mirror::challenge::credentials::Files;
use kops_mirror::challenge::{ChallengeError, Tokens};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::events::{Silent, told};
use kops_mirror::image::{Manifest, Platform, Reference, media};
use kops_mirror::images::{Gather, GatherError, Image, source};
use kops_mirror::limits::Limits;
use kops_mirror::loopback::registry::{Auth, Fault, LoopbackRegistry, Operation, Options, Trouble};
use kops_mirror::origin::{HostSettings, OriginError, OriginSettings, Origins};
use kops_mirror::report::Kind;
use kops_mirror::retry::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::world::{World, lines, read};

const REPOSITORY: &str = "team/app";
const SECRET: &str = "password-that-opens-nothing-but-loopback";

/// Whoever comes may pull, with a token.
const ANONYMOUS: Auth = Auth::Token {
    anonymous_pull: true,
};

fn registry(auth: Auth) -> LoopbackRegistry {
    LoopbackRegistry::start(Options {
        auth,
        redirects_blobs: true,
        ..Options::default()
    })
    .unwrap()
}

fn described(digest: Digest, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": 1})
}

/// The manifest of an image with one layer.
fn one_platform(registry: &LoopbackRegistry, tag: Option<&str>, name: &str) -> Digest {
    let config = registry.add_blob(REPOSITORY, format!("config of {name}"));
    let layer = registry.add_blob(REPOSITORY, format!("layer of {name}"));
    let base = registry.add_blob(REPOSITORY, "a layer of all");
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": described(config, "application/json"),
        "layers": [described(base, "application/gzip"), described(layer, "application/gzip")]});
    registry.add_manifest(REPOSITORY, tag, media::MANIFEST, manifest.to_string())
}

/// An index of two platforms and an attestation.
fn index(registry: &LoopbackRegistry) -> Digest {
    let platforms = [
        ("linux", "amd64"),
        ("linux", "arm64"),
        ("unknown", "unknown"),
    ];
    let children = platforms.map(|(os, architecture)| {
        let name = format!("{os}/{architecture}");
        let mut child = described(one_platform(registry, None, &name), media::MANIFEST);
        child["platform"] = json!({"os": os, "architecture": architecture});
        child
    });
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": children});
    registry.add_manifest(REPOSITORY, Some("v1"), media::INDEX, index.to_string())
}

fn reference(registry: &LoopbackRegistry, wanted: &str) -> Reference {
    let address = registry.address();
    format!("{address}/{REPOSITORY}{wanted}").parse().unwrap()
}

/// What looks at images, quickly.
struct Reader {
    origins: Origins,
    limits: Limits,
}

impl Reader {
    fn new(settings: OriginSettings) -> Self {
        let settings = OriginSettings {
            connect_timeout: Duration::from_secs(2),
            stall_window: Duration::from_secs(2),
            ..settings
        };
        Self {
            origins: Origins::new(settings).unwrap(),
            limits: Limits::new(4, None),
        }
    }

    fn anonymous() -> Self {
        Self::new(OriginSettings::default())
    }

    /// With each host at these registries, in their order.
    fn redirected(hosts: &[(&str, &[&LoopbackRegistry])]) -> Self {
        let at = |registries: &[&LoopbackRegistry]| {
            let urls = registries.iter().map(|registry| registry.address());
            let urls = urls.map(|address| format!("http://{address}").parse().unwrap());
            HostSettings {
                sources: urls.collect(),
                ..HostSettings::default()
            }
        };
        let hosts = hosts
            .iter()
            .map(|(host, registries)| ((*host).to_owned(), at(registries)));
        Self::new(OriginSettings {
            hosts: hosts.collect(),
            ..OriginSettings::default()
        })
    }

    fn with_login(dir: &TempDir, config: &Value) -> Self {
        let path = dir.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();
        Self::new(OriginSettings {
            tokens: Tokens::new(Arc::new(Files::new([path]))),
            ..OriginSettings::default()
        })
    }

    fn gather(&self) -> Gather<'_> {
        Gather {
            origins: &self.origins,
            limits: &self.limits,
            policy: Policy {
                attempts: 6,
                pause_min: Duration::from_millis(1),
                pause_max: Duration::from_millis(5),
            },
        }
    }

    async fn image(&self, reference: &Reference) -> Result<Image, GatherError> {
        self.gather().image(reference, &[]).await
    }

    async fn blob(&self, image: &Reference, digest: Digest) -> Result<Bytes, OriginError> {
        let source = &self.origins.sources(&source::blob(image, digest))[0];
        self.origins.read(source, 1 << 20).await
    }
}

fn statuses(registry: &LoopbackRegistry, operation: Operation) -> Vec<u16> {
    let ended = registry.log().of(operation);
    ended.iter().filter_map(|ended| ended.status).collect()
}

fn digests(manifests: &[Manifest]) -> Vec<Digest> {
    manifests.iter().map(|manifest| manifest.digest).collect()
}

#[tokio::test]
async fn an_image_is_read_with_one_token_that_goes_to_its_registry_alone() {
    let registry = registry(ANONYMOUS);
    let root = index(&registry);
    let reader = Reader::anonymous();
    let wanted = reference(&registry, ":v1");
    let image = reader.image(&wanted).await.unwrap();
    assert_eq!((image.root().digest, image.published), (root, root));
    let children: Vec<Digest> = image.root().children.iter().map(|c| c.digest).collect();
    assert_eq!(digests(&image.manifests)[..3], children);
    assert_eq!(image.manifests.len(), 4);
    // Three configurations, three layers, and the one of all.
    let blobs: Vec<Digest> = image.blobs().iter().map(|blob| blob.digest).collect();
    assert_eq!(blobs.len(), 7);
    for digest in &blobs {
        let content = reader.blob(&wanted, *digest).await.unwrap();
        assert_eq!(Digest::of(Algorithm::Sha256, &content), *digest);
    }
    // The storage refuses who brings an Authorization.
    assert_eq!(statuses(&registry, Operation::GetStored), [200; 7]);
    assert_eq!(registry.log().count(Operation::Token), 1);
    assert_eq!(
        statuses(&registry, Operation::GetManifest),
        [401, 200, 200, 200, 200]
    );
    assert_eq!(statuses(&registry, Operation::GetBlob), [307; 7]);
}

#[tokio::test]
async fn a_token_that_ends_on_the_way_is_renewed() {
    let registry = LoopbackRegistry::start(Options {
        auth: ANONYMOUS,
        token_requests: Some(2),
        ..Options::default()
    })
    .unwrap();
    index(&registry);
    let reader = Reader::anonymous();
    let wanted = reference(&registry, ":v1");
    let image = reader.image(&wanted).await.unwrap();
    for blob in image.blobs() {
        reader.blob(&wanted, blob.digest).await.unwrap();
        let source = &reader.origins.sources(&source::blob(&wanted, blob.digest))[0];
        assert!(reader.origins.length(source).await.is_some());
    }
    // 4 manifests, 7 lengths and 7 blobs.
    assert!((9..=18).contains(&registry.log().count(Operation::Token)));
    registry.revoke_tokens();
    assert!(reader.image(&wanted).await.is_ok());
}

/// A blob at a registry, and the asset that wants it.
fn blob_asset(registry: &LoopbackRegistry) -> (Vec<u8>, Asset) {
    let content: Vec<u8> = (0..12_u32 << 20)
        .map(|i| (i >> 9) as u8 ^ i as u8)
        .collect();
    let digest = registry.add_blob(REPOSITORY, content.clone());
    let asset = Asset {
        key: "blob".parse().unwrap(),
        canonical: source::blob(&reference(registry, ":v1"), digest),
        alternates: Vec::new(),
        witnesses: vec![vec![Voucher::Known {
            digest,
            source: "the manifest".to_owned(),
        }]],
        unvouched: None,
        sidecars: Vec::new(),
        role: Role::File,
        arch: None,
        listed_by_kops: false,
    };
    (content, asset)
}

/// The blob is there, and next to nothing of it came twice.
async fn check_carried(
    registry: &LoopbackRegistry,
    world: &World,
    (content, asset): (Vec<u8>, Asset),
) {
    let target = world.folder("target");
    let report = world.sync(&[Arc::clone(&target)], &[asset]).await;
    assert_eq!(lines(&report, Kind::Failed), [""; 0]);
    assert!(read(&target, "blob").await.unwrap() == content);
    let sent = registry.log().blob_bytes_sent();
    let length = content.len() as u64;
    assert!((length..length + (2 << 20)).contains(&sent), "{sent}");
}

#[tokio::test]
async fn the_engine_carries_a_blob_through_tokens_that_end() {
    let registry = LoopbackRegistry::start(Options {
        auth: ANONYMOUS,
        token_requests: Some(2),
        redirects_blobs: true,
        ..Options::default()
    })
    .unwrap();
    let blob = blob_asset(&registry);
    let mut world = World::new().await;
    // One that comes at the wrong moment would use up another's token.
    world.settings.connections = 1;
    check_carried(&registry, &world, blob).await;
    assert!(registry.log().count(Operation::Token) > 2);
}

#[tokio::test]
async fn a_token_that_ends_under_many_connections_is_renewed_once() {
    let registry = registry(ANONYMOUS);
    let blob = blob_asset(&registry);
    let late = Fault::new(Trouble::Late(Duration::from_millis(30)));
    registry
        .faults()
        .order(late.on(Operation::GetBlob).always());
    let world = World::new().await;
    let revoking = async {
        while registry.log().count(Operation::GetBlob) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        registry.revoke_tokens();
    };
    tokio::join!(check_carried(&registry, &world, blob), revoking);
    assert_eq!(registry.log().count(Operation::Token), 2);
    let refused = statuses(&registry, Operation::GetBlob)
        .iter()
        .filter(|status| **status == 401)
        .count();
    // Those that were under way, and the first of all.
    assert!((2..=9).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_login_opens_what_is_not_for_all() {
    for auth in [
        Auth::Basic,
        Auth::Token {
            anonymous_pull: false,
        },
    ] {
        let registry = registry(auth);
        index(&registry);
        let wanted = reference(&registry, ":v1");
        let nobody = Reader::anonymous().image(&wanted).await.unwrap_err();
        let refused = matches!(
            nobody,
            GatherError::Origin(OriginError::Challenge {
                source: ChallengeError::NoLogin { .. } | ChallengeError::Refused { .. },
                ..
            })
        );
        assert!(refused, "{nobody:?}");
        let dir = TempDir::new().unwrap();
        let host = registry.address().to_string();
        let login = |password: &str| BASE64.encode(format!("loopback:{password}"));
        let config = |password| json!({"auths": {host.clone(): {"auth": login(password)}}});
        let right = Reader::with_login(&dir, &config(SECRET));
        let image = right.image(&wanted).await.unwrap();
        let blob = image.blobs()[0].digest;
        right.blob(&wanted, blob).await.unwrap();
        let before = registry.log().all().len();
        let wrong = Reader::with_login(&dir, &config("another-secret"));
        let error = wrong.image(&wanted).await.unwrap_err();
        let text = format!("{} {error:?}", told(&error));
        assert!(
            !text.contains("another-secret") && !text.contains(&login("another-secret")),
            "{text}"
        );
        // Whoever is refused does not go on asking.
        assert_eq!(registry.log().all().len() - before, 2);
    }
}

#[tokio::test]
async fn a_busy_registry_is_left_alone_for_as_long_as_it_says() {
    let registry = registry(ANONYMOUS);
    index(&registry);
    let pause = Duration::from_secs(1);
    let busy = Fault::too_many(Some(pause)).on(Operation::GetManifest);
    registry.faults().order(busy.after(2));
    let begun = Instant::now();
    Reader::anonymous()
        .image(&reference(&registry, ":v1"))
        .await
        .unwrap();
    assert!(begun.elapsed() >= pause);
    let ended = registry.log().of(Operation::GetManifest);
    assert_eq!(ended.len(), 6);
    let told = ended
        .iter()
        .find(|ended| ended.status == Some(429))
        .unwrap();
    // Those that were on their way by then aside, nobody asked meanwhile.
    let heard = told.began + told.took + Duration::from_millis(100);
    let meanwhile = ended
        .iter()
        .filter(|other| other.began > heard && other.began < told.began + pause);
    assert_eq!(meanwhile.count(), 0);
}

#[tokio::test]
async fn a_busy_token_service_is_asked_again_when_it_says() {
    let registry = registry(ANONYMOUS);
    index(&registry);
    let pause = Duration::from_secs(1);
    for retry_after in [Some(pause), None] {
        let busy = Fault::too_many(retry_after).on(Operation::Token);
        registry.faults().order(busy);
    }
    let begun = Instant::now();
    let image = Reader::anonymous()
        .image(&reference(&registry, ":v1"))
        .await;
    assert!(image.is_ok() && begun.elapsed() >= pause, "{image:?}");
    assert_eq!(statuses(&registry, Operation::Token), [429, 429, 200]);
}

#[tokio::test]
async fn wrong_bytes_and_wrong_digests_are_taken_from_nobody() {
    for (trouble, asked) in [
        (Trouble::WrongBytes, Operation::GetManifest),
        (Trouble::WrongDigest, Operation::GetManifest),
    ] {
        let (lying, honest) = (registry(Auth::Open), registry(Auth::Open));
        let root = index(&lying);
        index(&honest);
        lying
            .faults()
            .order(Fault::new(trouble.clone()).on(asked).always());
        let alone = Reader::anonymous();
        let error = alone.image(&reference(&lying, ":v1")).await.unwrap_err();
        assert!(
            matches!(
                error,
                GatherError::Disagrees { .. } | GatherError::Manifest { .. }
            ),
            "{trouble:?}: {error:?}"
        );
        // By digest, from two sources.
        let pinned: Reference = format!("registry.k8s.io/{REPOSITORY}:v1@{root}")
            .parse()
            .unwrap();
        let both = Reader::redirected(&[("registry.k8s.io", &[&lying, &honest])]);
        let image = both.image(&pinned).await.unwrap();
        assert_eq!((image.root().digest, image.manifests.len()), (root, 4));
    }
}

#[tokio::test]
async fn one_wrong_answer_is_not_the_last() {
    let registry = registry(Auth::Open);
    index(&registry);
    for trouble in [
        Trouble::WrongDigest,
        Trouble::AnswerCut { after_bytes: 20 },
        Trouble::AnswerLost,
    ] {
        registry
            .faults()
            .order(Fault::new(trouble).on(Operation::GetManifest));
    }
    registry.faults().order(Fault::unavailable());
    let image = Reader::anonymous()
        .image(&reference(&registry, ":v1"))
        .await;
    assert_eq!(image.unwrap().manifests.len(), 4);
}

#[tokio::test]
async fn platforms_that_are_not_wanted_are_not_read() {
    let registry = registry(Auth::Open);
    let root = index(&registry);
    let reader = Reader::anonymous();
    let wanted = reference(&registry, ":v1");
    let platform = |text: &str| -> Platform { text.parse().unwrap() };
    let gather = reader.gather();
    let image = gather
        .image(&wanted, &[platform("linux/arm64")])
        .await
        .unwrap();
    assert_eq!((image.manifests.len(), image.blobs().len()), (2, 3));
    assert_eq!(image.published, root);
    assert_ne!(image.root().digest, root);
    assert_eq!(registry.log().count(Operation::GetManifest), 2);
    let none = gather
        .image(&wanted, &[platform("linux/s390x")])
        .await
        .unwrap_err();
    assert!(
        none.to_string().contains("linux/amd64, linux/arm64"),
        "{none}"
    );
    // Of all that are asked for at once, one that is not there takes nobody with it.
    let references = vec![reference(&registry, ":none"), wanted.clone()];
    let all = gather.all(references.clone(), &[], &Silent).await;
    let (first, second) = (&all[0], &all[1]);
    assert_eq!((&first.0, &second.0), (&references[0], &wanted));
    let absent = matches!(&first.1, Err(GatherError::Origin(error)) if error.is_absent());
    assert!(absent && second.1.is_ok(), "{first:?}");
}

#[tokio::test]
async fn docker_hub_is_redirected_by_its_name() {
    let registry = registry(ANONYMOUS);
    index(&registry);
    let reader = Reader::redirected(&[("docker.io", &[&registry])]);
    let wanted: Reference = format!("{REPOSITORY}:v1").parse().unwrap();
    assert_eq!(wanted.registry(), "docker.io");
    assert_eq!(reader.image(&wanted).await.unwrap().manifests.len(), 4);
}

/// A relay that passes a registry's challenge on as it came, and has the registry's token service below another path.
async fn relay(content: String) -> (String, Arc<Mutex<Vec<Option<String>>>>, JoinSet<()>) {
    let by_whom: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let asked = Arc::clone(&by_whom);
    let bearer = |headers: &HeaderMap| {
        let value = headers.get("authorization")?;
        Some(value.to_str().unwrap().to_owned())
    };
    let token = move |headers: HeaderMap| async move {
        asked.lock().unwrap().push(bearer(&headers));
        axum::Json(json!({"token": "opens"}))
    };
    let manifest = move |headers: HeaderMap| async move {
        if bearer(&headers).as_deref() == Some("Bearer opens") {
            return (StatusCode::OK, HeaderMap::new(), content);
        }
        let named = "Bearer realm=\"https://auth.example/token\",service=\"registry.example\"";
        let challenge = [(header::WWW_AUTHENTICATE, named.parse().unwrap())];
        (
            StatusCode::UNAUTHORIZED,
            challenge.into_iter().collect(),
            String::new(),
        )
    };
    let router = Router::new()
        .route("/auth/token", get(token))
        .route("/v2/team/app/manifests/v1", get(manifest));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, by_whom, serving)
}

#[tokio::test]
async fn the_token_service_is_redirected_as_any_host_is_and_sees_no_login_there() {
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "layers": [],
        "config": described(Digest::of(Algorithm::Sha256, b"{}"), "application/json")});
    let (address, by_whom, _serving) = relay(manifest.to_string()).await;
    let dir = TempDir::new().unwrap();
    let login = json!({"auth": BASE64.encode("ann:secret")});
    let path = dir.path().join("config.json");
    let config = json!({"auths": {address.clone(): login, "registry.example": login, "auth.example": login}});
    fs::write(&path, config.to_string()).unwrap();
    let at = |url: String| HostSettings {
        sources: vec![url.parse().unwrap()],
        ..HostSettings::default()
    };
    let reader = Reader::new(OriginSettings {
        hosts: BTreeMap::from([
            (
                "registry.example".to_owned(),
                at(format!("http://{address}")),
            ),
            (
                "auth.example".to_owned(),
                at(format!("http://{address}/auth")),
            ),
        ]),
        tokens: Tokens::new(Arc::new(Files::new([path]))),
        ..OriginSettings::default()
    });
    let wanted: Reference = format!("registry.example/{REPOSITORY}:v1").parse().unwrap();
    reader.image(&wanted).await.unwrap();
    assert_eq!(*by_whom.lock().unwrap(), [None]);
}

#[tokio::test]
async fn signatures_are_found_by_tag_and_by_subject() {
    for referrers in [true, false] {
        let registry = LoopbackRegistry::start(Options {
            auth: ANONYMOUS,
            referrers,
            ..Options::default()
        })
        .unwrap();
        let root = index(&registry);
        let reader = Reader::anonymous();
        let image = reader.image(&reference(&registry, ":v1")).await.unwrap();
        let bare = reader.gather().signatures(&image).await.unwrap();
        assert_eq!(bare, []);
        let arm = image.root().children[1].digest;
        let tag = |digest: Digest, end: &str| format!("sha256-{}{end}", digest.hex());
        one_platform(&registry, Some(&tag(root, ".sig")), "a signature");
        one_platform(&registry, Some(&tag(arm, ".att")), "an attestation");
        let empty = registry.add_blob(REPOSITORY, "{}");
        let referring = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "artifactType": "application/spdx+json",
            "config": described(empty, "application/vnd.oci.empty.v1+json"), "layers": [], "subject": described(root, media::INDEX)});
        let referring =
            registry.add_manifest(REPOSITORY, None, media::MANIFEST, referring.to_string());
        let list = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [described(referring, media::MANIFEST)]});
        registry.add_manifest(
            REPOSITORY,
            Some(&tag(root, "")),
            media::INDEX,
            list.to_string(),
        );
        let found = reader.gather().signatures(&image).await.unwrap();
        let by_name: BTreeMap<String, Digest> = found
            .iter()
            .map(|one| {
                let name = one.reference.to_string();
                let (_, name) = name.split_once(REPOSITORY).unwrap();
                (name.to_owned(), one.manifests[0].digest)
            })
            .collect();
        let by_subject = if referrers {
            format!("@{referring}")
        } else {
            format!(":{}", tag(root, ""))
        };
        let names = [
            by_subject.clone(),
            format!(":{}", tag(root, ".sig")),
            format!(":{}", tag(arm, ".att")),
        ];
        assert_eq!(by_name.len(), 3);
        assert!(
            names.iter().all(|name| by_name.contains_key(name)),
            "{by_name:?}"
        );
        assert_eq!(by_name[&by_subject], referring);
    }
}
