//! Compares a mirror with its own indexes: what is missing, what is not what was stored, what is not single-part.
//!
//! A whole bucket is audited from its listing alone, because every ETag is an MD5 and the indexes tell which. `--deep` also
//! reads the objects, for stores whose disks may lie. Repairing is an ordinary plan made from the indexes: what is right
//! inside the store is mended there, the rest is fetched from where it came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::asset::{Asset, Key, Role, Voucher};
use crate::digest::{Digest, Hasher};
use crate::events::{Event, told};
use crate::index::{self, Entry, Index, Release};
use crate::record::FailureClass;
use crate::report::Report;
use crate::store::{Content, ETag, Object, Store, StoreError};
use crate::sync::{self, Prepared, Seen, SyncError, Wanted};
use crate::transfer::Mirror;
use crate::vouch::Vouched;

/// Objects read at a time by a deep audit.
const READ_AT_ONCE: usize = 8;

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// The index has it, the store has not.
    Missing,
    /// Its ETag is not an MD5: somebody uploaded it in parts, or encrypted.
    NotSinglePart { etag: ETag },
    /// It is another content than the index says, by its length or ETag.
    Changed {
        expected: Digest,
        etag: ETag,
        expected_length: u64,
        length: u64,
    },
    /// Its bytes are not what its ETag says: the store's disk lies.
    Rotten { expected: Digest, got: Digest },
    /// It could not be read.
    Unreadable { why: String },
}

/// An audited target.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// The target in a user's words.
    pub place: String,
    /// The releases that are marked as ready there.
    pub releases: Vec<String>,
    /// Objects that the indexes name.
    pub objects: usize,
    /// Their lengths together, as the indexes say.
    pub bytes: u64,
    /// What is wrong, and nothing else.
    pub findings: BTreeMap<Key, Finding>,
    /// Objects that no index names: left alone.
    pub unindexed: usize,
    /// Requests for the listing and the indexes; reading objects is not counted.
    pub requests: u64,
    /// Whether objects were read, and not only listed.
    pub deep: bool,
    #[serde(skip)]
    pub(crate) seen: Seen,
}

impl Audit {
    /// Whether there is a release, and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        !self.releases.is_empty() && self.findings.is_empty()
    }
}

impl Audit {
    /// Whether an object is there, whatever it is.
    pub fn holds(&self, key: &Key) -> bool {
        self.seen.objects.iter().any(|object| object.key == *key)
    }

    /// The indexes of the releases that are marked as ready there.
    pub fn indexes(&self) -> &[Index] {
        &self.seen.indexes
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::NotSinglePart { etag } => write!(f, "its ETag '{etag}' is not an MD5"),
            Self::Changed {
                expected,
                etag,
                expected_length,
                length,
            } => write!(
                f,
                "it is another content: {length} bytes with ETag {etag} where {expected_length} bytes with {expected} were stored"
            ),
            Self::Rotten { expected, got } => {
                write!(f, "its bytes have {got} where {expected} was stored")
            }
            Self::Unreadable { why } => write!(f, "it can't be read: {why}"),
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, finding) in &self.findings {
            writeln!(f, "wrong     {key}: {finding}")?;
        }
        writeln!(f, "Mirror       {}", self.place)?;
        writeln!(f, "Releases     {}", self.releases.len())?;
        for release in &self.releases {
            writeln!(f, "             {release}")?;
        }
        let how = if self.deep { "read" } else { "listed" };
        writeln!(
            f,
            "Checked      {} objects {how}, {}",
            self.objects,
            indicatif::BinaryBytes(self.bytes)
        )?;
        writeln!(f, "Requests     {}", self.requests)?;
        if self.unindexed > 0 {
            writeln!(
                f,
                "Not indexed  {} objects that no release names, left alone",
                self.unindexed
            )?;
        }
        match self.findings.len() {
            0 if self.releases.is_empty() => writeln!(
                f,
                "No release is marked as ready here: is this the right place? Nothing could be checked."
            ),
            0 => writeln!(f, "All is right."),
            wrong => writeln!(
                f,
                "Wrong        {wrong}; 'kops-mirror repair' brings them back"
            ),
        }
    }
}

