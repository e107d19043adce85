//! The service's look at the upstreams: channel files at a loopback origin, lists of releases at an API that counts requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::follow::{Known, Needs, Product, Rule, follow, withdrawn};
use kops_mirror::limits::Limits;
use kops_mirror::loopback::origin::{Fault, File, Origin, When};
use kops_mirror::origin::{HostSettings, OriginSettings, Origins};
use kops_mirror::retry::Policy;
use kops_mirror::upstream::{Look, Upstreams, Wire};
use semver::Version;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

const API: &str = "api.github.com";
const CHANNELS: &str = "dl.k8s.io";

/// Both upstreams, and who looks at them.
struct Upstream {
    origin: Origin,
    api: Api,
    origins: Origins,
    limits: Limits,
    upstreams: Upstreams,
    now: Timestamp,
}

impl Upstream {
    async fn new() -> Self {
        let origin = Origin::start().unwrap();
        let api = Api::start().await;
        let hosts = [
            (CHANNELS, origin.host_url(CHANNELS)),
            (API, api.url.clone()),
        ];
        Self {
            origins: origins(&hosts),
            origin,
            api,
            limits: Limits::new(4, None),
            upstreams: Upstreams::new(),
            now: "2026-11-24T20:00:00Z".parse().unwrap(),
        }
    }

    fn channel(&self, name: &str, version: &str) {
        let file = File::text(format!("v{version}\n"));
        self.origin.publish(channel_path(name), file);
    }

    /// The statuses of the requests for a channel.
    fn answers(&self, name: &str) -> Vec<u16> {
        let requests = self.origin.log().requests(&channel_path(name));
        requests.iter().map(|exchange| exchange.status).collect()
    }

    async fn look(&mut self, needs: &Needs) -> Look {
        let wire = Wire {
            origins: &self.origins,
            limits: &self.limits,
            policy: Policy {
                attempts: 2,
                pause_min: Duration::from_millis(1),
                pause_max: Duration::from_millis(2),
            },
        };
        self.upstreams.look(needs, &wire, self.now).await
    }

    fn later(&mut self, minutes: i64) {
        self.now += SignedDuration::from_mins(minutes);
    }

    /// What a restart leaves of what was heard.
    fn restart(&mut self) {
        let kept = serde_json::to_string(&self.upstreams).unwrap();
        self.upstreams = serde_json::from_str(&kept).unwrap();
    }
}

fn channel_path(name: &str) -> String {
    format!("/{CHANNELS}/release/{name}.txt")
}

fn origins(hosts: &[(&str, Url)]) -> Origins {
    let settings = |url: &Url| HostSettings {
        sources: vec![url.clone()],
        ..HostSettings::default()
    };
    let hosts = hosts
        .iter()
        .map(|(host, url)| ((*host).to_owned(), settings(url)));
    Origins::new(OriginSettings {
        hosts: hosts.collect(),
        connect_timeout: Duration::from_secs(5),
        ..OriginSettings::default()
    })
    .unwrap()
}

/// Lists of releases as GitHub's REST API serves them.
struct Api {
    url: Url,
    served: Arc<Mutex<Served>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Served {
    /// By repository, newest first: tag, and whether it is a pre-release.
    releases: BTreeMap<&'static str, Vec<(String, bool)>>,
    requests: Vec<Asked>,
    /// Requests that are left until a time; None: no limit is told.
    left: Option<(u64, Timestamp)>,
    /// Answers everything, with a Retry-After.
    refuses: Option<(u16, Option<u64>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    repository: String,
    page: usize,
    status: u16,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(Served::default()));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&served));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url: url.parse().unwrap(),
            served,
            _serving: serving,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap());
    }

    /// Publishes releases of a repository, newest first. Tags with a dash are pre-releases.
    fn publish(&self, repository: &'static str, tags: &[String]) {
        let releases = tags.iter().map(|tag| (tag.clone(), tag.contains('-')));
        let releases = releases.collect();
        self.change(|served| drop(served.releases.insert(repository, releases)));
    }

    /// What was asked since this was last called: pages and statuses.
    fn asked(&self) -> Vec<(usize, u16)> {
        let requests = std::mem::take(&mut self.served.lock().unwrap().requests);
        requests.iter().map(|it| (it.page, it.status)).collect()
    }
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, request: Request) -> Response {
    let mut served = served.lock().unwrap();
    let repository = request.uri().path().split('/').nth(3).unwrap_or_default();
    let parameter = |name: &str| -> usize {
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let found = pairs.find(|(key, _)| key == name);
        found.unwrap().1.parse().unwrap()
    };
    let (page, per_page) = (parameter("page"), parameter("per_page"));
    let response = served.page(repository, page, per_page, request.headers());
    served.requests.push(Asked {
        repository: repository.to_owned(),
        page,
        status: response.status().as_u16(),
    });
    response
}

