//! The only way to the upstreams: one HTTP client with time-outs, status classes and printable URLs.
//!
//! A file is known by its canonical URL; where its bytes come from is the configuration's business. Every host can be
//! redirected to one or more sources, tried in order, each an untrusted source of bytes.
//!
//! HTTP/1.1 only: over HTTP/2 all requests to a host share one connection, and so one congestion window
//! (hyper-util's pool; seanmonstar/reqwest#2777). Redirects are followed here, because a signed target expires in minutes and
//! must be resolved again by every request, and because a host's own headers must not travel to the next host.

mod answer;
mod failure;
mod headers;
mod inquiry;
mod registry;
mod shown;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tokio::time::Instant;
use url::{Host, Url};

pub use self::answer::Answer;
pub use self::failure::OriginError;
use self::failure::unanswered;
use self::headers::{
    asking_for, content_range, is_web_page, md5_of_transport, part_answered, retry_after,
};
pub use self::inquiry::Reply;
pub use self::registry::Document;
pub use self::shown::Shown;
use crate::asset::Asset;
use crate::challenge::Tokens;
use crate::events::told;

const REDIRECTS_MAX: usize = 10;

/// How the upstreams are reached.
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// By canonical host, with its port where the URL has one: `dl.k8s.io`.
    pub hosts: BTreeMap<String, HostSettings>,
    pub connect_timeout: Duration,
    /// The window over which a connection must bring `stall_floor_bytes` a second.
    pub stall_window: Duration,
    /// Bytes a second.
    pub stall_floor_bytes: u64,
    /// A connection that is silent for longer than this, and than a few round trips, or would end later than another by half of
    /// it, is late: another may be sent after it.
    pub hedge_after: Duration,
    /// Connections to one host at a time.
    pub connections: usize,
    /// What answers registries; by default as who has no login anywhere.
    pub tokens: Tokens,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            // 3 SYNs lost in a row at 3 % loss are rare; 15 s cover them (1 + 2 + 4 s of back-off, and the round trips).
            connect_timeout: Duration::from_secs(15),
            // One cubic stream at 200 ms and 3 % loss still brings about 37 KiB/s (facts of the field, measured).
            stall_window: Duration::from_secs(20),
            stall_floor_bytes: 1024,
            // Packets that are lost once are there again within two round trips; twice, and TCP backs off for seconds.
            hedge_after: Duration::from_secs(1),
            connections: 64,
            tokens: Tokens::default(),
        }
    }
}

/// What a user set for one canonical host.
#[derive(Clone, Default)]
pub struct HostSettings {
    /// Base URLs to use instead of the host, in order; the canonical path is appended. Empty: the host itself.
    pub sources: Vec<Url>,
    /// `http://`, `https://`, `socks5://` or `socks5h://`.
    pub proxy: Option<Url>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Connections to each of its sources at a time; None: the general number.
    pub connections: Option<usize>,
    /// The most that each of its sources may bring, in bytes a second.
    pub limit: Option<u64>,
}

impl fmt::Debug for HostSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<String> = self
            .sources
            .iter()
            .map(|url| Shown(url).to_string())
            .collect();
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HostSettings")
            .field("sources", &sources)
            .field(
                "proxy",
                &self.proxy.as_ref().map(|url| Shown(url).to_string()),
            )
            .field("headers", &headers)
            .field("connections", &self.connections)
            .field("limit", &self.limit)
            .finish()
    }
}

/// One place where a file's bytes can be had.
#[derive(Debug, Clone)]
pub struct Source {
    pub url: Url,
    settings: HostSettings,
}

impl Source {
    /// The network host that connections go to, with its port: what limits are kept by.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url
            .port_or_known_default()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The connections that this source allows, when the user said so.
    pub fn connections(&self) -> Option<usize> {
        self.settings.connections
    }

    /// The most that it may bring, in bytes a second.
    pub fn limit(&self) -> Option<u64> {
        self.settings.limit
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.url).fmt(f)
    }
}

