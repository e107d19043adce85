//! Everything that can go wrong on either side, one at a time, through the whole engine.
//!
//! Each trial mirrors a *victim* that the fault befalls, a neighbour that it doesn't, and a pointer. Whatever happens, the
//! neighbour arrives, nothing wrong is visible, and one message says what to do.

mod answers;
mod bodies;
mod buckets;
mod disks;
mod redirects;
mod runs;
mod sources;
mod witnesses;

use std::sync::Arc;

use kops_mirror::asset::{Asset, Role};
use kops_mirror::events::Event;
use kops_mirror::loopback::origin::{Fault, File, When};
use kops_mirror::report::{Exit, Kind, Report};
use kops_mirror::store::Store;

use crate::support::world::{HOST, World, lines, read};

pub(crate) const VICTIM: &str = "release/v1.34.8/bin/linux/amd64/kubelet";
const NEIGHBOUR: &str = "release/v1.34.8/bin/linux/arm64/kubelet";
const POINTER: &str = "channels/stable";
const MARKER: &str = "releases/test.json";

/// Long enough for several ranges, short enough for many tests.
const LENGTH: u64 = 5_000_000;

#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) world: World,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) victim: Asset,
    pub(crate) others: Vec<Asset>,
}

impl Trial {
    pub(crate) async fn new() -> Self {
        Self::of_length(LENGTH).await
    }

    pub(crate) async fn of_length(length: u64) -> Self {
        let world = World::new().await;
        let store = world.folder("mirror");
        Self::at(world, store, length)
    }

    pub(crate) fn at(world: World, store: Arc<dyn Store>, length: u64) -> Self {
        let victim = world.asset(VICTIM, File::generated(1, length));
        let neighbour = world.asset(NEIGHBOUR, File::generated(2, 100_000));
        world
            .origin
            .publish(format!("/{POINTER}"), File::text("spec: {}\n"));
        let pointer = Asset {
            canonical: format!("https://{HOST}/{POINTER}").parse().unwrap(),
            key: POINTER.parse().unwrap(),
            role: Role::Pointer,
            witnesses: Vec::new(),
            unvouched: Some("it moves".to_owned()),
            sidecars: Vec::new(),
            ..neighbour.clone()
        };
        Self {
            world,
            store,
            victim,
            others: vec![neighbour, pointer],
        }
    }

    /// Orders a fault of the victim alone.
    pub(crate) fn order(&self, when: When, fault: Fault) {
        self.world.origin.order(&format!("/{VICTIM}"), when, fault);
    }

    pub(crate) async fn run(&self) -> Report {
        let mut assets = vec![self.victim.clone()];
        assets.extend(self.others.iter().cloned());
        self.world
            .sync(std::slice::from_ref(&self.store), &assets)
            .await
    }

    /// The fault is overcome: everything is there and right in the end.
    pub(crate) async fn survives(&self) -> Report {
        let report = self.run().await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
        self.check_victim().await;
        self.check_neighbour().await;
        assert!(read(&self.store, MARKER).await.is_some());
        assert!(read(&self.store, POINTER).await.is_some());
        self.check_no_secret(&report);
        report
    }

    /// As [`Trial::survives`], while another run may have written the marker first.
    pub(crate) async fn survives_beside(&self) {
        let report = self.run().await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.table(false));
        self.check_victim().await;
    }

    /// The victim is given up, with all these words in one message, and nothing else is.
    pub(crate) async fn gives_up(&self, words: &[&str]) -> Report {
        let report = self.run().await;
        self.check_given_up(&report, words).await;
        report
    }

    async fn check_given_up(&self, report: &Report, words: &[&str]) {
        let withheld = lines(report, Kind::Withheld);
        assert_eq!(withheld.len(), 1, "the pointer alone: {withheld:?}");
        assert!(withheld[0].starts_with(POINTER), "{withheld:?}");
        assert!(withheld[0].contains("withheld"), "{withheld:?}");
        let failed = lines(report, Kind::Failed);
        assert_eq!(failed.len(), 1, "the victim alone: {failed:?}");
        let victim = failed.iter().find(|line| line.starts_with(VICTIM)).unwrap();
        for word in words {
            assert!(victim.contains(word), "no '{word}' in: {victim}");
        }
        assert_eq!(victim.lines().count(), 1, "{victim}");
        let told = self.world.heard.events();
        let told = told
            .iter()
            .filter(|event| matches!(event, Event::Failed { key, .. } if *key == self.victim.key));
        assert_eq!(told.count(), 1, "told once while it ran");
        assert_eq!(report.exit(), Exit::SomeFailed);
        assert_eq!(report.exit().code(), 1);
        for key in [VICTIM, &format!("{VICTIM}.sha256"), MARKER, POINTER] {
            assert_eq!(read(&self.store, key).await, None, "{key}");
        }
        self.check_neighbour().await;
        self.check_no_secret(report);
    }

    /// What was given up comes with the next run, once the fault is gone.
    pub(crate) async fn recovers(&self) -> Report {
        self.world.origin.recover();
        self.survives().await
    }

    async fn check_victim(&self) {
        self.check(VICTIM).await;
    }

    async fn check_neighbour(&self) {
        self.check(NEIGHBOUR).await;
    }

    async fn check(&self, key: &str) {
        let file = self.world.origin.file(&format!("/{key}"));
        let content = file.expect("it is published").content;
        let there = read(&self.store, key).await;
        assert!(
            there.is_some_and(|bytes| bytes == content.read(0..content.length())),
            "{key}"
        );
        let sidecar = read(&self.store, &format!("{key}.sha256")).await;
        let wanted = format!("{}\n", content.digests(&[]).sha256.hex());
        assert_eq!(sidecar, Some(wanted.into_bytes()));
    }

    /// Signatures of URLs go nowhere.
    fn check_no_secret(&self, report: &Report) {
        let said = format!("{report:?} {:?}", self.world.heard.events());
        assert!(!said.contains("Signature"), "{said}");
    }

    /// What was told as a warning.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let warned = |event| match event {
            Event::Warned { what } => Some(what),
            _ => None,
        };
        let events = self.world.heard.events();
        events.into_iter().filter_map(warned).collect()
    }

    /// What was told as worth another attempt.
    pub(crate) fn retries(&self) -> Vec<String> {
        let retried = |event| match event {
            Event::Retrying { why, .. } => Some(why),
            _ => None,
        };
        let events = self.world.heard.events();
        events.into_iter().filter_map(retried).collect()
    }
}
