//! Brings up a cluster from the mirror: a short function per step.

mod ami;
mod place;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::cli::{Output, Provision, ProvisionArgs};
use crate::config::Config;
use crate::events::Observer;
use crate::report::Exit;

pub(super) async fn run(
    args: &ProvisionArgs,
    output: Output,
    config: &Config,
    observer: &Arc<dyn Observer>,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let step = async {
        match &args.step {
            Provision::Ami(args) => {
                ami::ami(&args.command, output, config, observer.as_ref()).await
            }
        }
    };
    // What is half done is taken up by the same command.
    let ended = stop.run_until_cancelled(step).await;
    ended.unwrap_or(Ok(Exit::Interrupted))
}
