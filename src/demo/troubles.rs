//! Mirrors a release while the link and the bucket go wrong, and sees what that cost.

use std::sync::Arc;

use anyhow::{Context, ensure};
use indicatif::{BinaryBytes, HumanCount};
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, path};
use super::story::Told;
use super::witness::Witness;
use crate::asset::{Asset, Role};
use crate::loopback::origin::{Fault as OriginFault, When};
use crate::loopback::s3::{Fault, Trouble};
use crate::report::{Exit, Kind, Report};

/// Whose connection breaks.
const CUT: &str = "linux/amd64/kubelet";
const CUT_AFTER: u64 = 700_000;
/// Whose byte changes.
const CORRUPT: &str = "linux/amd64/nodeup";
/// In the part that is asked for first, so that it is the first source's.
const CORRUPT_AT: u64 = 234_567;
/// Whose PUT is refused twice.
const BUSY: &str = "linux/arm64/kubelet";
/// The answer to whose PUT is lost.
const LOST: &str = "runc.amd64";

/// A run that met trouble, and who watched it.
#[derive(Debug)]
pub(super) struct Crossing {
    report: Report,
    witness: Arc<Witness>,
}

/// Orders the troubles, and mirrors the release of today.
pub(super) async fn mirror(stage: &Stage) -> anyhow::Result<(Told, Crossing)> {
    let era = &stage.modern;
    let at = |end| anyhow::Ok(path(&era.file(end)?.canonical));
    let origin = &stage.origin;
    origin.order(&at(CUT)?, When::Once, OriginFault::cut(CUT_AFTER));
    origin.order(&at(CORRUPT)?, When::Once, OriginFault::Corrupt(CORRUPT_AT));
    let put_of = |fault: Fault, end| fault.on("PutObject").key(&format!("*{end}"));
    let faults = stage.s3.faults();
    faults.order(put_of(Fault::slow_down(), BUSY).times(2));
    faults.order(put_of(Fault::new(Trouble::AnswerLost), LOST));

    let (witness, requests) = (stage.witness(era), stage.requests());
    let observer = Arc::clone(&witness);
    let report = stage.sync(era, observer, &CancellationToken::new()).await?;

    ensure!(
        report.exit() == Exit::Done,
        "it ended so:\n{}",
        report.table(false)
    );
    let (files, transferred) = (
        era.wanted.assets.len(),
        report.of(Kind::Transferred).count(),
    );
    ensure!(
        transferred == files,
        "{transferred} of {files} files were transferred"
    );
    let outstanding = faults.outstanding();
    ensure!(
        outstanding == 0,
        "{outstanding} of the bucket's troubles never came"
    );
    let lengths = era
        .wanted
        .assets
        .iter()
        .filter(|asset| asset.role == Role::File);
    let wanted: u64 = lengths.map(|asset| stage.length(asset)).sum();
    let sent = stage.file_bytes_sent_since(requests);
    let refused = stage.length(era.file(CORRUPT)?);
    ensure!(
        sent == wanted + refused && report.bytes_refetched == refused,
        "the origin sent {sent} bytes where {wanted}, and {refused} of a refused file again, are right"
    );
    let witnesses = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.vouched_by.len() > 1);
    let twice = witnesses.count();
    let told = Told::did(format!(
        "kops-mirror sync of {} into s3://{}/{}; four things go wrong.",
        era.name(),
        stage.bucket().name(),
        era.prefix
    ))
    .saw(format!(
        "{files} files, {}, in {:.1} s; {twice} of them were vouched for by two witnesses that agree",
        BinaryBytes(wanted),
        report.elapsed.as_secs_f64()
    ))
    .saw(format!(
        "the origin sent {} bytes: {} that were wanted, and {} again",
        HumanCount(sent),
        HumanCount(wanted),
        HumanCount(refused)
    ))
    .figure("files", files)
    .figure("bytes_wanted", wanted)
    .figure("bytes_sent", sent)
    .figure("bytes_refetched", report.bytes_refetched)
    .figure("vouched_for_twice", twice);
    Ok((told, Crossing { report, witness }))
}

/// What became of the file whose connection broke.
pub(super) fn cut(stage: &Stage, _: &Crossing) -> anyhow::Result<(Told, ())> {
    let asset = stage.modern.file(CUT)?;
    let (path, length) = (path(&asset.canonical), stage.length(asset));
    let log = stage.origin.log();
    let answers = log.requests(&path);
    let broken = answers.iter().filter(|answer| !answer.complete).count();
    ensure!(broken == 1, "{broken} connections broke");
    ensure!(
        log.ranges_sent(&path)
            .iter()
            .any(|sent| sent.start == CUT_AFTER),
        "no request began where the connection broke"
    );
    let (sent, twice) = (log.bytes_sent(&path), log.served_twice(&path));
    ensure!(
        sent == length && twice.is_empty(),
        "{sent} of {length} bytes were sent, these twice: {twice:?}"
    );
    let told = Told::did(format!(
        "The origin closed the connection after {} bytes of kubelet.",
        HumanCount(CUT_AFTER)
    ))
    .saw(format!(
        "another request went on at byte {}",
        HumanCount(CUT_AFTER)
    ))
    .saw(format!(
        "in {} requests it sent {} bytes of a file of {}: none twice",
        answers.len(),
        HumanCount(sent),
        HumanCount(length)
    ))
    .figure("cut_after", CUT_AFTER)
    .figure("length", length)
    .figure("bytes_sent", sent)
    .figure("ranges_sent_twice", twice.len())
    .figure("requests", answers.len());
    Ok((told, ()))
}