impl Served {
    fn page(&mut self, name: &str, page: usize, per_page: usize, asked: &HeaderMap) -> Response {
        if let Some((status, after)) = self.refuses {
            let after = after.map(|seconds| (header::RETRY_AFTER, seconds.into()));
            let headers: HeaderMap = after.into_iter().collect();
            return (StatusCode::from_u16(status).unwrap(), headers).into_response();
        }
        let mut headers = HeaderMap::new();
        if let Some((left, reset)) = &mut self.left {
            let status = (*left == 0).then_some(StatusCode::FORBIDDEN);
            *left = left.saturating_sub(1);
            headers.insert("x-ratelimit-remaining", (*left).into());
            headers.insert("x-ratelimit-reset", reset.as_second().into());
            if let Some(status) = status {
                return (status, headers).into_response();
            }
        }
        let releases = self.releases.get(name).map_or(&[][..], Vec::as_slice);
        let last = releases.len().div_ceil(per_page);
        let link = match page < last {
            true => format!("<https://{API}/r?page={}>; rel=\"next\"", page + 1),
            false => format!("<https://{API}/r?page=1>; rel=\"first\""),
        };
        headers.insert(header::LINK, link.parse().unwrap());
        let shown = releases.iter().skip((page - 1) * per_page).take(per_page);
        let entries =
            shown.map(|(tag, pre)| json!({"tag_name": tag, "draft": false, "prerelease": pre}));
        let body = json!(entries.collect::<Vec<_>>()).to_string();
        let etag = format!(
            "W/\"{}\"",
            Digest::of(Algorithm::Sha256, body.as_bytes()).hex()
        );
        headers.insert(header::ETAG, etag.parse().unwrap());
        if asked.get(header::IF_NONE_MATCH) == headers.get(header::ETAG) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, body).into_response()
    }
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn kubernetes(texts: &[&str]) -> Needs {
    Needs::of(&rules(texts), &[])
}

