//! One whole run: hear the witnesses, look at the targets, plan, carry out, mark what is complete, and move the pointers.
//!
//! The order is the promise: a file, then its sidecars, then the release's index, then the pointers. A reader sees a whole
//! release or none.

mod changed;
mod mark;
mod outcome;
mod shard;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use futures::{StreamExt, stream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::changed::Changed;
use self::mark::Marker;
pub(crate) use self::outcome::failed_line;
pub use self::shard::{BadShard, Others, Shard, carry_out_share};
use crate::asset::{Asset, Key};
use crate::digest::Algorithm;
use crate::events::{Event, told};
use crate::image::Reference;
use crate::index::{self, ImageEntry, Index, Release};
use crate::limits::Rank;
use crate::plan::summary::Summary;
use crate::plan::{Action, Conflict, Held, Item, Plan};
use crate::record::FailureClass;
use crate::report::{Kind, Report, StoreLeg};
use crate::store::{Object, Store, StoreError};
use crate::transfer::{self, Mirror};
use crate::vouch::{Hearing, Vouched};

/// An index of a release with all architectures has some 100 KiB.
const INDEX_MAX_BYTES: u64 = 64 << 20;

/// Enough to ask for a release's lengths in two or three round trips.
const MEASURED_AT_ONCE: usize = 32;

/// Nobody wants to wait longer only to know how long it will take.
const MEASURING_MAX: Duration = Duration::from_secs(10);

/// One release that is wanted, as the catalogue has it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub release: Release,
    pub assets: Vec<Asset>,
    /// The container images that belong to it. They are brought apart, before its files; what came of them is in `release`.
    pub images: Vec<Reference>,
    /// Why it is not to be marked as ready, whatever comes of its files: an image is missing.
    pub lacks: Option<String>,
    /// Whether other shards are still to bring something of it that is no file.
    pub awaits: bool,
}

/// What a target looked like when the run began.
#[derive(Debug, Default)]
pub struct Seen {
    pub objects: Vec<Object>,
    /// Objects below the prefix that no mirror would have made.
    pub foreign: Vec<String>,
    /// What the service keeps there for itself.
    pub service: Vec<Object>,
    /// Those that were read: not always all, see [`look`].
    pub indexes: Vec<Index>,
    /// What could not be read as an index, and why.
    pub unreadable: Vec<(Key, String)>,
    /// Requests that this look took.
    pub requests: u64,
}

impl Seen {
    fn held(&self) -> Held {
        Held::new(self.objects.clone(), &self.indexes)
    }

    /// The release's own index, if it was read.
    pub fn index(&self, release: &Release) -> Option<&Index> {
        self.indexes
            .iter()
            .find(|index| index.release.name == release.name)
    }

    fn object(&self, key: &Key) -> Option<&Object> {
        self.objects
            .binary_search_by(|object| object.key.cmp(key))
            .ok()
            .map(|at| &self.objects[at])
    }
}

/// Everything that is known before the first byte moves.
#[derive(Debug)]
pub struct Prepared {
    /// All that will be done, for whoever wants to see it first.
    pub plan: Plan,
    releases: Vec<(Release, BTreeSet<Key>)>,
    /// Releases that are not to be marked as ready, and why.
    lacking: BTreeMap<String, String>,
    /// Releases that other shards are still to bring something of that is no file.
    awaiting: BTreeSet<String>,
    /// Assets that nobody vouches for, and why: they are not even planned.
    pub refused: Vec<(Asset, String)>,
    /// What is wanted and not this run's to bring.
    pub left: Vec<Left>,
    seen: Vec<Seen>,
    begun: Instant,
}

