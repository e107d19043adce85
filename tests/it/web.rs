//! Shows what the service's server answers, to whom, and what it keeps to itself.

mod browser;
mod office;
mod sample;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kops_mirror::board::{Desk, ReleaseState};
use kops_mirror::web::{Token, Web};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::wire::{Ending, Wire};
use office::{Office, TARGETS};

const SECRET: &str = "a-secret-that-nobody-guesses";
const RUNNING: &str = "20261124T210500Z-3";
const BESIDE: &str = "20261124T190000Z-1";
const WAITING: &str = "20261124T210600Z-4";

/// Longer than any answer on loopback takes that is on its way at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server over made-up sets.
struct Lab {
    office: Arc<Office>,
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    client: Client,
}

impl Lab {
    async fn start() -> Self {
        Self::with(60, Some(SECRET)).await
    }

    async fn with(releases: usize, secret: Option<&str>) -> Self {
        let office = Office::new(releases);
        let web = Web {
            board: office.board(),
            desk: Arc::clone(&office) as Arc<dyn Desk>,
            token: watch::channel(secret.map(|secret| Token::new(secret).unwrap())).1,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(web.run(listener, stop.clone()));
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            office,
            address,
            stop,
            server,
            client,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        body(answer).await
    }

    /// Asks for a change, with these headers besides.
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method.clone(), self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == Method::POST {
            request = purposed(request, "sync");
        }
        request.send().await.unwrap()
    }

    async fn events(&self) -> Events {
        let answer = self.get("/api/v1/events").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            header(answer.headers(), "content-type"),
            "text/event-stream"
        );
        Events {
            answer,
            unread: String::new(),
        }
    }
}

/// A stream of events being read.
struct Events {
    answer: Response,
    unread: String,
}

