//! From a cluster's file and flags to an account in a region.

use anyhow::Context;

use crate::cli::PlaceArgs;
use crate::cloud::{Cloud, CloudSettings};
use crate::cluster::ClusterFile;

/// The account that a step works in, and the file that says what for.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: Option<ClusterFile>,
    pub(super) settings: CloudSettings,
}

impl Place {
    /// Reads the file, if one is named; what was typed goes before it.
    pub(super) fn of(args: &PlaceArgs) -> anyhow::Result<Self> {
        let file = match &args.file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("can't read the cluster's file {}", path.display()))?;
                let parsed = ClusterFile::parse(&text);
                Some(parsed.with_context(|| format!("the cluster's file {}", path.display()))?)
            }
        };
        let of_file = file.as_ref().map(|file| file.region.clone());
        let region = args
            .region
            .clone()
            .or(of_file)
            .context("give the region with --region")?;
        let mut settings = CloudSettings::new(region);
        let of_file = file.as_ref().and_then(|file| file.profile.clone());
        settings.profile = args.profile.clone().or(of_file);
        Ok(Self { file, settings })
    }

    pub(super) async fn cloud(&self) -> anyhow::Result<Cloud> {
        Ok(Cloud::connect(self.settings.clone()).await?)
    }
}
