//! Random catalogues, holdings, faults and crashes against a model of what must be there in the end, and of what may be seen
//! at any moment before.

mod bytes_of_spools;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kops_mirror::asset::Asset;
use kops_mirror::digest::{Algorithm, Digest};
use kops_mirror::loopback::origin::{End, Expiry, Fault, File, When};
use kops_mirror::loopback::s3::{Bucket, Fault as S3Fault, Trouble};
use kops_mirror::report::{Exit, Kind, Report};
use kops_mirror::store::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio_util::sync::CancellationToken;

use crate::support::bucket::{BucketServer, PREFIX};
use crate::support::world::World;

/// As many as some twenty seconds allow.
const CASES: u32 = 40;
const MARKER: &str = "releases/test.json";

/// What is at an asset's key before the first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    Nothing,
    Right {
        sidecar: bool,
    },
    Wrong,
    /// Right bytes that somebody uploaded in parts.
    Multipart,
    WrongMultipart,
}

impl Holding {
    fn is_right(self) -> bool {
        matches!(self, Self::Right { .. } | Self::Multipart)
    }
}

/// One asset and all that befalls it.
#[derive(Debug, Clone)]
struct Fate {
    length: u64,
    holding: Holding,
    /// Each befalls one request.
    faults: Vec<(u64, Fault)>,
    /// Befalls every request: the asset can't be had.
    doom: Option<Fault>,
}

#[derive(Debug, Clone)]
struct Scenario {
    fates: Vec<Fate>,
    troubles: Vec<(&'static str, Trouble)>,
    /// When each run before the last is stopped.
    crashes: Vec<Duration>,
    connections: usize,
    in_flight: usize,
    /// For small files: none, for some of them, for all.
    memory_bytes: u64,
}

fn holdings() -> impl Strategy<Value = Holding> {
    prop_oneof![
        4 => Just(Holding::Nothing),
        1 => any::<bool>().prop_map(|sidecar| Holding::Right { sidecar }),
        1 => Just(Holding::Wrong),
        1 => Just(Holding::Multipart),
        1 => Just(Holding::WrongMultipart),
    ]
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        1..5000_u64,
        (1 << 20) - 2..(1 << 20) + 2_u64,
        1..4_000_000_u64,
    ]
}

/// Faults that a later attempt outlasts.
fn faults(length: u64) -> impl Strategy<Value = Fault> {
    let at = 0..length.max(1);
    let end = select(vec![End::Close, End::Reset]);
    prop_oneof![
        Just(Fault::HangUp),
        select(vec![408, 429, 500, 503]).prop_map(Fault::status),
        (at.clone(), end).prop_map(|(after, end)| Fault::Cut { after, end }),
        at.clone().prop_map(Fault::Corrupt),
        at.clone()
            .prop_map(|after| Fault::Stall { after, time: None }),
        (1..9_000_u64).prop_map(Fault::ShiftRange),
        (1..9_000_u64).prop_map(Fault::Longer),
        (1..9_000_u64).prop_map(Fault::Shorter),
        (1..9_000_000_u64).prop_map(Fault::WrongTotal),
        Just(Fault::NoContentRange),
        Just(Fault::IgnoreRange),
        Just(Fault::Chunked),
        Just(Fault::CloseDelimited),
        (0..4_000_000_u64).prop_map(|length| Fault::Changed(File::generated(77, length))),
        (0..3_u64).prop_map(|uses| Fault::RedirectSigned(Expiry {
            uses: Some(uses),
            after: None
        })),
    ]
}

fn dooms() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        5 => Just(None),
        1 => select(vec![
            Fault::status(404),
            Fault::status(403),
            Fault::status(503),
            Fault::HtmlPage,
            Fault::Corrupt(0),
            Fault::HangUp,
        ])
        .prop_map(Some),
    ]
}

fn fates() -> impl Strategy<Value = Fate> {
    let faulty = lengths().prop_flat_map(|length| {
        let faults = vec((1..5_u64, faults(length)), 0..3);
        (Just(length), holdings(), faults, dooms())
    });
    faulty.prop_map(|(length, holding, faults, doom)| Fate {
        length,
        holding,
        faults,
        // Nothing in an empty file can be wrong.
        doom: doom.filter(|doom| length > 0 || !matches!(doom, Fault::Corrupt(_))),
    })
}