impl Prepared {
    /// A run for assets whose digests are known already, at targets that were looked at already. What is `rotten` at a target
    /// is put again although its listing looks right.
    pub fn known(
        wanted: Vec<Wanted>,
        vouched: Vec<Vouched>,
        seen: Vec<Seen>,
        rotten: &[BTreeSet<Key>],
    ) -> Result<Self, Conflict> {
        let held: Vec<Held> = seen.iter().map(Seen::held).collect();
        let mut plan = Plan::new(vouched, &held)?;
        for item in &mut plan.items {
            for (action, rotten) in item.actions.iter_mut().zip(rotten) {
                let asset = &item.wanted.asset;
                if rotten.contains(&asset.key) {
                    *action = Action::Transfer {
                        why: "its bytes are not what its ETag says".to_owned(),
                    };
                    continue;
                }
                let is_rotten =
                    |algorithm: &Algorithm| rotten.contains(&asset.key.sidecar(*algorithm));
                if *action == Action::Skip && asset.sidecars.iter().any(is_rotten) {
                    let sidecars = asset.sidecars.clone();
                    *action = Action::Sidecars { sidecars };
                }
            }
        }
        let (lacking, awaiting) = (lacking(&wanted), awaiting(&wanted));
        let releases = with_keys(wanted);
        Ok(Self {
            plan,
            releases,
            lacking,
            awaiting,
            refused: Vec::new(),
            left: Vec::new(),
            seen,
            begun: Instant::now(),
        })
    }
}

impl Prepared {
    /// Asks the origins for the lengths that nothing tells yet, so that a plan has bytes and a run an end in sight. It is a
    /// courtesy: what does not answer soon stays unknown.
    pub async fn measure(&mut self, mirror: &Mirror, stop: &CancellationToken) {
        let unknown = |item: &Item| item.needs_content() && item.length.is_none();
        let canonical = |item: &Item| item.wanted.asset.canonical.clone();
        let items = self.plan.items.iter().enumerate();
        let asked: Vec<(usize, Url)> = items
            .filter(|(_, item)| unknown(item))
            .map(|(at, item)| (at, canonical(item)))
            .collect();
        let mut answers = stream::iter(asked)
            .map(|(at, canonical)| async move { (at, length_of(mirror, &canonical).await) })
            .buffer_unordered(MEASURED_AT_ONCE);
        let items = &mut self.plan.items;
        let measuring = async {
            while let Some((at, length)) = answers.next().await {
                items[at].told_length = length;
            }
        };
        let measuring = timeout(MEASURING_MAX, measuring);
        // What was told until then is kept.
        let _ended = stop.run_until_cancelled(measuring).await;
        drop(answers);
        self.plan.order();
    }

    /// Whether something is to be done, in this run's share of it.
    pub fn has_work(&self, shard: Option<Shard>) -> bool {
        let is_ours = |item: &&Item| shard.is_none_or(|s| s.takes(&item.wanted.asset.key));
        let mut items = self.plan.all().filter(is_ours);
        items.any(|item| !item.is_done())
            || self.marked_before().len() < self.releases.len()
            || !self.awaiting.is_empty()
            || self
                .releases
                .iter()
                .any(|(release, _)| self.has_new_images(release))
    }

    fn has_new_images(&self, release: &Release) -> bool {
        let told = |seen: &Seen, image: &ImageEntry| {
            let index = seen.index(release);
            index.is_some_and(|index| index.release.images.contains(image))
        };
        let mut images = release.images.iter();
        images.any(|image| !self.seen.iter().all(|seen| told(seen, image)))
    }

    /// What the service kept for itself at each target when it was looked at.
    pub fn service(&self) -> impl Iterator<Item = &[Object]> {
        self.seen.iter().map(|seen| seen.service.as_slice())
    }

    /// The releases that every target had an index of when it was looked at.
    pub fn marked_before(&self) -> BTreeSet<String> {
        let releases = self.releases.iter().map(|(release, _)| release);
        let marked =
            releases.filter(|release| self.seen.iter().all(|seen| seen.index(release).is_some()));
        marked.map(|release| release.name.clone()).collect()
    }

    /// The plan as it is shown. `places` are the targets in a user's words.
    pub fn summary(&self, places: &[String]) -> Summary {
        Summary::new(&self.plan, &self.refused, &self.releases, places)
    }
}

