//! `provision state-bucket`: the bucket that kops keeps its state in.

use serde::Serialize;

use super::super::{document, say};
use super::applying;
use super::worksite::Worksite;
use crate::cli::{Output, StateBucketCommand};
use crate::partition::Partition;
use crate::provision::{self, Step, steps};
use crate::report::Exit;
use crate::store::s3::Property;

/// What is printed of it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    bucket: &'a str,
    region: &'a str,
    is_there: bool,
    /// What it is not and must be.
    lacks: Vec<String>,
}

pub(super) async fn state_bucket(
    mut site: Worksite,
    command: &StateBucketCommand,
    output: Output,
) -> anyhow::Result<Exit> {
    let StateBucketCommand::Ensure(_) = command else {
        return check(&site, output).await;
    };
    let step: [Box<dyn Step>; 1] = [Box::new(steps::StateStore(site.state_bucket().await?))];
    let exit = applying::ended(provision::run(&step, site.site_mut()?).await)?;
    match exit {
        Exit::Done => check(&site, output).await,
        exit => Ok(exit),
    }
}

async fn check(site: &Worksite, output: Output) -> anyhow::Result<Exit> {
    let bucket = site.state_bucket().await?;
    let is_there = bucket.is_there().await?;
    let lacking = match is_there {
        true => {
            let partition = Partition::of_region(bucket.region());
            let kms_key = site.file.state_store.kms_key.as_deref();
            let settings = bucket.settings().await?;
            settings.lacks(partition, bucket.name(), kms_key)
        }
        false => Vec::new(),
    };
    let shown = Shown {
        bucket: bucket.name(),
        region: bucket.region(),
        is_there,
        lacks: lacking.iter().map(Property::to_string).collect(),
    };
    match output {
        Output::Table => say(&line(&shown))?,
        output => document(&shown, output)?,
    }
    // What can't be demanded where there is no TLS is shown all the same.
    let is_had = |property: &Property| *property == Property::TlsOnly && bucket.is_without_tls();
    Ok(match is_there && lacking.iter().all(is_had) {
        true => Exit::Done,
        false => Exit::SomeFailed,
    })
}

fn line(shown: &Shown<'_>) -> String {
    let Shown { bucket, region, .. } = shown;
    match (shown.is_there, shown.lacks.as_slice()) {
        (false, _) => format!(
            "there is no bucket {bucket}: 'provision state-bucket ensure' makes it in {region}\n"
        ),
        (true, []) => format!(
            "s3://{bucket} in {region}: versioned, encrypted, closed to the public, for TLS only\n"
        ),
        (true, lacks) => format!(
            "s3://{bucket} in {region} is not {}: 'provision state-bucket ensure' sets it\n",
            lacks.join(", not ")
        ),
    }
}
