//! Messages to webhooks over real sockets: what is tried again, what is told once, what a restart remembers.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use kops_mirror::events::told;
use kops_mirror::history::History;
use kops_mirror::notify::{
    self, Body, Change, Counts, Hook, NotTold, Notifier, Occasion, Patience, Secret,
};
use kops_mirror::retry::Policy;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATH: &str = "/robot/t0ken-t0ken?access_token=s3cret-s3cret";

/// A request that came.
#[derive(Debug, Clone)]
struct Came {
    uri: Uri,
    headers: HeaderMap,
    body: Value,
}

#[derive(Debug, Default)]
struct Desk {
    came: Vec<Came>,
    /// What the next requests are answered; then the last one again and again.
    answers: VecDeque<(u16, &'static str)>,
}

/// Somebody who is told things.
#[derive(Debug)]
struct Listener {
    desk: Arc<Mutex<Desk>>,
    address: String,
    _serving: JoinSet<()>,
}

impl Listener {
    async fn start(answers: &[(u16, &'static str)]) -> Self {
        let desk = Arc::new(Mutex::new(Desk {
            came: vec![],
            answers: answers.iter().copied().collect(),
        }));
        let shared = Arc::clone(&desk);
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let mut desk = shared.lock().unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            desk.came.push(Came { uri, headers, body });
            let (status, said) = desk.answers[0];
            if desk.answers.len() > 1 {
                desk.answers.pop_front();
            }
            let retry_after = if status == 429 { "1" } else { "" };
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("retry-after", retry_after)], said)
        };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let router = Router::new().fallback(answer);
            axum::serve(socket, router).await.unwrap();
        });
        Self {
            desk,
            address,
            _serving: serving,
        }
    }

    fn hook(&self, body: Body) -> Hook {
        Hook::new(
            format!("http://{}{PATH}", self.address).parse().unwrap(),
            body,
        )
    }

    fn came(&self) -> Vec<Came> {
        self.desk.lock().unwrap().came.clone()
    }
}

/// One that takes everything.
async fn willing() -> Listener {
    Listener::start(&[(200, "")]).await
}

fn withdrawn(release: &str) -> Occasion {
    Occasion::Upstream {
        set: "cn".to_owned(),
        release: release.to_owned(),
        change: Change::Withdrawn,
        what: None,
    }
}

fn patience() -> Patience {
    Patience {
        policy: Policy {
            attempts: 50,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(20),
        },
        ..Patience::default()
    }
}

/// A clock that is set by hand, and a history that outlives notifiers.
struct World {
    dir: TempDir,
    now: Arc<Mutex<Timestamp>>,
}

impl World {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            now: Arc::new(Mutex::new(Timestamp::from_second(1_700_000_000).unwrap())),
        }
    }

    fn hours_pass(&self, hours: i64) {
        let mut now = self.now.lock().unwrap();
        *now += jiff::SignedDuration::from_hours(hours);
    }

    async fn notifier(&self, hooks: Vec<Hook>, patience: Patience) -> Notifier {
        let path: &Path = &self.dir.path().join("history.redb");
        let history = History::open(path, 10).await.unwrap();
        let now = Arc::clone(&self.now);
        let clock: notify::Clock = Arc::new(move || *now.lock().unwrap());
        Notifier::new(hooks, history, patience, clock)
            .await
            .unwrap()
    }
}

