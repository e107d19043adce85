//! Mirrors that lose what nobody keeps, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kops_mirror::asset::Key;
use kops_mirror::audit;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::index::{self, Entry, Index, Release};
use kops_mirror::prune::{self, GRACE, MARK, Mode, Pruned};
use kops_mirror::retention::Keeping;
use kops_mirror::store::{
    Attributes, Condition, Content, ETag, Listing, Object, Stat, Store, StoreError, StoreErrorKind,
};
use kops_mirror::verify::{Publishable, Verified};

use crate::store_contract::{attributes, key};
use crate::support::bucket::BucketServer;
use crate::support::world::read;

const OLD: &str = "kops-1.30.0_kubernetes-1.30.1";
const NEW: &str = "kops-1.36.2_kubernetes-1.34.8";

/// A store that somebody else writes to, that breaks at one of its deletions, or that has something which can't be read.
#[derive(Debug)]
pub(crate) struct Troubled {
    inner: Arc<dyn Store>,
    deletions_left: AtomicUsize,
    /// What somebody writes after a look: a key and its content.
    races: Option<(&'static str, &'static str)>,
    /// Looks until then.
    looks_left: AtomicUsize,
    /// An object that can't be read so many times.
    unread: Option<(Key, AtomicUsize)>,
    /// Whether looks at objects fail.
    is_blind: bool,
}

impl Troubled {
    fn breaking(inner: &Arc<dyn Store>, deletions: usize) -> Self {
        Self {
            inner: Arc::clone(inner),
            deletions_left: AtomicUsize::new(deletions),
            races: None,
            looks_left: AtomicUsize::new(0),
            unread: None,
            is_blind: false,
        }
    }

    pub(crate) fn unreadable(
        inner: &Arc<dyn Store>,
        at: &str,
        times: usize,
        is_blind: bool,
    ) -> Arc<dyn Store> {
        Arc::new(Self {
            unread: Some((key(at), AtomicUsize::new(times))),
            is_blind,
            ..Self::breaking(inner, 0)
        })
    }
}

#[async_trait]
impl Store for Troubled {
    fn place(&self) -> &str {
        self.inner.place()
    }

