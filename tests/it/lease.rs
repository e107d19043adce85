//! The right to run at a target: who gets it, for how long, and how its loss is noticed; in folders and in buckets.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kops_mirror::asset::Key;
use kops_mirror::lease::{Lease, Lost, Name, NotRenewed, Outlook, Owner, Taken};
use kops_mirror::loopback::s3::{Fault, Imitation, Options, Trouble};
use kops_mirror::store::folder::FolderStore;
use kops_mirror::store::{
    Attributes, Condition, Content, ETag, Listing, Object, Stat, Store, StoreError, StoreErrorKind,
};
use kops_mirror::verify::{Publishable, Verified};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store_contract::attributes;
use crate::support::bucket::BucketServer;
use crate::support::world::read;

const TTL: Duration = Duration::from_mins(1);

/// A target that several processes see, each through a store of its own.
struct Target {
    stores: Vec<Arc<dyn Store>>,
    _held: Box<dyn Any>,
}

const PROCESSES: usize = 3;

fn folder() -> Target {
    let dir = tempfile::tempdir().unwrap();
    let store = || Arc::new(FolderStore::new(dir.path())) as Arc<dyn Store>;
    Target {
        stores: std::iter::repeat_with(store).take(PROCESSES).collect(),
        _held: Box::new(dir),
    }
}