async fn length_of(mirror: &Mirror, canonical: &Url) -> Option<u64> {
    let source = mirror.origins.sources(canonical).into_iter().next()?;
    let host = mirror.limits.host(&source);
    let admission = host.admit(Rank::FIRST).await;
    let length = mirror.origins.length(&source).await;
    admission.give_back().await;
    length
}

fn lacking(wanted: &[Wanted]) -> BTreeMap<String, String> {
    let lacking = wanted
        .iter()
        .filter_map(|wanted| Some((wanted.release.name.clone(), wanted.lacks.clone()?)));
    lacking.collect()
}

fn awaiting(wanted: &[Wanted]) -> BTreeSet<String> {
    let awaiting = wanted.iter().filter(|wanted| wanted.awaits);
    awaiting.map(|wanted| wanted.release.name.clone()).collect()
}

fn with_keys(wanted: Vec<Wanted>) -> Vec<(Release, BTreeSet<Key>)> {
    let keys = |assets: Vec<Asset>| assets.into_iter().map(|asset| asset.key).collect();
    wanted
        .into_iter()
        .map(|wanted| (wanted.release, keys(wanted.assets)))
        .collect()
}

/// An asset that a run leaves alone although it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub key: Key,
    /// In one line, for the reader.
    pub why: String,
    pub by: LeftTo,
}

/// For whose sake it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftTo {
    /// Another shard brings it.
    OtherShard,
    /// Upstream has other bytes under a name that a complete release has here: somebody has to look.
    Operator,
    /// Whoever vouched for what a complete release has here was not heard.
    Witness,
}

/// Why a run could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One target can't be looked at, by its number; the others may do without it.
    #[error("{}", told(error))]
    Target { at: usize, error: StoreError },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("interrupted before anything was done")]
    Interrupted,
}

/// Looks at a target: one listing, and the indexes that may speak of what is wanted.
///
/// The release's own index is read first; the others only when a wanted key is there that it does not know.
pub async fn look(target: &dyn Store, wanted: &[Wanted]) -> Result<Seen, StoreError> {
    let listing = target.list().await?;
    let mut seen = Seen {
        objects: listing.objects,
        foreign: listing.foreign,
        service: listing.service,
        requests: listing.requests,
        ..Seen::default()
    };
    let own: BTreeSet<Key> = wanted.iter().map(|wanted| wanted.release.key()).collect();
    for key in &own {
        if seen.object(key).is_some() {
            read_index(target, key, &mut seen).await?;
        }
    }
    let known = seen.held();
    let mut assets = wanted.iter().flat_map(|wanted| &wanted.assets);
    let unknown =
        assets.any(|asset| known.object(&asset.key).is_some() && known.entry(&asset.key).is_none());
    if unknown {
        read_indexes(target, &mut seen, &own).await?;
    }
    Ok(seen)
}

/// Looks at a target and reads every index that it has.
pub async fn look_whole(target: &dyn Store) -> Result<Seen, StoreError> {
    let mut seen = look(target, &[]).await?;
    read_indexes(target, &mut seen, &BTreeSet::new()).await?;
    Ok(seen)
}

async fn read_indexes(
    target: &dyn Store,
    seen: &mut Seen,
    but: &BTreeSet<Key>,
) -> Result<(), StoreError> {
    let is_index = |key: &Key| {
        key.as_str()
            .strip_prefix(index::FOLDER)
            .is_some_and(|name| name.ends_with(".json") && !name.contains('/'))
    };
    let keys: Vec<Key> = seen
        .objects
        .iter()
        .map(|object| object.key.clone())
        .filter(is_index)
        .collect();
    for key in keys.iter().filter(|key| !but.contains(*key)) {
        read_index(target, key, seen).await?;
    }
    Ok(())
}

async fn read_index(target: &dyn Store, key: &Key, seen: &mut Seen) -> Result<(), StoreError> {
    seen.requests += 1;
    let Some(text) = transfer::read_object(target, key, INDEX_MAX_BYTES).await? else {
        return Ok(());
    };
    match Index::parse(key, &text) {
        Ok(index) => seen.indexes.push(index),
        Err(error) => seen.unreadable.push((key.clone(), told(&error))),
    }
    Ok(())
}