fn troubles() -> impl Strategy<Value = (&'static str, Trouble)> {
    let operations = select(vec![
        "PutObject",
        "CopyObject",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
    ]);
    let troubles = select(vec![
        Trouble::Refused {
            status: 503,
            code: "SlowDown",
        },
        Trouble::Failed { stored: true },
        Trouble::Failed { stored: false },
        Trouble::AnswerLost,
        Trouble::WrongEtag,
        Trouble::Cut { after_bytes: 700 },
    ]);
    (operations, troubles)
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    (
        vec(fates(), 1..6),
        vec(troubles(), 0..3),
        vec((0..150_u64).prop_map(Duration::from_millis), 0..3),
        1..6_usize,
        1..5_usize,
        select(vec![0, 2 << 20, 64 << 20]),
    )
        .prop_map(
            |(fates, troubles, crashes, connections, in_flight, memory_bytes)| Scenario {
                fates,
                troubles,
                crashes,
                connections,
                in_flight,
                memory_bytes,
            },
        )
}

/// What may be seen at a key: what was there before, and what is right.
#[derive(Debug)]
struct Allowed {
    etags: BTreeMap<String, Vec<String>>,
}

impl Allowed {
    /// Looks at the whole bucket as any reader may at any moment.
    fn check(&self, bucket: &Bucket, rights: &BTreeMap<String, String>) {
        let marked_before = bucket.object(&full(MARKER)).is_some();
        for key in bucket.keys() {
            let Some(object) = bucket.object(&key) else {
                continue;
            };
            let Some(etags) = self.etags.get(&key) else {
                assert_eq!(key, full(MARKER), "nobody wanted this object");
                continue;
            };
            assert!(etags.contains(&object.etag), "{key} is visible and wrong");
        }
        if marked_before {
            for (key, right) in rights {
                let there = bucket.object(key).map(|object| object.etag);
                assert_eq!(
                    there.as_ref(),
                    Some(right),
                    "the release is marked too early"
                );
            }
        }
    }
}

fn full(key: &str) -> String {
    format!("{PREFIX}/{key}")
}

fn md5(content: &[u8]) -> String {
    Digest::of(Algorithm::Md5, content).hex()
}

/// A scenario come alive.
struct Stage {
    world: World,
    server: BucketServer,
    store: Arc<dyn Store>,
    assets: Vec<Asset>,
    contents: Vec<Bytes>,
    allowed: Allowed,
    /// The ETag that each object must have in the end.
    rights: BTreeMap<String, String>,
}

impl Stage {
    async fn set(scenario: &Scenario) -> Self {
        let mut world = World::new().await;
        world.settings.connections = scenario.connections;
        world.settings.stall_window = Duration::from_millis(120);
        world.in_flight = scenario.in_flight;
        world.memory_bytes = scenario.memory_bytes;
        // Each asset meets at most two faults and two troubles: this outlasts them.
        world.policy.attempts = 6;
        world.policy.pause_max = Duration::from_millis(10);
        let server = BucketServer::start();
        let store = server.store().await;
        let mut stage = Self {
            world,
            server,
            store,
            assets: Vec::new(),
            contents: Vec::new(),
            allowed: Allowed {
                etags: BTreeMap::new(),
            },
            rights: BTreeMap::new(),
        };
        for (n, fate) in scenario.fates.iter().enumerate() {
            stage.add(n, fate);
        }
        let foreign = full("foreign/file");
        stage.server.bucket().insert(&foreign, "not ours");
        let etags = &mut stage.allowed.etags;
        etags.insert(foreign, vec![md5(b"not ours")]);
        for (operation, trouble) in &scenario.troubles {
            let fault = S3Fault::new(trouble.clone()).on(operation);
            stage.server.0.faults().order(fault);
        }
        stage
    }

    fn add(&mut self, n: usize, fate: &Fate) {
        let key = format!("bin/{n}");
        let asset = self
            .world
            .asset(&key, File::generated(n as u64, fate.length));
        let file = self.world.origin.file(&format!("/{key}")).unwrap();
        let content = file.content.read(0..fate.length);
        let path = format!("/{key}");
        for (nth, fault) in &fate.faults {
            let order = (When::Nth(*nth), fault.clone());
            self.world.origin.order(&path, order.0, order.1);
        }
        if let Some(doom) = &fate.doom {
            self.world.origin.order(&path, When::Always, doom.clone());
        }
        self.hold(&full(&key), &content, fate.holding);
        let sidecar = format!("{}\n", Digest::of(Algorithm::Sha256, &content).hex());
        for (key, right) in [
            (full(&key), md5(&content)),
            (full(&format!("{key}.sha256")), md5(sidecar.as_bytes())),
        ] {
            let etags = self.allowed.etags.entry(key.clone()).or_default();
            etags.push(right.clone());
            self.rights.insert(key, right);
        }
        self.assets.push(asset);
        self.contents.push(content);
    }

