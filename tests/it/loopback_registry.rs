//! The loopback registry itself: that it is as strict as it says.

use std::time::Duration;

use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::image::media;
use kops_mirror::loopback::registry::{
    Auth, Fault, Imitation, LoopbackRegistry, Missing, Mounts, Operation, Options, Trouble,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// A client that does nothing by itself.
struct Visitor {
    server: LoopbackRegistry,
    client: Client,
}

impl Visitor {
    fn of(options: Options) -> Self {
        // A connection that is cut is of no use to the next request.
        let client = Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none());
        Self {
            server: LoopbackRegistry::start(options).unwrap(),
            client: client.build().unwrap(),
        }
    }

    fn with(imitation: Imitation) -> Self {
        Self::of(Options {
            imitation,
            ..Options::default()
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    async fn ask(&self, method: Method, path: &str, body: &[u8]) -> Response {
        let request = self.client.request(method, self.url(path));
        request.body(body.to_vec()).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, b"").await
    }

    /// Begins an upload; where it goes on.
    async fn begin(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.ask(Method::POST, &path, b"").await;
        assert_eq!(answer.status(), 202);
        location(&answer)
    }

    async fn put_manifest(&self, reference: &str, manifest: &Value) -> Response {
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        self.client
            .put(self.url(&format!("/v2/a/manifests/{reference}")))
            .header(CONTENT_TYPE, media_type)
            .body(manifest.to_string())
            .send()
            .await
            .unwrap()
    }
}

fn location(answer: &Response) -> String {
    let location = answer.headers()[LOCATION].to_str().unwrap();
    assert!(location.starts_with("/v2/"), "{location}");
    location.to_owned()
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let told: Value = answer.json().await.unwrap_or_default();
    let code = told["errors"][0]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn manifest_of(config: &Digest) -> Value {
    json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 6}})
}

#[tokio::test]
async fn a_blob_is_kept_only_under_its_own_digest() {
    let visitor = Visitor::of(Options::default());
    for (content, kept) in [(&b"content"[..], true), (&b"another"[..], false)] {
        let at = visitor.begin("a").await;
        let digest = sha256(b"content");
        let answer = visitor
            .ask(Method::PUT, &format!("{at}&digest={digest}"), content)
            .await;
        let expected = if kept {
            refused(201, "")
        } else {
            refused(400, "DIGEST_INVALID")
        };
        assert_eq!(code(answer).await, expected);
    }
    assert_eq!(visitor.server.uploads(), 0);
    assert_eq!(visitor.server.find("a").unwrap().blobs.len(), 1);
}