    async fn prepare(&self, create: bool) -> Result<(), StoreError> {
        self.inner.prepare(create).await
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        let listing = self.inner.list().await;
        if let Some((at, content)) = self.races
            && !take_one(&self.looks_left)
        {
            put(&self.inner, at, content).await;
        }
        listing
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        self.inner.list_service().await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        if self.is_blind {
            return Err(broken());
        }
        self.inner.stat(key).await
    }

    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError> {
        match &self.unread {
            Some((unread, times)) if unread == key && take_one(times) => Err(broken()),
            _ => self.inner.open(key).await,
        }
    }

    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        self.inner.put(key, content, attributes, condition).await
    }

    async fn restate(
        &self,
        key: &Key,
        etag: &ETag,
        attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        self.inner.restate(key, etag, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match take_one(&self.deletions_left) {
            true => self.inner.delete(key).await,
            false => Err(broken()),
        }
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

fn broken() -> StoreError {
    StoreError::new(StoreErrorKind::Transient, "the line broke")
}

/// Two places that hold mirrors, and what keeps them there.
struct Places {
    _dir: tempfile::TempDir,
    _server: BucketServer,
    stores: Vec<Arc<dyn Store>>,
}

impl Places {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = BucketServer::start();
        let folder = kops_mirror::store::folder::FolderStore::new(dir.path().join("mirror"));
        let stores = vec![Arc::new(folder) as Arc<dyn Store>, server.store().await];
        Self {
            _dir: dir,
            _server: server,
            stores,
        }
    }

    /// Mirrors where two releases share a file, and somebody else has something too.
    async fn mirrors() -> Self {
        let places = Self::new().await;
        for store in &places.stores {
            fill(store).await;
        }
        places
    }
}

async fn fill(store: &Arc<dyn Store>) {
    put(store, "somebody/else's", "content").await;
    put(store, "release/v1.30.1/notes", "of somebody else").await;
    release(store, OLD, "v1.30.1", &["old/1", "old/2", "both"]).await;
    release(store, NEW, "v1.34.8", &["new/1", "both"]).await;
}

pub(crate) async fn put(store: &Arc<dyn Store>, at: &str, content: &str) {
    let content = Verified::composed(content.to_owned());
    store
        .put(&key(at), &content, &attributes(), &Condition::Any)
        .await
        .unwrap();
}

fn entry(at: &str, content: &str, sidecars: Vec<Algorithm>) -> Entry {
    let of = |algorithm| Digest::of(algorithm, content.as_bytes());
    Entry {
        key: key(at),
        length: content.len() as u64,
        md5: of(Algorithm::Md5),
        sha256: of(Algorithm::Sha256),
        sha1: None,
        sha512: None,
        canonical: format!("https://dl.k8s.io/{at}"),
        sources: Vec::new(),
        vouched_by: Vec::new(),
        sidecars,
    }
}

/// Puts a whole release: files whose content is their key, their sidecars, the index, `stable.txt`.
pub(crate) async fn release(store: &Arc<dyn Store>, name: &str, kubernetes: &str, files: &[&str]) {
    for file in files {
        put(store, file, file).await;
        let sidecar = index::sidecar(&Digest::of(Algorithm::Sha256, file.as_bytes()));
        let at = key(file).sidecar(Algorithm::Sha256);
        store
            .put(&at, &sidecar, &attributes(), &Condition::Any)
            .await
            .unwrap();
    }
    let (kops, _) = name.split_once("_kubernetes-").unwrap();
    let release = Release {
        name: name.to_owned(),
        kops: kops.strip_prefix("kops-").map(str::to_owned),
        kubernetes: Some(kubernetes.to_owned()),
        ..Release::default()
    };
    let files = files
        .iter()
        .map(|file| entry(file, file, vec![Algorithm::Sha256]));
    let pointer = entry("release/stable.txt", &format!("{kubernetes}\n"), Vec::new());
    let index = Index::of(release, files.collect(), vec![pointer], None);
    store
        .put(
            &index.release.key(),
            &index.document(),
            &attributes(),
            &Condition::Any,
        )
        .await
        .unwrap();
    put(store, "release/stable.txt", &format!("{kubernetes}\n")).await;
}

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn keep(rules: &[&str]) -> Keeping {
    Keeping {
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..Keeping::default()
    }
}

/// With a release that is followed, and the keys of its files.
fn following(name: &str, keys: &[&str]) -> Keeping {
    let keys = keys.iter().map(|at| key(at)).collect();
    Keeping {
        followed: BTreeMap::from([(name.to_owned(), keys)]),
        ..keep(&["v1.34"])
    }
}

fn acting() -> Mode {
    Mode {
        dry_run: false,
        ..Mode::default()
    }
}

async fn prune(store: &Arc<dyn Store>, keep: &Keeping, at: Timestamp) -> Pruned {
    let pruned = prune::prune(store.as_ref(), keep, at, acting());
    // The service has them as tasks.
    let pruned: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(pruned);
    pruned.await.unwrap()
}

async fn objects(store: &Arc<dyn Store>) -> Vec<Object> {
    store.list().await.unwrap().objects
}

async fn keys(store: &Arc<dyn Store>) -> BTreeSet<String> {
    let objects = objects(store).await.into_iter();
    objects.map(|object| object.key.to_string()).collect()
}

/// What a mirror without its old release has.
fn without_the_old() -> BTreeSet<String> {
    let index = format!("releases/{NEW}.json");
    [
        "both",
        "both.sha256",
        "new/1",
        "new/1.sha256",
        "release/stable.txt",
        "release/v1.30.1/notes",
        index.as_str(),
        "somebody/else's",
    ]
    .map(str::to_owned)
    .into()
}

#[tokio::test]
async fn a_release_goes_a_week_after_it_was_marked_and_leaves_what_others_need() {
    for store in &Places::mirrors().await.stores {
        let before = keys(store).await;
        let keep = keep(&["latest 1 minor"]);
        let marked = prune(store, &keep, now()).await;
        assert_eq!(marked.waiting.keys().collect::<Vec<_>>(), [OLD], "{marked}");
        assert_eq!(marked.waiting[OLD].until, now() + GRACE);
        assert!(marked.deleted.is_empty());
        let mut with_mark = before.clone();
        with_mark.insert(MARK.to_owned());
        assert_eq!(keys(store).await, with_mark);

        let early = prune(store, &keep, now() + GRACE - Duration::from_secs(1)).await;
        assert!(early.deleted.is_empty(), "{early}");
        assert_eq!(early.waiting[OLD].since, now());
        assert_eq!(keys(store).await, with_mark);

        let gone = prune(store, &keep, now() + GRACE).await;
        assert_eq!(gone.deleted, BTreeSet::from([OLD.to_owned()]), "{gone}");
        assert_eq!(gone.objects, 5, "two files with sidecars, and the index");
        assert!(gone.left_alone.is_empty());
        assert_eq!(keys(store).await, without_the_old());
        let audit = audit::audit(store.as_ref(), true).await.unwrap();
        assert!(audit.is_clean(), "{audit}");
        let again = prune(store, &keep, now() + 9 * GRACE).await;
        assert!(again.deleted.is_empty() && again.waiting.is_empty());
    }
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["latest 1 minor"]);
        let dry = |at| prune::prune(store.as_ref(), &keep, at, Mode::default());
        let before = objects(store).await;
        let shown = dry(now()).await.unwrap();
        assert!(shown.dry_run && shown.waiting[OLD].new);
        assert!(
            shown.to_string().contains(&format!("to mark   {OLD}")),
            "{shown}"
        );
        assert_eq!(objects(store).await, before);

        let marked = prune(store, &keep, now()).await;
        assert_eq!(marked.waiting, shown.waiting);
        let before = objects(store).await;
        let shown = dry(now() + GRACE).await.unwrap();
        assert!(
            shown.to_string().contains(&format!("to go     {OLD}")),
            "{shown}"
        );
        assert_eq!(objects(store).await, before);
        let done = prune(store, &keep, now() + GRACE).await;
        assert_eq!((done.objects, done.bytes), (shown.objects, shown.bytes));
        assert_eq!(done.deleted, shown.deleted);
    }
}

