//! Stops a run in the middle of two files, and starts it again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{BinaryBytes, HumanCount};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, path};
use super::story::Told;
use super::witness::Witness;
use crate::asset::{Asset, Role};
use crate::loopback::origin::{Exchange, Fault, When};
use crate::report::Exit;

/// The files that are on their way when the run is stopped.
const STANDING: [&str; 2] = ["linux/amd64/kubelet", "linux/amd64/kube-apiserver.tar"];
/// What comes of the first range before the link stands still.
const STANDS_AFTER: u64 = 600_000;
/// How long the run may take to come to the point where it is stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// How far a stopped run had come.
#[derive(Debug)]
pub(super) struct Stopped {
    /// Bytes that had arrived of the files in the middle of which it was stopped.
    arrived: u64,
    /// Requests that the origin had had.
    requests: usize,
    files_done: usize,
}

/// Mirrors the release of 2018 over a link that stands still in two files, and stops the run there.
pub(super) async fn stop(stage: &Stage) -> anyhow::Result<(Told, Stopped)> {
    let era = &stage.legacy;
    let standing: Vec<&Asset> = STANDING
        .map(|end| era.file(end))
        .into_iter()
        .collect::<Result<_, _>>()?;
    for asset in &standing {
        let stall = Fault::Stall {
            after: STANDS_AFTER,
            time: None,
        };
        // One connection each: however few there are, the other files have some left.
        stage
            .origin
            .order(&path(&asset.canonical), When::Once, stall);
    }
    let (witness, stop) = (stage.witness(era), CancellationToken::new());
    let others = era.keys(Role::File).len() - standing.len();
    let stopping = async {
        let stands = || {
            standing
                .iter()
                .all(|asset| stands_still(stage, &witness, asset))
        };
        let come = async {
            while witness.finished() < others || !stands() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, come)
            .await
            .context("the run did not come to the point where it was to be stopped")?;
        stop.cancel();
        anyhow::Ok(())
    };
    let observer = Arc::clone(&witness);
    let (report, ()) = tokio::try_join!(stage.sync(era, observer, &stop), stopping)?;

    ensure!(
        report.exit() == Exit::Interrupted,
        "it ended so:\n{}",
        report.table(false)
    );
    let keys = stage.bucket().keys();
    let mut hidden = standing.iter().map(|asset| &asset.key).collect::<Vec<_>>();
    let marker = era.wanted.release.key();
    hidden.push(&marker);
    hidden.extend(era.keys(Role::Pointer));
    for key in hidden {
        ensure!(
            !keys.contains(&era.full_key(key)),
            "{key} is visible already"
        );
    }
    let arrived = standing
        .iter()
        .map(|asset| witness.received(&asset.key))
        .sum();
    let wanted: u64 = standing.iter().map(|asset| stage.length(asset)).sum();
    let done = witness.finished();
    let told = Told::did(format!(
        "kops-mirror sync of {}, until the link stood still; then Ctrl-C.",
        era.name()
    ))
    .saw(format!(
        "{done} files are in s3://{}/{}",
        stage.bucket().name(),
        era.prefix
    ))
    .saw(format!(
        "of kubelet and kube-apiserver.tar, {} of {} had come: in the spool, not in the bucket",
        BinaryBytes(arrived),
        BinaryBytes(wanted)
    ))
    .saw("no marker says that the release is there, and no pointer leads to it")
    .figure("files_done", done)
    .figure("bytes_arrived", arrived)
    .figure("bytes_wanted", wanted);
    let stopped = Stopped {
        arrived,
        requests: stage.requests(),
        files_done: done,
    };
    Ok((told, stopped))
}

/// Whether the whole file was asked for, and everything has come that ever will.
fn stands_still(stage: &Stage, witness: &Witness, asset: &Asset) -> bool {
    let log = stage.origin.log();
    let path = path(&asset.canonical);
    let answers = log.requests(&path);
    let asked: u64 = answers
        .iter()
        .filter_map(range)
        .map(|range| range.end - range.start)
        .sum();
    asked >= stage.length(asset)
        && answers
            .iter()
            .all(|answer| answer.complete || answer.body_bytes == STANDS_AFTER)
        && witness.received(&asset.key) == log.bytes_sent(&path)
}

/// The part that was asked for.
fn range(exchange: &Exchange) -> Option<Range<u64>> {
    let (first, last) = exchange
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
}

/// Starts the same run again, with nothing but the bucket and the spool.
pub(super) async fn resume(stage: &Stage, stopped: Stopped) -> anyhow::Result<(Told, ())> {
    stage.recover();
    let era = &stage.legacy;
    let observer = stage.witness(era);
    let report = stage.sync(era, observer, &CancellationToken::new()).await?;
    ensure!(
        report.exit() == Exit::Done,
        "it ended so:\n{}",
        report.table(false)
    );
    let sent = stage.file_bytes_sent_since(stopped.requests);
    let mut wanted = 0;
    for end in STANDING {
        let asset = era.file(end)?;
        let path = path(&asset.canonical);
        let twice = stage.origin.log().served_twice(&path);
        ensure!(
            twice.is_empty(),
            "the origin sent these bytes of {path} twice: {twice:?}"
        );
        wanted += stage.length(asset);
    }
    ensure!(
        stopped.arrived + sent == wanted,
        "{} bytes had come, and {sent} came now, of {wanted}",
        stopped.arrived
    );
    let marker = era.full_key(&era.wanted.release.key());
    ensure!(
        stage.bucket().object(&marker).is_some(),
        "the release is not marked as ready"
    );
    let told = Told::did("The link is back; a new run knows only the bucket and the spool folder.")
        .saw(format!(
            "the origin sent the {} bytes that were missing, and none of the {} that had come",
            HumanCount(sent),
            HumanCount(stopped.arrived)
        ))
        .saw(format!(
            "of the {} files that were there, it sent none",
            stopped.files_done
        ))
        .saw(format!(
            "the release is complete, and s3://{}/{marker} says so",
            stage.bucket().name()
        ))
        .figure("bytes_arrived_before", stopped.arrived)
        .figure("bytes_sent", sent)
        .figure("bytes_wanted", wanted);
    Ok((told, ()))
}