/// The upstreams, as the configuration has them.
#[derive(Debug, Clone)]
pub struct Origins {
    settings: OriginSettings,
    /// Takes the proxies of the environment.
    direct: Client,
    /// For this machine's own addresses, which no proxy of the environment knows (programs in Go, kops too, go there directly).
    local: Client,
    /// By proxy URL.
    proxied: BTreeMap<String, Client>,
}

impl Origins {
    /// Makes the clients. An error is a proxy or a certificate store that can't be used.
    pub fn new(settings: OriginSettings) -> Result<Self, OriginError> {
        let client_error = |error: reqwest::Error| OriginError::Client {
            source: error.without_url().into(),
        };
        let direct = builder(&settings).build().map_err(client_error)?;
        let local = builder(&settings).no_proxy().build();
        let mut proxied = BTreeMap::new();
        for proxy in settings
            .hosts
            .values()
            .filter_map(|host| host.proxy.as_ref())
        {
            let through = reqwest::Proxy::all(proxy.clone()).map_err(client_error)?;
            let client = builder(&settings)
                .proxy(through)
                .build()
                .map_err(client_error)?;
            proxied.insert(proxy.to_string(), client);
        }
        Ok(Self {
            settings,
            direct,
            local: local.map_err(client_error)?,
            proxied,
        })
    }

    pub fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    fn host_settings(&self, canonical: &Url) -> Option<&HostSettings> {
        let host = canonical.host_str().unwrap_or_default();
        let with_port = canonical.port().map(|port| format!("{host}:{port}"));
        let hosts = &self.settings.hosts;
        with_port
            .and_then(|name| hosts.get(&name))
            .or_else(|| hosts.get(host))
            .or_else(|| {
                let mut names = registry::other_names(host).iter();
                names.find_map(|name| hosts.get(*name))
            })
    }

    /// Whether the user named other sources for the host of a canonical URL.
    pub fn is_redirected(&self, canonical: &Url) -> bool {
        self.host_settings(canonical)
            .is_some_and(|host| !host.sources.is_empty())
    }

    /// Where the file of a canonical URL can be had, in order.
    pub fn sources(&self, canonical: &Url) -> Vec<Source> {
        let settings = self.host_settings(canonical).cloned().unwrap_or_default();
        if settings.sources.is_empty() {
            return vec![Source {
                url: canonical.clone(),
                settings,
            }];
        }
        let at = |base: &Url| Source {
            url: join(base, canonical),
            settings: settings.clone(),
        };
        settings.sources.iter().map(at).collect()
    }

    /// Where an asset's file can be had, in order. Who names other sources for its host has them in its place, so that the public
    /// alternates are no places any more, unless their hosts were given other sources too.
    pub fn sources_of(&self, asset: &Asset) -> Vec<Source> {
        self.sources_among(&asset.canonical, &asset.alternates)
    }

    /// As [`Origins::sources_of`], of what is no asset.
    pub fn sources_among(&self, canonical: &Url, alternates: &[Url]) -> Vec<Source> {
        let is_moved = self.is_redirected(canonical);
        let alternates = alternates.iter();
        let alternates = alternates.filter(|url| !is_moved || self.is_redirected(url));
        let urls = std::iter::once(canonical).chain(alternates);
        urls.flat_map(|url| self.sources(url)).collect()
    }

    /// Asks a source for a file, or for a part of it (up to its end where the part ends at `u64::MAX`), and checks that the
    /// answer is one to that question.
    pub async fn open(
        &self,
        source: &Source,
        part: Option<Range<u64>>,
    ) -> Result<Answer, OriginError> {
        let asking = asking_for(part.as_ref());
        self.open_asking(source, part, &asking).await
    }