#[tokio::test]
async fn without_rules_nothing_is_ever_marked() {
    for store in &Places::mirrors().await.stores {
        let before = objects(store).await;
        let pruned = prune(store, &Keeping::default(), now()).await;
        assert_eq!(pruned.kept.len(), 2, "{pruned}");
        assert_eq!(objects(store).await, before);
    }
}

#[tokio::test]
async fn what_is_wanted_again_is_not_marked_any_more() {
    for store in &Places::mirrors().await.stores {
        let before = keys(store).await;
        prune(store, &keep(&["v1.34"]), now()).await;
        let pruned = prune(store, &following(OLD, &[]), now() + GRACE).await;
        assert_eq!(pruned.unmarked, BTreeSet::from([OLD.to_owned()]));
        assert!(
            pruned.to_string().contains("not marked any more"),
            "{pruned}"
        );
        assert_eq!(keys(store).await, before, "without a mark");
        // The time of grace begins anew.
        let pruned = prune(store, &keep(&["v1.34"]), now() + GRACE).await;
        assert_eq!(pruned.waiting[OLD].since, now() + GRACE);
    }
}

#[tokio::test]
async fn a_release_that_was_synced_again_is_marked_anew() {
    for store in &Places::mirrors().await.stores {
        prune(store, &keep(&["v1.34"]), now()).await;
        release(
            store,
            OLD,
            "v1.30.1",
            &["old/1", "old/2", "both", "old/more"],
        )
        .await;
        put(store, "release/stable.txt", "v1.34.8\n").await;
        let pruned = prune(store, &keep(&["v1.34"]), now() + GRACE).await;
        assert!(pruned.deleted.is_empty(), "{pruned}");
        assert_eq!(pruned.waiting[OLD].since, now() + GRACE);
        let pruned = prune(store, &keep(&["v1.34"]), now() + 2 * GRACE).await;
        assert_eq!(pruned.objects, 7);
        assert_eq!(keys(store).await, without_the_old());
    }
}

#[tokio::test]
async fn what_a_pointer_names_is_kept() {
    for store in &Places::mirrors().await.stores {
        put(store, "release/stable.txt", "v1.30.1\n").await;
        let pruned = prune(store, &keep(&["v1.34"]), now()).await;
        assert!(pruned.waiting.is_empty(), "{pruned}");
        assert!(pruned.kept[OLD].contains("release/stable.txt"), "{pruned}");
    }
}

#[tokio::test]
async fn an_object_that_somebody_has_changed_is_left_alone_and_told() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["v1.34"]);
        prune(store, &keep, now()).await;
        put(store, "old/1", "something else").await;
        let shown = prune::prune(store.as_ref(), &keep, now() + GRACE, Mode::default());
        let shown = shown.await.unwrap();
        let pruned = prune(store, &keep, now() + GRACE).await;
        assert_eq!(pruned.left_alone, shown.left_alone);
        let why = &pruned.left_alone[&key("old/1")];
        assert!(why.contains("14 bytes"), "{why}");
        assert_eq!(read(store, "old/1").await.unwrap(), b"something else");
        let mut left = without_the_old();
        left.insert("old/1".to_owned());
        assert_eq!(keys(store).await, left);
    }
}