/// Runs a notifier until it has nothing to tell.
async fn until_told(notifier: &Notifier) {
    let stop = CancellationToken::new();
    let nothing_waits = async {
        while notifier.counts().waiting > 0 {
            sleep(Duration::from_millis(2)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(notifier.run(&stop), nothing_waits) };
    timeout(Duration::from_secs(30), both).await.unwrap();
}

fn counts(told: u64, untold: u64) -> Counts {
    Counts {
        told,
        untold,
        waiting: 0,
    }
}

#[tokio::test]
async fn each_occasion_is_told_once_and_again_after_a_day() {
    let (world, listener) = (World::new(), willing().await);
    let notifier = world
        .notifier(vec![listener.hook(Body::Json)], patience())
        .await;
    notifier.offer(withdrawn("a"));
    notifier.offer(withdrawn("a"));
    until_told(&notifier).await;
    notifier.offer(withdrawn("a"));
    notifier.offer(withdrawn("b"));
    until_told(&notifier).await;
    world.hours_pass(25);
    notifier.offer(withdrawn("a"));
    until_told(&notifier).await;
    let releases = listener.came();
    let releases: Vec<_> = releases.iter().map(|came| &came.body["release"]).collect();
    assert_eq!(releases, ["a", "b", "a"]);
    assert_eq!(notifier.counts(), counts(3, 0));
}

#[tokio::test]
async fn a_restart_tells_nothing_twice_and_forgets_nothing() {
    let (world, listener) = (World::new(), willing().await);
    let hooks = vec![listener.hook(Body::Json)];
    let first = world.notifier(hooks.clone(), patience()).await;
    first.offer(withdrawn("a"));
    until_told(&first).await;
    // This one is offered at the last moment.
    first.offer(withdrawn("b"));
    let stopped = CancellationToken::new();
    stopped.cancel();
    first.run(&stopped).await;
    drop(first);
    assert_eq!(listener.came().len(), 1);

    let second = world.notifier(hooks, patience()).await;
    assert_eq!(second.counts().waiting, 1);
    second.offer(withdrawn("a"));
    second.offer(withdrawn("b"));
    until_told(&second).await;
    let came = listener.came();
    assert_eq!(came.len(), 2);
    assert_eq!(came[1].body["release"], "b");
}

#[tokio::test]
async fn what_passes_is_tried_again_as_the_same_delivery() {
    let world = World::new();
    let listener = Listener::start(&[(500, "oh"), (503, ""), (429, ""), (204, "")]).await;
    let notifier = world
        .notifier(vec![listener.hook(Body::Json)], patience())
        .await;
    notifier.offer(withdrawn("a"));
    let begun = std::time::Instant::now();
    until_told(&notifier).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After");
    let came = listener.came();
    assert_eq!(came.len(), 4);
    let delivery = came[0].body["delivery"].as_str().unwrap();
    for again in &came {
        assert_eq!(again.body["delivery"], delivery);
        assert_eq!(again.headers["x-kops-mirror-delivery"], delivery);
    }
    assert_eq!(notifier.counts(), counts(1, 0));
}

#[tokio::test]
async fn a_hook_that_is_not_there_is_tried_until_it_is() {
    let world = World::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let url = format!("http://{address}{PATH}").parse().unwrap();
    let few = Patience {
        policy: Policy {
            attempts: 3,
            ..patience().policy
        },
        ..patience()
    };
    let notifier = world.notifier(vec![Hook::new(url, Body::Json)], few).await;
    notifier.offer(withdrawn("a"));
    until_told(&notifier).await;
    assert_eq!(notifier.counts(), counts(0, 1));
    // It was not told, so it is worth telling when it comes up again.
    notifier.offer(withdrawn("a"));
    assert_eq!(notifier.counts().waiting, 1);
}

#[tokio::test]
async fn what_stays_refused_is_given_up_at_once() {
    for (body, status, said) in [
        (Body::Json, 404, "no such hook"),
        (Body::Slack, 400, "invalid_payload"),
        (Body::DingTalk, 200, r#"{"errcode":310000,"errmsg":"sign"}"#),
        (
            Body::Feishu,
            200,
            r#"{"code":19024,"msg":"Key Words Not Found"}"#,
        ),
        (
            Body::WeCom,
            200,
            r#"{"errcode":93000,"errmsg":"invalid url"}"#,
        ),
    ] {
        let world = World::new();
        let listener = Listener::start(&[(status, said)]).await;
        let notifier = world.notifier(vec![listener.hook(body)], patience()).await;
        notifier.offer(withdrawn("a"));
        until_told(&notifier).await;
        assert_eq!(notifier.counts(), counts(0, 1), "{body}");
        assert_eq!(listener.came().len(), 1, "{body}");
    }
}

#[tokio::test]
async fn a_message_of_yesterday_is_given_up() {
    let world = World::new();
    let listener = Listener::start(&[(500, "")]).await;
    let notifier = world
        .notifier(vec![listener.hook(Body::Json)], patience())
        .await;
    notifier.offer(withdrawn("a"));
    world.hours_pass(25);
    until_told(&notifier).await;
    assert_eq!(notifier.counts(), counts(0, 1));
    assert_eq!(listener.came().len(), 1);
}

#[tokio::test]
async fn one_hook_that_is_slow_holds_up_no_other() {
    let (world, good) = (World::new(), willing().await);
    let bad = Listener::start(&[(500, "")]).await;
    let hooks = vec![bad.hook(Body::Json), good.hook(Body::Json)];
    let endless = Patience {
        policy: Policy {
            attempts: u32::MAX,
            pause_min: Duration::from_hours(1),
            pause_max: Duration::from_hours(1),
        },
        ..patience()
    };
    let notifier = world.notifier(hooks, endless).await;
    notifier.offer(withdrawn("a"));
    let stop = CancellationToken::new();
    let told = async {
        while good.came().is_empty() || notifier.counts().told == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(notifier.run(&stop), told) };
    timeout(Duration::from_secs(30), both).await.unwrap();
    assert_eq!(notifier.counts().waiting, 1);
}

#[tokio::test]
async fn more_than_so_many_do_not_wait_and_the_oldest_go() {
    let (world, listener) = (World::new(), willing().await);
    let short = Patience {
        waiting_max: 2,
        ..patience()
    };
    let notifier = world.notifier(vec![listener.hook(Body::Json)], short).await;
    for release in ["a", "b", "c"] {
        notifier.offer(withdrawn(release));
    }
    until_told(&notifier).await;
    let came = listener.came();
    let releases: Vec<_> = came.iter().map(|came| &came.body["release"]).collect();
    assert_eq!(releases, ["b", "c"]);
    assert_eq!(notifier.counts(), counts(2, 1));
}

#[tokio::test]
async fn the_same_hook_twice_is_told_once() {
    let (world, listener) = (World::new(), willing().await);
    let hooks = vec![listener.hook(Body::Json), listener.hook(Body::Json)];
    let notifier = world.notifier(hooks, patience()).await;
    notifier.offer(withdrawn("a"));
    until_told(&notifier).await;
    assert_eq!(listener.came().len(), 1);
}

#[tokio::test]
async fn a_test_tells_each_hook_once_and_says_what_came_of_it() {
    let good = Listener::start(&[(200, r#"{"errcode":0,"errmsg":"ok"}"#)]).await;
    let bad = Listener::start(&[(500, "")]).await;
    let page = Listener::start(&[(200, "<html>")]).await;
    let moved = Listener::start(&[(302, "")]).await;
    let signed = Hook {
        secret: Some(Secret::new("SEC")),
        ..good.hook(Body::DingTalk)
    };
    let hooks = [
        signed,
        bad.hook(Body::Json),
        page.hook(Body::Slack),
        moved.hook(Body::Json),
    ];
    let came = notify::test(&hooks, Timestamp::now()).await;
    assert!(came[0].is_ok(), "{came:?}");
    assert!(matches!(came[1], Err(NotTold::Status { .. })), "{came:?}");
    assert!(matches!(came[2], Err(NotTold::Nonsense { .. })), "{came:?}");
    assert!(matches!(came[3], Err(NotTold::Status { .. })), "{came:?}");
    for listener in [&good, &bad, &page, &moved] {
        assert_eq!(listener.came().len(), 1);
    }
    let query = good.came()[0].uri.query().unwrap().to_owned();
    assert!(query.starts_with("access_token=s3cret-s3cret&timestamp="));
    assert!(query.contains("&sign="), "{query}");
}

#[tokio::test]
async fn no_error_has_a_hooks_secrets() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = socket.local_addr().unwrap();
    drop(socket);
    let echo =
        Listener::start(&[(403, "POST /robot/t0ken-t0ken?access_token=s3cret-s3cret")]).await;
    let hooks = [
        Hook::new(
            format!("http://{nowhere}{PATH}").parse().unwrap(),
            Body::WeCom,
        ),
        Hook::new(
            format!("http://name.invalid{PATH}").parse().unwrap(),
            Body::Json,
        ),
        Hook::new(
            format!("https://{}{PATH}", echo.address).parse().unwrap(),
            Body::Json,
        ),
        echo.hook(Body::Json),
    ];
    for (hook, came) in hooks
        .iter()
        .zip(notify::test(&hooks, Timestamp::now()).await)
    {
        let error = came.unwrap_err();
        let shown = format!("{} {error:?} {hook} {hook:?}", told(&error));
        for secret in ["t0ken", "s3cret"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

/// A hook that the settings call something.
fn named(name: &str, hook: Hook) -> Hook {
    Hook {
        name: name.to_owned(),
        ..hook
    }
}

/// Does something while a notifier runs, until nothing waits any more.
async fn while_it_runs(notifier: &Notifier, act: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let acting = async {
        act.await;
        while notifier.counts().waiting > 0 {
            sleep(Duration::from_millis(2)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(notifier.run(&stop), acting) };
    timeout(Duration::from_secs(30), both).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_a_hook_that_changes_is_told_at_its_new_place_once() {
    let world = World::new();
    let (away, willing) = (Listener::start(&[(503, "")]).await, willing().await);
    let [before, after] = [&away, &willing].map(|at| named("oncall", at.hook(Body::Json)));
    let notifier = world.notifier(vec![before], patience()).await;
    while_it_runs(&notifier, async {
        for release in ["a", "b"] {
            notifier.offer(withdrawn(release));
        }
        while away.came().is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        notifier.renew(&[after]);
        // It is the same hook, which knows this already.
        notifier.offer(withdrawn("a"));
    })
    .await;
    let came = willing.came();
    let releases: Vec<_> = came.iter().map(|came| &came.body["release"]).collect();
    assert_eq!(releases, ["a", "b"]);
    let delivery = &away.came()[0].body["delivery"];
    assert_eq!(came[0].body["delivery"], *delivery);
    assert_eq!(notifier.counts(), counts(2, 0));
}

#[tokio::test]
async fn hooks_come_and_go_while_it_runs() {
    let world = World::new();
    let [stays, goes, comes] = [
        willing().await,
        Listener::start(&[(503, "")]).await,
        willing().await,
    ];
    let hook = |name: &str, at: &Listener| named(name, at.hook(Body::Json));
    let hooks = vec![hook("stays", &stays), hook("goes", &goes)];
    let notifier = world.notifier(hooks, patience()).await;
    while_it_runs(&notifier, async {
        notifier.offer(withdrawn("a"));
        while stays.came().is_empty() || goes.came().is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        notifier.renew(&[hook("comes", &comes), hook("stays", &stays)]);
        notifier.offer(withdrawn("b"));
    })
    .await;
    let tried = goes.came().len();
    let releases = |at: &Listener| {
        let came = at.came();
        let releases = came.iter().map(|came| came.body["release"].to_string());
        releases.collect::<Vec<_>>()
    };
    assert_eq!(releases(&stays), ["\"a\"", "\"b\""]);
    assert_eq!(releases(&comes), ["\"b\""]);
    assert_eq!(notifier.counts(), counts(3, 1));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(goes.came().len(), tried, "it is tried no more");
}

#[tokio::test]
async fn a_message_that_is_on_its_way_while_hooks_are_renewed_comes_once() {
    let world = World::new();
    let listener = willing().await;
    let hook = named("oncall", listener.hook(Body::Json));
    let notifier = world.notifier(vec![hook.clone()], patience()).await;
    while_it_runs(&notifier, async {
        for round in 0..50 {
            notifier.offer(withdrawn(&format!("r{round}")));
            tokio::task::yield_now().await;
            notifier.renew(std::slice::from_ref(&hook));
        }
    })
    .await;
    let mut releases: Vec<String> = Vec::new();
    for came in listener.came() {
        releases.push(came.body["release"].to_string());
    }
    assert_eq!(releases.len(), 50);
    releases.sort();
    releases.dedup();
    assert_eq!(releases.len(), 50, "none came twice");
}

#[tokio::test]
async fn a_restart_with_another_address_of_the_same_hook_forgets_nothing() {
    let world = World::new();
    let (away, willing) = (Listener::start(&[(503, "")]).await, willing().await);
    let [before, after] = [&away, &willing].map(|at| named("oncall", at.hook(Body::Json)));
    let notifier = world.notifier(vec![before], patience()).await;
    notifier.offer(withdrawn("a"));
    let stopped = CancellationToken::new();
    stopped.cancel();
    notifier.run(&stopped).await;
    drop(notifier);
    let notifier = world.notifier(vec![after], patience()).await;
    assert_eq!(notifier.counts().waiting, 1);
    until_told(&notifier).await;
    assert_eq!(willing.came().len(), 1);
}
