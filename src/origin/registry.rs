//! Registries of container images among the origins: what they ask of who comes, and their documents.
//!
//! A request below `/v2/` that is answered 401 is answered with a token ([`crate::challenge`]) and made again; later ones for
//! the same repository bear the token at once. It goes to the source's own scheme, host and port alone: blobs are redirected to
//! signed URLs at other hosts, which must not have it, and refuse requests that bring one.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{OriginError, Origins, Source, asking_for};
use crate::challenge::{self, ChallengeError};
use crate::digest::Digest;

/// Below it is the distribution protocol.
const API: &str = "/v2/";

/// What follows the name of a repository there.
const BELOW_REPOSITORIES: [&str; 4] = ["/manifests/", "/blobs/", "/referrers/", "/tags/"];

/// A token may end, or other connections use it up, between getting and using it.
const RENEWALS_MAX: u32 = 3;

const REFUSAL_MAX_BYTES: usize = 64 << 10;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Docker Hub's API is at another host than its images are named by; who redirects one means both.
const HUB: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];

/// What a registry has for a name.
#[derive(Debug)]
pub struct Document {
    pub content: Bytes,
    /// As the answer tells it, with its parameters.
    pub media_type: Option<String>,
    /// What the registry says that it hashes to; nobody has checked that.
    pub digest: Option<Digest>,
    /// Where the rest of a list is, if this is not all of it.
    pub next: Option<Source>,
}

impl Origins {
    /// Reads a document whole, of one of these media types: a manifest. One attempt.
    pub async fn document(
        &self,
        source: &Source,
        accept: &[&str],
        limit_bytes: u64,
    ) -> Result<Document, OriginError> {
        let mut asking = asking_for(None);
        if let Ok(kinds) = HeaderValue::try_from(accept.join(", ")) {
            asking.insert(header::ACCEPT, kinds);
        }
        let answer = self.open_asking(source, None, &asking).await?;
        let headers = answer.response.headers();
        let told = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let media_type = told("content-type");
        let digest = told("docker-content-digest").and_then(|digest| digest.parse().ok());
        let next = told("link").and_then(|link| next(source, &link));
        Ok(Document {
            content: answer.whole(limit_bytes).await?,
            media_type,
            digest,
            next,
        })
    }

    /// One request, with what the source's registry asks for, where it is one and asks.
    pub(super) async fn ask(
        &self,
        method: Method,
        source: &Source,
        url: &Url,
        asking: &HeaderMap,
    ) -> Result<Response, OriginError> {
        let Some(scope) = scope(source, url) else {
            return self.ask_as(method, source, url, asking, None).await;
        };
        let tokens = &self.settings.tokens;
        let mut sent = tokens.known(url, &scope);
        for _ in 0..RENEWALS_MAX {
            let asked = self.ask_as(method.clone(), source, url, asking, sent.as_ref());
            let response = asked.await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if let Some(sent) = &sent {
                tokens.refused(url, &scope, sent);
            }
            let token = self.token(source, url, response.headers(), &scope).await;
            let token = token.map_err(|why| OriginError::Challenge {
                url: source.to_string(),
                source: why,
            })?;
            // A user and a password stay the same: that they were refused is the last word.
            if sent.as_ref() == Some(&token) {
                tokens.refused(url, &scope, &token);
                return Ok(response);
            }
            read_away(response).await;
            sent = Some(token);
        }
        let asked = self.ask_as(method, source, url, asking, sent.as_ref());
        let response = asked.await?;
        if let (StatusCode::UNAUTHORIZED, Some(sent)) = (response.status(), &sent) {
            tokens.refused(url, &scope, sent);
        }
        Ok(response)
    }

    /// The token service may be anywhere: it is reached as the settings for its own host say, and else as its registry is.
    async fn token(
        &self,
        source: &Source,
        url: &Url,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<HeaderValue, ChallengeError> {
        let named = challenge::token_service(headers);
        let moved = named.as_ref().and_then(|named| {
            let settings = self.host_settings(named)?;
            settings
                .sources
                .first()
                .map(|base| super::join(base, named))
        });
        let at = moved.as_ref().or(named.as_ref());
        let own = named.as_ref().and_then(|named| self.host_settings(named));
        let proxy = own.and_then(|own| own.proxy.as_ref());
        let proxy = proxy.or(source.settings.proxy.as_ref());
        let client = self.client(proxy, at.unwrap_or(url));
        let tokens = &self.settings.tokens;
        tokens
            .answer_by(client, url, headers, scope, moved.as_ref())
            .await
    }
}

/// What a refusal still has to say is of no use, and its connection is: another would cost some round trips.
async fn read_away(mut response: Response) {
    let reading = async {
        let mut read = 0;
        while let Ok(Some(piece)) = response.chunk().await {
            read += piece.len();
            if read > REFUSAL_MAX_BYTES {
                return;
            }
        }
    };
    // Who needs longer is left, and so is the connection.
    drop(timeout(REFUSAL_TIMEOUT, reading).await);
}

/// What else the host of a registry's API is called.
pub(super) fn other_names(host: &str) -> &'static [&'static str] {
    if host == HUB[0] { &HUB[1..] } else { &[] }
}