#[tokio::test]
async fn wherever_it_breaks_the_next_run_goes_on_and_nobody_sees_half_a_release() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["v1.34"]);
        for deletions in 0..=5 {
            prune(store, &keep, now()).await;
            let breaking = Troubled::breaking(store, deletions);
            let broken = prune::prune(&breaking, &keep, now() + GRACE, acting()).await;
            assert_eq!(broken.unwrap_err().to_string(), "the line broke");
            let audit = audit::audit(store.as_ref(), true).await.unwrap();
            assert!(audit.is_clean(), "after {deletions} deletions: {audit}");
            let pruned = prune(store, &keep, now() + GRACE).await;
            assert_eq!(pruned.objects, 5 - deletions, "{pruned}");
            assert!(pruned.deleted.contains(OLD));
            assert_eq!(keys(store).await, without_the_old());
            fill(store).await;
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_broken_deletion_waits_when_the_release_is_followed_again() {
    for store in &Places::mirrors().await.stores {
        prune(store, &keep(&["v1.34"]), now()).await;
        let breaking = Troubled::breaking(store, 2);
        let broken = prune::prune(&breaking, &keep(&["v1.34"]), now() + GRACE, acting()).await;
        assert!(broken.is_err());
        let before = objects(store).await;
        let pruned = prune(store, &following(OLD, &[]), now() + GRACE).await;
        assert!(pruned.kept[OLD].contains("wanted again"), "{pruned}");
        assert_eq!(objects(store).await, before);
        // It comes back, and is an ordinary release again.
        fill(store).await;
        let pruned = prune(store, &following(OLD, &[]), now() + GRACE).await;
        assert!(pruned.unmarked.contains(OLD), "{pruned}");
        assert!(!keys(store).await.contains(MARK));
    }
}

#[tokio::test]
async fn what_a_followed_release_will_need_is_spared_before_it_is_complete() {
    const NEXT: &str = "kops-1.36.2_kubernetes-1.35.0";
    for store in &Places::mirrors().await.stores {
        prune(store, &keep(&["v1.34"]), now()).await;
        let unknown = prune(store, &following(NEXT, &[]), now() + GRACE).await;
        assert!(unknown.deleted.is_empty());
        assert!(unknown.notes[0].contains(NEXT), "{unknown}");
        let known = prune(store, &following(NEXT, &["old/2", "next"]), now() + GRACE).await;
        assert!(known.deleted.contains(OLD), "{known}");
        let mut left = without_the_old();
        left.extend(["old/2".to_owned(), "old/2.sha256".to_owned()]);
        assert_eq!(keys(store).await, left);
    }
}

#[tokio::test]
async fn while_an_index_cannot_be_read_nothing_is_deleted() {
    for store in &Places::mirrors().await.stores {
        prune(store, &keep(&["v1.34"]), now()).await;
        put(store, "releases/rubbish.json", "{").await;
        let before = objects(store).await;
        let pruned = prune(store, &keep(&["v1.34"]), now() + GRACE).await;
        assert!(pruned.notes[0].contains("rubbish.json"), "{pruned}");
        assert_eq!(objects(store).await, before);
        store.delete(&key("releases/rubbish.json")).await.unwrap();
        // A copy of an index says that it is a release which is elsewhere.
        let copy = read(store, &format!("releases/{OLD}.json")).await.unwrap();
        put(
            store,
            "releases/copy.json",
            std::str::from_utf8(&copy).unwrap(),
        )
        .await;
        store
            .delete(&key(&format!("releases/{OLD}.json")))
            .await
            .unwrap();
        let pruned = prune(store, &keep(&["v1.34"]), now() + GRACE).await;
        assert!(
            pruned.deleted.is_empty() && pruned.notes[0].contains(OLD),
            "{pruned}"
        );
    }
}

#[tokio::test]
async fn an_index_cannot_have_pointers_or_other_indexes_deleted() {
    for without_pointers in [OLD, NEW] {
        for store in &Places::mirrors().await.stores {
            let mut new = read_index(store, NEW).await;
            let mut old = read_index(store, OLD).await;
            let silent = if without_pointers == OLD {
                &mut old
            } else {
                &mut new
            };
            silent.pointers.clear();
            let text = write_index(store, &new).await;
            old.files.extend([
                entry("release/stable.txt", "v1.34.8\n", Vec::new()),
                entry(&format!("releases/{NEW}.json"), &text, Vec::new()),
            ]);
            write_index(store, &old).await;
            prune(store, &keep(&["v1.34"]), now()).await;
            prune(store, &keep(&["v1.34"]), now() + GRACE).await;
            assert_eq!(keys(store).await, without_the_old());
        }
    }
}

async fn read_index(store: &Arc<dyn Store>, name: &str) -> Index {
    let text = read(store, &format!("releases/{name}.json")).await;
    serde_json::from_slice(&text.unwrap()).unwrap()
}

async fn write_index(store: &Arc<dyn Store>, index: &Index) -> String {
    let at = index.release.key();
    store
        .put(&at, &index.document(), &attributes(), &Condition::Any)
        .await
        .unwrap();
    String::from_utf8(read(store, at.as_str()).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_mark_of_rubbish_is_told_and_one_of_a_newer_program_left_alone() {
    for store in &Places::mirrors().await.stores {
        put(store, MARK, "{").await;
        let pruned = prune(store, &keep(&["v1.34"]), now()).await;
        assert!(pruned.notes[0].contains(MARK), "{pruned}");
        assert_eq!(pruned.waiting[OLD].since, now());
        let mark = String::from_utf8(read(store, MARK).await.unwrap()).unwrap();
        let newer = mark.replacen("\"format\":1", "\"format\":99", 1);
        put(store, MARK, &newer).await;
        let refused = prune::prune(store.as_ref(), &keep(&["v1.34"]), now(), acting()).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("update kops-mirror")
        );
        assert_eq!(read(store, MARK).await.unwrap(), newer.as_bytes());
    }
}

#[tokio::test]
async fn two_that_prune_at_once_do_not_forget_each_others_marks() {
    /// A mark that appears between the look and the write.
    const EARLIER: &str = "{\"format\":1,\"written_by\":\"another\",\"releases\":{}}";
    for store in &Places::mirrors().await.stores {
        let racing = Troubled {
            races: Some((MARK, EARLIER)),
            ..Troubled::breaking(store, 9)
        };
        let refused = prune::prune(&racing, &keep(&["v1.34"]), now(), acting()).await;
        assert_eq!(refused.unwrap_err().kind, StoreErrorKind::ConditionFailed);
        assert_eq!(read(store, MARK).await.unwrap(), EARLIER.as_bytes());
    }
}

#[tokio::test]
async fn what_is_written_at_the_last_moment_is_left_alone() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["v1.34"]);
        prune(store, &keep, now()).await;
        // A run looks twice, the second time when the indexes are gone.
        let racing = Troubled {
            races: Some(("old/1", "other")),
            looks_left: AtomicUsize::new(1),
            ..Troubled::breaking(store, 9)
        };
        let pruned = prune::prune(&racing, &keep, now() + GRACE, acting()).await;
        let pruned = pruned.unwrap();
        assert!(pruned.left_alone[&key("old/1")].contains("just now"));
        assert_eq!(pruned.objects, 4);
        assert_eq!(read(store, "old/1").await.unwrap(), b"other");
    }
}

