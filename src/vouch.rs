//! Finds out what each asset must hash to, and who says so, before a byte of it moves.
//!
//! An asset has independent *witnesses*. All that can be heard are compared: two that disagree are a refusal, whoever is right.
//! The first witness is heard patiently; the others get one chance each, because a second opinion that can't be reached must
//! not hold up a mirror. If the first is silent, the next is heard patiently instead.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::asset::{Asset, Voucher, Witness};
use crate::catalogue::checksums;
use crate::digest::{Algorithm, Digest};
use crate::events::{Event, Observer, told};
use crate::limits::{Limits, Rank};
use crate::origin::{OriginError, Origins, Source};
use crate::retry::{Attempts, Class, Policy};
use crate::verify::Verified;

/// The longest list of checksums that is read: Kubernetes' SHA256SUMS have about 100 KiB.
const LIST_MAX_BYTES: u64 = 4 << 20;
/// The longest file that is taken without a voucher: channel files have some 10 KiB.
const UNVOUCHED_MAX_BYTES: u64 = 1 << 20;
/// What a second opinion may take.
const SECOND_OPINION_TIMEOUT: Duration = Duration::from_secs(20);
/// Assets whose witnesses are heard at a time; the connections to each host have their own limit.
const HEARD_AT_ONCE: usize = 64;

/// An asset and what it must hash to.
#[derive(Debug, Clone)]
pub struct Vouched {
    pub asset: Asset,
    /// Every one of them must match. Empty only where `content` is at hand.
    pub expected: Vec<Digest>,
    /// Who said so, as it may be printed: `https://…/kubelet.sha256`, `kops 1.36.2's table`.
    pub vouched_by: Vec<String>,
    /// The content itself, for the few small files that nobody vouches for: they had to be read to know what they are.
    pub content: Option<Verified>,
    /// How the public release differs, where a redirected host's own checksums overruled what is known of that.
    pub overruled: Option<String>,
    /// Its host is redirected, and what is published there was not heard: this is the word on the public release alone.
    pub is_public_alone: bool,
    /// The version that a pointer's content is: `v1.34.8` of `stable.txt`.
    pub names_version: Option<String>,
}

impl Vouched {
    /// The digest that names the content in the spool: the strongest.
    pub fn name(&self) -> Option<Digest> {
        let strength = [
            Algorithm::Sha256,
            Algorithm::Sha512,
            Algorithm::Sha1,
            Algorithm::Md5,
        ];
        strength
            .into_iter()
            .find_map(|a| self.expected.iter().find(|d| d.algorithm() == a).copied())
    }
}

/// Why nobody's word could be had for an asset.
#[derive(Debug, thiserror::Error)]
pub enum VouchError {
    #[error("nobody vouches for it: {}", reasons.join("; "))]
    Silent { reasons: Vec<String> },
    #[error("its witnesses disagree: {} says {}, {} says {}; nothing is mirrored until they agree", first.1, first.0, second.1, second.0)]
    Disagree {
        first: (Digest, String),
        second: (Digest, String),
    },
    #[error("it could not be read")]
    Unread(#[source] OriginError),
    #[error("{url} is not what it should be: {what}")]
    Rubbish { url: String, what: String },
}

/// The hearing of one run: what was read once is not read again.
#[derive(Debug)]
pub struct Hearing<'a> {
    origins: &'a Origins,
    limits: &'a Limits,
    policy: Policy,
    lists: Mutex<HashMap<Url, Arc<OnceCell<Text>>>>,
    /// Hosts that did not answer; not worth a second opinion any more.
    unreachable: Mutex<HashSet<String>>,
}

/// What was read, and from where.
type Text = (Bytes, String);

/// What one witness says.
#[derive(Debug, Clone)]
struct Testimony {
    digest: Digest,
    who: String,
    /// It speaks of the public release.
    is_carried: bool,
}

impl<'a> Hearing<'a> {
    pub fn new(origins: &'a Origins, limits: &'a Limits, policy: Policy) -> Self {
        Self {
            origins,
            limits,
            policy,
            lists: Mutex::default(),
            unreachable: Mutex::default(),
        }
    }

    /// Hears the witnesses of every asset; one that fails does not stop the others. In the order of `assets`.
    pub async fn hear_all(
        &self,
        assets: Vec<Asset>,
        observer: &dyn Observer,
    ) -> Vec<(Asset, Result<Vouched, VouchError>)> {
        let total = assets.len();
        let heard = stream::iter(assets).map(|asset| async move {
            let vouched = self.hear(&asset).await;
            (asset, vouched)
        });
        let mut heard = heard.buffered(HEARD_AT_ONCE);
        let mut results = Vec::with_capacity(total);
        while let Some(result) = heard.next().await {
            results.push(result);
            observer.event(&Event::Resolving {
                done: results.len(),
                total,
            });
        }
        results
    }

