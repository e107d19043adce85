//! The bucket that kops keeps its state in: there, in the region, and set as what holds secrets must be.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Observed, Step, StepError, keep};
use crate::events::Event;
use crate::partition::Partition;
use crate::provision::journal::{Made, MadeKind, StepName};
use crate::provision::{STATE_STORE_TAGS, Site};
use crate::store::StoreError;
use crate::store::s3::{Bucket, Property};

#[derive(Debug)]
pub struct StateStore(pub Bucket);

#[async_trait]
impl Step for StateStore {
    fn name(&self) -> StepName {
        StepName::StateStore
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let name = self.0.name();
        let may_make = site.file.state_store.create;
        match (self.0.is_there().await?, may_make) {
            (true, _) => {}
            (false, true) => {
                let what = format!("make s3://{name} in {}", self.0.region());
                return Ok(Observed::Wanting(what));
            }
            (false, false) => {
                let what = format!(
                    "there is no bucket {name}, and stateStore.create is false: make it, or let it be made"
                );
                return Err(StepError::Blocked { what });
            }
        }
        let (mut lacking, _) = self.lacking(site).await?;
        // Where there is no TLS, whether it can be demanded is tried once a run.
        let was_tried = self.0.is_without_tls() && site.acted.contains(&StepName::StateStore);
        let is_tls_only = !lacking.contains(&Property::TlsOnly);
        lacking.retain(|property| *property != Property::TlsOnly || !was_tried);
        let is_unmarked = self.is_unmarked(site).await?;
        let told: Vec<_> = lacking.iter().map(Property::to_string).collect();
        Ok(match (lacking.is_empty(), may_make) {
            (true, _) if is_unmarked => {
                Observed::Wanting(format!("tag s3://{name}, which was made here"))
            }
            (true, _) => Observed::Right(format!(
                "s3://{name}: versioned, encrypted, closed to the public, {}",
                match is_tls_only {
                    true => "for TLS only",
                    false => "and not for TLS only",
                }
            )),
            (false, true) => Observed::Wanting(format!("have s3://{name} {}", told.join(", "))),
            (false, false) => Observed::Right(format!(
                "s3://{name} is not {}, and stays so: stateStore.create is false",
                told.join(", not ")
            )),
        })
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        if !self.0.is_there().await? {
            self.make(site).await?;
        }
        let (lacking, policy) = self.lacking(site).await?;
        let kms_key = site.file.state_store.kms_key.clone();
        for property in lacking {
            let set = self.0.set(property, kms_key.as_deref(), policy.as_deref());
            set.await?;
        }
        if self.0.is_without_tls() && !self.0.lets_in().await {
            self.0.restore_policy(policy.as_deref()).await?;
            let what = format!(
                "s3://{} is reached without TLS, so that a policy for TLS only shuts everybody out: it was taken back",
                self.0.name()
            );
            site.observer.event(&Event::Warned { what });
        }
        if self.is_unmarked(site).await? {
            self.0.tag(&self.marked(site).await?).await?;
        }
        Ok(())
    }
}

impl StateStore {
    /// What the bucket lacks, and the policy that it has.
    async fn lacking(&self, site: &Site) -> Result<(Vec<Property>, Option<String>), StepError> {
        let settings = self.0.settings().await?;
        let partition = Partition::of_region(&site.file.region);
        let kms_key = site.file.state_store.kms_key.as_deref();
        let lacking = settings.lacks(partition, self.0.name(), kms_key);
        Ok((lacking, settings.policy))
    }

    /// That it was made is written down before: a run that is killed in between leaves a bucket that the next one knows for its own.
    async fn make(&self, site: &mut Site) -> Result<(), StepError> {
        site.journal.add_made(self.made());
        keep(site).await?;
        let made = self.0.create().await;
        if !matches!(made, Ok(true)) {
            let ours = self.made();
            site.journal.made.retain(|made| *made != ours);
            keep(site).await?;
        }
        made.map(drop).map_err(StepError::from)
    }

    fn made(&self) -> Made {
        Made {
            kind: MadeKind::Bucket,
            id: self.0.name().to_owned(),
            region: self.0.region().to_owned(),
        }
    }

    /// Whether it was made here and does not say so yet.
    async fn is_unmarked(&self, site: &Site) -> Result<bool, StepError> {
        if !site.journal.made.contains(&self.made()) {
            return Ok(false);
        }
        Ok(self.0.tags().await? != self.marked(site).await?)
    }

    /// Its tags with ours among them.
    async fn marked(&self, site: &Site) -> Result<BTreeMap<String, String>, StepError> {
        let mut tags = self.0.tags().await?;
        let [(made_by, maker), (cluster, _)] = STATE_STORE_TAGS;
        tags.insert(made_by.to_owned(), maker.to_owned());
        tags.insert(cluster.to_owned(), site.file.name.clone());
        Ok(tags)
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Kept(error.into())
    }
}
