//! kops' state store: a bucket, or a folder for previews.

use std::path::{Path, PathBuf};

use reqwest::{Client, Method, StatusCode};

/// Where it is.
pub(crate) enum State {
    Folder(PathBuf),
    Bucket { http: Client, url: String },
}

impl State {
    /// `KOPS_STATE_STORE`, a bucket at `S3_ENDPOINT` as kops has it.
    pub(crate) fn from_environment(http: &Client) -> Self {
        let store = std::env::var("KOPS_STATE_STORE").unwrap_or_default();
        Self::at(&store, http)
    }

    /// `file:///FOLDER` or `s3://BUCKET/PREFIX`.
    pub(crate) fn at(store: &str, http: &Client) -> Self {
        if let Some(folder) = store.strip_prefix("file://") {
            return Self::Folder(folder.into());
        }
        let bucket = store.strip_prefix("s3://").unwrap_or(store);
        let endpoint = std::env::var("S3_ENDPOINT").unwrap_or_default();
        Self::Bucket {
            http: http.clone(),
            url: format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        }
    }

    pub(crate) async fn read(&self, key: &str) -> Option<String> {
        match self {
            Self::Folder(folder) => std::fs::read_to_string(folder.join(key)).ok(),
            Self::Bucket { http, url } => {
                let answer = asked(
                    http,
                    "s3",
                    Method::GET,
                    &format!("{url}/{key}"),
                    String::new(),
                )
                .await;
                answer
                    .filter(|(status, _)| *status == StatusCode::OK)
                    .map(|(_, text)| text)
            }
        }
    }

    pub(crate) async fn write(&self, key: &str, text: &str) {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(key);
                std::fs::create_dir_all(path.parent().expect("a key below a folder"))
                    .expect("a folder");
                std::fs::write(path, text).expect("a file");
            }
            Self::Bucket { http, url } => {
                let answer = asked(
                    http,
                    "s3",
                    Method::PUT,
                    &format!("{url}/{key}"),
                    text.to_owned(),
                )
                .await;
                let (status, said) = answer.expect("the state store answers");
                assert!(status.is_success(), "{status} {said}");
            }
        }
    }

    pub(crate) async fn delete(&self, key: &str) {
        match self {
            Self::Folder(folder) => drop(std::fs::remove_file(folder.join(key))),
            Self::Bucket { http, url } => {
                asked(
                    http,
                    "s3",
                    Method::DELETE,
                    &format!("{url}/{key}"),
                    String::new(),
                )
                .await;
            }
        }
    }

    /// The keys that begin so, sorted.
    pub(crate) async fn list(&self, prefix: &str) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let mut keys = Vec::new();
                walk(folder, folder, &mut keys);
                keys.retain(|key| key.starts_with(prefix));
                keys.sort();
                keys
            }
            Self::Bucket { http, url } => {
                let place = reqwest::Url::parse(url).expect("the state store's address");
                // A bucket, and a part of it.
                let (bucket, part) = match place.path().trim_start_matches('/').split_once('/') {
                    Some((bucket, part)) => (bucket, format!("{part}/")),
                    None => (place.path().trim_start_matches('/'), String::new()),
                };
                let url = place.join(&format!("/{bucket}?list-type=2&prefix={part}{prefix}"));
                let url = url.expect("an address").to_string();
                let (_, text) = asked(http, "s3", Method::GET, &url, String::new())
                    .await
                    .unwrap_or_default();
                let keys = text.split("<Key>").skip(1);
                let keys = keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0));
                keys.filter_map(|key| Some(key.strip_prefix(part.as_str())?.to_owned()))
                    .collect()
            }
        }
    }
}

fn walk(root: &Path, folder: &Path, keys: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, keys);
        } else if let Ok(key) = path.strip_prefix(root) {
            keys.push(key.to_string_lossy().into_owned());
        }
    }
}

/// Asks an emulator, which looks at the region in a signature and not at the signature.
pub(crate) async fn asked(
    http: &Client,
    service: &str,
    method: Method,
    url: &str,
    body: String,
) -> Option<(StatusCode, String)> {
    let region = std::env::var("AWS_REGION").unwrap_or_default();
    let key = std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_default();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let kind = match service {
        "s3" => "binary/octet-stream",
        _ => "application/x-www-form-urlencoded",
    };
    let request = http
        .request(method, url)
        .header("authorization", authorization);
    let request = request.header("content-type", kind).body(body);
    let answer = request.send().await.ok()?;
    let status = answer.status();
    Some((status, answer.text().await.ok()?))
}