#[tokio::test]
async fn a_release_that_is_marked_complete_meanwhile_keeps_what_it_shares() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["v1.34", "release kops-1.30.0_kubernetes-1.31.0"]);
        prune(store, &keep, now()).await;
        let before = read(store, &format!("releases/{OLD}.json")).await.unwrap();
        let other = String::from_utf8(before)
            .unwrap()
            .replace("1.30.1", "1.31.0");
        let other: &'static str = Box::leak(other.into_boxed_str());
        let racing = Troubled {
            races: Some(("releases/kops-1.30.0_kubernetes-1.31.0.json", other)),
            ..Troubled::breaking(store, 9)
        };
        let pruned = prune::prune(&racing, &keep, now() + GRACE, acting()).await;
        assert_eq!(pruned.unwrap().objects, 1, "the index alone");
        assert!(audit::audit(store.as_ref(), true).await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn an_index_that_is_written_at_the_last_moment_keeps_its_release() {
    for store in &Places::mirrors().await.stores {
        let keep = keep(&["v1.34"]);
        prune(store, &keep, now()).await;
        let at = format!("releases/{OLD}.json");
        let before = String::from_utf8(read(store, &at).await.unwrap()).unwrap();
        let again: &'static str = Box::leak(format!("{before} ").into_boxed_str());
        let racing = Troubled {
            races: Some((Box::leak(at.into_boxed_str()), again)),
            ..Troubled::breaking(store, 9)
        };
        let pruned = prune::prune(&racing, &keep, now() + GRACE, acting()).await;
        let pruned = pruned.unwrap();
        assert!(pruned.deleted.is_empty() && pruned.objects == 0, "{pruned}");
        assert!(audit::audit(store.as_ref(), true).await.unwrap().is_clean());
        let pruned = prune(store, &keep, now() + GRACE).await;
        assert_eq!(pruned.waiting[OLD].since, now() + GRACE);
    }
}
