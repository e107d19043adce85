//! From a mirrored release to a running cluster, in steps that can each be done again.
//!
//! Each step observes, acts where what it sees is not what is wanted, and observes again; before and after it is written down, here and in
//! the state store. So a run that was killed goes on where it stopped, and one that has nothing to do does nothing. What a plan saw is
//! part of it: when that has moved, it is not carried out.

mod coverage;
mod image;
mod journal;
mod kept;
mod network;
mod plan;
mod preview;
mod program;
mod readback;
mod remedy;
mod removal;
pub mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::coverage::{
    Coverage, Images, ImagesError, Listed, Uncovered, of_channel, of_files, of_images, of_listing,
};
pub use self::image::{ImageMaker, ImageSight, look_up};
pub use self::journal::{Journal, Made, MadeKind, StepName, StepState};
pub use self::kept::{Kept, KeptError, forget_in, journal_in, keep_in, write_in};
pub use self::network::{Addresses, NetworkError};
pub use self::plan::{BadPlan, Moved, Plan, Sights};
pub use self::preview::{Previewed, Proposed, Scratch, preview};
pub use self::program::{ProgramError, program};
pub use self::readback::{Dropped, dropped, surplus};
pub use self::remedy::Remedy;
pub use self::removal::{Remnant, hosts, remnants};
pub use self::steps::{Step, StepError, run};
use crate::cluster::{ClusterFile, Found, Manifest};
use crate::consumer::Settings;
use crate::digest::Digest;
use crate::events::Observer;
use crate::store::Store;

/// The tags of a state store that was made here, each with its value; the second's is the cluster's name. Images that are made here
/// bear the same.
pub const STATE_STORE_TAGS: [(&str, &str); 2] = [
    ("kops-mirror/made-by", "kops-mirror"),
    ("kops-mirror/cluster", ""),
];

/// A cluster that is being worked on: what is wanted, what has been found out, and where both are kept.
#[derive(Debug)]
pub struct Site {
    pub file: ClusterFile,
    /// Of the file's text: a plan is for this text and no other.
    pub digest: Digest,
    /// How kops is told to use the mirror.
    pub settings: Settings,
    pub found: Found,
    /// Rendered once everything it needs is found.
    pub manifest: Option<Manifest>,
    pub journal: Journal,
    /// What is kept in the state store for us, once it is there.
    pub kept: Option<Kept>,
    /// What kops itself keeps of this cluster in the state store, once that is there.
    pub state: Option<Arc<dyn Store>>,
    /// The same on this machine.
    pub folder: PathBuf,
    /// The steps that this run has acted in.
    pub acted: BTreeSet<StepName>,
    pub observer: Arc<dyn Observer>,
    pub stop: CancellationToken,
}

impl Site {
    /// Where the manifest is written to, for kops and for people.
    pub fn manifest_path(&self) -> PathBuf {
        self.folder.join("manifest.yaml")
    }

    /// The variables that every call of kops gets.
    pub fn environment(&self) -> BTreeMap<String, String> {
        environment(&self.file, &self.settings)
    }
}

/// The variables that every call of kops gets, whoever makes it.
pub fn environment(file: &ClusterFile, settings: &Settings) -> BTreeMap<String, String> {
    let told = settings.environment.iter();
    let mut environment: BTreeMap<_, _> = told
        .map(|setting| (setting.name.clone(), setting.value.clone()))
        .collect();
    environment.insert("AWS_REGION".to_owned(), file.region.clone());
    environment.insert("NAME".to_owned(), file.name.clone());
    let state = format!("s3://{}", file.state_store.bucket);
    environment.insert("KOPS_STATE_STORE".to_owned(), state);
    if let Some(profile) = &file.profile {
        environment.insert("AWS_PROFILE".to_owned(), profile.clone());
    }
    environment
}