    /// Hears one asset's witnesses.
    pub async fn hear(&self, asset: &Asset) -> Result<Vouched, VouchError> {
        if let Some(reason) = &asset.unvouched {
            return self.read_unvouched(asset, reason).await;
        }
        let redirected = self.origins.is_redirected(&asset.canonical);
        let mut reasons = Vec::new();
        let mut testimonies: Vec<Testimony> = Vec::new();
        let beside = beside(asset).filter(|_| redirected);
        let mut witnesses = asset.witnesses.iter().chain(&beside);
        for witness in witnesses.by_ref() {
            match self.testimony(witness, true).await {
                Ok(testimony) => {
                    testimonies.push(testimony);
                    break;
                }
                Err(reason) => reasons.push(reason),
            }
        }
        let others = join_all(witnesses.map(|witness| self.testimony(witness, false))).await;
        testimonies.extend(others.into_iter().flatten());
        if testimonies.is_empty() {
            return Err(VouchError::Silent { reasons });
        }
        let overruled = redirected
            .then(|| overrule_carried(&mut testimonies))
            .flatten();
        let is_public_alone = redirected && testimonies.iter().all(|one| one.is_carried);
        let expected = agree(&testimonies)?;
        let vouched_by = testimonies
            .into_iter()
            .map(|testimony| testimony.who)
            .collect();
        Ok(Vouched {
            asset: asset.clone(),
            expected,
            vouched_by,
            content: None,
            overruled,
            is_public_alone,
            names_version: None,
        })
    }

    async fn read_unvouched(&self, asset: &Asset, reason: &str) -> Result<Vouched, VouchError> {
        let sources = self.sources_of(asset);
        let (content, source) = self
            .read_patiently(&sources, UNVOUCHED_MAX_BYTES)
            .await
            .map_err(VouchError::Unread)?;
        let rubbish = |what: &str| VouchError::Rubbish {
            url: source.to_string(),
            what: what.to_owned(),
        };
        let text = str::from_utf8(&content).map_err(|_| rubbish("it is not a text"))?;
        if text.trim().is_empty() {
            return Err(rubbish("it is empty"));
        }
        if text.trim_start().starts_with('<') {
            return Err(rubbish("it looks like a web page"));
        }
        Ok(Vouched {
            asset: asset.clone(),
            expected: Vec::new(),
            vouched_by: vec![format!("nobody: {reason}")],
            overruled: None,
            is_public_alone: false,
            names_version: is_version(text.trim()).then(|| text.trim().to_owned()),
            content: Some(Verified::composed(content)),
        })
    }

    /// Every place where the file of a canonical URL can be had, in order.
    pub fn sources_of_url(&self, canonical: &Url) -> Vec<Source> {
        self.origins.sources(canonical)
    }

    /// Every place where the asset's bytes can be had, in order.
    pub fn sources_of(&self, asset: &Asset) -> Vec<Source> {
        self.origins.sources_of(asset)
    }

