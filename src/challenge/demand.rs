//! Reads what a registry demands: a token of a service that it names, or user and password.

use http_auth::{ChallengeRef, parse_challenges};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::{Host, Url};

use super::ChallengeError;
use super::service::Service;

/// What a 401 asks for.
#[derive(Debug)]
pub(super) enum Demand {
    Bearer(Service),
    Basic,
}

impl Demand {
    /// A token is preferred to a password: it opens less, and not for long.
    pub(super) fn read(
        url: &Url,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<Self, ChallengeError> {
        if let Some(bearer) = bearers(headers).into_iter().next() {
            let is_safe = bearer.realm.scheme() == "https" || is_plain(url);
            if !is_safe {
                return Err(ChallengeError::Unsafe {
                    registry: registry(url),
                    realm: bearer.realm.origin().ascii_serialization(),
                });
            }
            return Ok(Self::Bearer(Service {
                registry: registry(url),
                // What is sent to the registry's own host could be read there anyway.
                is_trusted: bearer.realm.scheme() == "https" || bearer.realm.host() == url.host(),
                realm: bearer.realm,
                name: bearer.service,
                scope: asked_for(bearer.scope, scope),
            }));
        }
        let mut challenges = texts(headers).flat_map(challenges);
        if challenges.any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic")) {
            return Ok(Self::Basic);
        }
        Err(ChallengeError::Silent {
            registry: registry(url),
        })
    }
}

/// The token service that a registry's 401 names, so that who asks can choose a client that gets there.
pub fn token_service(headers: &HeaderMap) -> Option<Url> {
    bearers(headers)
        .into_iter()
        .next()
        .map(|bearer| bearer.realm)
}

/// The host of a registry, with its port where it has one: what logins are known by.
pub(super) fn registry(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether others can read along anyway, or nobody can: on this machine.
fn is_plain(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    is_here || url.scheme() == "http"
}

struct Bearer {
    realm: Url,
    service: Option<String>,
    scope: Option<String>,
}

fn bearers(headers: &HeaderMap) -> Vec<Bearer> {
    let bearer = |challenge: ChallengeRef<'_>| {
        let is_bearer = challenge.scheme.eq_ignore_ascii_case("bearer");
        let realm = parameter(&challenge, "realm").filter(|_| is_bearer)?;
        let realm: Url = realm.parse().ok()?;
        matches!(realm.scheme(), "http" | "https").then(|| Bearer {
            realm,
            service: parameter(&challenge, "service"),
            scope: parameter(&challenge, "scope"),
        })
    };
    let challenges = texts(headers).flat_map(challenges);
    challenges.filter_map(bearer).collect()
}

fn texts(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok())
}

fn challenges(text: &str) -> Vec<ChallengeRef<'_>> {
    parse_challenges(text).unwrap_or_default()
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let mut parameters = challenge.params.iter();
    let (_, value) = parameters.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.to_unescaped()).filter(|value| !value.is_empty())
}

/// Of the same things, what we want to do with them, and with others besides (a blob is mounted from another repository); of another
/// (public.ecr.aws has one scope, `aws`, and a relay may call a repository by another name), what the registry told.
fn asked_for(told: Option<String>, wanted: &str) -> String {
    let things = |scope: &str| -> Vec<String> {
        let thing = |scope: &str| match scope.rsplit_once(':') {
            Some((thing, _)) => thing.to_owned(),
            None => scope.to_owned(),
        };
        scope.split(' ').map(thing).collect()
    };
    let ours = things(wanted);
    let is_ours = |told: &String| things(told).iter().all(|thing| ours.contains(thing));
    told.filter(|told| !is_ours(told))
        .unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "repository:a/b:pull";

    fn read(url: &str, values: &[&str]) -> Result<Demand, ChallengeError> {
        let value = |value: &&str| (WWW_AUTHENTICATE, value.parse().unwrap());
        let headers: HeaderMap = values.iter().map(value).collect();
        Demand::read(&url.parse().unwrap(), &headers, SCOPE)
    }

    fn service(url: &str, values: &[&str]) -> Service {
        match read(url, values).unwrap() {
            Demand::Bearer(service) => service,
            Demand::Basic => panic!("{values:?}"),
        }
    }

    #[test]
    fn challenges_of_known_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let service_of_hub = service("https://registry-1.docker.io/v2/", &[hub]);
        assert_eq!(
            service_of_hub.realm.as_str(),
            "https://auth.docker.io/token"
        );
        assert_eq!(service_of_hub.name.as_deref(), Some("registry.docker.io"));
        assert_eq!(service_of_hub.scope, SCOPE);
        let ecr =
            r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#;
        assert_eq!(service("https://public.ecr.aws/v2/", &[ecr]).scope, "aws");
        // Actions are separated as challenges are, by commas.
        let pushing = r#"Bearer realm="https://a/t",scope="repository:a/b:pull,push""#;
        assert_eq!(service("https://a/v2/", &[pushing]).scope, SCOPE);
        let bare = "bearer realm=\"https://ghcr.io/token\"";
        let both = ["Basic realm=\"x\"", bare];
        assert_eq!(service("https://ghcr.io/v2/", &both).scope, SCOPE);
        let basic = read(
            "https://a/v2/",
            &["Basic realm=\"https://a/\", service=\"ecr\""],
        );
        assert!(matches!(basic, Ok(Demand::Basic)));
    }

    #[test]
    fn what_says_nothing_is_no_challenge() {
        for values in [
            &[][..],
            &["Negotiate"],
            &["Bearer"],
            &["Bearer realm=\"/t\""],
            &["\""],
        ] {
            let read = read("https://a/v2/", values);
            assert!(
                matches!(read, Err(ChallengeError::Silent { .. })),
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_token_service_in_the_clear_is_for_registries_in_the_clear() {
        let plain = ["Bearer realm=\"http://auth/t\""];
        let unsafe_one = read("https://a/v2/", &plain);
        assert!(matches!(unsafe_one, Err(ChallengeError::Unsafe { .. })));
        // Whoever named it may be anyone, so it gets no login.
        assert!(!service("http://a/v2/", &plain).is_trusted);
        assert!(!service("https://127.0.0.1:5000/v2/", &plain).is_trusted);
        let own = ["Bearer realm=\"http://a:81/t\""];
        assert!(service("http://a/v2/", &own).is_trusted);
    }
}