    async fn open_asking(
        &self,
        source: &Source,
        part: Option<Range<u64>>,
        asking: &HeaderMap,
    ) -> Result<Answer, OriginError> {
        let mut url = source.url.clone();
        for hop in 0..REDIRECTS_MAX {
            let response = self.ask(Method::GET, source, &url, asking).await?;
            let Some(target) = redirect_target(&url, &response) else {
                return self.answer(source, &url, part, response, hop > 0);
            };
            if url.scheme() == "https" && target.scheme() != "https" {
                break;
            }
            url = target;
        }
        Err(OriginError::Redirect {
            url: source.to_string(),
        })
    }

    /// The length that a source tells for its file, without its bytes; None when it tells none. One attempt.
    pub async fn length(&self, source: &Source) -> Option<u64> {
        let mut url = source.url.clone();
        let asking = HeaderMap::new();
        for _ in 0..REDIRECTS_MAX {
            let response = self.ask(Method::HEAD, source, &url, &asking).await.ok()?;
            if let Some(target) = redirect_target(&url, &response) {
                url = target;
                continue;
            }
            let headers = response.headers();
            if response.status() != StatusCode::OK || is_web_page(&url, headers) {
                return None;
            }
            let length = headers.get(header::CONTENT_LENGTH)?;
            return length.to_str().ok()?.parse().ok();
        }
        None
    }

    /// One request, `bearing` what a registry was given a token for.
    async fn ask_as(
        &self,
        method: Method,
        source: &Source,
        url: &Url,
        asking: &HeaderMap,
        bearing: Option<&HeaderValue>,
    ) -> Result<Response, OriginError> {
        let asked = Instant::now();
        let range = asking.get(header::RANGE);
        let mut request = self
            .client(source.settings.proxy.as_ref(), url)
            .request(method.clone(), url.clone())
            .header(header::ACCEPT_ENCODING, "identity")
            .headers(asking.clone());
        // Scheme, host and port: another port may be another's.
        if url.origin() == source.url.origin() {
            request = request.headers(source.settings.headers.iter().cloned().collect());
            if let Some(token) = bearing {
                request = request.header(header::AUTHORIZATION, token);
            }
        }
        let answered = self.send(request, url).await;
        let seconds = asked.elapsed().as_secs_f32();
        let url = Shown(url);
        match &answered {
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::debug!(?range, status, seconds, "{method} {url}");
            }
            Err(error) => tracing::debug!(?range, seconds, "{method} {url}: {}", told(error)),
        }
        answered
    }

    /// The client that goes through a proxy of the settings, or as the environment says.
    fn client(&self, proxy: Option<&Url>, url: &Url) -> &Client {
        let proxied = proxy.and_then(|proxy| self.proxied.get(proxy.as_str()));
        let unproxied = if is_local(url) {
            &self.local
        } else {
            &self.direct
        };
        proxied.unwrap_or(unproxied)
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, OriginError> {
        // A request that is not answered for a stall's time is one.
        match tokio::time::timeout(
            self.settings.connect_timeout + self.settings.stall_window,
            request.send(),
        )
        .await
        {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unanswered(url, error)),
            Err(_) => Err(OriginError::Stalled {
                url: Shown(url).to_string(),
                floor_bytes: self.settings.stall_floor_bytes,
                window: self.settings.stall_window,
            }),
        }
    }

    fn answer(
        &self,
        source: &Source,
        url: &Url,
        part: Option<Range<u64>>,
        response: Response,
        redirected: bool,
    ) -> Result<Answer, OriginError> {
        let shown = if redirected {
            format!("{source} (redirected to {})", Shown(url))
        } else {
            source.to_string()
        };
        let headers = response.headers();
        let nonsense = |what: String| OriginError::Nonsense {
            url: shown.clone(),
            what,
        };
        let total_when_unsatisfiable =
            content_range(headers).and_then(|(part, total)| part.is_none().then_some(total)?);
        let (part, total) = match response.status() {
            StatusCode::OK => (None, response.content_length()),
            StatusCode::PARTIAL_CONTENT => {
                let asked = part
                    .ok_or_else(|| nonsense("a part where the whole was asked for".to_owned()))?;
                let (answered, total) = part_answered(&asked, headers).map_err(nonsense)?;
                if response
                    .content_length()
                    .is_some_and(|length| length != answered.end - answered.start)
                {
                    return Err(nonsense(
                        "its length is not that of the range it names".to_owned(),
                    ));
                }
                (Some(answered), total)
            }
            // An empty file has no range that could be satisfied.
            StatusCode::RANGE_NOT_SATISFIABLE if total_when_unsatisfiable == Some(0) => {
                (Some(0..0), Some(0))
            }
            // Only what lies within a file is asked for, so it was longer when that was told.
            StatusCode::RANGE_NOT_SATISFIABLE if part.is_some() => {
                let what = match total_when_unsatisfiable {
                    Some(total) => format!("it has {total} bytes, fewer than before"),
                    None => "it has fewer bytes than before".to_owned(),
                };
                return Err(OriginError::Changed { url: shown, what });
            }
            status => {
                let retry_after = retry_after(headers);
                return Err(OriginError::Status {
                    url: shown,
                    status,
                    retry_after,
                    redirected,
                });
            }
        };
        if is_web_page(url, headers) {
            return Err(OriginError::WebPage { url: shown });
        }
        if let Some(encoding) = headers
            .get(header::CONTENT_ENCODING)
            .filter(|value| *value != "identity")
        {
            return Err(nonsense(format!("it is encoded as {encoding:?}")));
        }
        let etag = headers
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok())
            .filter(|etag| !etag.starts_with("W/"));
        Ok(Answer {
            part,
            total,
            etag: etag.map(str::to_owned),
            md5: md5_of_transport(headers),
            shown,
            response,
            stall_window: self.settings.stall_window,
            stall_floor_bytes: self.settings.stall_floor_bytes,
            waited: Duration::ZERO,
            brought: 0,
            buffer: BytesMut::new(),
            met: None,
        })
    }

    /// Reads a small file whole: a sidecar, a pointer. One attempt.
    pub async fn read(&self, source: &Source, limit_bytes: u64) -> Result<Bytes, OriginError> {
        self.open(source, None).await?.whole(limit_bytes).await
    }
}