#[tokio::test]
async fn an_upload_goes_on_only_from_where_it_stood() {
    let visitor = Visitor::of(Options::default());
    let first = visitor.begin("a").await;
    let answer = visitor.ask(Method::PATCH, &first, b"con").await;
    assert_eq!(answer.status(), 202);
    let second = location(&answer);
    let again = visitor.ask(Method::PATCH, &first, b"con").await;
    assert_eq!(code(again).await, refused(400, "BLOB_UPLOAD_INVALID"));
    let other = second.replace("/v2/a/", "/v2/b/");
    let elsewhere = visitor.ask(Method::PATCH, &other, b"tent").await;
    assert_eq!(code(elsewhere).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
    let end = format!("{second}&digest={}", sha256(b"content"));
    let answer = visitor.ask(Method::PUT, &end, b"tent").await;
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn ecr_takes_no_short_chunk_but_the_last_and_answers_otherwise() {
    let imitation = Imitation {
        missing: Missing::Created,
        absolute_locations: false,
        ..Imitation::ECR
    };
    let visitor = Visitor::with(imitation);
    let short = visitor.begin("a").await;
    let answer = visitor.ask(Method::PATCH, &short, b"short").await;
    assert_eq!(answer.status(), 201);
    let answer = visitor
        .ask(Method::PATCH, &location(&answer), b"more")
        .await;
    assert_eq!(code(answer).await, refused(400, "BLOB_UPLOAD_INVALID"));
    let long = visitor.begin("a").await;
    let mut content = vec![7; 5 << 20];
    let answer = visitor.ask(Method::PATCH, &long, &content).await;
    content.extend_from_slice(b"end");
    let end = format!("{}&digest={}", location(&answer), sha256(&content));
    assert_eq!(visitor.ask(Method::PUT, &end, b"end").await.status(), 201);
}

#[tokio::test]
async fn a_missing_repository_is_made_or_refused_or_hung_up_on() {
    let post = "/v2/none/blobs/uploads/";
    let visitor = Visitor::with(Imitation {
        missing: Missing::Unknown,
        ..Imitation::default()
    });
    let answer = visitor.ask(Method::POST, post, b"").await;
    assert_eq!(code(answer).await, refused(404, "NAME_UNKNOWN"));
    let visitor = Visitor::with(Imitation {
        missing: Missing::Dropped,
        ..Imitation::default()
    });
    let url = visitor.url(post);
    assert!(visitor.client.post(url).send().await.is_err());
    visitor.server.create("none");
    assert_eq!(visitor.ask(Method::POST, post, b"").await.status(), 202);
}

#[tokio::test]
async fn a_mount_is_done_or_an_upload_is_begun() {
    let digest = sha256(b"config");
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    for (mounts, referenced, status) in [
        (Mounts::Done, false, 201),
        (Mounts::Never, true, 202),
        (Mounts::OfReferenced, false, 202),
        (Mounts::OfReferenced, true, 201),
    ] {
        let visitor = Visitor::with(Imitation {
            mounts,
            ..Imitation::default()
        });
        visitor.server.add_blob("a", &b"config"[..]);
        if referenced {
            visitor.put_manifest("v1", &manifest_of(&digest)).await;
        }
        let answer = visitor.ask(Method::POST, &mount, b"").await;
        assert_eq!(answer.status(), status, "{mounts:?} {referenced}");
        let there = visitor.server.find("b").unwrap();
        assert_eq!(there.blobs.contains_key(&digest), status == 201);
    }
}

#[tokio::test]
async fn a_manifest_waits_for_what_it_names() {
    let visitor = Visitor::of(Options::default());
    let digest = sha256(b"config");
    let manifest = manifest_of(&digest);
    let of_manifest = sha256(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [
        {"mediaType": media::MANIFEST, "digest": of_manifest.to_string(), "size": manifest.to_string().len()}]});
    let missing = refused(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(
        code(visitor.put_manifest("v1", &manifest).await).await,
        missing
    );
    visitor.server.add_blob("a", &b"config"[..]);
    assert_eq!(
        code(visitor.put_manifest("v2", &index).await).await,
        missing
    );
    assert_eq!(visitor.put_manifest("v1", &manifest).await.status(), 201);
    assert_eq!(visitor.put_manifest("v2", &index).await.status(), 201);
    let wrong = visitor.put_manifest(&digest.to_string(), &manifest).await;
    assert_eq!(code(wrong).await, refused(400, "MANIFEST_INVALID"));
    let answer = visitor.get("/v2/a/manifests/v1").await;
    assert_eq!(
        answer.headers()["docker-content-digest"],
        of_manifest.to_string().as_str()
    );
    assert_eq!(answer.text().await.unwrap(), manifest.to_string());
    let tags: Value = visitor.get("/v2/a/tags/list").await.json().await.unwrap();
    assert_eq!(tags["tags"], json!(["v1", "v2"]));
}

#[tokio::test]
async fn referrers_name_who_has_this_subject() {
    let visitor = Visitor::of(Options::default());
    let digest = visitor.server.add_blob("a", &b"config"[..]);
    let mut signature = manifest_of(&digest);
    signature["subject"] =
        json!({"mediaType": media::MANIFEST, "digest": digest.to_string(), "size": 6});
    let put = visitor.put_manifest("signature", &signature).await;
    assert_eq!(put.headers()["oci-subject"], digest.to_string().as_str());
    let path = format!("/v2/a/referrers/{digest}");
    let told: Value = visitor.get(&path).await.json().await.unwrap();
    let expected = sha256(signature.to_string().as_bytes()).to_string();
    assert_eq!(told["manifests"][0]["digest"], expected);
    let without = Visitor::of(Options {
        referrers: false,
        ..Options::default()
    });
    assert_eq!(without.get(&path).await.status(), 404);
}

#[tokio::test]
async fn blobs_are_given_in_part_and_by_redirect_to_who_brings_no_authorization() {
    let visitor = Visitor::of(Options {
        redirects_blobs: true,
        ..Options::default()
    });
    let digest = visitor.server.add_blob("a", &b"content"[..]);
    let answer = visitor.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(answer.status(), 307);
    let target = answer.headers()[LOCATION].to_str().unwrap().to_owned();
    let get = visitor.client.get(&target).header(RANGE, "bytes=3-");
    let part = get.send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.text().await.unwrap()),
        (206, "tent".to_owned())
    );
    let get = visitor.client.get(&target).header(AUTHORIZATION, "Basic x");
    assert_eq!(get.send().await.unwrap().status(), 400);
    assert_eq!(
        visitor.server.log().blob_bytes_sent(),
        4 + error_length(&visitor)
    );
}

