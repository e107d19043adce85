//! Shows everything on this machine: an origin, a bucket, the engine between them, and what may go wrong on the way.
//!
//! Only the two ends are stand-ins ([`crate::loopback`]); catalogue, engine and stores are those of every run. Each step says
//! what was done and what was seen, in figures from the logs of the two servers, and the first step that sees something else
//! than it must ends the story.

mod audits;
mod outcome;
mod stage;
mod stop;
mod story;
mod troubles;
mod witness;

use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

pub use stage::Eras;
use story::{Broken, Teller};
pub use story::{Failure, Step, Story};

/// Plays the demo, and tells each step as soon as it is done. With `keep`, the mirrors are kept in that folder.
pub async fn run(eras: Eras, keep: Option<&Path>, tell: &mut (dyn FnMut(&Step) + Send)) -> Story {
    let mut teller = Teller::new(tell);
    let played = play(&mut teller, eras, keep).await;
    teller.end(played)
}

async fn play(teller: &mut Teller<'_>, eras: Eras, keep: Option<&Path>) -> Result<(), Broken> {
    // Removed when the story ends, however it does.
    let mut temporary: Option<TempDir> = None;
    let setting = async {
        let folder = match keep {
            Some(folder) => folder.to_owned(),
            None => temporary.insert(temporary_folder()?).path().to_owned(),
        };
        stage::set(eras, folder).await
    };
    let stage = teller
        .step(
            "stage",
            "Two ends of a border, both on this machine",
            setting,
        )
        .await?;

    let crossing = teller
        .step(
            "mirror",
            "Mirror a release of today, over a bad link into a busy bucket",
            troubles::mirror(&stage),
        )
        .await?;
    let cut = async { troubles::cut(&stage, &crossing) };
    teller
        .step("cut", "A connection breaks in the middle of a file", cut)
        .await?;
    let corrupt = async { troubles::corrupt(&stage, &crossing) };
    teller
        .step("corrupt", "A byte changes on the way", corrupt)
        .await?;
    let busy = async { troubles::busy(&stage, &crossing) };
    teller
        .step("busy", "The bucket is busy, and an answer is lost", busy)
        .await?;

    let stopped = teller
        .step(
            "stop",
            "Mirror a release of 2018, and stop in the middle",
            stop::stop(&stage),
        )
        .await?;
    teller
        .step(
            "resume",
            "The same command again",
            stop::resume(&stage, stopped),
        )
        .await?;

    let order = async { outcome::order(&stage) };
    teller
        .step("order", "What completes something comes last", order)
        .await?;
    let etags = async { outcome::etags(&stage) };
    teller
        .step("etags", "Every object is in one part", etags)
        .await?;
    teller
        .step(
            "unchanged",
            "Both releases again, when nothing has changed",
            outcome::unchanged(&stage),
        )
        .await?;

    teller
        .step(
            "audit",
            "Audit both mirrors from their listing",
            audits::clean(&stage),
        )
        .await?;
    let damage = teller
        .step(
            "damage",
            "Damage three objects behind the server's back",
            audits::damage(&stage),
        )
        .await?;
    teller
        .step(
            "repair",
            "Repair what the audit found",
            audits::repair(&stage, damage),
        )
        .await?;
    if let Some(folder) = keep {
        teller
            .step(
                "keep",
                "Keep both mirrors as folders",
                outcome::keep(&stage, folder),
            )
            .await?;
    }
    Ok(())
}

fn temporary_folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("kops-mirror-demo-")
        .tempdir()
        .context("can't make a temporary folder; name one that can be written with --keep DIR")
}