impl Events {
    /// The next event's data; None at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let data = data.map(|data| serde_json::from_str(data).unwrap());
                self.unread = rest.to_owned();
                if data.is_some() {
                    return data;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let chunk = chunk.expect("something comes").unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

fn purposed(request: RequestBuilder, purpose: &str) -> RequestBuilder {
    let body = json!({"purpose": purpose}).to_string();
    request
        .header("content-type", "application/json")
        .body(body)
}

async fn body(answer: Response) -> Value {
    assert_eq!(header(answer.headers(), "content-type"), "application/json");
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

/// That an answer is an error in JSON, and its code.
async fn problem(answer: Response, status: u16) -> String {
    assert_eq!(answer.status(), status, "{}", answer.url());
    let told = body(answer).await;
    assert!(!told["error"]["message"].as_str().unwrap().is_empty());
    told["error"]["code"].as_str().unwrap().to_owned()
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

#[tokio::test]
async fn health_is_told_with_a_reason() {
    let lab = Lab::start().await;
    assert_eq!(lab.json("/healthz").await, json!({"alive": true}));
    assert_eq!(lab.json("/readyz").await, json!({"ready": true}));
    lab.office.board().update(|status| {
        status.ready = false;
        status.sets[0].last_run = None;
    });
    let answer = lab.get("/readyz").await;
    assert_eq!(answer.status(), 503);
    let told = body(answer).await;
    assert_eq!(told["error"]["code"], "not-ready");
    assert_eq!(told["error"]["message"], "not looked at yet: stable");
    lab.office.board().update(|status| {
        status.ready = true;
        status.draining = true;
    });
    assert_eq!(problem(lab.get("/readyz").await, 503).await, "not-ready");
    assert_eq!(lab.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn the_status_is_what_is_on_the_board() {
    let lab = Lab::start().await;
    let status = lab.json("/api/v1/status").await;
    assert_eq!(status, json!(lab.office.board().status()));
}

#[tokio::test]
async fn releases_are_found_by_set_and_state() {
    let lab = Lab::start().await;
    for (query, count) in [
        ("", 60),
        ("?set=stable", 60),
        ("?set=broken", 0),
        ("?state=failed", 1),
        ("?state=missing&set=stable", 1),
        ("?state=complete", 57),
    ] {
        let told = lab.json(&format!("/api/v1/releases{query}")).await;
        assert_eq!(told["releases"].as_array().unwrap().len(), count, "{query}");
    }
    let told = lab.json("/api/v1/releases?state=failed").await;
    assert_eq!(told["releases"][0]["set"], "stable");
    assert_eq!(told["releases"][0]["targets"][0]["state"], "failed");
    let unknown = lab.get("/api/v1/releases?set=none").await;
    assert_eq!(problem(unknown, 404).await, "not-found");
    for query in ["?state=odd", "?sets=stable", "?set=a&set=b"] {
        let answer = lab.get(&format!("/api/v1/releases{query}")).await;
        assert_eq!(problem(answer, 400).await, "malformed", "{query}");
    }
}

#[tokio::test]
async fn runs_are_read_page_by_page() {
    let lab = Lab::start().await;
    let mut seen = Vec::new();
    let mut query = "?limit=25".to_owned();
    loop {
        let told = lab.json(&format!("/api/v1/runs{query}")).await;
        let runs = told["runs"].as_array().unwrap();
        seen.extend(
            runs.iter()
                .map(|run| run["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = told["next"].as_str() else {
            break;
        };
        query = format!("?limit=25&before={next}");
    }
    let all: Vec<&String> = lab.office.history.iter().map(|run| &run.id).collect();
    assert_eq!(seen.iter().collect::<Vec<_>>(), all);
    for query in [
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?before=a/b",
        "?before=",
    ] {
        let answer = lab.get(&format!("/api/v1/runs{query}")).await;
        assert_eq!(problem(answer, 400).await, "malformed", "{query}");
    }
}

#[tokio::test]
async fn a_run_is_told_while_it_waits_while_it_is_under_way_and_when_it_has_ended() {
    let lab = Lab::start().await;
    let told = lab.json(&format!("/api/v1/runs/{RUNNING}")).await;
    assert_eq!(told["state"], "running");
    assert_eq!(told["set"], "stable");
    assert_eq!(told["progress"]["run"], RUNNING);
    // A scrub goes on beside it, and one waits.
    let told = lab.json(&format!("/api/v1/runs/{BESIDE}")).await;
    assert_eq!(told["state"], "running");
    assert_eq!(told["progress"]["purpose"], "scrub");
    let told = lab.json(&format!("/api/v1/runs/{WAITING}")).await;
    assert_eq!(told["state"], "waiting");
    assert_eq!(told["set"], "stable");
    assert_eq!(told["waiting"]["purpose"], "prune");
    let run = &lab.office.history[3];
    let told = lab.json(&format!("/api/v1/runs/{}", run.id)).await;
    assert_eq!(told, json!({"state": "ended", "run": run}));
    for id in ["20200101T000000Z-1", "a%20b", "%ff"] {
        let status = if id == "%ff" { 400 } else { 404 };
        problem(lab.get(&format!("/api/v1/runs/{id}")).await, status).await;
    }
}

#[tokio::test]
async fn who_has_the_token_may_start_cancel_and_plan() {
    let lab = Lab::start().await;
    let secret = bearer(SECRET);
    let token = [("authorization", secret.as_str())];
    let answer = lab
        .ask(Method::POST, "/api/v1/sets/stable/runs", &token)
        .await;
    assert_eq!(answer.status(), 202);
    let place = header(answer.headers(), "location").to_owned();
    let told = body(answer).await;
    let run = told["run"].as_str().unwrap();
    assert_eq!(place.replace("%2D", "-"), format!("/api/v1/runs/{run}"));
    let path = format!("/api/v1/runs/{RUNNING}");
    let answer = lab.ask(Method::DELETE, &path, &token).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(body(answer).await, json!({"run": RUNNING}));
    let answer = lab
        .ask(Method::GET, "/api/v1/sets/stable/plan", &token)
        .await;
    assert_eq!(body(answer).await, office::plan());
    let asked = ["start stable sync".to_owned(), format!("cancel {RUNNING}")];
    assert_eq!(lab.office.asked(), asked);
}

#[tokio::test]
async fn what_the_desk_refuses_is_told_with_its_reason() {
    let lab = Lab::start().await;
    lab.office.is_cut_off.store(true, Ordering::Relaxed);
    let secret = bearer(SECRET);
    let token = [("authorization", secret.as_str())];
    for (method, path, status) in [
        (Method::POST, "/api/v1/sets/none/runs", 404),
        (Method::GET, "/api/v1/sets/none/plan", 404),
        (Method::GET, "/api/v1/sets/stable/plan", 500),
        (Method::DELETE, "/api/v1/runs/20200101T000000Z-1", 404),
    ] {
        problem(lab.ask(method, path, &token).await, status).await;
    }
    let request = lab.client.post(lab.url("/api/v1/sets/stable/runs"));
    let request = purposed(request.bearer_auth(SECRET), "prune");
    let answer = request.send().await.unwrap();
    assert_eq!(problem(answer, 409).await, "not-now");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_given_up() {
    let lab = Lab::start().await;
    lab.office.is_stuck.store(true, Ordering::Relaxed);
    let secret = bearer(SECRET);
    let token = [("authorization", secret.as_str())];
    let answer = lab
        .ask(Method::GET, "/api/v1/sets/stable/plan", &token)
        .await;
    assert_eq!(problem(answer, 503).await, "too-slow");
}

const GUARDED: [(Method, &str); 3] = [
    (Method::POST, "/api/v1/sets/stable/runs"),
    (Method::DELETE, "/api/v1/runs/20261124T210500Z-3"),
    (Method::GET, "/api/v1/sets/stable/plan"),
];

#[tokio::test]
async fn without_the_token_nothing_is_done() {
    let lab = Lab::start().await;
    for (method, path) in GUARDED {
        for offered in [
            None,
            Some("Bearer wrong"),
            Some("Bearer"),
            Some("Basic YTpi"),
        ] {
            let headers: Vec<_> = offered.map(|o| ("authorization", o)).into_iter().collect();
            let answer = lab.ask(method.clone(), path, &headers).await;
            let scheme = header(answer.headers(), "www-authenticate");
            assert!(scheme.starts_with("Bearer "), "{scheme}");
            assert_eq!(problem(answer, 401).await, "unauthorized", "{offered:?}");
        }
    }
    assert_eq!(lab.office.asked(), [""; 0]);
}

#[tokio::test]
async fn a_service_without_a_token_says_what_to_do() {
    let lab = Lab::with(3, None).await;
    for (method, path) in GUARDED {
        let secret = bearer(SECRET);
        let answer = lab.ask(method, path, &[("authorization", &secret)]).await;
        assert_eq!(answer.status(), 403);
        let told = body(answer).await;
        assert_eq!(told["error"]["code"], "no-token-set");
        assert!(
            told["error"]["message"]
                .as_str()
                .unwrap()
                .contains("set service.token_file")
        );
    }
    assert_eq!(lab.office.asked(), [""; 0]);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_even_with_the_token() {
    let lab = Lab::start().await;
    let secret = bearer(SECRET);
    let own = format!("http://{}", lab.address);
    for (name, value, status) in [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("origin", own.as_str(), 202),
    ] {
        let headers = [("authorization", secret.as_str()), (name, value)];
        let answer = lab
            .ask(Method::POST, "/api/v1/sets/stable/runs", &headers)
            .await;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    assert_eq!(lab.office.asked().len(), 1);
}

#[tokio::test]
async fn names_of_others_that_lead_to_loopback_are_refused() {
    let lab = Lab::start().await;
    for (host, path, status) in [
        ("evil.example", "/api/v1/status", 421),
        ("evil.example", "/", 421),
        ("evil.example", "/metrics", 200),
        ("localhost:1234", "/api/v1/status", 200),
    ] {
        let request = lab.client.get(lab.url(path)).header("host", host);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{host} {path}");
        assert_eq!(
            header(answer.headers(), "x-content-type-options"),
            "nosniff"
        );
    }
}

#[tokio::test]
async fn bodies_that_say_nothing_of_use_are_refused() {
    let lab = Lab::start().await;
    for (kind, body, status) in [
        ("application/json", "", 400),
        ("application/json", "{", 400),
        ("application/json", "{}", 400),
        ("application/json", "[]", 400),
        ("application/json", r#"{"purpose": "odd"}"#, 400),
        (
            "application/json",
            r#"{"purpose": "sync", "set": "x"}"#,
            400,
        ),
        ("text/plain", r#"{"purpose": "sync"}"#, 415),
        ("application/json", &"x".repeat(20_000), 413),
    ] {
        let request = lab.client.post(lab.url("/api/v1/sets/stable/runs"));
        let request = request.bearer_auth(SECRET).header("content-type", kind);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        problem(answer, status).await;
    }
    assert_eq!(lab.office.asked(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_are_errors_in_json() {
    let lab = Lab::start().await;
    for path in [
        "/none",
        "/api/v1/none",
        "/api/v2/status",
        "/page/../etc",
        "//",
    ] {
        assert_eq!(
            problem(lab.get(path).await, 404).await,
            "not-found",
            "{path}"
        );
    }
    for (method, path) in [
        (Method::POST, "/api/v1/status"),
        (Method::PUT, "/api/v1/runs/x"),
        (Method::OPTIONS, "/api/v1/sets/stable/runs"),
        (Method::DELETE, "/"),
        (Method::PATCH, "/healthz"),
    ] {
        let answer = lab.ask(method, path, &[]).await;
        assert!(answer.headers().contains_key("allow"), "{path}");
        assert_eq!(problem(answer, 405).await, "method-not-allowed", "{path}");
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_keep_to_this_origin() {
    let lab = Lab::start().await;
    for path in [
        "/",
        "/page/main.js",
        "/api/v1/status",
        "/none",
        "/metrics",
        "/api/v1/events",
    ] {
        let answer = lab.get(path).await;
        let headers = answer.headers();
        let policy = header(headers, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(
            header(headers, "x-content-type-options"),
            "nosniff",
            "{path}"
        );
        assert_eq!(header(headers, "referrer-policy"), "no-referrer", "{path}");
        assert!(
            header(headers, "cache-control").starts_with("no-"),
            "{path}"
        );
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_page_and_all_that_it_needs_are_there_and_are_not_sent_twice() {
    let lab = Lab::start().await;
    let mut paths = vec!["/".to_owned()];
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        let answer = lab.get(&path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.headers().contains_key("etag"), "{path}");
        let tag = header(answer.headers(), "etag").to_owned();
        for found in files_named_in(&answer.text().await.unwrap()) {
            if !paths.contains(&found) {
                paths.push(found);
            }
        }
        let again = lab.client.get(lab.url(&path)).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304, "{path}");
        at += 1;
    }
    assert_eq!(paths.len(), 14, "{paths:?}");
}

/// What a page loads, and what a module imports.
fn files_named_in(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
        .filter_map(|name| match name.strip_prefix("./") {
            Some(module) => Some(format!("/page/{module}")),
            None => name.starts_with("/page/").then(|| name.to_owned()),
        })
        .collect()
}

#[tokio::test]
async fn events_come_when_something_changes_and_only_then() {
    let lab = Lab::start().await;
    let mut events = lab.events().await;
    let first = events.next().await.unwrap();
    assert_eq!(first, json!(lab.office.board().status()));
    lab.office.advance(1);
    let second = events.next().await.unwrap();
    assert_ne!(second["sets"][0]["progress"], first["sets"][0]["progress"]);
    assert!(second["sets"][0].get("releases").is_none(), "{second}");
    // A change that changes nothing tells nothing: the next event is the one after it.
    lab.office.board().update(|_| {});
    lab.office.board().update(|status| {
        status.sets[0].releases[0].targets[0].state = ReleaseState::Changed;
    });
    let third = events.next().await.unwrap();
    let releases = third["sets"][0]["releases"].as_array().unwrap();
    assert_eq!(releases[0]["targets"][0]["state"], "changed");
    assert!(third["sets"][1].get("releases").is_none(), "{third}");
}

#[tokio::test]
async fn events_are_no_more_than_four_a_second() {
    let lab = Lab::start().await;
    let mut events = lab.events().await;
    events.next().await.unwrap();
    let from = std::time::Instant::now();
    let ticking = async {
        for step in 0.. {
            lab.office.advance(step);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reading = async {
        for _ in 0..4 {
            events.next().await.unwrap();
        }
    };
    tokio::select! {
        () = ticking => unreachable!("it ticks without end"),
        () = reading => {}
    }
    // A slow machine makes it longer, never shorter.
    assert!(
        from.elapsed() > Duration::from_millis(900),
        "{:?}",
        from.elapsed()
    );
}

#[tokio::test]
async fn listeners_are_bounded_and_those_who_left_make_room() {
    let lab = Lab::start().await;
    let mut listeners = Vec::new();
    for _ in 0..32 {
        listeners.push(lab.events().await);
    }
    let answer = lab.get("/api/v1/events").await;
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer, 503).await, "busy");
    listeners.truncate(31);
    let has_room = async {
        while lab.get("/api/v1/events").await.status() != 200 {
            lab.office.advance(1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, has_room).await.unwrap();
}

#[tokio::test]
async fn stops_when_told_in_spite_of_listeners() {
    let lab = Lab::start().await;
    let mut events = lab.events().await;
    events.next().await.unwrap();
    let mut idle = Wire::connect(lab.address).await;
    lab.stop.cancel();
    assert_eq!(events.next().await, None);
    let ended = tokio::time::timeout(PATIENCE, lab.server).await;
    ended.expect("the server stops").unwrap().unwrap();
    assert_ne!(idle.rest().await.1, Ending::Silent);
}

#[tokio::test]
async fn no_answer_has_the_secret() {
    let lab = Lab::start().await;
    let secret = bearer(SECRET);
    let token = [("authorization", secret.as_str())];
    for path in [
        "/",
        "/metrics",
        "/readyz",
        "/api/v1/status",
        "/api/v1/runs",
        "/api/v1/sets/stable/plan",
        "/api/v1/sets/none/plan",
        "/none",
    ] {
        let answer = lab.ask(Method::GET, path, &token).await;
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.unwrap();
        assert!(
            !text.contains(SECRET) && !headers.contains(SECRET),
            "{path}"
        );
    }
    let token = Token::new(SECRET).unwrap();
    assert!(!format!("{token:?}").contains(SECRET));
}

#[tokio::test]
async fn metrics_tell_what_the_board_has() {
    let lab = Lab::start().await;
    let answer = lab.get("/metrics").await;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(header(answer.headers(), "content-type"), kind);
    let text = answer.text().await.unwrap();
    let [north, northwest] = TARGETS;
    let release = "kops-1.36.2_kubernetes-1.36.7";
    for line in [
        "kops_mirror_build_info{version=\"0.1.0\"} 1".to_owned(),
        "kops_mirror_ready 1".to_owned(),
        format!(
            "kops_mirror_release_complete{{release=\"{release}\",set=\"stable\",target=\"{north}\"}} 1"
        ),
        format!(
            "kops_mirror_release_complete{{release=\"{release}\",set=\"stable\",target=\"{northwest}\"}} 0"
        ),
        format!(
            "kops_mirror_release_missing_files{{release=\"{release}\",set=\"stable\",target=\"{northwest}\"}} 17"
        ),
        format!("kops_mirror_releases{{set=\"stable\",state=\"complete\",target=\"{north}\"}} 57"),
        format!("kops_mirror_releases{{set=\"stable\",state=\"missing\",target=\"{north}\"}} 0"),
        "kops_mirror_releases{set=\"broken\",state=\"failed\",target=\"s3://lab/m\"} 0".to_owned(),
        "kops_mirror_run_in_progress{set=\"stable\"} 1".to_owned(),
        "kops_mirror_run_in_progress{set=\"broken\"} 0".to_owned(),
        "kops_mirror_queued_runs{set=\"stable\"} 1".to_owned(),
        "kops_mirror_goodput_bytes_per_second{set=\"stable\"} 11300000".to_owned(),
        "kops_mirror_origin_bytes_total{origin=\"dl.k8s.io\"} 987654321".to_owned(),
        "kops_mirror_failures_total{class=\"origin\",set=\"broken\"} 3".to_owned(),
        "kops_mirror_failures_total{class=\"spool\",set=\"stable\"} 0".to_owned(),
        "kops_mirror_runs_total{end=\"done\",purpose=\"sync\",set=\"stable\"} 7".to_owned(),
        "kops_mirror_withheld_pointers_total{set=\"stable\"} 2".to_owned(),
        "kops_mirror_withheld_pointers_total{set=\"broken\"} 0".to_owned(),
        "kops_mirror_messages_total{result=\"sent\"} 5".to_owned(),
        "kops_mirror_messages_total{result=\"given-up\"} 1".to_owned(),
        "kops_mirror_scrubbed_objects_total 400".to_owned(),
        "kops_mirror_damaged_objects_total 2".to_owned(),
    ] {
        assert!(text.lines().any(|is| is == line), "no '{line}' in\n{text}");
    }
    let of_process = [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ];
    let of_process = of_process.into_iter().filter(|_| cfg!(target_os = "linux"));
    let times = [
        "kops_mirror_start_time_seconds",
        "kops_mirror_release_completed_timestamp_seconds",
        "kops_mirror_last_success_timestamp_seconds",
        "kops_mirror_next_run_timestamp_seconds",
    ];
    for name in times.into_iter().chain(of_process) {
        let sample = text.lines().find(|line| line.starts_with(name)).unwrap();
        let value: f64 = sample.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value > 0.0, "{sample}");
    }
    each_metric_has_its_help_and_type(&text);
}

fn each_metric_has_its_help_and_type(text: &str) {
    let mut samples = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        samples += 1;
    }
    assert!(samples > 300, "{samples}");
}

/// Each path and method of the description is answered, and neither as unknown nor as not allowed.
#[tokio::test]
async fn the_description_tells_of_what_is_there() {
    let lab = Lab::start().await;
    let told = lab.json("/api/v1/openapi.json").await;
    let paths = told["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 11);
    for (path, methods) in paths {
        let filled = path.replace("{id}", RUNNING).replace("{set}", "stable");
        for name in methods.as_object().unwrap().keys() {
            let Ok(method) = name.to_uppercase().parse::<Method>() else {
                continue;
            };
            if name == "parameters" {
                continue;
            }
            let secret = bearer(SECRET);
            let answer = lab
                .ask(method, &filled, &[("authorization", &secret)])
                .await;
            let status = answer.status().as_u16().to_string();
            let responses = &methods[name]["responses"];
            assert!(answer.status().is_success(), "{name} {path}: {status}");
            assert!(responses.get(&status).is_some(), "{name} {path}: {status}");
        }
    }
}