fn builder(settings: &OriginSettings) -> reqwest::ClientBuilder {
    Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_max_idle_per_host(settings.connections)
        .user_agent(concat!("kops-mirror/", env!("CARGO_PKG_VERSION")))
}

/// The canonical path (and query) below a source's base.
fn join(base: &Url, canonical: &Url) -> Url {
    let mut url = base.clone();
    url.set_path(&registry::path_below(base, canonical));
    url.set_query(canonical.query().or(base.query()));
    url
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn redirect_target(url: &Url, response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    url.join(location).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_shown_url_keeps_no_secret() {
        let shown = Shown(&url(
            "https://user:password@host:8443/a/b?X-Amz-Signature=secret",
        ))
        .to_string();
        assert_eq!(shown, "https://host:8443/a/b?…");
    }

    #[test]
    fn a_host_is_redirected_to_its_sources_in_order() {
        let host = HostSettings {
            sources: vec![url("http://127.0.0.1:8080"), url("http://mirror/k8s/")],
            ..HostSettings::default()
        };
        let hosts = BTreeMap::from([("dl.k8s.io".to_owned(), host)]);
        let origins = Origins::new(OriginSettings {
            hosts,
            ..OriginSettings::default()
        })
        .unwrap();
        let shown = |canonical| -> Vec<String> {
            origins
                .sources(&url(canonical))
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            shown("https://dl.k8s.io/release/stable.txt"),
            [
                "http://127.0.0.1:8080/release/stable.txt",
                "http://mirror/k8s/release/stable.txt"
            ]
        );
        assert_eq!(shown("https://github.com/a"), ["https://github.com/a"]);
    }
}
