//! Images that instances start from.

mod building;

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

use super::place::Place;
use crate::ami::{
    self, AmiError, Buckets, Copied, CopyOrder, How, Leftover, Pace, Resolved, Role, Which,
    available, resolve,
};
use crate::asset::Arch;
use crate::cli::{AmiCommand, CopyArgs, GcArgs, ListArgs, Output, ResolveArgs, WaitArgs};
use crate::cloud::{Cloud, CloudSettings, Image};
use crate::cluster::{CopyEngine, ImageCopy, ImageQuery};
use crate::command::{document, say};
use crate::config::{Config, Environment};
use crate::events::{Event, Observer, told};
use crate::report::Exit;

/// An image as it is printed.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    /// What goes into the cluster's file: the same in every region of the partition.
    #[serde(rename = "use")]
    pinned: String,
    region: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    created: &'a str,
    /// By what it was found, or came.
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
}

pub(super) async fn ami(
    command: &AmiCommand,
    output: Output,
    environment: &Environment,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Exit> {
    match command {
        AmiCommand::Resolve(args) => resolved(args, output).await,
        AmiCommand::Wait(args) => wait(args, output, observer).await,
        AmiCommand::Copy(args) => copy(args, output, config, observer).await,
        AmiCommand::Build(args) => {
            building::build(args, output, environment, config, observer).await
        }
        AmiCommand::List(args) => list(args, output).await,
        AmiCommand::Gc(args) => gc(args, output).await,
    }
}

async fn resolved(args: &ResolveArgs, output: Output) -> anyhow::Result<Exit> {
    let place = Place::of(&args.place)?;
    let of_file = place.file.as_ref();
    let typed = ImageQuery {
        distribution: args.distribution.clone(),
        owner: args.owner.clone(),
        name: args.name.clone(),
        ssm: args.ssm.clone(),
    };
    let query = match typed == ImageQuery::default() {
        true => of_file.and_then(|file| file.image.resolve.clone()).context(
            "say which image: --distribution, --ssm, or --owner and --name; or image.resolve in the cluster's file",
        )?,
        false => typed,
    };
    let arch = args.arch.or(of_file.map(|file| file.control_plane.arch()));
    let cloud = place.cloud().await?;
    let Resolved { image, how, .. } = resolve(&cloud, &query, arch.unwrap_or(Arch::Amd64)).await?;
    let by = match how {
        How::Parameter(parameter) => format!("the parameter {parameter}"),
        How::Listed { owner, name } => format!("the newest of {owner}'s {name}"),
    };
    show(&shown(&cloud, &image, by), output)?;
    Ok(Exit::Done)
}

async fn wait(args: &WaitArgs, output: Output, observer: &dyn Observer) -> anyhow::Result<Exit> {
    let place = Place::of(&args.place)?;
    let pace = pace(args.timeout, &place);
    let cloud = place.cloud().await?;
    let which = match args.image.starts_with("ami-") {
        true => Which::Id(&args.image),
        false => Which::Name(&args.image),
    };
    match available(&cloud, which, pace, observer).await {
        Ok(image) => {
            show(&shown(&cloud, &image, "waiting".to_owned()), output).map(|()| Exit::Done)
        }
        Err(error) => failed(error, observer),
    }
}

async fn copy(
    args: &CopyArgs,
    output: Output,
    config: &Config,
    observer: &dyn Observer,
) -> anyhow::Result<Exit> {
    let place = Place::of(&args.place)?;
    let wanted = wanted(args, &place)?;
    let mut settings = CloudSettings::new(&wanted.from_region);
    settings.profile = wanted.from_profile.clone();
    let source = Cloud::connect(settings).await?;
    let target = place.cloud().await?;
    let buckets = match (&wanted.from_bucket, &wanted.to_bucket) {
        (Some(from), Some(to)) => Some(Buckets::connect(from, &source, to, &target).await?),
        _ => None,
    };
    let order = CopyOrder {
        source: wanted.source,
        name: wanted.name,
        engine: wanted.engine,
        cluster: place.file.as_ref().map(|file| file.name.clone()),
        journal: config.ami_folder()?,
        pace: pace(args.timeout, &place),
        rollback: args.rollback,
    };
    match ami::copy(&source, &target, buckets.as_ref(), &order, observer).await {
        Ok(copied) => show(&shown_copy(&target, &copied), output).map(|()| Exit::Done),
        Err(error) => failed(error, observer),
    }
}

/// What was typed, over what the file says.
fn wanted(args: &CopyArgs, place: &Place) -> anyhow::Result<ImageCopy> {
    let of_file = place
        .file
        .as_ref()
        .and_then(|file| file.image.copy.as_ref());
    let either =
        |typed: &Option<String>, of_file: Option<&String>| typed.clone().or(of_file.cloned());
    let source = either(&args.source, of_file.map(|file| &file.source));
    let from_region = either(&args.from_region, of_file.map(|file| &file.from_region));
    let optional = |typed: &Option<String>, field: fn(&ImageCopy) -> &Option<String>| {
        either(typed, of_file.and_then(|file| field(file).as_ref()))
    };
    Ok(ImageCopy {
        source: source
            .context("say what is copied: --source AMI, or image.copy in the cluster's file")?,
        from_region: from_region.context("say where it is: --from-region")?,
        from_profile: optional(&args.from_profile, |file| &file.from_profile),
        name: optional(&args.name, |file| &file.name),
        engine: args
            .engine
            .or(of_file.map(|file| file.engine))
            .unwrap_or(CopyEngine::StoreRestore),
        from_bucket: optional(&args.from_bucket, |file| &file.from_bucket),
        to_bucket: optional(&args.to_bucket, |file| &file.to_bucket),
    })
}

fn pace(typed: Option<Duration>, place: &Place) -> Pace {
    let of_file = place.file.as_ref().map(|file| file.timeouts.image);
    let deadline = typed.or(of_file);
    let pace = Pace::default();
    Pace {
        deadline: deadline.unwrap_or(pace.deadline),
        ..pace
    }
}

/// A mistake stops the command before it begins; what failed on its way is told and can be taken up.
fn failed(error: AmiError, observer: &dyn Observer) -> anyhow::Result<Exit> {
    match error {
        AmiError::Refused(_) | AmiError::None { .. } => Err(error.into()),
        error => {
            observer.event(&Event::Warned { what: told(&error) });
            Ok(Exit::SomeFailed)
        }
    }
}

async fn list(args: &ListArgs, output: Output) -> anyhow::Result<Exit> {
    let place = Place::of(&args.place)?;
    let cloud = place.cloud().await?;
    let found = found(&cloud, args, &place).await?;
    print(&found, output)?;
    Ok(Exit::Done)
}

async fn gc(args: &GcArgs, output: Output) -> anyhow::Result<Exit> {
    let place = Place::of(&args.list.place)?;
    let cloud = place.cloud().await?;
    let mut found = found(&cloud, &args.list, &place).await?;
    let now = Timestamp::now();
    found.retain(|leftover| {
        let since = leftover.since.parse::<Timestamp>();
        // What has no date that can be read is left alone.
        let age = since
            .ok()
            .and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        let is_old = age.is_some_and(|age| age >= args.older_than);
        is_old && (args.images || leftover.role == Role::Way.name())
    });
    print(&found, output)?;
    if !args.delete {
        return Ok(Exit::Done);
    }
    for leftover in &found {
        ami::remove(&cloud, leftover).await?;
    }
    Ok(Exit::Done)
}

async fn found(cloud: &Cloud, args: &ListArgs, place: &Place) -> anyhow::Result<Vec<Leftover>> {
    let of_file = place.file.as_ref().map(|file| file.name.as_str());
    let cluster = args.cluster.as_deref().or(of_file);
    Ok(ami::leftovers(cloud, cluster).await?)
}

fn print(found: &[Leftover], output: Output) -> anyhow::Result<()> {
    if output != Output::Table {
        return document(&found, output);
    }
    let mut text = String::new();
    for leftover in found {
        let cluster = leftover.cluster.as_deref().unwrap_or("-");
        let name = leftover.name.as_deref().unwrap_or("-");
        let Leftover {
            id, role, since, ..
        } = leftover;
        text.push_str(&format!(
            "{id:<22}  {role:<5}  {since:<24}  {cluster:<24}  {name}\n"
        ));
    }
    match found {
        [] => say("nothing that was made here\n"),
        _ => say(&text),
    }
}

fn shown<'a>(cloud: &'a Cloud, image: &'a Image, by: String) -> Shown<'a> {
    Shown {
        id: &image.image_id,
        pinned: image.pinned(),
        region: cloud.region(),
        architecture: image.architecture.as_deref(),
        created: &image.creation_date,
        by,
        carried_bytes: None,
        resumed_bytes: None,
        sha256: None,
    }
}

fn shown_copy<'a>(cloud: &'a Cloud, copied: &'a Copied) -> Shown<'a> {
    let by = copied.by.unwrap_or("an earlier run").to_owned();
    Shown {
        carried_bytes: Some(copied.carried_bytes),
        resumed_bytes: Some(copied.resumed_bytes),
        sha256: copied.sha256.as_deref(),
        ..shown(cloud, &copied.image, by)
    }
}

fn show(shown: &Shown<'_>, output: Output) -> anyhow::Result<()> {
    if output != Output::Table {
        return document(shown, output);
    }
    let Shown {
        id,
        pinned,
        region,
        by,
        ..
    } = shown;
    let mut text = format!("{id} in {region}, found by {by}\nimage:\n  use: {pinned}\n");
    if let Some(bytes) = shown.carried_bytes {
        let resumed = shown.resumed_bytes.unwrap_or_default();
        text.push_str(&format!(
            "carried {bytes} bytes, {resumed} more were there\n"
        ));
    }
    if let Some(sha256) = shown.sha256 {
        text.push_str(&format!("sha256:{sha256}\n"));
    }
    say(&text)
}