/// Audits one target from its listing; with `deep`, reads what the listing shows as right.
pub async fn audit(target: &dyn Store, deep: bool) -> Result<Audit, StoreError> {
    let seen = sync::look_whole(target).await?;
    let expected = expected(&seen);
    let held: BTreeMap<&Key, &Object> = seen
        .objects
        .iter()
        .map(|object| (&object.key, object))
        .collect();
    let mut findings = BTreeMap::new();
    for (key, (length, md5)) in &expected {
        if let Some(finding) = compare(held.get(key).copied(), *length, *md5) {
            findings.insert(key.clone(), finding);
        }
    }
    findings.extend(pointer_findings(&seen, &held));
    for (key, why) in &seen.unreadable {
        findings.insert(key.clone(), Finding::Unreadable { why: why.clone() });
    }
    if deep {
        let right: Vec<(Key, Digest)> = expected
            .iter()
            .filter(|(key, _)| !findings.contains_key(key))
            .map(|(k, (_, md5))| (k.clone(), *md5))
            .collect();
        findings.extend(read_all(target, right, &seen.indexes).await);
    }
    let named = |object: &&Object| {
        expected.contains_key(&object.key)
            || object.key.as_str().starts_with(index::FOLDER)
            || is_pointer(&seen, &object.key)
    };
    Ok(Audit {
        place: target.place().to_owned(),
        releases: seen
            .indexes
            .iter()
            .map(|index| index.release.name.clone())
            .collect(),
        objects: expected.len(),
        bytes: expected.values().map(|(length, _)| length).sum(),
        unindexed: seen.objects.iter().filter(|object| !named(object)).count(),
        requests: seen.requests,
        findings,
        deep,
        seen,
    })
}

fn expected(seen: &Seen) -> BTreeMap<Key, (u64, Digest)> {
    index::objects_of(&seen.indexes)
}

fn compare(held: Option<&Object>, expected_length: u64, expected: Digest) -> Option<Finding> {
    let Some(object) = held else {
        return Some(Finding::Missing);
    };
    let etag = object.etag.clone();
    if etag.md5().is_none() {
        return Some(Finding::NotSinglePart { etag });
    }
    let same = etag == ETag::from(expected) && object.length == expected_length;
    (!same).then_some(Finding::Changed {
        expected,
        etag,
        expected_length,
        length: object.length,
    })
}

fn is_pointer(seen: &Seen, key: &Key) -> bool {
    seen.indexes
        .iter()
        .any(|index| index.pointers.iter().any(|pointer| pointer.key == *key))
}

/// A pointer must be what one of the releases left there: later releases move it on.
fn pointer_findings(seen: &Seen, held: &BTreeMap<&Key, &Object>) -> BTreeMap<Key, Finding> {
    let mut wanted: BTreeMap<&Key, Vec<&Entry>> = BTreeMap::new();
    for pointer in seen.indexes.iter().flat_map(|index| &index.pointers) {
        wanted.entry(&pointer.key).or_default().push(pointer);
    }
    let mut findings = BTreeMap::new();
    for (key, entries) in wanted {
        // Pointers that name a release which is not here are withheld, so a missing one is no damage.
        let Some(object) = held.get(key) else {
            continue;
        };
        let finding = |entry: &&Entry| compare(Some(object), entry.length, entry.md5);
        if entries.iter().all(|entry| finding(entry).is_some())
            && let Some(found) = entries.last().and_then(finding)
        {
            findings.insert(key.clone(), found);
        }
    }
    findings
}

async fn read_all(
    target: &dyn Store,
    right: Vec<(Key, Digest)>,
    indexes: &[Index],
) -> Vec<(Key, Finding)> {
    let sha256 = sha256_of(indexes);
    // Boxed, so that who awaits this can be sent between threads.
    let reads = right.into_iter().map(|(key, md5)| {
        let sha256 = sha256.get(&key).copied();
        let reading = async move {
            let content = target.open(&key).await;
            let finding = read(content, md5, sha256).await;
            finding.map(|finding| (key, finding))
        };
        reading.boxed()
    });
    let findings: Vec<_> = stream::iter(reads)
        .buffer_unordered(READ_AT_ONCE)
        .collect()
        .await;
    findings.into_iter().flatten().collect()
}

/// What the indexes say besides an object's MD5; nothing of sidecars.
pub(crate) fn sha256_of(indexes: &[Index]) -> BTreeMap<&Key, Digest> {
    indexes
        .iter()
        .flat_map(|index| &index.files)
        .map(|entry| (&entry.key, entry.sha256))
        .collect()
}