/// Hears the witnesses, looks at every target, and plans. Nothing is changed.
pub async fn prepare(
    mirror: &Mirror,
    wanted: Vec<Wanted>,
    stop: &CancellationToken,
) -> Result<Prepared, SyncError> {
    let begun = Instant::now();
    let prepared = stop.run_until_cancelled(async {
        let looked_for = &wanted;
        let targets = mirror.targets.iter().enumerate();
        let looks = targets.map(|(at, target)| async move {
            let seen = look(target.as_ref(), looked_for).await;
            seen.map_err(|error| SyncError::Target { at, error })
        });
        let heard = async { Ok(hear(mirror, &wanted).await) };
        let (seen, (vouched, refused)) = tokio::try_join!(try_join_all(looks), heard)?;
        let held: Vec<Held> = seen.iter().map(Seen::held).collect();
        let plan = Plan::new(vouched, &held)?;
        let (lacking, awaiting) = (lacking(&wanted), awaiting(&wanted));
        let releases = with_keys(wanted);
        Ok::<_, SyncError>(Prepared {
            plan,
            releases,
            lacking,
            awaiting,
            refused,
            left: Vec::new(),
            seen,
            begun,
        })
    });
    let prepared = prepared.await.ok_or(SyncError::Interrupted)??;
    for (_, why) in prepared.seen.iter().flat_map(|seen| &seen.unreadable) {
        mirror.observer.event(&Event::Warned { what: why.clone() });
    }
    Ok(prepared)
}

async fn hear(mirror: &Mirror, wanted: &[Wanted]) -> (Vec<Vouched>, Vec<(Asset, String)>) {
    let hearing = Hearing::new(&mirror.origins, &mirror.limits, mirror.policy);
    let mut assets: BTreeMap<(Key, String), Asset> = BTreeMap::new();
    for asset in wanted.iter().flat_map(|wanted| &wanted.assets) {
        // Releases share files: each is heard once.
        assets
            .entry((asset.key.clone(), asset.canonical.to_string()))
            .or_insert_with(|| asset.clone());
    }
    let mut vouched = Vec::new();
    let mut refused = Vec::new();
    for (asset, heard) in hearing
        .hear_all(assets.into_values().collect(), mirror.observer.as_ref())
        .await
    {
        match heard {
            Ok(one) => {
                vouched.push(one);
            }
            Err(error) => {
                let why = told(&error);
                mirror.observer.event(&Event::Failed {
                    key: asset.key.clone(),
                    why: why.clone(),
                });
                refused.push((asset, why));
            }
        }
    }
    warn_of_overruled(mirror, &vouched);
    (vouched, refused)
}

/// Says once what is not the public release.
fn warn_of_overruled(mirror: &Mirror, vouched: &[Vouched]) {
    let mut overruled = vouched
        .iter()
        .filter_map(|one| Some((&one.asset.key, one.overruled.as_ref()?)));
    let Some((key, how)) = overruled.next() else {
        return;
    };
    let what = format!(
        "{} of the files are not the public release that the catalogue knows, or can't be compared with it; their hosts are \
         redirected, so the checksums published there are taken. Nodes of kops 1.30 and newer will refuse such files. The \
         first is {key}: {how}",
        1 + overruled.count()
    );
    mirror.observer.event(&Event::Warned { what });
}