/// Of the refusal, which goes the same way.
fn error_length(visitor: &Visitor) -> u64 {
    let all = visitor.server.log().of(Operation::GetStored);
    let refused = all.iter().filter(|exchanged| exchanged.status == Some(400));
    refused.map(|exchanged| exchanged.sent_bytes).sum()
}

#[tokio::test]
async fn a_token_is_for_its_scope_and_for_its_time() {
    let visitor = Visitor::of(Options {
        auth: Auth::Token {
            anonymous_pull: true,
        },
        token_requests: Some(1),
        ..Options::default()
    });
    let digest = visitor.server.add_blob("a", &b"content"[..]);
    let blob = format!("/v2/a/blobs/{digest}");
    let answer = visitor.get(&blob).await;
    let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(
        challenge.contains(r#"scope="repository:a:pull""#),
        "{challenge}"
    );
    let realm = "/token?service=loopback-registry&scope=repository:a:pull,push";
    let told: Value = visitor.get(realm).await.json().await.unwrap();
    let bearer = format!("Bearer {}", told["token"].as_str().unwrap());
    let with_token = |method, path: &str| {
        let request = visitor.client.request(method, visitor.url(path));
        request.header(AUTHORIZATION, &bearer).send()
    };
    let push = with_token(Method::POST, "/v2/a/blobs/uploads/")
        .await
        .unwrap();
    let challenge = push.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert_eq!(with_token(Method::GET, &blob).await.unwrap().status(), 200);
    let used_up = with_token(Method::GET, &blob).await.unwrap();
    let challenge = used_up.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
}

#[tokio::test]
async fn faults_befall_whom_they_are_for() {
    let visitor = Visitor::of(Options::default());
    let digest = visitor.server.add_blob("a", &b"content"[..]);
    let blob = format!("/v2/a/blobs/{digest}");
    let faults = visitor.server.faults();
    faults.order(Fault::too_many(Some(Duration::from_secs(3))).on(Operation::GetBlob));
    faults.order(
        Fault::new(Trouble::WrongBytes)
            .on(Operation::GetBlob)
            .at("a"),
    );
    faults.order(Fault::new(Trouble::AnswerCut { after_bytes: 2 }).on(Operation::GetBlob));
    faults.order(
        Fault::new(Trouble::WrongDigest)
            .on(Operation::HeadBlob)
            .after(1),
    );
    let busy = visitor.get(&blob).await;
    assert_eq!(busy.headers()["retry-after"], "3");
    assert_eq!(code(busy).await, refused(429, "TOOMANYREQUESTS"));
    assert_ne!(visitor.get(&blob).await.text().await.unwrap(), "content");
    assert!(visitor.get(&blob).await.text().await.is_err());
    assert_eq!(visitor.get(&blob).await.text().await.unwrap(), "content");
    for wrong in [false, true] {
        let answer = visitor.ask(Method::HEAD, &blob, b"").await;
        let told = answer.headers()["docker-content-digest"].to_str().unwrap();
        assert_eq!(told != digest.to_string(), wrong);
    }
    assert_eq!(faults.outstanding(), 0);
}

#[tokio::test]
async fn a_restart_forgets_what_is_under_way_and_nothing_else() {
    let visitor = Visitor::of(Options::default());
    let digest = visitor.server.add_blob("a", &b"content"[..]);
    let at = visitor.begin("a").await;
    visitor.server.restart();
    let answer = visitor.ask(Method::PATCH, &at, b"con").await;
    assert_eq!(code(answer).await, refused(404, "BLOB_UPLOAD_UNKNOWN"));
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(visitor.get(&blob).await.status(), 200);
}
