//! Reads where a registry is: `HOST[:PORT][/PATH]`.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// A registry, and the path that all repositories there begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without path.
    base: Url,
    /// Without slashes at its ends; empty for the whole registry.
    path: String,
}

/// A text that is no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is no registry: {why}", text.escape_debug())]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl Address {
    /// `https://HOST:PORT/`.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The host, with its port where it is not the scheme's.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// What all images there are pulled by: `quay.io:8443/mirror`, whether over https or not.
    pub fn name(&self) -> String {
        match self.path.as_str() {
            "" => self.host(),
            path => format!("{}/{path}", self.host()),
        }
    }

    /// Whether it says no TLS although it is on another machine.
    pub fn is_plain(&self) -> bool {
        self.base.scheme() == "http" && !self.is_local()
    }

    /// The whole name of a repository: `mirror/pause`.
    pub fn repository(&self, below: &str) -> String {
        match self.path.as_str() {
            "" => below.to_owned(),
            path => format!("{path}/{below}"),
        }
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.base)
    }
}

/// What may be printed of a text that can hold a password where it should not.
fn without_login(text: &str) -> String {
    let shown = text.rsplit_once('@').map(|(_, host)| format!("…@{host}"));
    shown.as_deref().unwrap_or(text).chars().take(200).collect()
}

/// Whether it is on this machine.
pub(super) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    /// Over https, unless it says `http://`, or is on this machine and says nothing.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let refuse = |why| BadAddress {
            text: without_login(text),
            why,
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return Err(refuse("give HOST[:PORT][/PATH]")),
            None => (None, text),
        };
        let parsed = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{rest}"));
            url.map_err(|_| refuse("give HOST[:PORT][/PATH]"))
        };
        let mut base = parsed(scheme.unwrap_or("https"))?;
        if scheme.is_none() && is_local(&base) {
            base = parsed("http")?;
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(refuse("logins do not go into it: docker login keeps them"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(refuse("it can't have a query"));
        }
        let path = base.path().trim_matches('/').to_owned();
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c);
        if !path.chars().all(is_good) {
            return Err(refuse(
                "repositories have lower-case letters, digits and ._-/ only",
            ));
        }
        base.set_path("/");
        Ok(Self { base, path })
    }
}

impl fmt::Display for Address {
    /// `http://` only where it can't be guessed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_guessed = (self.base.scheme() == "http") == self.is_local();
        if !is_guessed {
            write!(f, "{}://", self.base.scheme())?;
        }
        f.write_str(&self.host())?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_and_where() {
        for (text, base, repository, shown) in [
            ("quay.io", "https://quay.io/", "a", "quay.io"),
            (
                "quay.io:8443/m/k/",
                "https://quay.io:8443/",
                "m/k/a",
                "quay.io:8443/m/k",
            ),
            (
                "127.0.0.1:5000",
                "http://127.0.0.1:5000/",
                "a",
                "127.0.0.1:5000",
            ),
            ("localhost/m", "http://localhost/", "m/a", "localhost/m"),
            (
                "http://registry:5000/m",
                "http://registry:5000/",
                "m/a",
                "http://registry:5000/m",
            ),
            (
                "https://localhost:5000",
                "https://localhost:5000/",
                "a",
                "https://localhost:5000",
            ),
            ("[::1]:5000", "http://[::1]:5000/", "a", "[::1]:5000"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.base().as_str(), base);
            assert_eq!(address.repository("a"), repository);
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.name(), shown.rsplit("://").next().unwrap());
            assert_eq!(address.is_plain(), shown.starts_with("http://"));
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in [
            "",
            "ftp://quay.io",
            "user:secret@quay.io",
            "quay.io/Upper",
            "quay.io/a?b",
            "s3://bucket",
        ] {
            let refused = text.parse::<Address>().unwrap_err().to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
