//! Plays the demo with two releases of the real catalogue.

use crate::asset::Arch;
use crate::cli::{DemoArgs, Output};
use crate::config::Config;
use crate::demo::{self, Eras, Step};
use crate::events::Silent;
use crate::report::Exit;
use crate::sync::Wanted;

use super::{document, say, select};

pub(super) async fn demo(args: &DemoArgs, output: Output) -> anyhow::Result<Exit> {
    let eras = Eras {
        modern: release("1.36.2", "v1.34.8", &[Arch::Amd64, Arch::Arm64])?,
        legacy: release("1.8.1", "v1.8.15", &[Arch::Amd64])?,
    };
    let mut unsaid = Ok(());
    let mut tell = |step: &Step| {
        if output == Output::Table && unsaid.is_ok() {
            unsaid = say(&step.to_string());
        }
    };
    let story = demo::run(eras, args.keep.as_deref(), &mut tell).await;
    unsaid?;
    match output {
        Output::Table => say(&story.moral())?,
        _ => document(&story, output)?,
    }
    Ok(story.exit())
}

/// A release as `sync` selects it when nothing is configured: the demo is the same everywhere.
fn release(kops: &str, kubernetes: &str, arch: &[Arch]) -> anyhow::Result<Wanted> {
    let mut config = Config::default();
    config.kops = Some(kops.to_owned());
    config.kubernetes = vec![kubernetes.to_owned()];
    config.arch = arch.to_vec();
    let mut selected = select::offline(&config, None, &Silent)?;
    Ok(selected.releases.remove(0))
}
