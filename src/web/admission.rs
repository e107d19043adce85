//! Who may ask for what, and what a browser may do with the answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::problem::Problem;
use super::{Served, Token};

/// Nothing from elsewhere, and nothing that stands in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// That a request showed the token, and that no page of another place sent it.
#[derive(Debug)]
pub(super) struct Entitled;

impl FromRequestParts<Arc<Served>> for Entitled {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        served: &Arc<Served>,
    ) -> Result<Self, Self::Rejection> {
        if is_foreign(&parts.headers) {
            return Err(Problem::foreign_origin());
        }
        entitled(served.token.borrow().as_ref(), &parts.headers)
    }
}

fn entitled(token: Option<&Token>, headers: &HeaderMap) -> Result<Entitled, Problem> {
    let token = token.ok_or_else(Problem::no_token_set)?;
    let offered = headers.get(AUTHORIZATION).ok_or_else(|| {
        Problem::unauthorized("this needs the service's token: send 'Authorization: Bearer TOKEN'")
    })?;
    if bearer(offered).is_some_and(|offered| token.is(offered)) {
        Ok(Entitled)
    } else {
        Err(Problem::unauthorized("this is not the service's token"))
    }
}

fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a browser says that a page of another origin asks. What is no browser says nothing and is no danger.
///
/// No page can set `Sec-Fetch-Site`, and it is right behind proxies that change the Host as well:
/// <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>. Browsers leave it out on plain HTTP, except to loopback.
fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|o| Url::parse(o).ok());
    !origin.is_some_and(|origin| is_of_host(&origin, headers))
}

/// Whether an origin has the host and port that the request was sent to.
fn is_of_host(origin: &Url, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let asked = Url::parse(&format!("{}://{host}/", origin.scheme()));
    asked.is_ok_and(|asked| asked.origin() == origin.origin())
}

/// Refuses requests to a name that is none of this host's.
///
/// A page of a foreign name that was made to lead to 127.0.0.1 ("DNS rebinding") could read all that is here, as its own
/// origin. Such a name has a dot and is none of those that no public name server knows. Probes and scrapes have no browser.
pub(super) async fn only_local_names(request: Request, next: Next) -> Response {
    let is_for_machines = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    let host = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    if is_for_machines || host.is_none_or(is_local) {
        next.run(request).await
    } else {
        guarded(Problem::misdirected().into_response()).await
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || [".localhost", ".local", ".internal"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// Says to browsers what they may do with an answer: as little as the page needs.
pub(super) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        lines.iter().map(header).collect()
    }

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let host = ("host", "mirror.example:8080");
        for (lines, foreign) in [
            (vec![host], false),
            (vec![host, ("origin", "http://mirror.example:8080")], false),
            (vec![host, ("origin", "http://MIRROR.example:8080")], false),
            (vec![host, ("origin", "http://mirror.example")], true),
            (vec![host, ("origin", "http://other.example:8080")], true),
            (vec![host, ("origin", "null")], true),
            (vec![host, ("origin", "")], true),
            (vec![("origin", "http://mirror.example")], true),
            // The default port is the same port.
            (
                vec![
                    ("host", "mirror.example"),
                    ("origin", "https://mirror.example:443"),
                ],
                false,
            ),
            // A proxy changed the Host; the browser knows better.
            (
                vec![
                    ("host", "127.0.0.1:8080"),
                    ("origin", "https://mirror.example"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
            (vec![host, ("sec-fetch-site", "cross-site")], true),
            (vec![host, ("sec-fetch-site", "same-site")], true),
        ] {
            assert_eq!(is_foreign(&headers(&lines)), foreign, "{lines:?}");
        }
    }

    #[test]
    fn names_that_a_public_name_server_knows_are_not_local() {
        for (host, local) in [
            ("127.0.0.1:8080", true),
            ("192.168.1.7", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost.:80", true),
            ("mirror", true),
            ("kops.localhost:80", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example.", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }

    #[test]
    fn the_token_is_asked_for_as_rfc_6750_says() {
        let token = Token::new("correct-horse-battery-staple").unwrap();
        for (line, right) in [
            ("Bearer correct-horse-battery-staple", true),
            ("bearer correct-horse-battery-staple", true),
            ("Basic correct-horse-battery-staple", false),
            ("Bearer wrong", false),
            ("Bearer", false),
            ("correct-horse-battery-staple", false),
            ("", false),
        ] {
            let answer = entitled(Some(&token), &headers(&[("authorization", line)]));
            assert_eq!(answer.is_ok(), right, "{line}");
        }
        assert!(entitled(Some(&token), &HeaderMap::new()).is_err());
        let right = [("authorization", "Bearer correct-horse-battery-staple")];
        assert_eq!(
            entitled(None, &headers(&right)).unwrap_err(),
            Problem::no_token_set()
        );
    }
}
