//! Audits the mirrors, damages one, and has it repaired.

use std::sync::Arc;

use anyhow::{Context, ensure};
use indicatif::{BinaryBytes, HumanCount};
use tokio_util::sync::CancellationToken;

use super::outcome::operations;
use super::stage::{Stage, path};
use super::story::Told;
use crate::asset::Key;
use crate::audit::{self, Audit, Finding};
use crate::events::Silent;
use crate::report::{Exit, Kind};
use crate::store::ETag;

/// Put anew by somebody, with other content.
const REPLACED: &str = "linux/amd64/kubectl";
/// Put anew by somebody in parts, with the right content.
const IN_PARTS: &str = "linux/amd64/protokube";
/// A bit of it turned on the server's disk.
const ROTTEN: &str = "runc.arm64";
const PART_BYTES: usize = 1 << 20;

/// Audits both mirrors, which are right.
pub(super) async fn clean(stage: &Stage) -> anyhow::Result<(Told, ())> {
    stage.s3.log().clear();
    let (mut objects, mut bytes) = (0, 0);
    for era in stage.eras() {
        let audit = audit::audit(stage.target(era).await?.as_ref(), false).await?;
        ensure!(audit.is_clean(), "it found something wrong:\n{audit}");
        ensure!(
            audit.unindexed == 0,
            "{} objects belong to no release",
            audit.unindexed
        );
        objects += audit.objects;
        bytes += audit.bytes;
    }
    let requests = stage.s3.log().all().len();
    let told = Told::did("kops-mirror verify of both prefixes.")
        .saw(format!(
            "{} objects, {}: each has the length and the ETag that its release's index says",
            HumanCount(objects as u64),
            BinaryBytes(bytes)
        ))
        .saw(format!("{requests} requests: {}", operations(stage)))
        .figure("objects", objects)
        .figure("bytes", bytes)
        .figure("requests", requests);
    Ok((told, ()))
}

/// What a deep audit found, and where.
#[derive(Debug)]
pub(super) struct Damage {
    audit: Audit,
    replaced: Key,
    in_parts: Key,
    rotten: Key,
}

/// Damages three objects in three ways, and sees which audit finds which.
pub(super) async fn damage(stage: &Stage) -> anyhow::Result<(Told, Damage)> {
    let (era, bucket) = (&stage.modern, stage.bucket());
    let key = |end| anyhow::Ok(era.file(end)?.key.clone());
    let (replaced, in_parts, rotten) = (key(REPLACED)?, key(IN_PARTS)?, key(ROTTEN)?);
    bucket.insert(&era.full_key(&replaced), "#!/bin/sh\necho not kubectl\n");
    let content = stage
        .object(era, &in_parts)?
        .bytes
        .context("the server keeps its objects")?;
    bucket.insert_multipart(&era.full_key(&in_parts), content, PART_BYTES);
    let etag = stage.object(era, &in_parts)?.etag;
    ensure!(
        bucket.corrupt(&era.full_key(&rotten), 1000),
        "{rotten} has no byte at 1000"
    );

    let target = stage.target(era).await?;
    let listed = audit::audit(target.as_ref(), false).await?;
    let finding = |audit: &Audit, key: &Key| audit.findings.get(key).cloned();
    ensure!(
        listed.findings.len() == 2
            && matches!(finding(&listed, &replaced), Some(Finding::Changed { .. }))
            && matches!(
                finding(&listed, &in_parts),
                Some(Finding::NotSinglePart { .. })
            ),
        "the listing showed this:\n{listed}"
    );
    let deep = audit::audit(target.as_ref(), true).await?;
    ensure!(
        deep.findings.len() == 3 && matches!(finding(&deep, &rotten), Some(Finding::Rotten { .. })),
        "reading the objects showed this:\n{deep}"
    );
    let told = Told::did("Replaced kubectl, put protokube anew in parts, turned a bit of runc.")
        .saw("kops-mirror verify, from the listing alone: kubectl is another content")
        .saw(format!(
            "from the listing, too: protokube has the ETag {etag}, which is no MD5"
        ))
        .saw("kops-mirror verify --deep: runc as well, whose ETag and length are as they were")
        .figure("found_from_listing", listed.findings.len())
        .figure("found_by_reading", deep.findings.len());
    let damage = Damage {
        audit: deep,
        replaced,
        in_parts,
        rotten,
    };
    Ok((told, damage))
}

/// Repairs the damage, and audits again.
pub(super) async fn repair(stage: &Stage, damage: Damage) -> anyhow::Result<(Told, ())> {
    let era = &stage.modern;
    let requests = stage.requests();
    stage.s3.log().clear();
    let target = stage.target(era).await?;
    let mirror = stage.mirror(vec![Arc::clone(&target)], Arc::new(Silent))?;
    let report = audit::repair(&mirror, vec![damage.audit], &CancellationToken::new()).await?;
    ensure!(
        report.exit() == Exit::Done,
        "it ended so:\n{}",
        report.table(false)
    );
    let mended: Vec<&Key> = report
        .of(Kind::Repaired)
        .map(|outcome| &outcome.key)
        .collect();
    ensure!(
        mended == [&damage.in_parts],
        "these were mended inside the bucket: {mended:?}"
    );
    let copies = stage.s3.log().count("CopyObject");
    ensure!(
        copies == 1,
        "objects were copied {copies} times inside the bucket"
    );
    let mut wanted = 0;
    for end in [REPLACED, ROTTEN] {
        wanted += stage.length(era.file(end)?);
    }
    let sent = stage.file_bytes_sent_since(requests);
    ensure!(sent == wanted, "{sent} bytes crossed where {wanted} had to");
    let in_parts = era.file(IN_PARTS)?;
    let asked = stage.origin.log().exchanges().split_off(requests);
    ensure!(
        asked
            .iter()
            .all(|exchange| exchange.path != path(&in_parts.canonical)),
        "the origin was asked for {}",
        damage.in_parts
    );
    let etag = ETag::new(&stage.object(era, &damage.in_parts)?.etag);
    ensure!(
        etag.md5().is_some(),
        "{} still has the ETag {etag}",
        damage.in_parts
    );
    let again = audit::audit(target.as_ref(), true).await?;
    ensure!(again.is_clean(), "something is still wrong:\n{again}");
    let told = Told::did("kops-mirror repair, then kops-mirror verify --deep.")
        .saw("protokube: one CopyObject onto itself inside the bucket; nothing crossed")
        .saw(format!("its ETag is an MD5 now, {etag}"))
        .saw(format!(
            "{} and {}: the origin sent them again, {}",
            damage.replaced.file_name(),
            damage.rotten.file_name(),
            BinaryBytes(sent)
        ))
        .saw(format!("all {} objects are right", again.objects))
        .figure("copies_inside", copies)
        .figure("file_bytes_sent", sent)
        .figure("objects_right", again.objects);
    Ok((told, ()))
}
