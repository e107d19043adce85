//! A lease's key at a target, read and written.

use std::sync::Arc;

use futures::TryStreamExt;

use super::claim::Claim;
use super::{PATIENCE, pause_after};
use crate::asset::Key;
use crate::retry::Attempts;
use crate::store::{Attributes, Condition, ETag, Store, StoreError, StoreErrorKind};

/// A lease that is larger than this is none.
const CLAIM_MAX_BYTES: u64 = 64 * 1024;

/// What is at a lease's key.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) etag: ETag,
    /// None when nobody can read it.
    pub(super) claim: Option<Claim>,
}

/// A key at a target.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: Key,
}

impl Place {
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.store.place(), self.key)
    }

    pub(super) async fn read(&self) -> Result<Option<Found>, StoreError> {
        let Some(content) = self.store.open(&self.key).await? else {
            return Ok(None);
        };
        let etag = content.etag;
        if content.length > CLAIM_MAX_BYTES {
            return Ok(Some(Found { etag, claim: None }));
        }
        let chunks: Vec<_> = content.chunks.try_collect().await?;
        let claim = serde_json::from_slice(&chunks.concat());
        if let Err(error) = &claim {
            let address = self.address();
            tracing::warn!(
                "{address} is no lease that anybody can read, so nobody has it: {error}"
            );
        }
        let claim = claim.ok();
        Ok(Some(Found { etag, claim }))
    }

    pub(super) async fn put(
        &self,
        claim: &Claim,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        let attributes = Attributes {
            content_type: "application/json".to_owned(),
            ..Attributes::default()
        };
        let content = claim.document();
        self.store
            .put(&self.key, &content, &attributes, condition)
            .await
    }

    /// Whether a put gets through whose condition does not hold.
    pub(super) async fn lets_through(
        &self,
        claim: &Claim,
        condition: &Condition,
    ) -> Result<bool, StoreError> {
        let mut attempts = Attempts::new(PATIENCE);
        loop {
            match self.put(claim, condition).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == StoreErrorKind::ConditionFailed => return Ok(false),
                Err(error) => pause_after(error, &mut attempts).await?,
            }
        }
    }
}