/// What became of the file of which a byte was changed.
pub(super) fn corrupt(stage: &Stage, crossing: &Crossing) -> anyhow::Result<(Told, ())> {
    let era = &stage.modern;
    let asset = era.file(CORRUPT)?;
    let length = stage.length(asset);
    let setbacks = crossing.witness.setbacks(&asset.key);
    let refusal = setbacks.first().context("the wrong byte was not refused")?;
    let visible = setbacks.iter().filter(|setback| setback.visible).count();
    ensure!(
        visible == 0,
        "the bucket showed the file when its content was wrong"
    );
    let puts = stage.puts(era, &asset.key);
    ensure!(
        puts == [Some(200)],
        "it was put {} times: {puts:?}",
        puts.len()
    );
    let sources = std::iter::once(&asset.canonical).chain(&asset.alternates);
    let log = stage.origin.log();
    let sent: Vec<(&str, u64)> = sources
        .map(|url| {
            (
                url.host_str().unwrap_or_default(),
                log.bytes_sent(&path(url)),
            )
        })
        .collect();
    let total: u64 = sent.iter().map(|(_, bytes)| bytes).sum();
    ensure!(
        total == 2 * length,
        "{total} bytes were sent for a file of {length}"
    );
    ensure!(
        intact(stage, asset)?,
        "the bucket has another content than the origin"
    );
    let (_, from_first) = sent[0];
    let anew = sent.iter().rev().find(|(_, bytes)| *bytes > 0);
    let (second, _) = anew.context("nobody sent it anew")?;
    let told = Told::did(format!(
        "The byte at {} of nodeup changed between {} and here.",
        HumanCount(CORRUPT_AT),
        sent[0].0
    ))
    .saw(format!("refused: {}", abridged(&refusal.why)))
    .saw("the bucket showed no such object then, and was sent it once, when it was right")
    .saw(format!(
        "the whole file came anew from {second}, which has a copy"
    ))
    .figure("length", length)
    .figure("bytes_sent", total)
    .figure("bytes_from_first_source", from_first)
    .figure("refusals", setbacks.len())
    .figure("visible_when_refused", visible)
    .figure("puts", puts.len());
    Ok((told, ()))
}

/// What the bucket's own troubles cost.
pub(super) fn busy(stage: &Stage, crossing: &Crossing) -> anyhow::Result<(Told, ())> {
    let era = &stage.modern;
    let (busy, lost) = (era.file(BUSY)?, era.file(LOST)?);
    let log = stage.origin.log();
    for asset in [busy, lost] {
        let (sent, length) = (log.bytes_sent(&path(&asset.canonical)), stage.length(asset));
        ensure!(
            sent == length,
            "{sent} of {length} bytes of {} were sent",
            asset.key
        );
        ensure!(intact(stage, asset)?, "{} is another content", asset.key);
    }
    let puts = stage.puts(era, &busy.key);
    ensure!(
        puts == [Some(503), Some(503), Some(200)],
        "the PUTs of {} were answered {puts:?}",
        busy.key
    );
    let puts_lost = stage.puts(era, &lost.key);
    ensure!(
        puts_lost.first() == Some(&None) && !puts_lost[1..].contains(&Some(200)),
        "the PUTs of {} were answered {puts_lost:?}",
        lost.key
    );
    let told = Told::did(
        "The bucket answered 503 to two PUTs of a kubelet, and took runc without an answer.",
    )
    .saw(format!(
        "kubelet: answers {}; the origin sent its {} bytes once",
        answers(&puts),
        HumanCount(stage.length(busy))
    ))
    .saw(format!(
        "runc: answers {}: it was there already, and was not written twice",
        answers(&puts_lost)
    ))
    .saw(format!(
        "{} fetched in all, {} of it again: the refused nodeup",
        BinaryBytes(crossing.report.bytes_fetched),
        BinaryBytes(crossing.report.bytes_refetched)
    ))
    .figure("puts_of_busy", puts.len())
    .figure("puts_of_lost", puts_lost.len());
    Ok((told, ()))
}

/// A sentence in which digests are cut short.
fn abridged(why: &str) -> String {
    let word = |word: &str| match word.char_indices().nth(20) {
        Some((at, _)) if word.len() > 40 => format!("{}…", &word[..at]),
        _ => word.to_owned(),
    };
    why.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn answers(puts: &[Option<u16>]) -> String {
    let answer = |put: &Option<u16>| put.map_or("none".to_owned(), |status| status.to_string());
    puts.iter().map(answer).collect::<Vec<_>>().join(", ")
}

/// Whether the bucket has exactly what the origin has.
fn intact(stage: &Stage, asset: &Asset) -> anyhow::Result<bool> {
    let there = stage.object(&stage.modern, &asset.key)?;
    let file = stage.releases.file(asset.canonical.as_str());
    let file = file.context("the origin has no such file")?;
    Ok(there.bytes == Some(file.content.read(0..file.content.length())))
}