/// Carries out what was prepared, marks the releases that are complete, and moves their pointers.
pub async fn carry_out(
    mirror: &Arc<Mirror>,
    prepared: Prepared,
    stop: &CancellationToken,
) -> Report {
    let Prepared {
        plan,
        releases,
        lacking,
        awaiting,
        refused,
        left,
        seen,
        begun,
    } = prepared;
    let busy: Vec<&Item> = plan.all().filter(|item| !item.is_done()).collect();
    mirror.observer.event(&Event::Planned {
        images: None,
        transfers: busy.len(),
        inspected: busy.iter().filter(|item| !item.needs_content()).count(),
        bytes: busy.iter().map(|item| item.likely_length()).sum(),
        skipped: plan.all().count() - busy.len(),
    });
    // A pointer alone is never staged, and a run with nothing to carry costs one listing.
    let is_busy = plan.items.iter().any(|item| !item.is_done());
    let clearing = async {
        if is_busy {
            stop.run_until_cancelled(clear_staging(mirror)).await;
        }
    };
    let carrying = transfer::carry_out(plan.items, mirror, stop);
    let (mut outcomes, ()) = tokio::join!(carrying, clearing);
    let marker = Marker {
        mirror,
        seen: &seen,
        refused: &refused,
        left: &left,
        lacking: &lacking,
        awaiting: &awaiting,
    };
    let mut marked = Vec::new();
    let mut failed = Vec::new();
    let mut complete: Vec<HashMap<&str, bool>> = vec![HashMap::new(); mirror.targets.len()];
    for (release, keys) in &releases {
        for (at, complete) in complete.iter_mut().enumerate() {
            let entries = marker.entries(at, (release, keys), &outcomes, &plan.pointers);
            let Some((files, pointers)) = entries.filter(|_| !stop.is_cancelled()) else {
                continue;
            };
            let marking = marker.mark(at, release, files, pointers);
            let Some(ended) = stop.run_until_cancelled(marking).await else {
                continue;
            };
            match ended {
                Ok(()) => {
                    complete.insert(&release.name, true);
                    marked.push(format!("{}/{}", mirror.targets[at].place(), release.key()));
                }
                Err(error) => failed.push((release.key(), told(&error))),
            }
        }
    }
    let mut pointers = marker.pointers(plan.pointers, &releases, &complete);
    if stop.is_cancelled() || mirror.draining.is_cancelled() {
        // Nobody failed: their turn did not come.
        for line in &mut pointers.withheld {
            line.kind = Kind::Left;
        }
    }
    outcomes.extend(transfer::carry_out(pointers.now, mirror, stop).await);
    mirror.limits.remember(mirror.spools.path());
    let mut report = Report {
        links: mirror.limits.links(),
        stores: legs(mirror),
        limit_used: mirror.limits.share_used(),
        marked,
        interrupted: stop.is_cancelled() || mirror.draining.is_cancelled(),
        elapsed: begun.elapsed(),
        bytes_fetched: outcomes.iter().map(|outcome| outcome.received_bytes).sum(),
        bytes_refetched: outcomes.iter().map(|outcome| outcome.refetched_bytes).sum(),
        requests: places(mirror)
            .zip(seen.iter().map(|seen| seen.requests))
            .collect(),
        ..Report::default()
    };
    report.outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome::line(mirror, outcome))
        .collect();
    report.outcomes.extend(pointers.withheld);
    report.outcomes.extend(
        refused
            .into_iter()
            .map(|(asset, why)| failed_line(asset.key, FailureClass::Unvouched, why)),
    );
    report.outcomes.extend(
        failed
            .into_iter()
            .map(|(key, why)| failed_line(key, FailureClass::Store, why)),
    );
    report.outcomes.extend(left.into_iter().map(outcome::left));
    report.outcomes.sort_by(|a, b| a.key.cmp(&b.key));
    report
}

/// Removes what runs with this spool that died have left at the targets: the spool is ours, so nobody works on it.
async fn clear_staging(mirror: &Mirror) {
    let run = mirror.spools.name();
    let stagings = mirror.targets.iter().filter_map(|target| target.staging());
    join_all(stagings.map(|staging| staging.clear(run))).await;
}

fn legs(mirror: &Mirror) -> BTreeMap<String, StoreLeg> {
    let targets = mirror.targets.iter();
    let legs = targets.filter_map(|target| Some((target.place().to_owned(), target.leg()?)));
    legs.filter(|(_, leg)| leg.bytes + leg.bytes_again > 0)
        .collect()
}

fn places(mirror: &Mirror) -> impl Iterator<Item = String> {
    mirror
        .targets
        .iter()
        .map(|target| target.place().to_owned())
}
