//! Looks at what two mirrored releases have become: their order, their ETags, what another run costs, and copies of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use indicatif::{BinaryBytes, HumanCount};
use tokio_util::sync::CancellationToken;

use super::stage::{Era, Stage};
use super::story::Told;
use crate::asset::{Asset, Key, Role};
use crate::digest::{Algorithm, Digest};
use crate::events::Silent;
use crate::report::{Exit, Kind};
use crate::store::Store;
use crate::store::folder::FolderStore;

/// Compares the order in which objects became visible with the promised one.
pub(super) fn order(stage: &Stage) -> anyhow::Result<(Told, ())> {
    let commits = stage.bucket().commits();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, key) in commits.iter().enumerate() {
        first.entry(key).or_insert(at);
    }
    let mut counts = [0_usize; 5];
    for era in stage.eras() {
        let of_era = Order {
            stage,
            era,
            first: &first,
        }
        .check()?;
        counts
            .iter_mut()
            .zip(of_era)
            .for_each(|(sum, count)| *sum += count);
    }
    let [files, sidecars, markers, pointers, withheld] = counts;
    let told = Told::did("Compared the order in which the bucket's objects became visible.")
        .saw(format!(
            "{files} files, each before its own sidecars ({sidecars})"
        ))
        .saw(format!(
            "then the {markers} markers releases/*.json, each after all of its release"
        ))
        .saw(format!(
            "then the {pointers} pointers: stable.txt, channels/stable"
        ))
        .figure("commits", commits.len())
        .figure("files", files)
        .figure("sidecars", sidecars)
        .figure("markers", markers)
        .saw(format!(
        "{withheld} pointer withheld: it names a Kubernetes version that its mirror does not hold"
    ))
    .figure("pointers", pointers)
    .figure("pointers_withheld", withheld);
    Ok((told, ()))
}

/// When each object of an era became visible.
struct Order<'a> {
    stage: &'a Stage,
    era: &'a Era,
    first: &'a BTreeMap<&'a str, usize>,
}

impl Order<'_> {
    /// How many files, sidecars, markers, pointers and withheld pointers there are, if all came in their order.
    fn check(&self) -> anyhow::Result<[usize; 5]> {
        let (mut files, mut sidecars, mut last) = (0, 0, 0);
        let role = |role| {
            self.era
                .wanted
                .assets
                .iter()
                .filter(move |asset| asset.role == role)
        };
        for asset in role(Role::File) {
            let file = self.at(&asset.key)?;
            last = last.max(file);
            files += 1;
            for &algorithm in &asset.sidecars {
                let sidecar = self.at(&asset.key.sidecar(algorithm))?;
                ensure!(file < sidecar, "a sidecar came before {}", asset.key);
                last = last.max(sidecar);
                sidecars += 1;
            }
        }
        let marker = self.at(&self.era.wanted.release.key())?;
        ensure!(
            last < marker,
            "the marker of {} came too early",
            self.era.name()
        );
        let (mut pointers, mut withheld) = (BTreeSet::new(), BTreeSet::new());
        for asset in role(Role::Pointer) {
            let key = &asset.key;
            if self.names_what_is_absent(asset) {
                let full_key = self.era.full_key(key);
                ensure!(
                    !self.first.contains_key(full_key.as_str()),
                    "{key} leads to a version that is not there"
                );
                withheld.insert(key);
            } else {
                ensure!(marker < self.at(key)?, "{key} came before the marker");
                pointers.insert(key);
            }
        }
        Ok([files, sidecars, 1, pointers.len(), withheld.len()])
    }

    /// Whether the file is a version, and another one than this era's.
    fn names_what_is_absent(&self, pointer: &Asset) -> bool {
        let file = self.stage.releases.file(pointer.canonical.as_str());
        let text = file.map(|file| file.content.read(0..file.content.length()));
        let text = text.as_deref().unwrap_or_default().trim_ascii();
        let version = text
            .strip_prefix(b"v")
            .and_then(|rest| str::from_utf8(rest).ok());
        version
            .is_some_and(|version| Some(version) != self.era.wanted.release.kubernetes.as_deref())
    }

    fn at(&self, key: &Key) -> anyhow::Result<usize> {
        let key = self.era.full_key(key);
        let at = self.first.get(key.as_str()).copied();
        at.with_context(|| format!("{key} never became visible"))
    }
}