    /// The first of a witness's vouchers that exists, or why there is none.
    async fn testimony(&self, witness: &Witness, patiently: bool) -> Result<Testimony, String> {
        let mut reasons = Vec::new();
        for voucher in witness {
            match self.ask(voucher, patiently).await {
                Ok(testimony) => return Ok(testimony),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    async fn ask(&self, voucher: &Voucher, patiently: bool) -> Result<Testimony, String> {
        match voucher {
            Voucher::Known { digest, source } => Ok(Testimony {
                digest: *digest,
                who: source.clone(),
                is_carried: false,
            }),
            Voucher::Carried { digest, source } => Ok(Testimony {
                digest: *digest,
                who: source.clone(),
                is_carried: true,
            }),
            Voucher::Sidecar { url, algorithm } => {
                let (content, source) = self.read(url, patiently).await?;
                let name = url.path().rsplit('/').next().unwrap_or_default();
                let name = name.rsplit_once('.').map_or(name, |(file, _)| file);
                checksums::sidecar(&content, *algorithm, name)
                    .map(|digest| Testimony {
                        digest,
                        who: source.clone(),
                        is_carried: false,
                    })
                    .map_err(|error| format!("{source}: {error}"))
            }
            Voucher::List {
                url,
                algorithm,
                name,
            } => {
                let (content, source) = self.read_list(url, patiently).await?;
                checksums::list(&content, *algorithm, name)
                    .map(|digest| Testimony {
                        digest,
                        who: source.clone(),
                        is_carried: false,
                    })
                    .map_err(|error| format!("{source}: {error}"))
            }
        }
    }

    /// A list serves many assets: it is read once.
    async fn read_list(&self, url: &Url, patiently: bool) -> Result<Text, String> {
        let cell = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lists.entry(url.clone()).or_default())
        };
        cell.get_or_try_init(|| self.read(url, patiently))
            .await
            .cloned()
    }

    async fn read(&self, url: &Url, patiently: bool) -> Result<Text, String> {
        let sources = self.origins.sources(url);
        let read = if patiently {
            self.read_patiently(&sources, LIST_MAX_BYTES).await
        } else {
            self.read_once(&sources, LIST_MAX_BYTES).await?
        };
        read.map(|(content, source)| (content, source.to_string()))
            .map_err(|error| told(&error))
    }

    /// From the first source that has it, with the retries of the policy at each.
    pub async fn read_patiently(
        &self,
        sources: &[Source],
        limit_bytes: u64,
    ) -> Result<(Bytes, Source), OriginError> {
        let mut last = None;
        for source in sources {
            let mut attempts = Attempts::new(self.policy);
            loop {
                let error = match self.read_from(source, limit_bytes).await {
                    Ok(content) => return Ok((content, source.clone())),
                    Err(error) => error,
                };
                let pause = (error.class() == Class::Transient)
                    .then(|| attempts.failed())
                    .flatten();
                let Some(pause) = pause else {
                    last = Some(error);
                    break;
                };
                sleep(pause).await;
            }
        }
        Err(last.expect("there is at least one source"))
    }

    /// One attempt at each source, within a bounded time; hosts that did not answer before are not asked.
    async fn read_once(
        &self,
        sources: &[Source],
        limit_bytes: u64,
    ) -> Result<Result<(Bytes, Source), OriginError>, String> {
        let mut last = None;
        for source in sources.iter().filter(|source| !self.is_unreachable(source)) {
            match timeout(SECOND_OPINION_TIMEOUT, self.read_from(source, limit_bytes)).await {
                Ok(Ok(content)) => return Ok(Ok((content, source.clone()))),
                Ok(Err(error)) => last = Some(error),
                Err(_) => self.note_unreachable(source),
            }
        }
        last.map(Err)
            .ok_or_else(|| "it could not be reached".to_owned())
    }

    async fn read_from(&self, source: &Source, limit_bytes: u64) -> Result<Bytes, OriginError> {
        let host = self.limits.host(source);
        let admission = host.admit(Rank::FIRST).await;
        let read = self.origins.read(source, limit_bytes).await;
        admission.give_back().await;
        if let Err(error) = &read {
            if matches!(error, OriginError::Unreachable { .. }) {
                self.note_unreachable(source);
            }
            host.failed(error);
        }
        read
    }

    fn is_unreachable(&self, source: &Source) -> bool {
        self.unreachable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&source.host())
    }

    fn note_unreachable(&self, source: &Source) {
        self.unreachable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(source.host());
    }
}

/// Where a mirror has the checksum of a file, whatever its publisher calls his; None where that is asked already, or where
/// the user's own list has the last word.
fn beside(asset: &Asset) -> Option<Witness> {
    let sidecar = |algorithm: Algorithm| {
        let mut url = asset.canonical.clone();
        url.set_path(&format!("{}.{algorithm}", url.path()));
        Voucher::Sidecar { url, algorithm }
    };
    let beside = [Algorithm::Sha256, Algorithm::Sha1].map(sidecar);
    let mut asked = asset.witnesses.iter().flatten();
    let is_asked =
        asked.any(|voucher| beside.contains(voucher) || matches!(voucher, Voucher::Known { .. }));
    (!is_asked).then(|| beside.to_vec())
}

/// At a redirected host, what is published there overrules what the catalogue carries of the public release; a difference is
/// told. Nodes of kops 1.30 and newer compare with the carried digests themselves.
fn overrule_carried(testimonies: &mut Vec<Testimony>) -> Option<String> {
    let carried = testimonies.iter().find(|one| one.is_carried)?.clone();
    // Another algorithm's digest can't contradict it.
    let published = testimonies
        .iter()
        .find(|one| !one.is_carried && one.digest.algorithm() == carried.digest.algorithm())?
        .clone();
    if published.digest == carried.digest {
        return None;
    }
    testimonies.retain(|testimony| !testimony.is_carried);
    Some(format!(
        "{} says {}, {} says {}",
        carried.who, carried.digest, published.who, published.digest
    ))
}

/// The distinct digests of all testimonies; two of the same algorithm must be the same.
fn agree(testimonies: &[Testimony]) -> Result<Vec<Digest>, VouchError> {
    let mut agreed: Vec<&Testimony> = Vec::new();
    for testimony in testimonies {
        let algorithm = testimony.digest.algorithm();
        match agreed
            .iter()
            .find(|other| other.digest.algorithm() == algorithm)
        {
            Some(other) if other.digest != testimony.digest => {
                return Err(VouchError::Disagree {
                    first: (other.digest, other.who.clone()),
                    second: (testimony.digest, testimony.who.clone()),
                });
            }
            Some(_) => {}
            None => agreed.push(testimony),
        }
    }
    Ok(agreed
        .into_iter()
        .map(|testimony| testimony.digest)
        .collect())
}

fn is_version(text: &str) -> bool {
    text.strip_prefix('v')
        .is_some_and(|version| semver::Version::parse(version).is_ok())
}