/// Reads what was opened to its end, and compares it with what it must hash to.
pub(crate) async fn read(
    content: Result<Option<Content>, StoreError>,
    md5: Digest,
    sha256: Option<Digest>,
) -> Option<Finding> {
    let mut content = match content {
        Ok(Some(content)) => content,
        Ok(None) => return Some(Finding::Missing),
        Err(error) => return Some(Finding::Unreadable { why: told(&error) }),
    };
    let mut hasher = Hasher::new(&[]);
    while let Some(chunk) = content.chunks.next().await {
        match chunk {
            Ok(chunk) => hasher.update(&chunk),
            Err(error) => return Some(Finding::Unreadable { why: told(&error) }),
        }
    }
    let digests = hasher.finish();
    let wrong = |expected: Digest, got: Digest| {
        (expected != got).then_some(Finding::Rotten { expected, got })
    };
    wrong(md5, digests.md5).or_else(|| sha256.and_then(|sha256| wrong(sha256, digests.sha256)))
}

/// Mends what an audit of each target found, and says what became of it. What no index can bring back, a pointer or an index
/// itself, is left to `sync`.
pub async fn repair(
    mirror: &Arc<Mirror>,
    audits: Vec<Audit>,
    stop: &CancellationToken,
) -> Result<Report, SyncError> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let mut vouched: BTreeMap<Key, Vouched> = BTreeMap::new();
    let mut rotten = Vec::new();
    for audit in &audits {
        // The newest word on a pointer is the last.
        let mut indexes: Vec<&Index> = audit.seen.indexes.iter().collect();
        indexes.sort_by(|a, b| a.completed_at.cmp(&b.completed_at));
        for index in indexes {
            let damaged = index
                .pointers
                .iter()
                .filter(|entry| audit.findings.contains_key(&entry.key));
            let files = index.files.iter().map(|entry| (entry, Role::File));
            for (entry, role) in files.chain(damaged.map(|entry| (entry, Role::Pointer))) {
                let Some(one) = from_index(entry, role, &index.release) else {
                    let what = format!(
                        "{}: its canonical URL in the index is no URL: {}",
                        entry.key, entry.canonical
                    );
                    mirror.observer.event(&Event::Warned { what });
                    continue;
                };
                let release = wanted
                    .entry(index.release.name.clone())
                    .or_insert_with(|| Wanted {
                        release: index.release.clone(),
                        ..Wanted::default()
                    });
                release.assets.push(one.asset.clone());
                vouched.insert(entry.key.clone(), one);
            }
        }
    }
    let mut beyond = Vec::new();
    let mut seen = Vec::new();
    for audit in audits {
        let within: BTreeSet<Key> = expected(&audit.seen).into_keys().collect();
        for (key, finding) in &audit.findings {
            let why = match finding {
                Finding::Unreadable { .. } => finding.to_string(),
                _ if within.contains(key) => continue,
                _ => format!("{finding}; 'kops-mirror sync' of its release brings it back"),
            };
            beyond.push(sync::failed_line(key.clone(), FailureClass::Store, why));
        }
        let bad = audit
            .findings
            .iter()
            .filter(|(_, finding)| matches!(finding, Finding::Rotten { .. }));
        rotten.push(bad.map(|(key, _)| key.clone()).collect());
        seen.push(audit.seen);
    }
    let prepared = Prepared::known(
        wanted.into_values().collect(),
        vouched.into_values().collect(),
        seen,
        &rotten,
    )?;
    let mut report = sync::carry_out(mirror, prepared, stop).await;
    report.outcomes.extend(beyond);
    Ok(report)
}

/// An asset as the index knows it: the index vouches for it.
fn from_index(entry: &Entry, role: Role, release: &Release) -> Option<Vouched> {
    let source = format!("the index of {}", release.name);
    let known = Voucher::Known {
        digest: entry.sha256,
        source,
    };
    let asset = Asset {
        key: entry.key.clone(),
        canonical: Url::parse(&entry.canonical).ok()?,
        alternates: Vec::new(),
        witnesses: vec![vec![known]],
        unvouched: None,
        sidecars: entry.sidecars.clone(),
        role,
        arch: None,
        listed_by_kops: false,
    };
    Some(Vouched {
        asset,
        expected: vec![entry.sha256],
        vouched_by: entry.vouched_by.clone(),
        content: None,
        overruled: None,
        is_public_alone: false,
        names_version: None,
    })
}
