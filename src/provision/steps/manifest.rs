//! The manifest is rendered from the file and from what was found.

use async_trait::async_trait;

use super::{Observed, Step, StepError};
use crate::cluster;
use crate::provision::Site;
use crate::provision::journal::StepName;
use crate::provision::kept::write_in;

#[derive(Debug)]
pub struct Manifest;

#[async_trait]
impl Step for Manifest {
    fn name(&self) -> StepName {
        StepName::Manifest
    }

    async fn observe(&self, site: &mut Site) -> Result<Observed, StepError> {
        let rendered = render(site)?;
        Ok(match &site.manifest {
            Some(manifest) if *manifest == rendered => Observed::Right(format!(
                "a cluster and {} instance groups",
                rendered.groups.len()
            )),
            _ => Observed::Wanting("the manifest is to be rendered".to_owned()),
        })
    }

    async fn act(&self, site: &mut Site) -> Result<(), StepError> {
        let rendered = render(site)?;
        let text = rendered.to_string();
        write_in(&site.folder, "manifest.yaml", text.as_bytes())?;
        site.manifest = Some(rendered);
        Ok(())
    }
}

fn render(site: &Site) -> Result<cluster::Manifest, StepError> {
    Ok(cluster::manifest(&site.file, &site.settings, &site.found)?)
}
