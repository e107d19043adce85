//! Reads how the files of one canonical host are to be reached: other sources, a proxy, headers, a cap on connections.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::units::{Rate, parsed};

/// A host as a canonical URL names it: `dl.k8s.io`, in lower case; with a port where the URL has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(String);

/// Where one host's files come from. Sources are not trusted: what they send must hash to what was vouched for.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origin {
    /// Tried in order; empty means the canonical host itself. A canonical URL's path is appended to the source's.
    #[serde(deserialize_with = "sources")]
    pub sources: Vec<Url>,
    pub proxy: Option<Proxy>,
    /// Sent with each request to these sources, and to no host they redirect to. Marked as sensitive.
    #[serde(deserialize_with = "headers")]
    pub headers: HeaderMap,
    /// In place of `fetch.connections` for this host.
    pub connections: Option<NonZeroUsize>,
    /// The most that this host may bring, besides `fetch.limit` for all.
    pub limit: Option<Rate>,
}

/// A proxy's URL, which may carry a password: it prints without.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

/// A text that can't say where files come from. Never repeats what may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    #[error("'{}' is not a host such as dl.k8s.io", .0.escape_debug())]
    Host(String),
    #[error("a source must be an http:// or https:// URL without a query")]
    Source,
    #[error("a proxy must be an http://, https://, socks5:// or socks5h:// URL")]
    Proxy,
    #[error("'{}' is not the name of a header, or its value has a character that headers can't have", .0.escape_debug())]
    Header(String),
    #[error("'{}' is not HOST=URL, such as dl.k8s.io=http://127.0.0.1:8080", .0.escape_debug())]
    Pair(String),
}

impl Host {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = || BadOrigin::Host(text.to_owned());
        let url = Url::parse(&format!("https://{text}/")).map_err(|_| bad())?;
        let lower = text.to_ascii_lowercase();
        let authority = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(bad()),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if authority != lower || !lower.chars().all(good) {
            return Err(bad());
        }
        Ok(Self(lower))
    }
}

impl TryFrom<String> for Host {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the URL of a source.
pub fn source(text: &str) -> Result<Url, BadOrigin> {
    let url = Url::parse(text).map_err(|_| BadOrigin::Source)?;
    let good = matches!(url.scheme(), "http" | "https") && url.query().is_none();
    good.then_some(url).ok_or(BadOrigin::Source)
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| source(text).map_err(serde::de::Error::custom))
        .collect()
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
    BTreeMap::<String, String>::deserialize(deserializer)?
        .iter()
        .map(|(name, value)| header(name, value).map_err(serde::de::Error::custom))
        .collect()
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), BadOrigin> {
    let bad = || BadOrigin::Header(name.to_owned());
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok((key, value))
}

impl Proxy {
    /// The whole URL, with its password: for the HTTP client alone.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for Proxy {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let url = Url::parse(text).map_err(|_| BadOrigin::Proxy)?;
        let known = matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
        (known && url.has_host())
            .then_some(Self(url))
            .ok_or(BadOrigin::Proxy)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", place_of(&self.0))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(place_of).collect();
        f.debug_struct("Origin")
            .field("sources", &sources)
            .field("proxy", &self.proxy)
            .field("headers", &self.headers)
            .field("connections", &self.connections)
            .field("limit", &self.limit)
            .finish()
    }
}

/// Scheme, host and port: the parts of a URL that carry no secret.
fn place_of(url: &Url) -> String {
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_hosts_and_nothing_else() {
        for (text, host) in [
            ("dl.k8s.io", "dl.k8s.io"),
            ("GitHub.com", "github.com"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().as_str(), host);
        }
        for text in [
            "",
            "https://dl.k8s.io",
            "dl.k8s.io/release",
            "a@b",
            "a b",
            "*",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let origin: Origin = toml::from_str(
            r#"
            sources = ["https://user:hidden1@mirror.example/x"]
            proxy = "socks5://user:hidden2@127.0.0.1:1080"
            headers = { Authorization = "Bearer hidden3" }
            "#,
        )
        .unwrap();
        let printed = format!("{origin:?} {}", origin.proxy.as_ref().unwrap());
        assert!(!printed.contains("hidden"), "{printed}");
        assert!(printed.contains("mirror.example") && printed.contains("127.0.0.1:1080"));
    }

    #[test]
    fn a_bad_value_is_not_repeated_where_it_may_be_a_secret() {
        for text in [
            r#"sources = ["ftp://user:hidden@mirror.example"]"#,
            r#"sources = ["https://mirror.example/?token=hidden"]"#,
            r#"proxy = "socks4://user:hidden@127.0.0.1""#,
            r#"headers = { Authorization = "hidden\u0007" }"#,
        ] {
            let error = toml::from_str::<Origin>(text).unwrap_err();
            assert!(!error.message().contains("hidden"), "{error}");
        }
    }
}
