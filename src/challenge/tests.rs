//! Whether tokens are got once, kept while they are good, and sent to nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Json;
use axum::Router;
use axum::http::{HeaderMap as Headers, StatusCode, Uri};
use axum::routing::get;
use reqwest::header::WWW_AUTHENTICATE;
use serde_json::json;

use super::*;

const SCOPE: &str = "repository:a/b:pull";

/// Knows one login, and counts who asks for it.
#[derive(Debug, Default)]
struct One(Option<Login>, AtomicUsize);

#[async_trait]
impl Logins for One {
    async fn login(&self, _: &str) -> Result<Option<Login>, ChallengeError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.clone())
    }
}

/// What a token service was asked, queries or forms, and by whom; and how many went astray.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(String, String)>>, AtomicUsize);

impl Heard {
    fn refused(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }

    fn asked(&self) -> Vec<(String, String)> {
        locked(&self.0).clone()
    }
}

/// A token service on loopback; its tokens are numbered.
async fn service(expires_in: u64) -> (Url, Arc<Heard>, tokio::task::JoinSet<()>) {
    let heard: Arc<Heard> = Arc::default();
    let hearing = Arc::clone(&heard);
    let answer = move |uri: Uri, headers: Headers, body: String| async move {
        let by = headers.get("authorization");
        let by = by.map_or("", |by| by.to_str().unwrap()).to_owned();
        let asked = uri.query().map_or(body, str::to_owned);
        let mut heard = locked(&hearing.0);
        heard.push((asked, by.clone()));
        let token = format!("token-{}", heard.len());
        (
            StatusCode::OK,
            Json(json!({"access_token": token, "expires_in": expires_in})),
        )
    };
    let astray = Arc::clone(&heard);
    let refuse = move || async move {
        astray.1.fetch_add(1, Ordering::Relaxed);
        StatusCode::NOT_FOUND
    };
    let router = Router::new().route("/token", get(answer.clone()).post(answer));
    let router = router.fallback(refuse);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url.parse().unwrap(), heard, tasks)
}

fn demanding(realm: &Url) -> HeaderMap {
    let value = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"{SCOPE}\"");
    HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())])
}

fn tokens(login: Option<Login>) -> (Tokens, Arc<One>) {
    let one = Arc::new(One(login, AtomicUsize::new(0)));
    (Tokens::new(Arc::clone(&one) as Arc<dyn Logins>), one)
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn registry_url() -> Url {
    "http://127.0.0.1:1/v2/a/b/manifests/v1".parse().unwrap()
}

#[tokio::test]
async fn many_who_ask_at_once_get_one_token() {
    let (realm, heard, _tasks) = service(300).await;
    let (tokens, _) = tokens(None);
    let (url, headers, client) = (registry_url(), demanding(&realm), client());
    assert_eq!(tokens.known(&url, SCOPE), None);
    let answers = (0..20).map(|_| tokens.answer(&client, &url, &headers, SCOPE));
    for answer in futures::future::join_all(answers).await {
        assert_eq!(answer.unwrap(), "Bearer token-1");
    }
    assert_eq!(
        heard.asked(),
        [(
            "service=s&scope=repository%3Aa%2Fb%3Apull".to_owned(),
            String::new()
        )]
    );
    let elsewhere: Url = "http://127.0.0.1:2/v2/".parse().unwrap();
    assert_eq!(tokens.known(&elsewhere, SCOPE), None);
    assert_eq!(tokens.known(&url, "repository:a/b:pull,push"), None);
    let sent = tokens.known(&url, SCOPE).unwrap();
    assert!(format!("{sent:?} {tokens:?}").find("token-1").is_none());
    tokens.refused(&url, SCOPE, &"Bearer older".parse().unwrap());
    assert_eq!(tokens.known(&url, SCOPE).as_ref(), Some(&sent));
    tokens.refused(&url, SCOPE, &sent);
    let renewed = tokens.answer(&client, &url, &headers, SCOPE).await.unwrap();
    assert_eq!(renewed, "Bearer token-2");
}

#[tokio::test]
async fn a_token_is_left_shortly_before_its_end() {
    let (realm, _heard, _tasks) = service(100).await;
    let (tokens, _) = tokens(None);
    let url = registry_url();
    tokens
        .answer(&client(), &url, &demanding(&realm), SCOPE)
        .await
        .unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(85)).await;
    assert!(tokens.known(&url, SCOPE).is_some());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(tokens.known(&url, SCOPE), None);
}

