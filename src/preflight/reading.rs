//! Reads what kops and nodes read first, without credentials, as they do.

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Client, Method};
use url::{Host, Url};

use super::facts::{Answered, Expected, Known, Read};
use crate::asset::{Asset, Key};
use crate::cluster::ClusterFile;
use crate::digest::Algorithm;
use crate::events::told;
use crate::index::{Entry, Index};

/// A node gives up sooner.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is read as text: a channel has some 20 KiB.
const TEXT_MAX_BYTES: u64 = 1 << 20;

/// Something that is asked for without credentials.
#[derive(Debug)]
pub(super) struct Reader {
    client: Client,
    /// For addresses of this machine, which no proxy knows.
    local: Client,
}

impl Reader {
    pub(super) fn new() -> Known<Self> {
        let client = |builder: reqwest::ClientBuilder| {
            let client = builder.timeout(PATIENCE).build();
            client.map_err(|error| {
                format!("can't set up connections: {}", told(&error.without_url()))
            })
        };
        Ok(Self {
            client: client(Client::builder())?,
            local: client(Client::builder().no_proxy())?,
        })
    }

    /// What kops and nodes read first: nodeup with its digest, kubelet, the channel.
    pub(super) async fn first(
        &self,
        file: &ClusterFile,
        base: &Url,
        channel: &str,
        indexes: &[Index],
    ) -> Known<Vec<Read>> {
        let wanted = file.files().map_err(|error| told(&error))?;
        let archs = file.archs();
        let is_first = |asset: &&Asset| {
            let name = asset.key.file_name();
            let is_ours = asset.arch.is_none_or(|arch| archs.contains(&arch));
            is_ours && (name == "kubelet" || name == "nodeup" || name == "nodeup.xz")
        };
        let mut reads = Vec::new();
        for asset in wanted.assets.iter().filter(is_first) {
            let entry = entry(indexes, &asset.key);
            reads.push(file_of(base, asset, entry));
            let sidecars = asset.sidecars.iter().copied();
            let mut sidecars = sidecars
                .filter(|algorithm| matches!(algorithm, Algorithm::Sha256 | Algorithm::Sha1));
            if let Some(algorithm) = sidecars
                .next()
                .filter(|_| asset.key.file_name() != "kubelet")
            {
                reads.push(sidecar_of(base, asset, algorithm, entry));
            }
        }
        let mut reads = join_all(reads.into_iter().map(|read| self.answered(read))).await;
        if channel.contains("://") {
            let read = Asked {
                method: Method::GET,
                what: "kops' channel".to_owned(),
                url: channel.to_owned(),
                key: None,
                expected: None,
            };
            reads.push(self.answered(read).await);
        }
        Ok(reads)
    }

    async fn answered(&self, asked: Asked) -> Read {
        let answer = self.ask(asked.method, &asked.url).await;
        Read {
            what: asked.what,
            url: asked.url,
            key: asked.key,
            answer,
            expected: asked.expected,
        }
    }

    /// The status with which a registry answers at its root.
    pub(super) async fn registry(&self, mirror: &str) -> Known<u16> {
        let with_scheme = match mirror.contains("://") {
            true => mirror.to_owned(),
            false => format!("https://{mirror}"),
        };
        let url = format!("{}/v2/", with_scheme.trim_end_matches('/'));
        Ok(self.ask(Method::GET, &url).await?.status)
    }

    async fn ask(&self, method: Method, url: &str) -> Known<Answered> {
        let parsed = Url::parse(url).map_err(|_| format!("{url} is no address"))?;
        let client = match is_local(&parsed) {
            true => &self.local,
            false => &self.client,
        };
        let unanswered = |error: reqwest::Error| {
            format!("{url} does not answer: {}", told(&error.without_url()))
        };
        let mut answer = client
            .request(method.clone(), parsed)
            .send()
            .await
            .map_err(unanswered)?;
        let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let mut answered = Answered {
            status: answer.status().as_u16(),
            length: header("content-length").and_then(|length| length.parse().ok()),
            etag: header("etag").map(|etag| {
                etag.trim_start_matches("W/")
                    .trim_matches('"')
                    .to_ascii_lowercase()
            }),
            text: None,
        };
        if method == Method::GET
            && answered
                .length
                .is_none_or(|length| length <= TEXT_MAX_BYTES)
        {
            let mut text = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(unanswered)? {
                text.extend_from_slice(&piece);
                if text.len() as u64 > TEXT_MAX_BYTES {
                    break;
                }
            }
            answered.text = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(answered)
    }
}

/// What is to be read.
struct Asked {
    method: Method,
    what: String,
    url: String,
    key: Option<Key>,
    expected: Option<Expected>,
}

impl Asked {
    fn of(method: Method, base: &Url, key: &Key, expected: Option<Expected>) -> Self {
        Self {
            method,
            what: key.file_name().to_owned(),
            url: format!("{}/{key}", base.as_str().trim_end_matches('/')),
            key: Some(key.clone()),
            expected,
        }
    }
}

fn file_of(base: &Url, asset: &Asset, entry: Option<&Entry>) -> Asked {
    let expected = entry.map(|entry| Expected::File {
        length: entry.length,
        md5: entry.md5.hex(),
    });
    Asked::of(Method::HEAD, base, &asset.key, expected)
}

fn sidecar_of(base: &Url, asset: &Asset, algorithm: Algorithm, entry: Option<&Entry>) -> Asked {
    let digest = entry.and_then(|entry| match algorithm {
        Algorithm::Sha1 => entry.sha1,
        _ => Some(entry.sha256),
    });
    let expected = digest.map(|digest| Expected::Digest(digest.hex()));
    Asked::of(Method::GET, base, &asset.key.sidecar(algorithm), expected)
}

fn entry<'a>(indexes: &'a [Index], key: &Key) -> Option<&'a Entry> {
    let entries = indexes
        .iter()
        .flat_map(|index| index.files.iter().chain(&index.pointers));
    entries.into_iter().find(|entry| entry.key == *key)
}

/// A server on this machine is never behind a proxy.
fn is_local(url: &Url) -> bool {
    url.host().is_some_and(|host| match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    })
}