/// `</v2/a/referrers/…?n=…>; rel="next"` (RFC 8288), at the source itself: a list is not continued by somebody else.
fn next(source: &Source, link: &str) -> Option<Source> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let url = source.url.join(target).ok()?;
    let is_next = parameters.contains("next") && url.origin() == source.url.origin();
    is_next.then(|| Source {
        url,
        settings: source.settings.clone(),
    })
}

/// What reading at this URL needs, where it is of the source's own registry, and the user has not answered for it himself.
fn scope(source: &Source, url: &Url) -> Option<String> {
    let is_own = url.origin() == source.url.origin();
    let mut headers = source.settings.headers.iter();
    if !is_own || headers.any(|(name, _)| name == header::AUTHORIZATION) {
        return None;
    }
    let name = repository(url.path())?;
    Some(format!("repository:{name}:pull"))
}

/// `calico/node` of `/v2/calico/node/manifests/v3`, which may be below a path of a relay's.
fn repository(path: &str) -> Option<&str> {
    let (_, below) = path.split_once(API)?;
    let ends = BELOW_REPOSITORIES.iter();
    let end = ends.filter_map(|end| below.rfind(end)).max()?;
    Some(&below[..end]).filter(|name| !name.is_empty())
}

/// The canonical path below the path of a source's base. A base that is of a registry's API itself has the images below a
/// repository's path there, as pull-through caches do: `https://harbor.example/v2/hub`.
pub(super) fn path_below(base: &Url, canonical: &Url) -> String {
    let (base, path) = (base.path().trim_end_matches('/'), canonical.path());
    let is_api = format!("{base}/").contains(API);
    let path = match path.strip_prefix(API.trim_end_matches('/')) {
        Some(below) if is_api && below.starts_with('/') => below,
        _ => path,
    };
    format!("{base}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{HostSettings, OriginSettings};

    #[test]
    fn the_repository_of_a_path_is_found() {
        for (path, name) in [
            ("/v2/calico/node/manifests/v3.31", Some("calico/node")),
            ("/v2/pause/blobs/sha256:00", Some("pause")),
            ("/relay/v2/a/blobs/b/manifests/c", Some("a/blobs/b")),
            ("/v2/a/referrers/sha256:00", Some("a")),
            ("/v2/", None),
            ("/release/v1.34.8/bin/linux/amd64/kubelet", None),
            ("/v2/manifests/x", None),
        ] {
            assert_eq!(repository(path), name, "{path}");
        }
    }

    #[test]
    fn only_its_own_registry_is_answered_and_only_where_the_user_has_not() {
        let of = |headers: &[(header::HeaderName, HeaderValue)], at: &str| {
            let source = Source {
                url: "https://a.example/v2/b/blobs/c".parse().unwrap(),
                settings: HostSettings {
                    headers: headers.to_vec(),
                    ..HostSettings::default()
                },
            };
            scope(&source, &at.parse().unwrap())
        };
        let own = "https://a.example/v2/b/blobs/c";
        let wanted = Some("repository:b:pull".to_owned());
        assert_eq!(of(&[], own), wanted);
        let marked = (header::USER_AGENT, HeaderValue::from_static("x"));
        assert_eq!(of(&[marked], own), wanted);
        let answered = (header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        assert_eq!(of(&[answered], own), None);
        for other in [
            "https://s3.example/v2/b/blobs/c",
            "https://a.example:444/v2/b/blobs/c",
            "https://a.example/c",
        ] {
            assert_eq!(of(&[], other), None, "{other}");
        }
    }

    #[test]
    fn a_list_goes_on_at_its_own_registry() {
        let origins = Origins::new(OriginSettings::default()).unwrap();
        let url = "https://a.example/v2/b/referrers/sha256:00?n=2"
            .parse()
            .unwrap();
        let source = &origins.sources(&url)[0];
        let next = |link: &str| Some(next(source, link)?.url.to_string());
        let on = "/v2/b/referrers/sha256:00?n=2&last=x";
        let whole = format!("https://a.example{on}");
        assert_eq!(next(&format!("<{on}>; rel=\"next\"")), Some(whole.clone()));
        assert_eq!(next(&format!("<{whole}>; rel=next")), Some(whole));
        for none in [
            "",
            "</v2/>; rel=\"prev\"",
            "<https://b.example/v2/>; rel=\"next\"",
            "/v2/; rel=next",
        ] {
            assert_eq!(next(none), None, "{none}");
        }
    }

    #[test]
    fn a_base_of_the_api_itself_has_images_below_it() {
        let below = |base: &str| {
            let canonical = "https://registry-1.docker.io/v2/calico/node/manifests/v3";
            path_below(&base.parse().unwrap(), &canonical.parse().unwrap())
        };
        assert_eq!(below("https://a"), "/v2/calico/node/manifests/v3");
        assert_eq!(below("https://a/hub/"), "/hub/v2/calico/node/manifests/v3");
        let cached = "/v2/hub/calico/node/manifests/v3";
        assert_eq!(below("https://a/v2/hub"), cached);
        assert_eq!(below("https://a/v2/"), "/v2/calico/node/manifests/v3");
    }
}
