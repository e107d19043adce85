//! `provision destroy`: the cluster, and what was made for it.

use super::super::say;
use super::worksite::Worksite;
use crate::cli::DestroyArgs;
use crate::report::Exit;

pub(super) async fn destroy(mut site: Worksite, args: &DestroyArgs) -> anyhow::Result<Exit> {
    let kops = site.kops().await?;
    site.open_state_store().await?;
    if kops.read().await?.is_none() {
        say(&format!("kops has no cluster {}\n", site.file.name))?;
    } else if args.yes {
        kops.delete().await?;
        say(&format!("{} is removed\n", site.file.name))?;
    } else {
        say(&kops.list_for_deletion().await?)?;
        say("Nothing was removed: give --yes.\n")?;
        return Ok(Exit::Differs);
    }
    if args.yes
        && let Some(kept) = &site.site()?.kept
    {
        kept.forget().await?;
    }
    Ok(Exit::Done)
}
