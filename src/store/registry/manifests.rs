//! Puts manifests, and looks which ones are there.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};

use super::RegistryStore;
use super::answers::{Refusal, limited};
use super::blobs::told_digest;
use super::calls::Call;
use crate::digest::{Algorithm, Digest};
use crate::image::{Manifest, media};
use crate::store::{StoreError, StoreErrorKind};

/// As much as registries take.
const MANIFEST_MAX_BYTES: usize = 4 << 20;

/// A manifest as it came, not compared with anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    pub content: bytes::Bytes,
    /// What the answer says that it is.
    pub media_type: Option<String>,
}

impl RegistryStore {
    /// What a tag or a digest is at a repository; None where there is no such manifest, or no such repository.
    pub async fn manifest_at(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, StoreError> {
        let what = self.told(repository, reference);
        let call = self.manifest_call(Method::HEAD, "look at", repository, reference, &what);
        let answer = self.calls.patiently(&call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status() == StatusCode::OK
            && let Some(told) = told_digest(answer.headers())
        {
            return Ok(Some(told));
        }
        self.hashed(repository, reference).await
    }

    /// Reads a manifest and hashes it, where a registry does not tell its digest.
    async fn hashed(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, StoreError> {
        let algorithm = reference
            .parse()
            .map_or(Algorithm::Sha256, |digest: Digest| digest.algorithm());
        let read = self.read_manifest(repository, reference).await?;
        Ok(read.map(|read| Digest::of(algorithm, &read.content)))
    }

    /// What a repository has under a tag or a digest, as it came; None where there is no such manifest, or no such repository.
    pub async fn read_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<RawManifest>, StoreError> {
        let what = self.told(repository, reference);
        let call = self.manifest_call(Method::GET, "read", repository, reference, &what);
        let answer = self.calls.patiently(&call).await?;
        let answer = self.calls.followed(&call, answer).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            _ => return Err(Refusal::read(answer).await.explain(call.action, &what)),
        }
        let media_type = answer.headers().get(CONTENT_TYPE);
        let media_type = media_type.and_then(|told| Some(told.to_str().ok()?.to_owned()));
        match limited(answer, MANIFEST_MAX_BYTES).await {
            Some(content) => Ok(Some(RawManifest {
                content: content.into(),
                media_type,
            })),
            None => Err(StoreError::new(
                StoreErrorKind::Transient,
                format!("can't read {what}: it broke off, or has more than 4 MiB"),
            )),
        }
    }

    /// Puts a manifest under a tag or its digest. Its parts must be there, children too. A tag that can't be moved any more is
    /// no failure where it is this manifest's already.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        let what = self.told(repository, reference);
        let mut call = self.manifest_call(Method::PUT, "put", repository, reference, &what);
        call.writes_to = Some(self.address.repository(repository));
        call.body = manifest.bytes.clone();
        call.headers.remove(ACCEPT);
        let media_type = HeaderValue::from_str(&manifest.media_type).map_err(|error| {
            let told = format!("can't put {what}: its media type is no good");
            StoreError::new(StoreErrorKind::Permanent, told).caused_by(error)
        })?;
        call.headers.insert(CONTENT_TYPE, media_type);
        let answer = self.calls.patiently(&call).await?;
        if answer.status() == StatusCode::CREATED {
            return self
                .check_put(repository, reference, manifest, &answer)
                .await;
        }
        let refusal = Refusal::read(answer).await;
        // A tag may be immutable, and which refusals mean that differs; where it is this manifest's already, all is well.
        if matches!(refusal.status, 400 | 403 | 405 | 409 | 412)
            && let Some(there) = self.manifest_at(repository, reference).await?
        {
            if there == manifest.digest {
                return Ok(());
            }
            if is_of_a_tag(&refusal) {
                return Err(moved(&what, there, manifest, &refusal));
            }
        }
        Err(refusal.explain("put", &what))
    }

    /// Believes that a manifest is there only if the registry tells its digest.
    async fn check_put(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Manifest,
        answer: &Response,
    ) -> Result<(), StoreError> {
        let told = match told_digest(answer.headers()) {
            Some(told) => Some(told),
            None => self.manifest_at(repository, reference).await?,
        };
        if told == Some(manifest.digest) {
            return Ok(());
        }
        let what = self.told(repository, reference);
        let told = told.map_or("nothing there".to_owned(), |told| told.to_string());
        Err(StoreError::new(
            StoreErrorKind::EtagMismatch,
            format!(
                "can't put {what}: the registry says that it has {told} where it was given {}",
                manifest.digest
            ),
        ))
    }

    fn manifest_call<'a>(
        &self,
        method: Method,
        action: &'a str,
        repository: &str,
        reference: &str,
        what: &'a str,
    ) -> Call<'a> {
        let name = self.address.repository(repository);
        let accepted = media::ACCEPTED.join(", ");
        let accepted = HeaderValue::from_str(&accepted).ok();
        Call {
            method,
            url: self.calls.url(&format!("{name}/manifests/{reference}")),
            scope: format!("repository:{name}:pull,push"),
            headers: HeaderMap::from_iter(accepted.map(|accepted| (ACCEPT, accepted))),
            body: bytes::Bytes::new(),
            action,
            what,
            writes_to: None,
        }
    }
}

/// Whether a registry refuses to move a tag.
fn is_of_a_tag(refusal: &Refusal) -> bool {
    let told = refusal.message.to_lowercase();
    refusal.code.starts_with("TAG_")
        || refusal.code.starts_with("ImageTagAlreadyExists")
        || ["immutable", "already exists", "overwrit"]
            .iter()
            .any(|word| told.contains(word))
}

fn moved(what: &str, there: Digest, manifest: &Manifest, refusal: &Refusal) -> StoreError {
    let why = format!(
        "can't put {what}: the tag is {there} there and can't be moved to {}, since the repository's tags are immutable: {}; \
         remove the tag, or let this repository's tags be moved",
        manifest.digest,
        refusal.sentence()
    );
    StoreError::new(StoreErrorKind::Permanent, why)
}