    fn hold(&mut self, key: &str, content: &Bytes, holding: Holding) {
        let bucket = self.server.bucket();
        let wrong = Bytes::from(vec![7; content.len() + 1]);
        match holding {
            Holding::Nothing => return,
            Holding::Right { sidecar } => {
                bucket.insert(key, content.clone());
                if sidecar {
                    let sidecar = Digest::of(Algorithm::Sha256, content).hex();
                    bucket.insert(&format!("{key}.sha256"), sidecar + "\n");
                }
            }
            Holding::Wrong => bucket.insert(key, wrong),
            Holding::Multipart => bucket.insert_multipart(key, content.clone(), 300_000),
            Holding::WrongMultipart => bucket.insert_multipart(key, wrong, 300_000),
        }
        let etag = bucket.object(key).unwrap().etag;
        self.allowed
            .etags
            .entry(key.to_owned())
            .or_default()
            .push(etag);
    }

    /// One run, watched all the time; stopped after a while if it is to crash.
    async fn run(&self, crash: Option<Duration>) -> Option<Report> {
        let stop = CancellationToken::new();
        let targets = [self.store.clone()];
        let run = self.world.try_sync(&targets, &self.assets, &stop);
        let crashing = async {
            match crash {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            stop.cancel();
        };
        let watching = async {
            loop {
                self.allowed.check(&self.server.bucket(), &self.rights);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        tokio::pin!(run, crashing, watching);
        let mut crashed = false;
        loop {
            tokio::select! {
                ended = &mut run => return ended.ok(),
                () = &mut crashing, if !crashed => crashed = true,
                never = &mut watching => never,
            }
        }
    }

    /// Compares the bucket and the report with the model.
    fn check_end(&self, scenario: &Scenario, report: &Report) {
        self.allowed.check(&self.server.bucket(), &self.rights);
        let doomed = |fate: &Fate| fate.doom.is_some() && !fate.holding.is_right();
        let mut failed = Vec::new();
        for (fate, asset) in scenario.fates.iter().zip(&self.assets) {
            if doomed(fate) && !self.has_arrived(asset) {
                failed.push(asset.key.clone());
                continue;
            }
            for key in [
                full(asset.key.as_str()),
                full(&format!("{}.sha256", asset.key)),
            ] {
                let there = self.server.bucket().object(&key).map(|object| object.etag);
                assert_eq!(
                    there.as_ref(),
                    self.rights.get(&key),
                    "{key}\n{}",
                    report.table(false)
                );
            }
        }
        let told: Vec<_> = report
            .of(Kind::Failed)
            .map(|line| line.key.clone())
            .collect();
        assert_eq!(told, failed, "{}", report.table(false));
        let exit = if failed.is_empty() {
            Exit::Done
        } else {
            Exit::SomeFailed
        };
        assert_eq!(report.exit(), exit);
        let marked = self.server.bucket().object(&full(MARKER)).is_some();
        assert_eq!(marked, failed.is_empty());
        for (asset, content) in self.assets.iter().zip(&self.contents) {
            if !failed.contains(&asset.key) {
                let found = self.server.bucket().object(&full(asset.key.as_str()));
                assert!(found.unwrap().bytes.unwrap() == *content, "{}", asset.key);
            }
        }
    }

    /// Even what is doomed may have come while a fault of one request went before the doom: an answer for another file, say.
    fn has_arrived(&self, asset: &Asset) -> bool {
        let key = full(asset.key.as_str());
        let there = self.server.bucket().object(&key).map(|object| object.etag);
        there.as_ref() == self.rights.get(&key)
    }
}

async fn play(scenario: &Scenario) {
    let stage = Stage::set(scenario).await;
    for crash in &scenario.crashes {
        stage.run(Some(*crash)).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), stage.run(None));
    let report = ended.await.expect("a run ends").expect("a run begins");
    stage.check_end(scenario, &report);
    // Once nothing is wrong any more, everything is there; and a run after that does nothing.
    stage.world.origin.recover();
    stage.server.0.faults().clear();
    let report = stage.run(None).await.expect("a run begins");
    assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
    let asked = stage.world.origin.log().exchanges().len();
    let report = stage.run(None).await.expect("a run begins");
    assert_eq!(report.of(Kind::Skipped).count(), stage.assets.len());
    assert_eq!(stage.world.origin.log().exchanges().len(), asked);
    let keys = stage.server.bucket().keys();
    assert_eq!(keys.len(), 2 * stage.assets.len() + 2);
}

#[test]
fn whatever_happens_only_right_objects_are_visible_and_in_the_end_all_of_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: CASES,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&scenarios(), |scenario| {
            let played = std::panic::AssertUnwindSafe(|| runtime.block_on(play(&scenario)));
            std::panic::catch_unwind(played).map_err(|why| {
                let text = why.downcast_ref::<String>().cloned();
                TestCaseError::fail(text.unwrap_or_default())
            })
        })
        .unwrap();
}
