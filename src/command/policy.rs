//! Prints the bucket policies that let nodes read a mirror.

use std::io::{self, Write};

use anyhow::{Context, bail};

use crate::cli::BucketPolicyArgs;
use crate::config::{Config, Target};
use crate::partition::Partition;
use crate::report::Exit;
use crate::store::bucket_policy::{Readers, bucket_policy};

pub(super) fn policy(args: &BucketPolicyArgs, config: &Config) -> anyhow::Result<Exit> {
    let target = config.to.first().expect("settings have a target");
    let Target::Bucket { bucket, prefix } = target else {
        bail!("{target} is a folder; give the bucket with --to s3://BUCKET/PREFIX");
    };
    let region = config.s3.of_bucket(bucket).region;
    let region = region.context("the policy depends on the bucket's region: give --region")?;
    let partition = Partition::of_region(&region);
    let policy = bucket_policy(partition, bucket, prefix, &readers(args))?;
    writeln!(io::stdout(), "{policy}").context("can't print the policy")?;
    Ok(Exit::Done)
}

fn readers(args: &BucketPolicyArgs) -> Vec<Readers> {
    let some = |readers: fn(Vec<String>) -> Readers, named: &[String]| {
        (!named.is_empty()).then(|| readers(named.to_vec()))
    };
    [
        some(Readers::VpcEndpoints, &args.vpc_endpoint),
        some(Readers::Vpcs, &args.vpc),
        some(Readers::SourceIps, &args.source_ip),
        args.public.then_some(Readers::Public),
    ]
    .into_iter()
    .flatten()
    .collect()
}