async fn bucket() -> Target {
    let server = BucketServer::start();
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(server.store().await);
    }
    Target {
        stores,
        _held: Box::new(server),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// Each a process of its own.
fn owner() -> Owner {
    Owner::this_process()
}

async fn take(store: &Arc<dyn Store>, owner: &Owner, now: Timestamp) -> Taken {
    Lease::take(store, Name::Whole, owner, TTL, now)
        .await
        .unwrap()
}

async fn ours(store: &Arc<dyn Store>, owner: &Owner, now: Timestamp) -> Lease {
    match take(store, owner, now).await {
        Taken::Ours(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_takers_at_once_one_wins_in_a_folder() {
    races(&folder(), 150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_takers_at_once_one_wins_in_a_bucket() {
    races(&bucket().await, 40).await;
}

/// Takes a lease that is absent, was released, has expired, by turns, from all processes at the same moment.
async fn races(target: &Target, rounds: i64) {
    for round in 0..rounds {
        let now = at(round * 1000);
        let barrier = Arc::new(Barrier::new(target.stores.len()));
        let mut taking = JoinSet::new();
        for store in &target.stores {
            let (store, barrier) = (Arc::clone(store), Arc::clone(&barrier));
            taking.spawn(async move {
                let owner = owner();
                barrier.wait().await;
                (owner.clone(), take(&store, &owner, now).await)
            });
        }
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for (owner, taken) in taking.join_all().await {
            match taken {
                Taken::Ours(lease) => winners.push((owner, lease)),
                Taken::Theirs { owner, .. } => told.push(owner),
                Taken::Unguarded(lease) => panic!("{lease:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let (winner, lease) = winners.remove(0);
        assert!(told.iter().all(|owner| *owner == winner), "round {round}");
        assert_eq!(told.len(), target.stores.len() - 1);
        // One that was given back begins anew, one that expired has had an owner before.
        let has_expired = round % 2 == 0 && round > 0;
        assert_eq!(lease.generation(), if has_expired { 2 } else { 1 });
        if round % 2 == 0 {
            lease.release(now).await.unwrap();
        }
    }
}

/// Runs a property on every kind of target.
async fn everywhere<F: Future<Output = ()>>(
    property: impl Fn(Arc<dyn Store>, Arc<dyn Store>) -> F,
) {
    for target in [folder(), bucket().await] {
        property(Arc::clone(&target.stores[0]), Arc::clone(&target.stores[1])).await;
    }
}

#[tokio::test]
async fn a_lease_is_held_until_it_expires_and_taken_over_then() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        let (first, second) = (owner(), owner());
        let mut lease = ours(&a, &first, at(0)).await;
        lease.renew(at(20)).await.unwrap();
        assert_eq!(lease.expires(), at(80));
        // Clocks had half a lifetime, then half a minute.
        match take(&b, &second, at(109)).await {
            Taken::Theirs { owner, until } => assert_eq!((owner, until), (first.clone(), at(110))),
            other => panic!("{other:?}"),
        }
        let theirs = ours(&b, &second, at(110)).await;
        assert_eq!(theirs.generation(), 2);

        let lost = lease.renew(at(111)).await.unwrap_err();
        let NotRenewed::Lost(Lost::TakenOver { owner, .. }) = &lost else {
            panic!("{lost:?}")
        };
        assert_eq!(*owner, second);
        // And what is not ours is left alone.
        lease.release(at(112)).await.unwrap();
        assert!(matches!(
            take(&a, &first, at(113)).await,
            Taken::Theirs { .. }
        ));
    })
    .await;
}

#[tokio::test]
async fn a_released_lease_is_free_at_once() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        ours(&a, &owner(), at(100))
            .await
            .release(at(101))
            .await
            .unwrap();
        // By a clock that is behind as well.
        ours(&b, &owner(), at(0)).await;
    })
    .await;
}

#[tokio::test]
async fn its_owner_may_take_it_again() {
    everywhere(async |a: Arc<dyn Store>, _: Arc<dyn Store>| {
        let first = owner();
        drop(ours(&a, &first, at(0)).await);
        assert_eq!(ours(&a, &first, at(1)).await.generation(), 1);
    })
    .await;
}

async fn shard(store: &Arc<dyn Store>, number: u32, of: u32, now: Timestamp) -> Taken {
    let shard = Name::Shard { number, of };
    Lease::take(store, shard, &owner(), TTL, now).await.unwrap()
}

#[tokio::test]
async fn shards_of_one_division_run_side_by_side_and_nobody_else_beside_them() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        let (first, second) = (shard(&a, 1, 2, at(0)).await, shard(&b, 2, 2, at(0)).await);
        let (Taken::Ours(first), Taken::Ours(second)) = (first, second) else {
            panic!("shards of one division")
        };
        assert!(matches!(shard(&b, 1, 2, at(1)).await, Taken::Theirs { .. }));
        assert!(matches!(shard(&b, 3, 3, at(1)).await, Taken::Theirs { .. }));
        let whole = take(&b, &owner(), at(1)).await;
        assert!(matches!(whole, Taken::Theirs { .. }), "{whole:?}");
        first.release(at(2)).await.unwrap();
        let whole = take(&b, &owner(), at(2)).await;
        assert!(matches!(whole, Taken::Theirs { .. }), "{whole:?}");
        second.release(at(3)).await.unwrap();
        ours(&b, &owner(), at(3)).await;
        assert!(matches!(shard(&a, 1, 2, at(4)).await, Taken::Theirs { .. }));
        // What was refused has left nothing behind.
        assert_eq!(a.list_service().await.unwrap().len(), 1);
        // After a crash its time runs out.
        assert!(matches!(shard(&a, 1, 2, at(200)).await, Taken::Ours(_)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_and_a_shard_that_race_never_both_win() {
    let target = bucket().await;
    let mut won = 0;
    for round in 0..40 {
        let now = at(round * 1000);
        let first = owner();
        let (whole, part) = tokio::join!(
            take(&target.stores[0], &first, now),
            shard(&target.stores[1], 1, 2, now)
        );
        let ours = [whole, part].into_iter().filter_map(|taken| match taken {
            Taken::Ours(lease) => Some(lease),
            _ => None,
        });
        let ours: Vec<Lease> = ours.collect();
        assert!(ours.len() < 2, "round {round}");
        won += ours.len();
        for lease in ours {
            lease.release(now).await.unwrap();
        }
    }
    assert!(won > 20, "they are not to hold each other up: {won} of 40");
}

#[tokio::test]
async fn who_looked_before_another_ran_is_told_by_its_lease() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        let name = Name::Whole;
        let before = Outlook::of(name, &a.list_service().await.unwrap());
        let lease = ours(&a, &owner(), at(0)).await;
        assert!(lease.is_next_after(&before));
        let during = Outlook::of(name, &b.list().await.unwrap().service);
        // It crashes; who saw it at work sees by its own lease that nobody has run since.
        let mut next = ours(&b, &owner(), at(1000)).await;
        assert!(next.is_next_after(&during) && !next.is_next_after(&before));
        next.renew(at(1010)).await.unwrap();
        let last = ours(&a, &owner(), at(3000)).await;
        assert!(!last.is_next_after(&during));
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_was_removed_is_lost() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        let mut lease = ours(&a, &owner(), at(0)).await;
        b.delete(&Name::Whole.key()).await.unwrap();
        let lost = lease.renew(at(1)).await.unwrap_err();
        assert!(
            matches!(lost, NotRenewed::Lost(Lost::Removed { .. })),
            "{lost:?}"
        );
        ours(&b, &owner(), at(2)).await;
    })
    .await;
}

#[tokio::test]
async fn rubbish_in_its_place_is_nobodys() {
    everywhere(async |a: Arc<dyn Store>, _: Arc<dyn Store>| {
        let rubbish = Verified::composed("{]");
        a.put(&Name::Whole.key(), &rubbish, &attributes(), &Condition::Any)
            .await
            .unwrap();
        ours(&a, &owner(), at(0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_no_part_of_the_mirror() {
    everywhere(async |a: Arc<dyn Store>, b: Arc<dyn Store>| {
        ours(&a, &owner(), at(0)).await;
        let text = read(&a, ".service/lease.json").await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["expires"], "2023-11-14T22:14:20Z");
        assert_eq!(document["pid"], std::process::id());
        let listing = b.list().await.unwrap();
        assert_eq!((listing.objects, listing.foreign), (vec![], vec![]));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_was_lost_loses_no_lease() {
    let server = BucketServer::start();
    let store = server.store().await;
    let lose_an_answer = || {
        let fault = Fault::new(Trouble::AnswerLost).on("PutObject");
        server.0.faults().order(fault);
    };
    lose_an_answer();
    let mut lease = ours(&store, &owner(), at(0)).await;
    assert_eq!(lease.generation(), 1);
    lose_an_answer();
    let error = lease.renew(at(20)).await.unwrap_err();
    assert!(matches!(error, NotRenewed::Store(_)), "{error:?}");
    lease.renew(at(21)).await.unwrap();
    lose_an_answer();
    lease.renew(at(40)).await.unwrap_err();
    lease.release(at(41)).await.unwrap();
    ours(&store, &owner(), at(42)).await;
}

/// A store that can be told to heed no conditions, or to fail.
#[derive(Debug)]
struct Wayward {
    store: Arc<dyn Store>,
    heeds_conditions: bool,
    is_away: AtomicBool,
}

impl Wayward {
    fn folder(target: &Target, heeds_conditions: bool) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(&target.stores[0]),
            heeds_conditions,
            is_away: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Store for Wayward {
    fn place(&self) -> &str {
        self.store.place()
    }

    async fn prepare(&self, create: bool) -> Result<(), StoreError> {
        self.store.prepare(create).await
    }

    async fn list(&self) -> Result<Listing, StoreError> {
        self.store.list().await
    }

    async fn list_service(&self) -> Result<Vec<Object>, StoreError> {
        self.store.list_service().await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        self.store.stat(key).await
    }

    async fn open(&self, key: &Key) -> Result<Option<Content>, StoreError> {
        self.store.open(key).await
    }

    async fn put(
        &self,
        key: &Key,
        content: &dyn Publishable,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<ETag, StoreError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(StoreError::new(StoreErrorKind::Transient, "it is away"));
        }
        let condition = if self.heeds_conditions {
            condition
        } else {
            &Condition::Any
        };
        self.store.put(key, content, attributes, condition).await
    }

    async fn restate(
        &self,
        key: &Key,
        etag: &ETag,
        attributes: &Attributes,
    ) -> Result<ETag, StoreError> {
        self.store.restate(key, etag, attributes).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(key).await
    }
}

async fn is_unguarded_and_still_told(store: &Arc<dyn Store>) {
    let (first, second) = (owner(), owner());
    let Taken::Unguarded(mut lease) = take(store, &first, at(0)).await else {
        panic!("the store compares nothing")
    };
    // Who comes later is told; the content is ours after all that was tried.
    match take(store, &second, at(1)).await {
        Taken::Theirs { owner, .. } => assert_eq!(owner, first),
        other => panic!("{other:?}"),
    }
    lease.renew(at(20)).await.unwrap();
    assert_eq!(lease.expires(), at(80));
    // Who took it over is not overwritten.
    let taken = take(store, &second, at(1000)).await;
    assert!(matches!(taken, Taken::Unguarded(_)), "{taken:?}");
    let lost = lease.renew(at(1001)).await.unwrap_err();
    assert!(matches!(lost, NotRenewed::Lost(_)), "{lost:?}");
    lease.release(at(1002)).await.unwrap();
    let again = take(store, &first, at(1003)).await;
    assert!(matches!(again, Taken::Theirs { .. }), "{again:?}");
}

#[tokio::test]
async fn a_store_that_compares_nothing_is_found_out() {
    let target = folder();
    let store: Arc<dyn Store> = Wayward::folder(&target, false);
    is_unguarded_and_still_told(&store).await;
    let server = BucketServer::start_with(Options {
        imitation: Imitation {
            ignores_conditions: true,
            ..Imitation::default()
        },
        ..Options::default()
    });
    is_unguarded_and_still_told(&server.store().await).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_kept_for_as_long_as_it_takes() {
    let target = folder();
    let (begun, stop) = (Instant::now(), CancellationToken::new());
    let clock = move || at(0) + SignedDuration::try_from(begun.elapsed()).unwrap();
    let mut lease = ours(&target.stores[0], &owner(), clock()).await;
    let rival = owner();
    let watching = async {
        for _ in 0..120 {
            tokio::time::sleep(TTL / 2).await;
            let taken = take(&target.stores[1], &rival, clock()).await;
            assert!(matches!(taken, Taken::Theirs { .. }), "{taken:?}");
        }
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(lease.keep(&clock, &stop), watching);
    kept.unwrap();
    assert!(lease.expires() > clock());
    lease.release(clock()).await.unwrap();
    ours(&target.stores[1], &rival, clock()).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_costs_no_lease_and_for_long_it_does() {
    let target = folder();
    let wayward = Wayward::folder(&target, true);
    let store: Arc<dyn Store> = wayward.clone();
    let begun = Instant::now();
    let clock = move || at(0) + SignedDuration::try_from(begun.elapsed()).unwrap();
    let mut lease = ours(&store, &owner(), clock()).await;
    let stop = CancellationToken::new();
    let weather = async {
        for is_away in [true, false, true] {
            wayward.is_away.store(is_away, Ordering::Relaxed);
            tokio::time::sleep(TTL * 2 / 3).await;
        }
        std::future::pending::<()>().await;
    };
    let lost = tokio::select! {
        kept = lease.keep(&clock, &stop) => kept.unwrap_err(),
        () = weather => unreachable!(),
    };
    let Lost::Expired {
        source: Some(source),
        ..
    } = &lost
    else {
        panic!("{lost:?}")
    };
    assert_eq!(source.what, "it is away");
    // It was renewed in the fair time between, and given up before it expired: nobody else could have it yet.
    let elapsed = begun.elapsed();
    assert!(elapsed > TTL * 4 / 3, "{elapsed:?}");
    assert!(clock() <= lease.expires(), "{lease:?}");
}

#[tokio::test(start_paused = true)]
async fn what_runs_under_a_lost_lease_is_told() {
    let target = folder();
    let begun = Instant::now();
    let clock = move || at(0) + SignedDuration::try_from(begun.elapsed()).unwrap();
    let mut lease = ours(&target.stores[0], &owner(), clock()).await;
    // By a clock that is far ahead.
    ours(&target.stores[1], &owner(), at(100_000)).await;
    let stop = CancellationToken::new();
    let lost = lease.keep(&clock, &stop).await.unwrap_err();
    assert!(matches!(lost, Lost::TakenOver { .. }), "{lost:?}");
    assert!(begun.elapsed() <= TTL / 2);
}