#[tokio::test]
async fn a_login_is_shown_to_the_token_service_and_asked_for_once() {
    let (realm, heard, _tasks) = service(300).await;
    let (client, url, headers) = (client(), registry_url(), demanding(&realm));
    let (tokens_of_ann, one) = tokens(Some(Login::password("ann", "secret")));
    for scope in [SCOPE, "repository:a/b:pull,push"] {
        tokens_of_ann
            .answer(&client, &url, &headers, scope)
            .await
            .unwrap();
    }
    assert_eq!(one.1.load(Ordering::Relaxed), 1);
    assert_eq!(heard.asked()[1].1, "Basic YW5uOnNlY3JldA==");
    assert!(heard.asked()[1].0.ends_with("pull%2Cpush"));
    let (refreshing, _) = tokens(Some(Login::identity_token("refresh me")));
    refreshing
        .answer(&client, &url, &headers, SCOPE)
        .await
        .unwrap();
    let (asked, by) = heard.asked()[2].clone();
    assert!(
        asked.contains("grant_type=refresh_token") && asked.contains("refresh_token=refresh+me"),
        "{asked}"
    );
    assert_eq!(by, "");
    let basic: HeaderMap = HeaderMap::from_iter([(WWW_AUTHENTICATE, "Basic".parse().unwrap())]);
    let other: Url = "https://ecr.example/v2/".parse().unwrap();
    let answered = tokens_of_ann.answer(&client, &other, &basic, SCOPE).await;
    assert_eq!(answered.unwrap(), "Basic YW5uOnNlY3JldA==");
    let (nobody, _) = tokens(None);
    let refused = nobody.answer(&client, &other, &basic, SCOPE).await;
    assert!(matches!(refused, Err(ChallengeError::NoLogin { .. })));
}

#[tokio::test]
async fn a_login_is_sent_to_no_service_that_just_anyone_may_have_named() {
    let (realm, heard, _tasks) = service(300).await;
    let (tokens, _) = tokens(Some(Login::password("ann", "secret")));
    // The registry is plain, and its service is at another host: this machine's.
    let url: Url = "http://registry.example/v2/".parse().unwrap();
    let refused = tokens
        .answer(&client(), &url, &demanding(&realm), SCOPE)
        .await;
    assert!(
        matches!(refused, Err(ChallengeError::Unsafe { .. })),
        "{refused:?}"
    );
    assert_eq!(heard.asked(), []);
}

#[tokio::test]
async fn a_refused_login_is_told_without_its_secret() {
    let (realm, _heard, _tasks) = service(300).await;
    let (tokens, _) = tokens(Some(Login::password("ann", "secret")));
    let mut wrong = realm.clone();
    wrong.set_path("/none");
    let error = tokens
        .answer(&client(), &registry_url(), &demanding(&wrong), SCOPE)
        .await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            ChallengeError::Refused {
                status: 404,
                with_login: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Permanent);
    let told = format!("{error} {error:?} {tokens:?}");
    assert!(!told.contains("secret") && !told.contains("YW5u"), "{told}");
}

#[tokio::test]
async fn what_one_could_not_get_is_not_asked_for_by_each_who_waited() {
    let (realm, heard, _tasks) = service(300).await;
    let mut wrong = realm.clone();
    wrong.set_path("/token/none");
    let (tokens, one) = tokens(Some(Login::password("ann", "secret")));
    let (url, client) = (registry_url(), client());
    let refusing = demanding(&wrong);
    let scopes = ["repository:a:pull", "repository:b:pull"];
    let answers = (0..20).map(|i| tokens.answer(&client, &url, &refusing, scopes[i % 2]));
    for answer in futures::future::join_all(answers).await {
        assert!(matches!(answer, Err(ChallengeError::Refused { .. })));
    }
    // Two scopes, one login.
    assert_eq!(one.1.load(Ordering::Relaxed), 1);
    assert_eq!(heard.refused(), 2);
    // Who comes later asks again.
    let later = tokens
        .answer(&client, &url, &demanding(&realm), scopes[0])
        .await;
    assert!(later.is_ok());
}