fn kops(texts: &[&str]) -> Needs {
    Needs::of(&[], &rules(texts))
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// The tags of minors, newest first, each with so many patches and a pre-release before them.
fn tags(minors: impl DoubleEndedIterator<Item = u64>, patches: u64) -> Vec<String> {
    let of_minor = |minor| {
        let released = (0..patches)
            .rev()
            .map(move |patch| format!("v1.{minor}.{patch}"));
        released.chain([format!("v1.{minor}.0-beta.1")])
    };
    minors.rev().flat_map(of_minor).collect()
}

#[tokio::test]
async fn a_channel_that_moves_is_seen_and_one_that_does_not_is_not_sent_again() {
    let mut upstream = Upstream::new().await;
    upstream.channel("stable", "1.36.2");
    upstream.channel("stable-1.34", "1.34.8");
    let needs = kubernetes(&["stable", "stable-1.34"]);
    let first = upstream.look(&needs).await;
    assert_eq!(first.notes, [""; 0]);
    assert_eq!(first.known.channels["stable"], version("1.36.2"));
    upstream.restart();
    upstream.channel("stable", "1.36.3");
    let second = upstream.look(&needs).await;
    assert_eq!(second.known.channels["stable"], version("1.36.3"));
    assert_eq!(second.known.channels["stable-1.34"], version("1.34.8"));
    assert_eq!(upstream.answers("stable"), [200, 200]);
    assert_eq!(upstream.answers("stable-1.34"), [200, 304]);
    // No list was needed.
    assert!(upstream.api.asked().is_empty());
    assert_eq!(upstream.upstreams.known(&needs), second.known);
}

#[tokio::test]
async fn an_upstream_that_is_away_leaves_what_was_known_and_that_is_told() {
    let mut upstream = Upstream::new().await;
    upstream.channel("stable", "1.36.2");
    upstream.api.publish("kops", &tags(34..=36, 3));
    let needs = kubernetes(&["stable"]).and(kops(&["latest 2 minors"]));
    let first = upstream.look(&needs).await;
    assert_eq!(first.notes, [""; 0]);
    upstream.later(60);
    upstream.origin.refuse_connections().await;
    upstream.origin.reset_one(0);
    upstream
        .api
        .change(|served| served.refuses = Some((503, None)));
    upstream.restart();
    let away = upstream.look(&needs).await;
    assert_eq!(away.known.channels, first.known.channels);
    assert_eq!(away.known.kops, first.known.kops);
    assert_eq!(away.known.kops_complete_from, None);
    let [channel, list] = &away.notes[..] else {
        panic!("{:?}", away.notes);
    };
    assert!(
        channel.starts_with(
            "stable is taken for Kubernetes 1.36.2, as it was at 2026-11-24T20:00:00Z: http"
        ),
        "{channel}"
    );
    assert!(
        list.starts_with("the releases of kops are those of 2026-11-24T20:00:00Z: http"),
        "{list}"
    );
    assert!(list.contains("503"), "{list}");
    upstream.origin.accept_connections().await;
    upstream.api.change(|served| served.refuses = None);
    upstream.later(60);
    let back = upstream.look(&needs).await;
    assert_eq!(back.notes, [""; 0]);
    assert_eq!(back.known, first.known);
}

#[tokio::test]
async fn a_channel_that_brings_rubbish_stays_what_it_was() {
    for fault in [
        Fault::HtmlPage,
        Fault::Changed(File::text("v1.37.0-rc.1")),
        Fault::status(429),
    ] {
        let mut upstream = Upstream::new().await;
        upstream.channel("stable", "1.36.2");
        let needs = kubernetes(&["stable"]);
        upstream.look(&needs).await;
        upstream.channel("stable", "1.36.3");
        upstream.origin.order("*", When::Always, fault.clone());
        let look = upstream.look(&needs).await;
        assert_eq!(
            look.known.channels["stable"],
            version("1.36.2"),
            "{fault:?}"
        );
        assert_eq!(look.notes.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_list_is_read_as_far_as_the_rules_reach_and_only_what_changed_is_sent_again() {
    let mut upstream = Upstream::new().await;
    // 70 entries of kops on 4 pages of 20: seven to a minor.
    upstream.api.publish("kops", &tags(27..=36, 6));
    let two = kops(&["latest 2 minors"]);
    let first = upstream.look(&two).await;
    assert_eq!(upstream.api.asked(), [(1, 200)]);
    assert_eq!(first.known.kops_complete_from, Some(version("1.34.0")));
    let taken = follow(Product::Kops, &rules(&["latest 2 minors"]), &first.known);
    assert_eq!(
        taken.versions,
        BTreeSet::from([version("1.35.5"), version("1.36.5")])
    );
    let all = kops(&["latest 1 patches"]);
    let second = upstream.look(&all).await;
    assert_eq!(
        upstream.api.asked(),
        [(1, 304), (2, 200), (3, 200), (4, 200)]
    );
    assert_eq!(second.known.kops.len(), 60);
    assert!(
        second
            .known
            .kops
            .iter()
            .all(|version| version.pre.is_empty())
    );
    assert_eq!(second.known.kops_complete_from, Some(version("0.0.0")));
    upstream.look(&all).await;
    assert_eq!(
        upstream.api.asked(),
        [(1, 304), (2, 304), (3, 304), (4, 304)]
    );
}

#[tokio::test]
async fn a_release_that_upstream_takes_back_is_noticed_and_one_that_moved_on_is_not() {
    let mut upstream = Upstream::new().await;
    let mut published = tags(27..=36, 6);
    upstream.api.publish("kops", &published);
    let needs = kops(&["latest 2 minors"]);
    let before = upstream.look(&needs).await.known;
    published.retain(|tag| tag != "v1.36.3");
    // Six more push older releases onto the next page.
    published.splice(0..0, tags(37..=37, 5));
    upstream.api.publish("kops", &published);
    let now = upstream.look(&needs).await.known;
    assert!(before.kops.difference(&now.kops).count() > 1);
    let gone = withdrawn(Product::Kops, &before, &now);
    assert_eq!(gone, BTreeSet::from([version("1.36.3")]));
}

#[tokio::test]
async fn nothing_is_asked_while_the_rate_limit_is_used_up() {
    let mut upstream = Upstream::new().await;
    upstream.api.publish("kubernetes", &tags(30..=36, 20));
    upstream.api.publish("kops", &tags(30..=36, 3));
    let needs = kops(&["latest"]).and(kubernetes(&[">=1.30"]));
    let first = upstream.look(&needs).await;
    assert_eq!(first.notes, [""; 0]);
    assert_eq!(upstream.api.asked(), [(1, 200), (1, 200), (2, 200)]);
    let reset = upstream.now + SignedDuration::from_mins(50);
    upstream.later(30);
    upstream.api.change(|served| served.left = Some((2, reset)));
    let limited = upstream.look(&needs).await;
    // The second answer said that it was the last.
    assert_eq!(upstream.api.asked(), [(1, 304), (1, 304)]);
    assert_eq!(limited.known.kubernetes, first.known.kubernetes);
    assert!(limited.known.kops_complete_from.is_some());
    assert!(limited.known.kubernetes_complete_from.is_none());
    assert_eq!(
        limited.notes,
        [
            "the releases of Kubernetes are those of 2026-11-24T20:00:00Z: api.github.com takes no more requests until \
             2026-11-24T20:50:00Z; with a token in the headers of [origins.\"api.github.com\"] it takes more"
        ]
    );
    upstream.restart();
    upstream.later(10);
    let resting = upstream.look(&needs).await;
    assert_eq!(upstream.api.asked(), []);
    assert_eq!(resting.notes.len(), 2, "{:?}", resting.notes);
    upstream.later(10);
    upstream
        .api
        .change(|served| served.left = Some((60, reset)));
    let after = upstream.look(&needs).await;
    assert_eq!(after.notes, [""; 0]);
    assert_eq!(upstream.api.asked(), [(1, 304), (1, 304), (2, 304)]);
}

#[tokio::test]
async fn a_refusal_is_asked_once_and_heeded() {
    for (status, after, rests) in [
        (403, Some(600), true),
        (429, Some(600), true),
        (429, None, false),
        (403, None, false),
    ] {
        let mut upstream = Upstream::new().await;
        upstream.api.publish("kops", &tags(34..=36, 3));
        upstream
            .api
            .change(|served| served.refuses = Some((status, after)));
        let needs = kops(&["latest"]);
        let refused = upstream.look(&needs).await;
        assert_eq!(upstream.api.asked(), [(1, status)]);
        let [note] = &refused.notes[..] else {
            panic!("{:?}", refused.notes);
        };
        assert!(
            note.starts_with("the releases of kops can't be found out: "),
            "{note}"
        );
        assert_eq!(refused.known, Known::default());
        upstream.later(5);
        upstream.api.change(|served| served.refuses = None);
        upstream.look(&needs).await;
        assert_eq!(upstream.api.asked().is_empty(), rests, "{status} {after:?}");
        upstream.later(6);
        let after = upstream.look(&needs).await;
        assert_eq!(after.notes, [""; 0]);
    }
}

#[tokio::test]
async fn channels_stand_in_for_a_list_that_was_never_had() {
    let mut upstream = Upstream::new().await;
    upstream
        .api
        .change(|served| served.refuses = Some((503, None)));
    upstream.channel("stable", "1.36.2");
    for (name, version) in [
        ("stable-1.36", "1.36.2"),
        ("stable-1.35", "1.35.6"),
        ("stable-1.34", "1.34.9"),
    ] {
        upstream.channel(name, version);
    }
    let texts = [">=1.35, latest 3 patches"];
    let look = upstream.look(&kubernetes(&texts)).await;
    let taken = follow(Product::Kubernetes, &rules(&texts), &look.known);
    assert_eq!(
        taken.versions,
        BTreeSet::from([version("1.35.6"), version("1.36.2")])
    );
    assert_eq!(look.known.kubernetes_complete_from, None);
    let told = look.notes.join("\n");
    assert!(
        told.contains("only the newest release of each minor from 1.31 on"),
        "{told}"
    );
    // Once the list is there, they are not asked any more.
    upstream.api.publish("kubernetes", &tags(34..=36, 3));
    upstream.api.change(|served| served.refuses = None);
    let asked = upstream.answers("stable-1.35").len();
    let look = upstream.look(&kubernetes(&texts)).await;
    assert_eq!(look.notes, [""; 0]);
    assert_eq!(look.known.kubernetes.len(), 9);
    assert_eq!(upstream.answers("stable-1.35").len(), asked);
}

#[tokio::test]
async fn a_server_without_pages_is_not_asked_for_forty() {
    let mut upstream = Upstream::new().await;
    let list = json!([{"tag_name": "v1.36.1"}, {"tag_name": "v1.35.2"}]).to_string();
    let path = format!("/{API}/repos/kubernetes/kops/releases");
    upstream.origin.publish(
        &path,
        File::text(list).with_content_type("application/json"),
    );
    upstream.origins = origins(&[(API, upstream.origin.host_url(API))]);
    let look = upstream.look(&kops(&["latest 2 minors"])).await;
    assert_eq!(look.notes, [""; 0]);
    assert_eq!(
        look.known.kops,
        BTreeSet::from([version("1.35.2"), version("1.36.1")])
    );
    assert_eq!(upstream.origin.log().requests(&path).len(), 2);
}
