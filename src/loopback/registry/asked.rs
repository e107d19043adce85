//! Reads what a request asks for.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use http::request::Parts;
use url::form_urlencoded;

use super::answer::Refusal;

/// What can be asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Version,
    Token,
    HeadBlob,
    GetBlob,
    /// A blob at the second port.
    GetStored,
    HeadManifest,
    GetManifest,
    PutManifest,
    StartUpload,
    Mount,
    PatchUpload,
    PutUpload,
    UploadStatus,
    CancelUpload,
    Tags,
    Referrers,
    /// A request to the ECR API.
    Ecr,
    /// Nothing that a registry knows.
    Other,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A request, read.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    /// Empty where it is of none.
    pub(super) repository: String,
    /// A digest, a tag, or an upload's number; at the ECR API, the operation's name.
    pub(super) reference: String,
    pub(super) query: BTreeMap<String, String>,
}

impl Asked {
    /// Reads a request; at the second port there are only blobs.
    pub(super) fn read(head: &Parts, at_storage: bool) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let path = head.uri.path();
        let (operation, repository, reference) = if at_storage {
            (Operation::GetStored, "", path.trim_start_matches('/'))
        } else if let Some(target) = head.headers.get("x-amz-target") {
            let target = target.to_str().unwrap_or_default();
            let name = target.rsplit('.').next().unwrap_or_default();
            (Operation::Ecr, "", name)
        } else {
            let has_mount = query.contains_key("mount");
            of_path(&head.method, path, has_mount)
        };
        Self {
            operation,
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            query,
        }
    }

    pub(super) fn pushes(&self) -> bool {
        matches!(
            self.operation,
            Operation::PutManifest
                | Operation::StartUpload
                | Operation::Mount
                | Operation::PatchUpload
                | Operation::PutUpload
                | Operation::UploadStatus
                | Operation::CancelUpload
        )
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(super) fn check_name(&self) -> Result<(), Refusal> {
        if self.repository.is_empty() || is_name(&self.repository) {
            return Ok(());
        }
        Err(Refusal::new(400, "NAME_INVALID", "invalid repository name"))
    }
}

fn of_path<'a>(method: &Method, path: &'a str, has_mount: bool) -> (Operation, &'a str, &'a str) {
    let other = (Operation::Other, "", path);
    if path == "/token" {
        return (Operation::Token, "", "");
    }
    let Some(below) = path.strip_prefix("/v2/") else {
        return other;
    };
    if below.is_empty() {
        return (Operation::Version, "", "");
    }
    if let Some((name, id)) = below.split_once("/blobs/uploads/") {
        let operation = match (method.as_str(), id.is_empty()) {
            ("POST", true) if has_mount => Operation::Mount,
            ("POST", true) => Operation::StartUpload,
            ("PATCH", false) => Operation::PatchUpload,
            ("PUT", false) => Operation::PutUpload,
            ("GET", false) => Operation::UploadStatus,
            ("DELETE", false) => Operation::CancelUpload,
            _ => Operation::Other,
        };
        return (operation, name, id);
    }
    let kinds = [
        ("/blobs/", Operation::HeadBlob, Operation::GetBlob),
        (
            "/manifests/",
            Operation::HeadManifest,
            Operation::GetManifest,
        ),
        ("/tags/", Operation::Other, Operation::Tags),
        ("/referrers/", Operation::Other, Operation::Referrers),
    ];
    for (between, head, get) in kinds {
        if let Some((name, reference)) = below.rsplit_once(between) {
            let operation = match method.as_str() {
                "HEAD" => head,
                "GET" => get,
                "PUT" if head == Operation::HeadManifest => Operation::PutManifest,
                _ => Operation::Other,
            };
            return (operation, name, reference);
        }
    }
    other
}

/// Names have lower-case components, with single separators within (distribution-spec, "Pulling manifests").
fn is_name(name: &str) -> bool {
    let is_component = |component: &str| {
        let ends = [component.chars().next(), component.chars().next_back()];
        let is_edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends.into_iter().all(is_edge)
            && component.chars().all(|c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
            })
            && !component.contains("..")
    };
    name.len() <= 255 && name.split('/').all(is_component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_ends() {
        let check = |method: Method, path, expected: (Operation, &str, &str)| {
            assert_eq!(of_path(&method, path, false), expected, "{path}");
        };
        check(Method::GET, "/v2/", (Operation::Version, "", ""));
        check(
            Method::HEAD,
            "/v2/a/blobs/b/blobs/sha256:1",
            (Operation::HeadBlob, "a/blobs/b", "sha256:1"),
        );
        check(
            Method::PUT,
            "/v2/a/b/manifests/v1",
            (Operation::PutManifest, "a/b", "v1"),
        );
        check(
            Method::PATCH,
            "/v2/a/blobs/uploads/7",
            (Operation::PatchUpload, "a", "7"),
        );
        check(
            Method::DELETE,
            "/v2/a/manifests/v1",
            (Operation::Other, "a", "v1"),
        );
    }

    #[test]
    fn names_are_lower_case_and_clean() {
        for name in ["a", "a/b-c", "quay.io-cilium-cilium", "a__b/c.d"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "A", "a/", "-a", "a/../b", "a b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
