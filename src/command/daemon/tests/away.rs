//! What a set does besides bringing files, while one of its targets is away.

use std::fs;
use std::sync::Arc;

use super::super::process::Process;
use super::super::sets;
use super::world::World;
use crate::events::Silent;
use crate::record::{End, Purpose};
use crate::report::Kind;
use crate::service::{Closing, Ran, Set};

async fn run(set: &Set, purpose: Purpose) -> Ran {
    let runner = Arc::clone(&set.runner);
    runner
        .run(purpose, Arc::new(Silent), &Closing::default())
        .await
}

fn assert_is_short_of_northwest(ran: &Ran) {
    assert_eq!(ran.end, End::SomeFailed, "{ran:?}");
    let why = ran.why.as_deref().unwrap();
    assert!(why.contains("/northwest is left out: "), "{why}");
    assert!(!why.contains("/north is left out"), "{why}");
}

#[test]
fn the_others_are_scrubbed_mended_and_pruned() {
    let world = World::new();
    let runtime = crate::command::runtime().unwrap();
    runtime.block_on(async {
        let config = world.config();
        let process = Arc::new(Process::alone(config.state_folder().unwrap()));
        let set = &sets::sets(&config, &process).unwrap()[0];
        for version in ["1.34.8", "1.34.9"] {
            world.release(version);
            let ran = run(set, Purpose::Sync).await;
            assert_eq!(ran.end, End::Done, "{ran:?}");
        }
        world.take_away("northwest");

        let kubelet = world.kubelet("north", "1.34.9");
        let right = fs::read(&kubelet).unwrap();
        let wrong = vec![0; right.len()];
        fs::write(&kubelet, &wrong).unwrap();
        let ran = run(set, Purpose::Scrub).await;
        assert_is_short_of_northwest(&ran);
        assert_eq!((ran.damaged, ran.occasions.len()), (1, 1), "{ran:?}");
        let report = ran.report.as_ref().unwrap();
        let mended = report
            .of(Kind::Transferred)
            .chain(report.of(Kind::Repaired));
        assert_eq!(mended.count(), 1, "{report:?}");
        assert!(fs::read(&kubelet).unwrap() == right, "it is as it was");

        let ran = run(set, Purpose::Prune).await;
        assert_is_short_of_northwest(&ran);
        assert!(world.has_mark("north"));
        world.bring_back("northwest");
        assert!(!world.has_mark("northwest"));
        let ran = run(set, Purpose::Prune).await;
        assert_eq!(ran.end, End::Done, "{ran:?}");
        assert!(world.has_mark("northwest"));
    });
}