/// Hashes every object in the bucket and compares it with its ETag.
pub(super) fn etags(stage: &Stage) -> anyhow::Result<(Told, ())> {
    let bucket = stage.bucket();
    let (mut objects, mut bytes) = (0_u64, 0);
    for key in bucket.keys() {
        let object = bucket.object(&key).context("it was there a moment ago")?;
        let content = object.bytes.context("the server keeps its objects")?;
        let md5 = Digest::of(Algorithm::Md5, &content);
        ensure!(
            object.etag == md5.hex(),
            "{key} has the ETag {} and the MD5 {}",
            object.etag,
            md5.hex()
        );
        objects += 1;
        bytes += object.length;
    }
    let unfinished = bucket.unfinished_uploads();
    ensure!(
        unfinished.is_empty(),
        "multipart uploads were left: {unfinished:?}"
    );
    let told = Told::did("Hashed every object in the bucket.")
        .saw(format!(
            "{} objects, {}: the ETag of each is its MD5",
            HumanCount(objects),
            BinaryBytes(bytes)
        ))
        .figure("objects", objects)
        .figure("bytes", bytes);
    Ok((told, ()))
}

/// Mirrors both releases again.
pub(super) async fn unchanged(stage: &Stage) -> anyhow::Result<(Told, ())> {
    let requests = stage.requests();
    stage.s3.log().clear();
    let (mut skipped, mut seconds) = (0, 0.0);
    for era in stage.eras() {
        let never = CancellationToken::new();
        let report = stage.sync(era, Arc::new(Silent), &never).await?;
        ensure!(
            report.exit() == Exit::Done,
            "it ended so:\n{}",
            report.table(false)
        );
        let files = report.outcomes.len();
        let of_era = report.of(Kind::Skipped).count();
        ensure!(of_era == files, "{of_era} of {files} files were skipped");
        skipped += of_era;
        seconds += report.elapsed.as_secs_f64();
    }
    let sent = stage.file_bytes_sent_since(requests);
    ensure!(sent == 0, "the origin sent {sent} bytes of files");
    let (of_origin, of_bucket) = (stage.requests() - requests, stage.s3.log().all().len());
    let writes: usize = ["PutObject", "CopyObject", "DeleteObject"]
        .iter()
        .map(|operation| stage.s3.log().count(operation))
        .sum();
    ensure!(writes == 0, "the bucket was written to {writes} times");
    let told = Told::did("kops-mirror sync of both, once more.")
        .saw(format!(
            "{skipped} files skipped in {seconds:.2} s: not one byte of a file, not one PUT"
        ))
        .saw(format!(
            "{of_origin} requests to the origin, all for sidecars and pointers"
        ))
        .saw(format!(
            "{of_bucket} requests to the bucket: {}",
            operations(stage)
        ))
        .figure("skipped", skipped)
        .figure("file_bytes_sent", sent)
        .figure("origin_requests", of_origin)
        .figure("bucket_requests", of_bucket)
        .figure("listings", stage.s3.log().count("ListObjectsV2"));
    Ok((told, ()))
}

/// The bucket's requests by their operations.
pub(super) fn operations(stage: &Stage) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for exchange in stage.s3.log().all() {
        *counts.entry(exchange.operation).or_default() += 1;
    }
    let counts = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Copies both mirrors into folders, out of the bucket.
pub(super) async fn keep(stage: &Stage, folder: &Path) -> anyhow::Result<(Told, ())> {
    let requests = stage.requests();
    let mut files = 0;
    for era in stage.eras() {
        let kept: Arc<dyn Store> = Arc::new(FolderStore::new(folder.join(era.prefix)));
        let targets = vec![stage.target(era).await?, kept];
        let never = CancellationToken::new();
        let report = stage
            .sync_to(targets, era, Arc::new(Silent), &never)
            .await?;
        ensure!(
            report.exit() == Exit::Done,
            "it ended so:\n{}",
            report.table(false)
        );
        files += report.outcomes.len();
    }
    let sent = stage.file_bytes_sent_since(requests);
    ensure!(sent == 0, "the origin sent {sent} bytes of files");
    let example = folder.join(stage.modern.prefix);
    let told = Told::did("kops-mirror sync of both, with a folder as a second target.")
        .saw(format!(
            "{files} files were copied from the bucket; the origin sent none"
        ))
        .saw(format!("try: kops-mirror serve {}", example.display()))
        .figure("files", files)
        .figure("file_bytes_sent", sent);
    Ok((told, ()))
}
